//! Images that others pushed are built upon, and images that we pushed run elsewhere.

use crate::support::peers::Peers;
use crate::support::registry::Registry;
use crate::support::{World, peer};

const DOCKERFILE: &str = "FROM base\nRUN rm -r /usr/share/doc && echo 1 > /one\nCMD [\"/bin/busybox\", \"cat\", \"/one\"]\n";

/// A world with a base image, a registry, and the programs that fill it.
fn world() -> Option<(World, Registry)> {
    let world = World::root()?;
    if !["docker-registry", "skopeo", "podman", "buildah", "runc"].into_iter().all(peer) {
        return None;
    }
    let world = world.with_base();
    let registry = Registry::start(&world);
    Some((world, registry))
}

/// Builds on a name of the registry in an empty store; the listing of what came out.
fn built_upon(world: &World, name: &str) -> Vec<String> {
    world.run(["prune", "--all"]).ok();
    std::fs::remove_dir_all(world.store()).unwrap();
    let dockerfile = format!("FROM {name}\nRUN test ! -e /usr/share/doc && test $(cat /one) = 1\n");
    world.build(&dockerfile, &["-t", "upon"]).ok();
    world.validate("upon");
    world.listing("upon")
}

#[test]
fn images_of_podman_buildah_and_skopeo_are_built_upon() {
    let Some((world, registry)) = world() else { return };
    let (peers, host) = (Peers { world: &world }, &registry.address);
    let ours = format!("{host}/ours:1");
    let archive = peers.path("out/app.tar");
    let docker = format!("type=docker,dest={archive}");
    world.build(DOCKERFILE, &["--push", "-t", &ours, "-o", &docker]).ok();
    let listing = built_upon(&world, &ours);

    let insecure = ["--quiet", "--tls-verify=false"];
    peers.podman(&[&["pull"], &insecure[..], &[&ours]].concat());
    let mut names = Vec::new();
    for format in ["v2s2", "oci"] {
        let name = format!("{host}/podman:{format}");
        let args = [&["push"], &insecure[..], &["--format", format, &ours, &name]].concat();
        peers.podman(&args);
        names.push(name);
    }
    names.push(format!("{host}/buildah:1"));
    let (root, run) = (peers.path("podman"), peers.path("podman-run"));
    let storage = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "push"];
    let to = format!("docker://{}", names[2]);
    peers.run("buildah", &[&storage[..], &insecure, &[&ours, &to]].concat());
    for (format, compression) in [("oci", "zstd"), ("oci", "gzip"), ("v2s2", "gzip")] {
        let name = format!("{host}/skopeo:{format}-{compression}");
        let (from, to) = (format!("docker-archive:{archive}"), format!("docker://{name}"));
        let flags = ["--dest-tls-verify=false", "--dest-compress-format", compression];
        let copy = ["--insecure-policy", "copy", "--quiet", "--format", format];
        peers.run("skopeo", &[&copy[..], &flags, &[&from, &to]].concat());
        names.push(name);
    }
    for name in &names {
        assert_eq!(built_upon(&world, name), listing, "{name}");
    }
}

#[test]
fn layers_of_every_compression_come_back_from_a_registry() {
    let Some((world, registry)) = world() else { return };
    let mut listings = Vec::new();
    for compression in ["gzip", "zstd", "none"] {
        let name = format!("{}/app:{compression}", registry.address);
        world.build(DOCKERFILE, &["--push", "-t", &name, "--compression", compression]).ok();
        let (peers, inspected) = (Peers { world: &world }, format!("docker://{name}"));
        let raw = peers.run("skopeo", &["inspect", "--raw", "--tls-verify=false", &inspected]);
        let wanted = if compression == "none" { "layer.v1.tar\"" } else { compression };
        assert!(raw.contains(wanted), "{raw}");
        listings.push(built_upon(&world, &name));
        let tar = world.path("base.tar");
        world.run(["image", "import", "base", tar.to_str().unwrap()]).ok();
    }
    assert!(listings.iter().all(|listing| *listing == listings[0]));
}

#[test]
fn what_we_push_runs_in_podman_and_is_copied_by_skopeo() {
    let Some((world, registry)) = world() else { return };
    let peers = Peers { world: &world };
    let name = format!("{}/app:1", registry.address);
    let digest = world.build(DOCKERFILE, &["--push", "-t", &name]).ok();
    let digest = digest.lines().next().unwrap();
    peers.podman(&["pull", "--quiet", "--tls-verify=false", &name]);
    assert_eq!(peers.podman(&["run", "--rm", "--network", "none", &name]), "1\n");
    let inspected = format!("docker://{name}");
    let format = "{{.Digest}} {{.Os}}";
    let inspect = ["inspect", "--no-tags", "--tls-verify=false", "--format", format, &inspected];
    assert_eq!(peers.run("skopeo", &inspect), format!("{digest} linux\n"));
    let copied = peers.path("out/copied");
    let copy = ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &inspected];
    peers.run("skopeo", &[&copy[..], &[&format!("oci:{copied}:1")]].concat());
    assert_eq!(world.run(["image", "validate", &copied]).ok(), "valid\n");
}
