//! The same spec gives the same bytes: in another store, for another user, with more or fewer processors; and always.

use super::{HEAD, assemble};
use crate::support::{World, peer, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A bit of everything.
const SPEC: &str = "from: {image: base}
config: {Cmd: [/bin/sh], Env: [\"A=b\", \"C=d\"], Labels: {z: '1', a: '2'}, Volumes: [/data, /b]}
contents:
- {dir: src, to: /opt}
- tar: t.tar
- file: {path: /etc/motd, text: hi, uid: 7}
- preset: [fake-nss, tmp]
perms: [{path: /opt, regex: sh$, mode: '0755', xattrs: {user.b: '1', user.a: '2'}}]
owner: {uid: 3, gid: 4, uname: joe, gname: staff}
runAsRoot: rm /usr/share/doc/a; mkdir /made; echo x > /made/x; chown 5:6 /made/x
extraCommands: echo extra > extra
fakeRootCommands: chown 9:9 extra; mknod null c 1 3
annotations: {z: '1', a: '2'}
layers: {strategy: per-content}
";

fn prepare(world: World) -> World {
    let world = world.with_base();
    // Large enough for several pieces that are compressed beside each other.
    let big: Vec<u8> =
        (0..700_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    world.file("src/big", &big).file("src/run.sh", "#!/bin/sh\n").file("src/d/e", "e");
    for (name, mode) in [("src/run.sh", 0o644), ("src/d", 0o755), ("src/d/e", 0o600)] {
        fs::set_permissions(world.context().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    world.file("t.tar", super::tar_of(&[super::file("of/tar", "x"), super::link("l", "of")]));
    world
}

fn digest(world: &World, compression: &str) -> String {
    let spec = format!("{HEAD}{SPEC}compression: {{kind: {compression}}}\n");
    assemble(world, &spec, &["--print-digest", "-q"]).ok()
}

#[test]
fn stores_and_users_do_not_matter() {
    for compression in ["gzip", "zstd", "none"] {
        let mut all = Vec::new();
        for _ in 0..2 {
            all.extend(World::each().into_iter().map(|world| digest(&prepare(world), compression)));
        }
        all.dedup();
        assert_eq!(all.len(), 1, "{compression}: {all:?}");
    }
}

#[test]
fn the_number_of_processors_does_not_matter() {
    if !peer("taskset") {
        return;
    }
    for world in World::each().into_iter().map(prepare) {
        for compression in ["gzip", "zstd"] {
            let wanted = digest(&world, compression);
            let mut command = world.command("taskset");
            command.args(["-c", "0"]).arg(program());
            command.args(["assemble", "-q", "-f", "context/image.yaml", "--print-digest"]);
            assert_eq!(crate::support::Said::of(command.output().unwrap()).ok(), wanted);
        }
    }
}

/// The base is this machine's busybox, so it is left out.
#[test]
fn an_image_has_the_digest_that_it_always_had() {
    let spec = SPEC.replace("from: {image: base}\n", "architecture: arm64\n");
    let spec: Vec<&str> = spec.lines().filter(|line| !line.starts_with("runAsRoot")).collect();
    let spec = format!("{HEAD}{}\n", spec.join("\n"));
    for world in World::each().into_iter().map(prepare) {
        let pinned = [("none", NONE), ("gzip", GZIP), ("zstd", ZSTD)];
        let found = pinned.map(|(compression, _)| {
            let args =
                ["--print-digest", "-q", "--set", &format!("compression.kind={compression}")];
            (compression, assemble(&world, &spec, &args).ok())
        });
        assert_eq!(
            found,
            pinned.map(|(compression, digest)| (compression, format!("sha256:{digest}\n")))
        );
    }
}

const NONE: &str = "c72d2a5fa193deff61fba306c6d00eed79424fc22adac84148d89cab811a344f";
const GZIP: &str = "91f7b319d63e15baf480fef85338de58a12056dea81ab1b0821932e8fc0bec5d";
const ZSTD: &str = "98f2324a6bc0d6c9e8d95f3e98512736f54bdf2d536ab0b9c976cec35cede10c";
