//! Images that packages bring with them or hand over: `depends.docker-images`, and `--docker` into an engine.

use crate::linuxkit::{FOO, commit, pkg, pkg_command, world};
use crate::support::peers::{Peers, podman_host};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer};
use std::fs;
use std::process::Command;

/// Members of a tar with what `manifest.json` says of names.
fn archive(path: &std::path::Path) -> (Vec<String>, serde_json::Value) {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let (mut names, mut manifest) = (Vec::new(), serde_json::Value::Null);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if name == "manifest.json" {
            manifest = serde_json::from_reader(entry).unwrap();
        }
        names.push(name);
    }
    (names, manifest)
}

#[test]
fn images_that_a_package_depends_on_lie_in_its_context() {
    for world in world(World::each()) {
        if !["skopeo", "docker-registry"].into_iter().all(peer) {
            return;
        }
        let registry = Registry::start(&world);
        commit(&world, &FOO);
        pkg(&world, &["pkg", "build", "--platforms", "linux/amd64", "pkg/foo"]).ok();
        let name = pkg(&world, &["pkg", "show-tag", "--canonical", "pkg/foo"]).ok();
        let remote = format!("{}/acme/foo", registry.address);
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:{}-amd64", world.path(".linuxkit/cache").display(), name.trim()));
        Said::of(copy.arg(format!("docker://{remote}:1")).output().unwrap()).ok();
        let all = pkg(&world, &["cache", "ls"]).ok();
        let line = all.lines().find(|line| line.contains("-amd64")).unwrap();
        let digest = line.split_whitespace().nth(1).unwrap();
        let yml = |target: &str| {
            format!(
                "image: dep\narches: [amd64]\ndepends:\n  docker-images:\n    {target}\n    list:\n      - {remote}@{digest}\n"
            )
        };
        world.file("dep/Dockerfile", "FROM scratch\nCOPY image* /in/\n");
        world.file("dep/images/old", "goes away");
        world.file("dep/build.yml", yml("target-dir: images"));
        commit(&world, &[]);
        let said = pkg(&world, &["pkg", "build", "dep"]);
        let file = format!("foo@{digest}.tar");
        assert!(
            said.stdout.contains(&format!("Adding \"{file}\" as dependency\n")),
            "{}",
            said.stdout
        );
        said.ok();
        let found: Vec<String> = fs::read_dir(world.context().join("dep/images"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(found, std::slice::from_ref(&file));
        let (names, manifest) = archive(&world.context().join("dep/images").join(file));
        assert_eq!(names.len(), 1 + 1 + manifest[0]["Layers"].as_array().unwrap().len());

        world.file("dep/image.tar", "is replaced");
        world.file("dep/build.yml", yml("target: image.tar"));
        pkg(&world, &["pkg", "build", "dep"]).ok();
        let (_, together) = archive(&world.context().join("dep/image.tar"));
        assert_eq!(together[0]["Layers"], manifest[0]["Layers"]);

        // What was not there goes again, or git would call the tree dirty: the next build had another tag.
        let dockerfile = |more: &str| format!("FROM scratch\nCOPY deep/in /in/\n{more}");
        world.file("clean/Dockerfile", dockerfile(""));
        world.file(
            "clean/build.yml",
            yml("target-dir: deep/in").replace("image: dep", "image: clean"),
        );
        commit(&world, &[]);
        let build = || pkg(&world, &["pkg", "build", "--force", "clean"]).ok();
        let digests = || {
            let all = pkg(&world, &["cache", "ls"]).ok();
            let own = all.lines().filter(|line| line.contains("/clean:")).map(str::to_owned);
            own.collect::<Vec<_>>()
        };
        assert!(build().contains(&format!("Adding \"foo@{digest}.tar\" as dependency\n")));
        let (first, dir) = (digests(), world.context().join("clean"));
        assert!(!dir.join("deep").exists() && dir.join("Dockerfile").exists());
        build();
        assert_eq!(digests(), first);
        assert!(first.len() == 2 && !first.concat().contains("dirty"), "{first:?}");
        world.file("clean/Dockerfile", dockerfile("COPY none /\n"));
        pkg(&world, &["pkg", "build", "clean"]).failed(1);
        assert!(!dir.join("deep").exists());
    }
}

#[test]
fn an_engine_gets_every_platform_and_ours_under_the_plain_tag() {
    for world in world(World::root().into_iter().collect()) {
        if !peer("podman") {
            return;
        }
        commit(&world, &FOO);
        let peers = Peers { world: &world };
        let _service = peers.podman_service();
        let build = || {
            let words = ["pkg", "build", "--docker", "--platforms", "linux/amd64,linux/arm64"];
            let mut command = pkg_command(&world, &[&words[..], &["pkg/foo"]].concat());
            Said::of(command.env("DOCKER_HOST", podman_host(&world)).output().unwrap()).ok()
        };
        let name = pkg(&world, &["pkg", "show-tag", "pkg/foo"]).ok().trim().to_owned();
        let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let line = |arch: &str| {
            let plain = if arch == host { format!(", docker.io/{name}") } else { String::new() };
            let text = format!("loaded docker.io/{name}-{arch}{plain} into podman");
            text.replace("docker.io/", "localhost/")
        };
        let dry = || {
            let words = ["pkg", "build", "--docker", "--dry-run", "--platforms", "linux/amd64"];
            pkg(&world, &[&words[..], &["pkg/foo"]].concat()).ok()
        };
        let before = dry();
        assert!(before.contains("docker buildx build "), "{before}");
        for said in [build(), build()] {
            for arch in ["amd64", "arm64"] {
                assert!(said.contains(&line(arch)), "{said}");
            }
        }
        // With everything in the cache there is no engine to be asked either.
        assert!(!dry().contains("loaded"));
    }
}
