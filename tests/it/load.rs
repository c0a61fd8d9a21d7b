//! Images go straight into docker and podman: the engine has the same image, under the names that were asked for.

use crate::support::peers::{Dockerd, Peers, docker_host, podman_host};
use crate::support::{Said, World, peer, program, user_ids};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DOCKERFILE: &str = "FROM base\nCOPY data /data\nRUN rm -rf /usr/share/doc && ln -s data /link\nCMD [\"/bin/true\"]\n";

/// Builds with an address in a variable.
fn build(
    world: &World,
    dockerfile: &str,
    (variable, address): (&str, &str),
    args: &[&str],
) -> Said {
    world.file("Dockerfile", dockerfile);
    let mut command = world.command(program());
    command.env(variable, address).env("SOURCE_DATE_EPOCH", "1700000000");
    command.args(["build", "--progress", "plain"]).args(args).arg(world.context());
    Said::of(command.output().unwrap())
}

/// What the build says about loading; all else was said before.
fn last_line(said: &Said) -> &str {
    said.stderr.lines().last().unwrap_or_default()
}

fn config_digest(world: &World) -> String {
    let text = std::fs::read(world.path("out/metadata")).unwrap();
    let metadata: Value = serde_json::from_slice(&text).unwrap();
    metadata["containerimage.config.digest"].as_str().unwrap().to_owned()
}

fn with_data() -> Option<World> {
    let world = World::root()?.with_base();
    // More than one member of a layer's gzip and more than a pipe holds.
    let data: Vec<u8> =
        (0..700_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    world.file("data", data);
    Some(world)
}

#[test]
fn podman_has_the_image_that_was_built() {
    let Some(world) = with_data() else { return };
    if !["podman", "python3"].into_iter().all(peer) {
        return;
    }
    let peers = Peers { world: &world };
    let service = peers.podman_service();
    let host = podman_host(&world);
    let engine = ("CONTAINER_HOST", host.as_str());
    let (layout, metadata) = (peers.path("out/layout"), peers.path("out/metadata"));
    let oci = format!("type=oci,tar=false,dest={layout}");
    let names =
        ["-t", "app:1", "-t", "other.example/x:2", "-o", &oci, "--metadata-file", &metadata];
    let said = build(&world, DOCKERFILE, engine, &[&names[..], &["--load"]].concat());
    let loaded = format!("loaded localhost/app:1, other.example/x:2 into podman ({host})");
    assert_eq!(last_line(&said), loaded);
    let digest = said.ok();
    assert_eq!(digest.lines().count(), 1, "{digest}");
    let id = config_digest(&world);

    // Everything is cached, and no name is given.
    let said = build(&world, DOCKERFILE, engine, &["-o", "type=docker"]);
    assert_eq!(last_line(&said), format!("loaded {id} into podman ({host})"));
    assert_eq!(said.ok(), digest);

    drop(service);
    for name in ["localhost/app:1", "other.example/x:2"] {
        let found = peers.podman(&["image", "inspect", "--format", "{{.Id}}", name]);
        assert_eq!(format!("sha256:{}", found.trim_end()), id, "{name}");
    }
    // This base has no entry for the root itself; containers/storage makes it with a mode of its own.
    let root = "tree\t/\tmode\t0755 | 0555\n";
    assert_eq!(peers.differences(&[], &layout, &peers.mounted("localhost/app:1")), root);
}

#[test]
fn docker_has_the_image_that_was_built() {
    let Some(world) = with_data() else { return };
    if !peer("python3") {
        return;
    }
    let Some(daemon) = Dockerd::start(&world) else { return };
    let peers = Peers { world: &world };
    let host = docker_host(&world);
    let engine = ("DOCKER_HOST", host.as_str());
    let (layout, metadata) = (peers.path("out/layout"), peers.path("out/metadata"));
    let oci = format!("type=oci,tar=false,dest={layout}");
    let names =
        ["-t", "app:1", "-t", "other.example/x:2", "-o", &oci, "--metadata-file", &metadata];
    let said = build(&world, DOCKERFILE, engine, &[&names[..], &["--load"]].concat());
    assert_eq!(last_line(&said), format!("loaded app:1, other.example/x:2 into docker ({host})"));
    let digest = said.ok();
    let id = config_digest(&world);
    for name in ["app:1", "other.example/x:2"] {
        let found = daemon.docker(&["image", "inspect", "--format", "{{.Id}}", name]);
        assert_eq!(found.trim_end(), id, "{name}");
    }
    let back = peers.path("out/back.tar");
    daemon.docker(&["save", "--output", &back, "app:1"]);
    peers.same(&["--mtimes"], &layout, &back);

    daemon.docker(&["rmi", "app:1", "other.example/x:2"]);
    let said = build(&world, DOCKERFILE, engine, &["-o", "type=docker"]);
    assert_eq!(last_line(&said), format!("loaded {id} into docker ({host})"));
    assert_eq!(said.ok(), digest);
    let found = daemon.docker(&["image", "inspect", "--format", "{{.Id}} {{.RepoTags}}", &id]);
    assert_eq!(found.trim_end(), format!("{id} []"));
}

/// Found by hand: the groups of the user were gone in its own namespace, and with them the way to Docker's socket.
#[test]
fn what_a_group_may_do_is_not_lost_in_the_namespaces() {
    let (Some(world), Some(user)) = (World::root(), World::user()) else { return };
    if !["podman", "setpriv"].into_iter().all(peer) {
        return;
    }
    let user = user.with_base();
    let group = 4242;
    let peers = Peers { world: &world };
    let _service = peers.podman_service();
    let host = podman_host(&world);
    let to_group = |path: &Path, mode: u32| {
        std::os::unix::fs::chown(path, Some(0), Some(group)).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    to_group(&world.path(""), 0o710);
    to_group(&world.path("podman.sock"), 0o660);
    user.file("Dockerfile", "FROM base\nCOPY a /a\nRUN id -G\n").file("a", "x");
    to_group(&user.context().join("a"), 0o640);
    let (uid, gid) = user_ids();
    let mut command = world.command("setpriv");
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
    command.args(["--groups", &group.to_string(), "--inh-caps=-all"]).arg(program());
    command.env("NATIVEBUILD_ROOT", user.store()).env("DOCKER_HOST", &host);
    command.args(["build", "--load", "-t", "app"]).arg(user.context());
    command.current_dir(user.path(""));
    let said = Said::of(command.output().unwrap());
    assert_eq!(last_line(&said), format!("loaded localhost/app:latest into podman ({host})"));
    // A RUN has the groups of its user in the image, and no others.
    assert!(said.stderr.contains("\n#2 0 10\n"), "{}", said.stderr);
    said.ok();
}

#[test]
fn a_build_does_not_begin_without_its_engine() {
    for world in World::each() {
        let world = world.with_base();
        world.file("data", "x");
        let host = docker_host(&world);
        let expected = format!(
            "error: the engine that DOCKER_HOST names does not answer\n cause: {host}: no such file or directory\n\
             help: start dockerd or `podman system service`, or write a file for `docker load` with `-o type=docker,dest=FILE`\n"
        );
        let said = build(&world, DOCKERFILE, ("DOCKER_HOST", &host), &["-t", "app", "--load"]);
        assert_eq!(said.failed(3), expected);
        let expected = "error: cannot load an image into the engine that DOCKER_HOST names\n \
             cause: only `unix:///PATH` is supported; it begins with `ssh://`\n\
             help: send it by `nativebuild build -o type=docker,dest=- … | docker load`\n";
        let remote = ("DOCKER_HOST", "ssh://me@host");
        assert_eq!(build(&world, DOCKERFILE, remote, &["-o", "type=docker"]).failed(3), expected);
        // A file needs no engine.
        let file = format!("type=docker,dest={}", world.path("out/docker.tar").display());
        build(&world, DOCKERFILE, remote, &["-o", &file]).ok();
    }
}

#[test]
fn of_several_platforms_the_engine_gets_this_machines() {
    let Some(world) = World::root() else { return };
    if !peer("podman") {
        return;
    }
    let peers = Peers { world: &world };
    let _service = peers.podman_service();
    let host = podman_host(&world);
    world.file("a", "x");
    let id = |name: &str, platform: &[&str]| {
        let load = ["-t", name, "--load"];
        let said = build(
            &world,
            "FROM scratch\nCOPY a /a\n",
            ("DOCKER_HOST", &host),
            &[&load, platform].concat(),
        );
        assert_eq!(
            last_line(&said),
            format!("loaded localhost/{name}:latest into podman ({host})")
        );
        said.ok();
        peers.podman(&["image", "inspect", "--format", "{{.Id}}", &format!("localhost/{name}")])
    };
    let several = ["--platform", "linux/s390x,linux/amd64,linux/arm64"];
    assert_eq!(id("several", &several), id("one", &[]));
}
