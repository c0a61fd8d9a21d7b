//! `nativebuild.lock`, `--offline`, and the way of everything across an air gap (docs/offline.md).

use crate::remote::{git, repositories};
use crate::support::http::{Page, Web};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, trace};
use std::fs;
use std::process::Command;

const MODIFIED: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
const EPOCH: [&str; 2] = ["--source-date-epoch", "1700000000"];

/// Publishes the small base image as `NAME` of a registry.
pub fn publish(world: &World, registry: &Registry, name: &str) -> String {
    publish_as(world, registry, "base", name)
}

/// Publishes an image of the store, with all its platforms.
fn publish_as(world: &World, registry: &Registry, image: &str, name: &str) -> String {
    let archive = world.path("out/base.tar");
    let full = format!("{}/{name}", registry.address);
    let save = ["image", "save", image, "-o", archive.to_str().unwrap()];
    world.run(save).ok();
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--all", "--dest-tls-verify=false"]);
    copy.arg(format!("oci-archive:{}", archive.display())).arg(format!("docker://{full}"));
    Said::of(copy.output().unwrap()).ok();
    fs::remove_file(archive).unwrap();
    full
}

fn peers() -> bool {
    ["skopeo", "docker-registry", "git", "strace"].into_iter().all(peer)
}

fn lock(world: &World) -> serde_json::Value {
    let text = fs::read(world.path("context/nativebuild.lock")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn a_build_crosses_the_gap_with_the_same_digest() {
    let Some(world) = World::root().map(World::with_base) else { return };
    if !peers() {
        return;
    }
    let registry = Registry::start(&world);
    let base = publish(&world, &registry, "team/base:1");
    let tools = publish(&world, &registry, "team/tools:2");
    let web = Web::start();
    web.put("/file.txt", Page::new("text").with("last-modified", MODIFIED));
    web.put("/plain", Page::new("plain"));
    web.put("/ctx.txt.tar", Page::new(tar("from-context")));
    let (daemon, _first, work) = repositories();
    let repository = format!("git://127.0.0.1:{}/work", daemon.port);
    let text = format!(
        "FROM {base} AS one\nADD {} {} /files/\nADD {repository}#main /repo/\n\
         RUN --mount=from={tools},target=/tools test -x /tools/bin/busybox && echo made > /made\n\
         FROM {base}\nCOPY --from=one /files /repo /made /all/\nCOPY --from={tools} /etc /etc2\n\
         COPY --from=far in.txt /far\nCOPY . /context/\n",
        web.url("/file.txt"),
        web.url("/plain"),
    );
    world.file("own.txt", "mine\n");
    let far = format!("far={}", web.url("/ctx.txt.tar"));
    let rest = ["--build-context", &far];
    let online = world.build(&text, &[&EPOCH[..], &rest].concat());
    assert_eq!(online.code, 0, "{}", online.stderr);

    let dir = world.path("gap");
    let dockerfile = world.context().join("Dockerfile");
    let (dir, dockerfile) = (dir.to_str().unwrap(), dockerfile.to_str().unwrap());
    let prefetch = ["image", "prefetch", "-f", dockerfile, "-o", dir];
    let listed = world.run([&prefetch[..], &rest].concat()).ok();
    let tail = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    let commit = git(&work, &["rev-parse", "HEAD"]);
    let mut names: Vec<String> = listed.lines().map(tail).collect();
    names.sort();
    let mut expected = [
        base.clone(),
        tools.clone(),
        web.url("/file.txt"),
        web.url("/plain"),
        web.url("/ctx.txt.tar"),
        format!("{repository}#{}", commit.trim()),
    ];
    expected.sort();
    assert_eq!(names, expected);
    let kinds = lock(&world)["entries"].as_array().unwrap().clone();
    let kinds: Vec<&str> = kinds.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["file", "file", "file", "git", "image", "image"]);
    // The whole layout is one that other tools read, too.
    let inspect = ["inspect", "--raw", &format!("oci:{dir}:{}", 1)];
    Said::of(world.command("skopeo").args(inspect).output().unwrap()).ok();

    // The other side: nothing of this side's servers, nothing of its store.
    drop((registry, daemon));
    web.put("/file.txt", Page::new("other text"));
    let other = World::root().unwrap();
    copy_context(&world, &other);
    let (said, sockets) = trace::run(&other, &["image", "load", dir, "--offline"]).unwrap();
    assert_eq!(said.ok(), listed);
    assert!(!sockets.outside.iter().any(|family| family.contains("INET")), "{sockets:?}");
    web.log();
    let context = other.context();
    let args = ["build", "--offline", "--locked", "--progress", "plain"];
    let args = [&args[..], &EPOCH, &rest, &[context.to_str().unwrap()]].concat();
    let (said, sockets) = trace::run(&other, &args).unwrap();
    assert!(said.stderr.contains("network: none"), "{}", said.stderr);
    assert_eq!(said.ok(), online.stdout);
    assert!(sockets.inside > 0, "{sockets:?}");
    assert!(!sockets.outside.iter().any(|family| family.contains("INET")), "{sockets:?}");
    assert_eq!(web.log(), Vec::<String>::new());
    // The trace sees what it is to see.
    let asked = other.path("asked");
    fs::create_dir(&asked).unwrap();
    fs::write(asked.join("Dockerfile"), format!("FROM scratch\nADD {} /\n", web.url("/plain")))
        .unwrap();
    let (said, sockets) = trace::run(&other, &["build", asked.to_str().unwrap()]).unwrap();
    said.ok();
    assert!(sockets.outside.contains("AF_INET"), "{sockets:?}");
}

fn tar(text: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    header.set_mtime(1_000_000_000);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "in.txt", text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

fn copy_context(from: &World, to: &World) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from.context().join(".")).arg(to.context());
    Said::of(copy.output().unwrap()).ok();
}

#[test]
fn a_locked_build_asks_for_nothing_by_its_name() {
    if !peers() {
        return;
    }
    for world in World::each() {
        let world = world.with_base();
        let registry = Registry::start(&world);
        let base = publish(&world, &registry, "base:1");
        let web = Web::start();
        web.put("/f", Page::new("one").with("last-modified", MODIFIED));
        let (daemon, first, work) = repositories();
        let repository = format!("git://127.0.0.1:{}/work", daemon.port);
        let text = format!(
            "FROM {base}\nCOPY . /c/\nADD {} /f\nADD {repository}#main:sub /r/\n",
            web.url("/f")
        );
        world.file("own.txt", "mine\n");
        let build = |args: &[&str]| world.build(&text, &[&EPOCH[..], args].concat());
        let missing = build(&["--locked"]).failed(1);
        assert!(missing.starts_with("error: there is no lock file "), "{missing}");
        assert!(missing.contains("`--lock` writes it, where there is a network"), "{missing}");
        let locked = build(&["--lock"]);
        assert!(locked.stderr.contains("nativebuild.lock\n"), "{}", locked.stderr);
        let locked = locked.ok();
        let text_of_lock = fs::read(world.path("context/nativebuild.lock")).unwrap();
        let entries = lock(&world)["entries"].as_array().unwrap().clone();
        let commit = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
        assert_eq!(entries[0]["modified"], 1_445_412_480);
        assert_eq!(entries[1]["text"], format!("{repository}#main"));
        assert_eq!(entries[1]["commit"], commit);
        assert_eq!(entries[2]["platform"], "linux/amd64");

        // The lock file is in no COPY and in no key; a second one of it changes nothing.
        let again = build(&["--locked"]);
        assert_eq!((again.cached(), again.stdout.as_str()), (3, locked.as_str()));
        let relocked = build(&["--lock"]);
        assert_eq!((relocked.cached(), relocked.stdout.as_str()), (3, locked.as_str()));
        assert_eq!(fs::read(world.path("context/nativebuild.lock")).unwrap(), text_of_lock);

        // All names mean something else now, and a locked build does not see it, whatever the store has.
        web.put("/f", Page::new("two"));
        git(&work, &["reset", "-q", "--hard", &first]);
        world.run(["image", "import", "base", &empty(&world)]).ok();
        publish(&world, &registry, "base:1");
        let fresh = world.path("fresh");
        let unlocked = world.build(&text, &EPOCH).ok();
        assert_ne!(unlocked, locked);
        web.log();
        assert_eq!(build(&["--locked", "--no-cache"]).ok(), locked);
        assert_eq!(web.log(), Vec::<String>::new());
        let elsewhere = ["--locked", "--root", fresh.to_str().unwrap()];
        let wrong = build(&elsewhere).failed(1);
        assert!(wrong.contains("has the wrong content"), "{wrong}");
        assert!(wrong.contains("the file or the lock file changed"), "{wrong}");
        web.put("/f", Page::new("one"));
        assert_eq!(build(&elsewhere).ok(), locked);
        // Files of subordinate ids must go before the directory does.
        world.run(["prune", "--all", "--root", fresh.to_str().unwrap()]).ok();

        // What is not in it is told with its place; what has a digest of its own needs no entry.
        let more = text.clone() + &format!("ADD {} /g\n", web.url("/g"));
        let said = world.build(&more, &["--locked"]).failed(1);
        assert!(said.contains("/g` is not in the lock file\n  --> Dockerfile:5:5\n"), "{said}");
        let said = world.build(&format!("FROM {base}2\n"), &["--locked"]).failed(1);
        assert!(said.contains("is not in the lock file\n  --> Dockerfile:1:6\n"), "{said}");
        let fixed = entries[2]["digest"].as_str().unwrap();
        world.build(&format!("FROM {base}@{fixed}\nCOPY own.txt /\n"), &["--locked"]).ok();
        let said = world.build("FROM base\nADD git://h/r /\n", &["--locked"]).failed(1);
        assert!(
            said.contains("the image `base:latest` for linux/amd64 is not in the lock file"),
            "{said}"
        );

        // A file that somebody damaged.
        world.file("nativebuild.lock", "{\n  \"version\": 1,\n  \"entries\": [1]\n}\n");
        let said = build(&["--locked"]).failed(1);
        assert!(said.contains("nativebuild.lock:3:1\n"), "{said}");
        assert_eq!(build(&[]).code, 0);
    }
}

/// The tar of a root file system with nothing but an empty directory.
fn empty(world: &World) -> String {
    let path = world.path("out/empty.tar");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    tar.append_data(&mut header, "bin/", &b""[..]).unwrap();
    tar.append_data(&mut header, "other/", &b""[..]).unwrap();
    tar.into_inner().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn lock_files_have_no_place_without_a_dockerfile_here() {
    let world = World::new();
    let web = Web::start();
    for (args, flag) in [
        (["build", "--lock", "-"].to_vec(), "--lock"),
        (["build", "--locked", "-f", "-", "."].to_vec(), "--locked"),
    ] {
        let said = world.run(&args).failed(2);
        let wanted = format!("there is no place for a lock file, and `{flag}` needs one");
        assert!(said.contains(&wanted), "{said}");
    }
    let said = world.run(["build", "--locked", &web.url("/Dockerfile")]).failed(2);
    assert!(said.contains("there is no place for a lock file"), "{said}");
    world.run(["build", "--lock", "--locked", "."]).failed(2);
    world.run(["pkg", "build", "--lock", "--locked", "."]).failed(2);
}

#[test]
fn offline_says_what_is_missing_and_how_to_bring_it() {
    for world in World::each() {
        let world = world.with_base();
        let web = Web::start();
        web.put("/f", Page::new("one").with("last-modified", MODIFIED));
        let url = web.url("/f");
        let build = |text: &str, args: &[&str]| world.build(text, &[&["--offline"], args].concat());
        let said = build("FROM gone:1\n", &[]).failed(1);
        assert!(
            said.contains("image `gone:1` is not in the store\n  --> Dockerfile:1:6\n"),
            "{said}"
        );
        assert!(said.contains("this is offline: `image load` or `image import` brings it in"));
        let said = build("FROM base\n", &["--push", "-t", "x.example/y"]).failed(3);
        let push = "error: cannot push `x.example/y:latest`\n cause: this is offline\n\
                    help: leave `--offline` and NATIVEBUILD_OFFLINE out, or write a file that can be carried to the registry: `image save`\n";
        assert!(said.ends_with(push), "{said}");
        let copy = ["--offline", "image", "copy", "base", "docker://x.example/y"];
        assert_eq!(world.run(copy).failed(3), push);
        let add = format!("FROM scratch\nADD {url} /f\n");
        let said = build(&add, &[]).failed(3);
        assert!(
            said.contains(&format!("{url} cannot be asked for\n  --> Dockerfile:2:5\n")),
            "{said}"
        );
        assert!(said.contains("`--lock`, where there is a network, then `--locked`"), "{said}");
        let sum = nativebuild::oci::Digest::of(b"one");
        let pinned = format!("FROM scratch\nADD --checksum={sum} {url} /f\n");
        let said = build(&pinned, &[]).failed(3);
        assert!(said.contains(&format!("{url} is not in the store")), "{said}");
        let commit = "1234567890123456789012345678901234567890";
        for (name, wanted) in [("main", "cannot be asked"), (commit, "is not in the store")] {
            let said = build(&format!("FROM scratch\nADD git://h/r#{name} /\n"), &[]).failed(3);
            assert!(said.contains(&format!("`git://h/r` {wanted}")), "{said}");
        }
        let said = build("FROM base\nRUN --network=host true\n", &["--allow", "network.host"]);
        let said = said.failed(1);
        assert!(said.contains("Dockerfile:2:"), "{said}");
        build("FROM base\n", &["--network", "host"]).failed(2);
        build("FROM base\n", &["--pull", "always"]).failed(2);
        let context = world.run(["build", "--offline", &web.url("/context.tar")]).failed(3);
        assert!(context.contains("cannot be asked for"), "{context}");
        let context = world.run(["build", "--offline", "git://h/r"]).failed(3);
        assert!(context.contains("`git://h/r` cannot be asked"), "{context}");
        assert_eq!(web.log(), Vec::<String>::new());

        // What was fetched once and has a checksum is there.
        let online = world.build(&pinned, &EPOCH).ok();
        web.log();
        assert_eq!(build(&pinned, &[&EPOCH[..], &["--no-cache"]].concat()).ok(), online);
        assert_eq!(web.log(), Vec::<String>::new());

        // A RUN has no network; what it gave when it had one is taken.
        let run = "FROM base\nRUN cat /proc/net/dev | wc -l > /n\n";
        let online = world.build(run, &EPOCH).ok();
        let cached = build(run, &EPOCH);
        assert_eq!((cached.cached(), cached.stdout.as_str()), (1, online.as_str()));
        let without = world.build(run, &[&EPOCH[..], &["--network", "none"]].concat()).ok();
        assert_eq!(build(run, &[&EPOCH[..], &["--no-cache"]].concat()).ok(), without);

        // Verbs that can do nothing but ask say that they do not.
        let pull = world.run(["cache", "pull", "--offline", "127.0.0.1:1/x:1"]);
        assert!(
            pull.stderr.contains("`127.0.0.1:1` is not asked: this is offline\n"),
            "{}",
            pull.stderr
        );
        assert_ne!(pull.code, 0);

        // The variable is as good as the flag, and `0` is as good as nothing.
        world.file("Dockerfile", &add);
        let with = |value: &str| {
            let mut command = world.command(crate::support::program());
            command.env("NATIVEBUILD_OFFLINE", value).arg("build").arg(world.context());
            Said::of(command.output().unwrap())
        };
        with("1").failed(3);
        with("0").ok();
    }
}

#[test]
fn all_platforms_and_what_a_base_asks_for_cross_the_gap() {
    if !peers() {
        return;
    }
    for world in World::each() {
        let world = world.with_base();
        let registry = Registry::start(&world);
        let web = Web::start();
        web.put("/onbuild", Page::new("asked for by the base"));
        for (platform, rest) in [("linux/amd64", None), ("linux/arm64/v8", Some("--add"))] {
            let tar = empty(&world);
            let import = ["image", "import", "multi", &tar, "--platform", platform];
            world.run(import.iter().copied().chain(rest)).ok();
        }
        let base = publish_as(&world, &registry, "multi", "multi:1");
        world.run(["image", "rm", "multi"]).ok();
        let onbuild = format!("FROM base\nONBUILD ADD {} /o\n", web.url("/onbuild"));
        world.build(&onbuild, &["-t", "onbuild"]).ok();
        let above = publish_as(&world, &registry, "onbuild", "onbuild:1");
        world.run(["image", "rm", "onbuild"]).ok();
        let both = "linux/amd64,linux/arm64";
        let text = format!(
            "ARG BASE\nFROM {above} AS above\nFROM $BASE AS middle\nCOPY --from=above /o /o\nFROM scratch AS unused\n"
        );
        let target =
            ["--build-arg", &format!("BASE={base}"), "--target", "middle", "--platform", both];
        let rest = [&EPOCH[..], &target].concat();
        let online = world.build(&text, &rest).ok();
        let dockerfile = world.context().join("Dockerfile");
        let dir = world.path("gap");
        let dir = dir.to_str().unwrap();
        let prefetch = ["image", "prefetch", "-f", dockerfile.to_str().unwrap(), "-o", dir];
        let listed = world.run([&prefetch[..], &target].concat()).ok();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        let platforms: Vec<String> = lock(&world)["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| format!("{} {}", entry["kind"], entry["platform"]))
            .collect();
        assert_eq!(
            platforms,
            [
                "\"file\" null",
                "\"image\" \"linux/amd64\"",
                "\"image\" \"linux/arm64\"",
                "\"image\" \"linux/amd64\"",
                "\"image\" \"linux/arm64\"",
            ]
        );
        // Again it is all there, also without a network, and the layout stays the same.
        let index = fs::read(world.path("gap/index.json")).unwrap();
        let again = world.run([&prefetch[..], &target, &["--offline"]].concat());
        assert_eq!(
            again.failed(3).lines().next().unwrap(),
            format!("error: {} cannot be asked for", web.url("/onbuild"))
        );
        assert_eq!(world.run([&prefetch[..], &target].concat()).ok(), listed);
        assert_eq!(fs::read(world.path("gap/index.json")).unwrap(), index);

        drop(registry);
        let other =
            if world.who() == crate::support::Who::Root { World::root() } else { World::user() };
        let other = other.unwrap();
        copy_context(&world, &other);
        other.give();
        let locked = [&["--offline", "--locked"][..], &rest].concat();
        let missing = other.build(&text, &locked).failed(1);
        assert!(missing.contains("is not in the store for linux/amd64"), "{missing}");
        assert!(missing.contains("the lock file pins it to this digest"), "{missing}");
        make_readable(&world);
        other.run(["image", "load", dir]).ok();
        assert_eq!(other.build(&text, &locked).ok(), online);
        // A store that was pruned of what nobody uses keeps what was loaded; one that is emptied does not.
        other.run(["prune"]).ok();
        assert_eq!(other.build(&text, &[&locked[..], &["--no-cache"]].concat()).ok(), online);
        other.run(["prune", "--all"]).ok();
        let missing = other.build(&text, &[&locked[..], &["--no-cache"]].concat()).failed(3);
        assert!(missing.contains("/onbuild is not in the store"), "{missing}");
    }
}

/// The flag was taken and never passed on; found by reading.
#[test]
fn what_is_collected_may_go_without_signatures() {
    if !["skopeo", "docker-registry"].into_iter().all(peer) {
        return;
    }
    let Some(world) = crate::linuxkit::world(vec![World::new()]).pop() else { return };
    let registry = Registry::start(&world);
    let from = |name: &str| format!("FROM {}\n", publish(&world, &registry, name));
    crate::linuxkit::commit(
        &world,
        &[
            ("plain/Dockerfile", &from("base:1")),
            ("pkg/one/build.yml", "image: one\norg: acme\narches: [amd64]\n"),
            ("pkg/one/Dockerfile", &from("base:2")),
        ],
    );
    let run = |file: &str, trust: &str, flags: &[&str]| {
        let words = [&["image", "prefetch", "-o", "../gap", "-f", file], flags].concat();
        let mut command = crate::linuxkit::pkg_command(&world, &words);
        Said::of(command.env("DOCKER_CONTENT_TRUST", trust).output().unwrap())
    };
    for file in ["plain/Dockerfile", "pkg/one/build.yml"] {
        for said in [run(file, "1", &[]), run(file, "0", &["--disable-content-trust=false"])] {
            let said = said.failed(3);
            assert!(said.contains("signing is not available yet"), "{said}");
        }
        run(file, "1", &["--disable-content-trust"]).ok();
    }
}

/// What was damaged on the way is refused, and nothing comes in.
#[test]
fn a_collection_that_was_damaged_is_refused() {
    let world = World::new().with_base();
    world.file("Dockerfile", "FROM base\n");
    let (file, dir) = (world.context().join("Dockerfile"), world.path("gap"));
    let (file, dir) = (file.to_str().unwrap(), dir.to_str().unwrap());
    world.run(["image", "prefetch", "-f", file, "-o", dir, "--offline"]).ok();
    let blobs = fs::read_dir(world.path("gap/blobs/sha256")).unwrap().map(Result::unwrap);
    let largest = blobs.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().path();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[100] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let fresh = world.path("fresh");
    let load = ["image", "load", dir, "--root", fresh.to_str().unwrap()];
    let said = world.run(load).failed(1);
    assert!(said.starts_with(&format!("error: cannot load `{dir}`\n")), "{said}");
    let names = world.run(["image", "ls", "--json", "--root", fresh.to_str().unwrap()]).ok();
    assert_eq!(names, "[]\n");
    // What an artifact says is checked as well.
    let index = world.path("gap/index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("nativebuild.lock.v1", "nativebuild.lock.v2")).unwrap();
    let said = world.run(load);
    assert!(said.stderr.contains("there are 2 images in it"), "{}", said.stderr);
}

/// The directory of a test is its user's alone.
fn make_readable(world: &World) {
    let dir = world.path("gap");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.parent().unwrap(), mode).unwrap();
}

#[test]
fn packages_share_the_lock_file_of_their_repository() {
    if !peers() {
        return;
    }
    for world in crate::linuxkit::world(World::each()) {
        let registry = Registry::start(&world);
        let base = publish(&world, &registry, "base:1");
        let images = world.run(["image", "ls", "--json"]).ok();
        let images: serde_json::Value = serde_json::from_str(&images).unwrap();
        let digest = images[0]["digest"].as_str().unwrap();
        let needed = format!("{}/base@{digest}", registry.address);
        let web = Web::start();
        web.put("/f", Page::new("one").with("last-modified", MODIFIED));
        let yml =
            |name: &str, rest: &str| format!("image: {name}\norg: acme\narches: [amd64]\n{rest}");
        let depends = format!(
            "depends:\n  docker-images:\n    target-dir: in\n    list:\n      - {needed}\n"
        );
        let first = format!("FROM {base}\nCOPY . /\nADD {} /\n", web.url("/f"));
        crate::linuxkit::commit(
            &world,
            &[
                (".gitignore", "in/\n"),
                ("pkg/first/build.yml", &yml("first", "")),
                ("pkg/first/Dockerfile", &first),
                ("pkg/second/build.yml", &yml("second", &depends)),
                ("pkg/second/Dockerfile", "FROM scratch\nCOPY in /in\n"),
            ],
        );
        let pkg = |world: &World, args: &[&str]| crate::linuxkit::pkg(world, args);
        let build = |world: &World, flags: &[&str]| {
            let all = [&["pkg", "build", "--force"], flags, &["pkg/first", "pkg/second"]].concat();
            pkg(world, &all)
        };
        let digests = |world: &World| -> Vec<String> {
            let all = pkg(world, &["cache", "ls"]).ok();
            all.lines().skip(1).map(|line| line.split_whitespace().take(2).collect()).collect()
        };
        let missing = build(&world, &["--locked"]).failed(1);
        assert!(missing.contains("context/nativebuild.lock\n"), "{missing}");
        build(&world, &["--lock"]).ok();
        let expected = digests(&world);
        let kinds: Vec<String> = lock(&world)["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["text"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, [web.url("/f"), base.clone(), needed.clone()]);

        let dir = world.path("gap");
        let dir = dir.to_str().unwrap();
        let files = ["pkg/first/build.yml", "pkg/second/build.yml"];
        let prefetch = [&["image", "prefetch", "-f"][..], &files, &["-o", dir]].concat();
        let listed = pkg(&world, &prefetch).ok();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        drop(registry);
        web.put("/f", Page::new("two"));
        web.log();
        pkg(&world, &["cache", "clean"]).ok();
        let said = build(&world, &["--offline", "--locked", "--disable-cache"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(!said.stderr.contains("counts as one that has nothing"), "{}", said.stderr);
        assert!(!said.stdout.contains("checking registry"), "{}", said.stdout);
        assert_eq!(digests(&world), expected);

        let other =
            if world.who() == crate::support::Who::Root { World::root() } else { World::user() };
        let other = other.unwrap();
        copy_context(&world, &other);
        other.give();
        make_readable(&world);
        pkg(&other, &["image", "load", dir]).ok();
        build(&other, &["--offline", "--locked"]).ok();
        assert_eq!(digests(&other), expected);
        assert_eq!(web.log(), Vec::<String>::new());
    }
}
