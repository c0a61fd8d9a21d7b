//! LinuxKit packages: directories of a git repository become images in LinuxKit's cache.

use crate::errors::{normal, transcript};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A repository in the context, and the base image `lkbase` for this machine and another one.
pub fn world(mut worlds: Vec<World>) -> Vec<World> {
    if !peer("git") {
        return Vec::new();
    }
    worlds.drain(..).map(World::with_base).collect()
}

pub const FOO: [(&str, &str); 3] = [
    ("pkg/foo/build.yml", "image: foo\narches: [amd64, arm64, s390x]\n"),
    (
        "pkg/foo/Dockerfile",
        "FROM scratch\nENTRYPOINT []\nCMD [\"/hello\"]\nCOPY . /\nCOPY hello /bin/\n",
    ),
    ("pkg/foo/hello", "hi\n"),
];
const BAR: [(&str, &str); 3] = [
    (
        "pkg/bar/build.yml",
        "image: bar\norg: acme\narches: [amd64]\nconfig:\n  capabilities: [CAP_SYS_ADMIN]\n  readonly: false\nbuildArgs:\n  - FOO=@lkt:pkg:../foo\nextra-sources:\n  - ../../shared:/src/shared\n",
    ),
    (
        "pkg/bar/Dockerfile",
        "ARG FOO\nFROM --platform=linux/amd64 ${FOO} AS foo\nFROM scratch\nARG PKG_IMAGE PKG_HASH\nLABEL of=$PKG_IMAGE org.mobyproject.config=mine\nCOPY --from=foo /bin/hello /\nCOPY src/shared /s\n",
    ),
    ("shared/data.txt", "data\n"),
];

fn git(world: &World, args: &[&str]) {
    let mut command = world.command("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
    for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
        command.env(name, "2021-05-01T00:00:00Z");
    }
    command.args(args).current_dir(world.context());
    Said::of(command.output().unwrap()).ok();
}

pub fn commit(world: &World, files: &[(&str, &str)]) {
    for (name, content) in files {
        world.file(name, content);
    }
    git(world, &["init", "-q"]);
    git(world, &["add", "-A"]);
    git(world, &["commit", "-q", "-m", "one"]);
}

/// The program in the context's directory. Registries that are not on this machine are out of reach for it.
pub fn pkg_command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(program());
    command.args(args).current_dir(world.context()).env("ALL_PROXY", "http://127.0.0.1:9");
    command
}

pub fn pkg(world: &World, args: &[&str]) -> Said {
    Said::of(pkg_command(world, args).output().unwrap())
}

/// Digest of a name in the cache.
pub fn digest(world: &World, name: &str) -> String {
    let all = pkg(world, &["cache", "ls"]).ok();
    let line = all.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{all}"))
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned()
}

fn blob(world: &World, digest: &str) -> Value {
    let path =
        world.path(".linuxkit/cache/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn validate_cache(world: &World) {
    let cache = world.path(".linuxkit/cache");
    assert_eq!(world.run(["image", "validate", cache.to_str().unwrap()]).ok(), "valid\n");
}

#[test]
fn packages_are_built_once_into_the_cache() {
    for world in world(World::each()) {
        commit(&world, &FOO);
        world.file("pkg/README", "no package");
        let tag = pkg(&world, &["pkg", "show-tag", "pkg/foo"]).ok().trim().to_owned();
        let said = pkg(&world, &["pkg/foo", "pkg/README"]);
        assert_eq!(
            said.stdout,
            format!(
                "Skipping pkg/README: it has no build.yml\nBuilding \"{tag}\"\nchecking for {tag} in local cache...\n\
                 {tag} amd64 not found in local cache, checking registry\n{tag} amd64 not found, will build\n\
                 {tag} arm64 not found in local cache, checking registry\n{tag} arm64 not found, will build\n\
                 {tag} s390x not found in local cache, checking registry\n{tag} s390x not found, will build\n\
                 building {tag} for arches: amd64,arm64,s390x\nBuild complete, not pushing, all done.\n"
            ),
            "{}",
            said.stderr
        );
        let said = pkg(&world, &["pkg", "build", "pkg/foo"]);
        assert_eq!(
            (said.code, said.stdout.as_str(), said.stderr.as_str()),
            (
                0,
                &*format!(
                    "Building \"{tag}\"\nchecking for {tag} in local cache...\nfound {tag} amd64 in local cache, skipping build\n\
                     found {tag} arm64 in local cache, skipping build\nfound {tag} s390x in local cache, skipping build\n\
                     Build complete, not pushing, all done.\n"
                ),
                ""
            )
        );
        let full = format!("docker.io/{tag}");
        let index = blob(&world, &digest(&world, &full));
        let listed: Vec<(String, String)> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let arch = entry["platform"]["architecture"].as_str().unwrap().to_owned();
                (arch, entry["digest"].as_str().unwrap().to_owned())
            })
            .collect();
        let arches = ["amd64", "arm64", "s390x"];
        assert_eq!(listed.iter().map(|(arch, _)| arch).collect::<Vec<_>>(), arches);
        for (arch, manifest) in &listed {
            assert_eq!(digest(&world, &format!("{full}-{arch}")), *manifest);
        }
        validate_cache(&world);
        if peer("skopeo") {
            let cache = world.path(".linuxkit/cache");
            let source = format!("oci:{}:{full}", cache.display());
            let mut command = Command::new("skopeo");
            command.args(["inspect", "--override-arch", "s390x", "--config", &source]);
            let config: Value =
                serde_json::from_str(&Said::of(command.output().unwrap()).ok()).unwrap();
            assert_eq!(config["architecture"], "s390x");
            assert_eq!(config["config"]["Cmd"], serde_json::json!(["/hello"]));
        }
    }
}

#[test]
fn packages_stand_on_each_other_and_get_labels_and_arguments() {
    for world in world(World::each()) {
        commit(&world, &[&FOO[..], &BAR[..]].concat());
        let said =
            pkg(&world, &["pkg", "build", "--platforms", "linux/amd64", "pkg/foo", "pkg/bar"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        // What the build checks say of the Dockerfiles is no fault of the packages.
        let checks = ["FromPlatformFlagConstDisallowed", "InvalidDefaultArgInFrom"];
        let about_packages = said.stderr.lines().filter(|line| line.contains("warning"));
        let count = about_packages
            .filter(|line| !checks.iter().any(|rule| line.contains(&format!("warning: {rule}: "))))
            .count();
        assert_eq!(count, 0, "{}", said.stderr);
        let tags = pkg(&world, &["pkg", "show-tag", "--canonical", "pkg/foo", "pkg/bar"]).ok();
        let bar = tags.lines().nth(1).unwrap();
        let manifest = blob(&world, &digest(&world, &format!("{bar}-amd64")));
        let config = blob(&world, manifest["config"]["digest"].as_str().unwrap());
        let head =
            world.command("git").args(["rev-parse", "HEAD"]).current_dir(world.context()).output();
        let head = String::from_utf8(head.unwrap().stdout).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            config["config"]["Labels"],
            serde_json::json!({
                "of": "acme/bar",
                "org.mobyproject.config": r#"{"capabilities":["CAP_SYS_ADMIN"],"readonly":false}"#,
                "org.mobyproject.linuxkit.revision": version,
                "org.mobyproject.linuxkit.version": version,
                "org.opencontainers.image.revision": head.trim(),
                "org.opencontainers.image.source": "https://github.com/linuxkit/linuxkit",
            })
        );
        assert_eq!(config["created"], "2021-05-01T00:00:00Z");
        let tar = world.path("out/bar.tar");
        let export = ["cache", "export", "--platform", "linux/amd64", "--format", "filesystem"];
        pkg(&world, &[&export[..], &["--outfile", tar.to_str().unwrap(), bar]].concat()).ok();
        assert_eq!(
            crate::support::base::list_tar(&fs::read(tar).unwrap()),
            ["hello file 644 0:0 3", "s dir 755 0:0 0", "s/data.txt file 644 0:0 5"]
        );
    }
}

#[test]
fn a_tag_has_one_digest_whoever_builds_it_and_when() {
    let mut digests = Vec::new();
    for world in world(World::each()) {
        commit(&world, &FOO);
        let name =
            format!("docker.io/{}", pkg(&world, &["pkg", "show-tag", "pkg/foo"]).ok().trim());
        for _ in 0..2 {
            pkg(&world, &["pkg", "build", "--force", "--disable-cache", "pkg/foo"]).ok();
            digests.push(digest(&world, &name));
            // Another day: files of a fresh clone are new.
            let file = fs::File::options().append(true).open(world.context().join("pkg/foo/hello"));
            file.unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        }
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_package_has_no_network_unless_it_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Whoever comes is let go at once.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for world in world(World::each()) {
        let dockerfile = format!(
            "FROM base\nRUN nc -w 2 127.0.0.1 {port} < /dev/null > /dev/null 2>&1; echo $? > /code\n"
        );
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let yml = |network: &str| format!("image: net\narches: [{arch}]\nnetwork: {network}\n");
        let off = ("off/build.yml", yml("false"));
        let on = ("on/build.yml", yml("true"));
        let files = [
            (off.0, off.1.as_str()),
            ("off/Dockerfile", dockerfile.as_str()),
            (on.0, on.1.as_str()),
            ("on/Dockerfile", dockerfile.as_str()),
        ];
        commit(&world, &files);
        let code = |dir: &str, flags: &[&str]| {
            let all = [&["pkg", "build", "--force", "--disable-cache"], flags, &[dir]].concat();
            pkg(&world, &all).ok();
            let name = pkg(&world, &["pkg", "show-tag", dir]).ok();
            let tar = world.path("out/net.tar");
            let export = ["cache", "export", "--format", "filesystem", "--outfile"];
            let args = [&export[..], &[tar.to_str().unwrap(), name.trim()]].concat();
            pkg(&world, &args).ok();
            let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
            let entries = archive.entries().unwrap().map(Result::unwrap);
            let mut found = entries.filter(|entry| entry.path().unwrap().ends_with("code"));
            let mut text = String::new();
            found.next().unwrap().read_to_string(&mut text).unwrap();
            text.trim() == "0"
        };
        assert!(!code("off", &[]) && code("on", &[]));
        assert!(code("off", &["--network"]) && !code("on", &["-nonetwork=true"]));
    }
}

/// Proxies are there for RUNs without being asked for, but one for everything only where an ARG asks for it.
#[test]
fn proxies_of_the_environment_reach_the_runs() {
    for world in world(World::each()) {
        let run = "RUN env | grep -i _proxy | sort | tr '\\n' ' '\n";
        let yml = |name: &str| format!("image: {name}\narches: [amd64]\n");
        commit(
            &world,
            &[
                ("plain/build.yml", yml("plain").as_str()),
                ("plain/Dockerfile", &format!("FROM base\n{run}")),
                ("asks/build.yml", yml("asks").as_str()),
                ("asks/Dockerfile", &format!("FROM base\nARG all_proxy\n{run}")),
            ],
        );
        for (dir, expected) in [
            ("plain", "HTTP_PROXY=h http_proxy=h no_proxy=n NO_PROXY=n"),
            ("asks", "all_proxy=a ALL_PROXY=a HTTP_PROXY=h http_proxy=h no_proxy=n NO_PROXY=n"),
        ] {
            let args = ["pkg", "build", "--progress", "plain", dir];
            let mut command = pkg_command(&world, &args);
            command.env("http_proxy", "h").env("NO_PROXY", "n").env("all_proxy", "a");
            let said = Said::of(command.output().unwrap());
            let mut found: Vec<&str> = said
                .stderr
                .lines()
                .find(|line| line.contains("HTTP_PROXY="))
                .unwrap_or_else(|| panic!("{}", said.stderr))
                .split(' ')
                .skip(1)
                .filter(|word| !word.is_empty())
                .collect();
            let mut expected: Vec<&str> = expected.split(' ').collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{dir}");
        }
    }
}

#[test]
fn words_of_both_ages_are_understood() {
    for world in world(World::each()) {
        commit(&world, &FOO);
        let tag = |args: &[&str]| {
            let all = [&["pkg", "show-tag"], args, &["pkg/foo"]].concat();
            pkg(&world, &all).ok().trim().to_owned()
        };
        assert_eq!(tag(&["-org=zed", "-hash", "q"]), "zed/foo:q");
        assert_eq!(tag(&["--org", "zed", "--hash=q", "-canonical=true"]), "docker.io/zed/foo:q");
        assert_eq!(
            tag(&["--tag", "v1-{{slice .Hash 0 2}}", "--hash", "abc"]),
            "linuxkit/foo:v1-ab"
        );
        let package = pkg(&world, &["package", "show-tag", "--dev=true", "-org", "me", "pkg/foo"]);
        assert_eq!(package.ok(), "me/foo:dev\n");
        world.file("pkg/foo/hello", "hi2\n");
        let dirty = tag(&[]);
        assert!(dirty.contains("-dirty-"), "{dirty}");
        let dry = pkg(
            &world,
            &[
                "pkg",
                "build",
                "-force",
                "-dry-run",
                "-disable-content-trust",
                "-platforms=linux/s390x",
                "pkg/foo",
            ],
        );
        assert_eq!(
            dry.ok(),
            format!(
                "Building \"{dirty}\"\nbuilding {dirty} for arches: s390x\ndocker buildx build --platform linux/s390x -t {dirty}-s390x --label org.opencontainers.image.source=https://github.com/linuxkit/linuxkit --label org.mobyproject.linuxkit.version={version} --label org.mobyproject.linuxkit.revision={version} --network none -f pkg/foo/Dockerfile pkg/foo\n",
                version = env!("CARGO_PKG_VERSION")
            )
        );
    }
}

/// The engine was asked for by every build; found by reading.
#[test]
fn an_engine_counts_when_something_is_loaded_into_it() {
    let Some(world) = world(vec![World::new()]).pop() else { return };
    commit(&world, &FOO);
    let build = |flags: &[&str]| {
        let words = [&["pkg", "build", "--force", "--dry-run"], flags, &["pkg/foo"]].concat();
        let mut command = pkg_command(&world, &words);
        Said::of(command.env("DOCKER_HOST", "tcp://127.0.0.1:9").output().unwrap())
    };
    build(&[]).ok();
    assert_eq!(
        build(&["--docker"]).failed(1),
        "error: cannot load an image into the engine that DOCKER_HOST names\n \
         cause: only `unix:///PATH` is supported; it begins with `tcp://`\n\
         help: send it by `nativebuild build -o type=docker,dest=- … | docker load`\n"
    );
}

/// Only `build` asked the environment; found by reading.
#[test]
fn the_environment_says_how_progress_is_shown() {
    let Some(world) = world(vec![World::new()]).pop() else { return };
    commit(&world, &FOO);
    let said = |words: &[&str], progress: &str| {
        let mut command = pkg_command(&world, words);
        Said::of(command.env("BUILDKIT_PROGRESS", progress).output().unwrap())
    };
    let events = |said: &Said| -> Vec<Value> {
        said.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let build = ["pkg", "build", "--force", "--dry-run", "--release", "v1", "pkg/foo"];
    let warning = "`--release` has no effect without `--push`";
    let told = said(&build, "rawjson");
    assert_eq!((told.code, &events(&told)[0]["text"]), (0, &warning.into()));
    for words in [
        &["pkg", "build", "gone"][..],
        &["pkg", "manifest", "gone"],
        &["cache", "rm", "gone"],
        &["image", "prefetch", "-f", "gone/Dockerfile", "-o", "../gap"],
    ] {
        let told = said(words, "rawjson");
        assert_eq!(events(&told).last().unwrap()["event"], "error", "{words:?}");
    }
    // The flag wins.
    let told = said(&[&build[..], &["--progress", "plain"]].concat(), "rawjson");
    assert!(told.stderr.starts_with(&format!("warning: {warning}\n")), "{}", told.stderr);
    assert_eq!(
        said(&build, "loud").failed(2),
        "error: bad value of BUILDKIT_PROGRESS in the environment: `loud`\n\
         help: it is one of auto, plain, tty, rawjson and quiet\n"
    );
}

#[test]
fn faults_of_packages_are_told_in_their_place() {
    let mut shown = String::new();
    for world in world(vec![World::new()]) {
        commit(
            &world,
            &[
                &FOO[..],
                &[
                    ("bad/build.yml", "image: bad\nimge: x\nnetwork: \"true\"\narches: amd64\n"),
                    ("nofile/build.yml", "image: nofile\ndockerfile: sub/Dockerfile\n"),
                    ("out/build.yml", "image: out\ndockerfile: ../Dockerfile\n"),
                    ("none/build.yml", "image: none\narches:\n"),
                    ("fails/build.yml", "image: fails\narches: [amd64, arm64]\n"),
                    ("fails/Dockerfile", "FROM scratch\nCOPY gone /\n"),
                ],
            ]
            .concat(),
        );
        for command in [
            "pkg build bad",
            "pkg build nofile",
            "pkg build out",
            "pkg build none",
            "pkg build fails",
            "pkg build gone",
            "pkg build --platforms amd64 pkg/foo",
            "pkg build --platforms linux/amd64 --skip-platforms linux/amd64 pkg/foo",
            "pkg build --builders linux/amd64=away pkg/foo",
            "pkg build --hash-commit HEAD~1 pkg/foo",
            "pkg build --force --pull pkg/foo",
            "pkg build --network --nonetwork pkg/foo",
            "pkg push pkg/foo",
            "pkg manifest pkg/foo",
            "pkg build --docker --platforms linux/s390x pkg/foo",
            "cache rm gone",
            "cache export gone --outfile x",
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let said = pkg(&world, &words);
            shown +=
                &format!("$ nativebuild {command}\n{}\n{}", said.stdout, normal(&world, &said));
            shown.push('\n');
        }
    }
    transcript("linuxkit", &shown);
}

fn start(world: &World, dir: &str) -> Child {
    let mut command = pkg_command(world, &["pkg", "build", "--force", dir]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn many_builds_share_one_cache_and_may_be_killed() {
    for world in world(World::each()) {
        let dirs: Vec<String> = (0..8).map(|number| format!("p{number}")).collect();
        for dir in &dirs {
            world.file(
                &format!("{dir}/build.yml"),
                format!("image: {dir}\narches: [amd64, s390x]\n"),
            );
            world.file(&format!("{dir}/Dockerfile"), format!("FROM scratch\nCOPY . /{dir}\n"));
        }
        commit(&world, &[]);
        // Fifty rounds by both together.
        for round in 0..25 {
            let mut running: Vec<Child> = dirs.iter().map(|dir| start(&world, dir)).collect();
            let victim = round * 3 % 8;
            running[victim].kill().unwrap();
            for (index, child) in running.iter_mut().enumerate() {
                let code = child.wait().unwrap().code();
                assert!(index == victim || code == Some(0), "{index}: {code:?}");
            }
            validate_cache(&world);
        }
        pkg(
            &world,
            &[&["pkg", "build"], &dirs.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat(),
        )
        .ok();
        let names = pkg(&world, &["cache", "ls"]).ok().lines().count();
        assert_eq!(names, 1 + 3 * dirs.len());
        validate_cache(&world);
    }
}

#[test]
fn images_leave_and_enter_the_cache() {
    for world in world(World::each()) {
        commit(&world, &FOO);
        let name =
            format!("docker.io/{}", pkg(&world, &["pkg", "show-tag", "pkg/foo"]).ok().trim());
        pkg(&world, &["pkg", "build", "pkg/foo"]).ok();
        let tar = world.path("out/one.tar");
        let file = tar.to_str().unwrap();
        let export = ["cache", "export", &name, "--platform", "linux/s390x", "--outfile", file];
        pkg(&world, &export).ok();
        let manifest = digest(&world, &format!("{name}-s390x"));
        pkg(&world, &["cache", "rm", &name, &format!("{name}-s390x")]).ok();
        validate_cache(&world);
        pkg(&world, &["cache", "clean"]).ok();
        assert_eq!(pkg(&world, &["cache", "ls"]).ok().lines().count(), 1);
        let brought = pkg(&world, &["cache", "import", file]).ok();
        assert_eq!(brought, format!("{name} {manifest}\n"));
        assert_eq!(digest(&world, &name), manifest);
        validate_cache(&world);
    }
}

#[test]
fn a_package_is_pulled_when_that_is_asked_for() {
    for world in world(World::each()) {
        if !["skopeo", "docker-registry"].into_iter().all(peer) {
            return;
        }
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let org = format!("{}/acme", registry.address);
        let build = |more: &[&str]| {
            let all = [&["pkg", "build", "--org", &org], more, &["pkg/foo"]].concat();
            pkg(&world, &all)
        };
        build(&["--platforms", "linux/amd64,linux/s390x"]).ok();
        let name = pkg(&world, &["pkg", "show-tag", "--org", &org, "pkg/foo"]).ok();
        let name = name.trim();
        let manifest = digest(&world, &format!("{name}-s390x"));
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--all", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:{name}", world.path(".linuxkit/cache").display()));
        Said::of(copy.arg(format!("docker://{name}")).output().unwrap()).ok();
        pkg(&world, &["cache", "clean"]).ok();
        let said = build(&["--pull", "--platforms", "linux/s390x,linux/arm64"]);
        assert_eq!(
            said.stdout,
            format!(
                "Building \"{name}\"\nchecking for {name} in local cache...\n\
                 {name} s390x not found in local cache, checking registry\nfound {name} s390x on registry, skipping build\n\
                 {name} arm64 not found in local cache, checking registry\n{name} arm64 not found, will build\n\
                 building {name} for arches: arm64\nBuild complete, not pushing, all done.\n"
            ),
            "{}",
            said.stderr
        );
        assert_eq!(digest(&world, &format!("{name}-s390x")), manifest);
        validate_cache(&world);
    }
}
