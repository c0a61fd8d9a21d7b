//! LinuxKit packages to registries: what several machines push is one index in the end.

use crate::linuxkit::{FOO, commit, pkg, pkg_command, world};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer};
use serde_json::Value;
use std::process::Command;

fn worlds() -> Vec<World> {
    if !["skopeo", "docker-registry"].into_iter().all(peer) {
        return Vec::new();
    }
    world(World::each())
}

/// A machine of its own: another cache, another store.
fn machine<'a>(number: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["pkg"];
    all.extend(args);
    all.extend(["--cache", number, "--root", if number == "one" { "r1" } else { "r2" }]);
    all
}

fn raw(name: &str) -> Value {
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&Said::of(inspect.output().unwrap()).ok()).unwrap()
}

/// Architectures of an index in a registry, sorted.
fn arches(name: &str) -> Vec<String> {
    let index = raw(name);
    let all = index["manifests"].as_array().unwrap().iter();
    let arch = |entry: &Value| entry["platform"]["architecture"].as_str().unwrap().to_owned();
    let mut all: Vec<String> = all.map(arch).collect();
    all.sort();
    all
}

fn has(name: &str) -> bool {
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    inspect.output().unwrap().status.success()
}

/// Digest, as `digest:` of a line of a push has it.
fn digest_in<'a>(said: &'a str, tag: &str) -> &'a str {
    let start = format!("{tag}: digest: ");
    let line = said.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {tag} in\n{said}")).split(' ').next().unwrap()
}

#[test]
fn machines_with_other_architectures_push_one_index() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let org = format!("{}/acme", registry.address);
        let name = pkg(&world, &["pkg", "show-tag", "--org", &org, "pkg/foo"]).ok();
        let (name, tag) = (name.trim(), name.trim().rsplit_once(':').unwrap().1);
        let push = |number, platforms: &str| {
            let args = ["build", "--push", "--platforms", platforms, "--org", &org, "pkg/foo"];
            pkg(&world, &machine(number, &args)).ok()
        };
        let one = push("one", "linux/amd64");
        assert!(one.starts_with(&format!("Building and pushing \"{name}\"\n")), "{one}");
        let amd64 = digest_in(&one, &format!("{tag}-amd64")).to_owned();
        assert_eq!(raw(name)["manifests"][0]["digest"], *amd64);
        let two = push("two", "linux/arm64,linux/s390x");
        assert_eq!(arches(name), ["amd64", "arm64", "s390x"]);
        for arch in ["amd64", "arm64", "s390x"] {
            assert_eq!(raw(&format!("{name}-{arch}"))["schemaVersion"], 2);
        }
        assert!(!has(&format!("{name}-unknown")));
        // The digest that was told is that of what is there, as `pkg digest` says.
        let line = pkg(&world, &["pkg", "digest", "--org", &org, "pkg/foo"]).ok();
        assert_eq!(Some(line.trim()), two.lines().last());
        // A third machine does nothing.
        let third = push("three", "linux/amd64,linux/arm64,linux/s390x");
        assert!(third.ends_with("No new platforms to push, skipping.\n"), "{third}");
        // And one that has everything, nothing new.
        let again = push("two", "linux/arm64,linux/s390x");
        assert_eq!(again.lines().last(), two.lines().last());
        // It is an image for everybody.
        let copied = world.path("copied");
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--all", "--src-tls-verify=false"]);
        copy.args([&format!("docker://{name}"), &format!("oci:{}:x", copied.display())]);
        Said::of(copy.output().unwrap()).ok();
        assert_eq!(world.run(["image", "validate", copied.to_str().unwrap()]).ok(), "valid\n");
    }
}

#[test]
fn the_index_is_made_of_the_images_that_are_there() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let org = format!("{}/wombat", registry.address);
        let name = format!("{org}/foo:h1");
        let fixed = ["--org", &org, "--hash", "h1"];
        let run = |args: &[&str]| pkg(&world, &[args, &fixed].concat());
        let nothing = run(&["pkg", "manifest", "pkg/foo"]).failed(1);
        assert!(
            nothing.contains(&format!("error: no image of {name} is in the registry\n")),
            "{nothing}"
        );
        assert!(!has(&name));
        for arch in ["amd64", "s390x"] {
            let platform = format!("linux/{arch}");
            let args = ["pkg", "push", "--manifest=false", "--platforms", &platform, "pkg/foo"];
            run(&args).ok();
        }
        assert!(!has(&name));
        let made = run(&["pkg", "manifest", "pkg/foo"]).ok();
        assert_eq!(made.lines().count(), 1, "{made}");
        assert_eq!(arches(&name), ["amd64", "s390x"]);
        // The manuals' way to the same.
        let same = run(&["pkg", "push", "--image=false", "--manifest", "pkg/foo"]).ok();
        assert_eq!(digest_in(&same, "h1"), digest_in(&made, "h1"));
        let same = run(&["pkg", "index", "pkg/foo"]).ok();
        assert_eq!(same, made);
    }
}

#[test]
fn the_words_of_the_manuals_push_too() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let org = format!("-org={}/wombat", registry.address);
        let name = format!("{}/wombat/foo:foo", registry.address);
        let mut command = pkg_command(
            &world,
            &["pkg", "build", &org, "-disable-content-trust", "-hash=foo", "push"],
        );
        command.current_dir(world.context().join("pkg/foo"));
        let said = Said::of(command.output().unwrap()).ok();
        assert_eq!(raw(&name)["manifests"].as_array().unwrap().len(), 3);
        for arch in ["amd64", "arm64", "s390x"] {
            digest_in(&said, &format!("foo-{arch}"));
        }
        // Only pushing what the cache has, under the name alone.
        let args = ["pkg", "push", "--nobuild", "--no-arch-tags", &org, "--hash=bar", "pkg/foo"];
        let said = pkg(&world, &args).ok();
        assert!(said.ends_with("No new platforms to push, skipping.\n"), "{said}");
        let build = ["pkg", "build", &org, "--hash=bar", "--platforms=linux/amd64", "pkg/foo"];
        pkg(&world, &build).ok();
        pkg(&world, &args).ok();
        assert!(has(&name.replace(":foo", ":bar")));
        assert!(!has(&name.replace(":foo", ":bar-amd64")));
        for (words, message) in [
            (
                &["--force", "--nobuild", "--push"][..],
                "`--force` and `--nobuild` exclude each other",
            ),
            (&["--nobuild"], "there is nothing to do with `--nobuild` alone"),
            (
                &["--push", "--image=false", "--manifest=false"],
                "there is nothing to push with `--image=false` and `--manifest=false`",
            ),
        ] {
            let said = pkg(&world, &[&["pkg", "build", "pkg/foo"], words].concat()).failed(2);
            assert!(said.starts_with(&format!("error: {message}\n")), "{said}");
        }
    }
}

#[test]
fn what_is_not_committed_is_not_pushed() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let org = format!("{}/acme", registry.address);
        world.file("pkg/foo/hello", "changed\n");
        let args = ["pkg", "push", "--platforms", "linux/amd64", "--org", &org, "pkg/foo"];
        assert_eq!(
            pkg(&world, &args).failed(1).lines().rev().take(2).collect::<Vec<_>>(),
            [
                "help: commit the changes, then push again",
                "error: build complete, refusing to push dirty package"
            ]
        );
        let args = ["pkg", "push", "--nobuild", "--org", &org, "pkg/foo"];
        assert_eq!(
            pkg(&world, &args).failed(1),
            "error: refusing to push dirty package\nhelp: commit the changes, then push again\n"
        );
    }
}

#[test]
fn a_release_is_what_all_machines_made() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let org = format!("{}/acme", registry.address);
        let push = |number, platform: &str, more: &[&str]| {
            let args = ["build", "--push", "--platforms", platform, "--org", &org, "pkg/foo"];
            pkg(&world, &[&machine(number, &args)[..], more].concat()).ok()
        };
        push("one", "linux/amd64", &[]);
        let said = push("two", "linux/s390x", &["--release", "v1"]);
        let release = format!("{org}/foo:v1");
        assert_eq!(arches(&release), ["amd64", "s390x"]);
        assert!(has(&format!("{release}-amd64")) && has(&format!("{release}-s390x")));
        digest_in(&said, "v1");
        let again = push("two", "linux/arm64", &["--release", "v1"]);
        assert!(
            again.ends_with(&format!("{release} is in the registry already, not changed\n")),
            "{again}"
        );
        assert_eq!(arches(&release), ["amd64", "s390x"]);
        // Another name for it, in the repository and beside it.
        let retag = |to: &str| pkg(&world, &["pkg", "remote-tag", &release, to]).ok();
        let (near, far) = (format!("{org}/foo:stable"), format!("{org}/other:stable"));
        assert_eq!(digest_in(&retag(&near), "stable"), digest_in(&said, "v1"));
        assert_eq!(digest_in(&retag(&far), "stable"), digest_in(&said, "v1"));
        assert!(retag(&far).contains("already"));
        assert_eq!(arches(&far), ["amd64", "s390x"]);
        // Through the cache.
        pkg(&world, &["cache", "pull", &far]).ok();
        let name = format!("{org}/third:1");
        assert!(
            pkg(&world, &["cache", "push", &name])
                .failed(1)
                .starts_with(&format!("error: `{name}` is not in the cache\n"))
        );
        assert_eq!(
            digest_in(&pkg(&world, &["cache", "push", &far]).ok(), "stable"),
            digest_in(&said, "v1")
        );
    }
}

/// Eight machines, each with its own architecture, at the same moment; twenty times.
#[test]
fn no_entry_is_lost_when_many_push_at_once() {
    const ALL: [&str; 8] =
        ["386", "amd64", "arm", "arm64", "mips64le", "ppc64le", "riscv64", "s390x"];
    let Some(world) = worlds().into_iter().next() else { return };
    commit(&world, &FOO);
    let registry = Registry::start(&world);
    let org = format!("{}/acme", registry.address);
    let run = |arch: &str, args: &[&str]| {
        let (cache, root) = (format!("cache-{arch}"), format!("store-{arch}"));
        let platform = format!("linux/{arch}");
        let fixed = ["--org", &org, "--cache", &cache, "--root", &root, "--platforms", &platform];
        pkg_command(&world, &[&["pkg", "build", "pkg/foo"], args, &fixed].concat())
    };
    for round in 0..20 {
        let hash = format!("--hash=round{round}");
        for arch in ALL {
            // Built before, so that all push in the same moments.
            Said::of(run(arch, &[&hash]).output().unwrap()).ok();
        }
        let pushes: Vec<_> = ALL
            .iter()
            .map(|arch| {
                let mut push = run(arch, &["--push", "--nobuild", &hash]);
                push.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                push.spawn().unwrap()
            })
            .collect();
        for push in pushes {
            Said::of(push.wait_with_output().unwrap()).ok();
        }
        assert_eq!(arches(&format!("{org}/foo:round{round}")), ALL, "round {round}");
    }
}

#[test]
fn signatures_that_are_asked_for_are_missed() {
    let Some(world) = worlds().into_iter().next() else { return };
    let registry = Registry::start(&world);
    let dockerfile = format!("FROM {}\n", crate::offline::publish(&world, &registry, "base:1"));
    let based = [
        ("pkg/based/build.yml", "image: based\narches: [amd64]\n"),
        ("pkg/based/Dockerfile", dockerfile.as_str()),
    ];
    commit(&world, &[&FOO[..], &based].concat());
    let org = format!("{}/acme", registry.address);
    let push = |args: &[&str]| {
        let fixed = ["pkg", "push", "--platforms", "linux/amd64", "--org", &org, "pkg/foo"];
        pkg(&world, &[&fixed, args].concat())
    };
    let unsigned = |by: &str| {
        format!(
            "error: signing is not available yet; --disable-content-trust goes on without it\n cause: {by} asks for signatures\n"
        )
    };
    let settings = world.path(".moby/linuxkit/config.yml");
    std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
    std::fs::write(&settings, "pkg:\n  content-trust-passphrase-command: lpass show x\n").unwrap();
    world.give();
    let command = format!("`pkg.content-trust-passphrase-command` of {}", settings.display());
    assert_eq!(push(&[]).failed(1), unsigned(&command));
    // The index alone is a push as well.
    let index = push(&["--image=false"]).failed(1);
    assert!(index.contains("signing is not available yet"), "{index}");
    push(&["--sign=false"]).ok();
    push(&["--disable-content-trust"]).ok();
    // Building asks for nothing.
    pkg(&world, &["pkg", "build", "--org", &org, "--platforms", "linux/amd64", "pkg/foo"]).ok();

    // These two did not hear the flag; found by reading.
    push(&["--hash", "h1", "--manifest=false", "--sign=false"]).ok();
    let (from, to) = (format!("{org}/foo:h1-amd64"), format!("{org}/foo:h2-amd64"));
    let manifest = ["pkg", "manifest", "--org", &org, "--hash", "h1", "pkg/foo"];
    for words in [&manifest[..], &["pkg", "remote-tag", &from, &to]] {
        let run = |flag: &str| pkg(&world, &[words, &[flag]].concat());
        let said = run("--enable-content-trust").failed(1);
        assert!(said.ends_with(&unsigned("--enable-content-trust")), "{said}");
        run("--disable-content-trust").ok();
    }

    // And what a build pulls did not hear of `--sign=false`.
    let pull = |flags: &[&str]| {
        let words = [&["pkg", "build", "--force", "--org", &org], flags, &["pkg/based"]].concat();
        Said::of(pkg_command(&world, &words).env("DOCKER_CONTENT_TRUST", "1").output().unwrap())
    };
    let said = pull(&[]).failed(1);
    assert!(said.contains("cause: DOCKER_CONTENT_TRUST=1 asks for signatures\n"), "{said}");
    pull(&["--sign=false"]).ok();
}
