//! What somebody found who used it for the first time and tried to break it.

use super::{HEAD, ON_BASE, app, assemble, file, tar_of};
use crate::support::World;
use std::fs;

fn snapshots(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.store().join("snapshots")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What commands left lay in the store until `prune --all` when a later command, or anything after them, failed.
#[test]
fn nothing_stays_of_an_assembly_that_fails() {
    for world in World::each() {
        let world = world.with_base();
        let root = "runAsRoot: echo x > /x\n";
        assemble(&world, &format!("{ON_BASE}{root}"), &[]).ok();
        let before = snapshots(&world);
        for end in [
            "extraCommands: exit 3\n",
            "fakeRootCommands: exit 3\n",
            "perms: [{path: /gone, uid: 1}]\n",
            "layers: {max: 1}\n",
        ] {
            let said = assemble(&world, &format!("{ON_BASE}{root}{end}"), &[]);
            assert_ne!(said.code, 0, "{end}");
            assert_eq!(snapshots(&world), before, "{end}");
        }
        let said = assemble(&world, &format!("{ON_BASE}runAsRoot: exit 3\n"), &[]);
        assert_eq!((said.code, snapshots(&world)), (1, before));
    }
}

/// Commands of minutes ran before it was said that the image has no name, or nowhere to go.
#[test]
fn what_cannot_be_written_is_told_before_commands_run() {
    let world = World::new();
    let command = "extraCommands: echo ran\n";
    for (spec, args, message) in [
        ("version: 1\n", &[][..], "the image has no name for the store"),
        ("version: 1\n", &["--push"], "the image has no name for a registry"),
        (HEAD, &["-o", "docker-archive:gone/x.tar"], "cannot write `gone/x.tar`"),
        (
            HEAD,
            &["-o", "docker-archive:-", "-o", "oci-archive:-"],
            "only one output can be written to standard output",
        ),
        (HEAD, &["--layer-only", "-o", "oci:layer"], "`-o oci:layer` is no directory"),
    ] {
        let said = assemble(&world, &format!("{spec}{command}"), args).failed(2);
        assert_eq!(said.lines().next().unwrap(), format!("error: {message}"));
    }
}

#[test]
fn files_that_cannot_be_read_are_told_with_their_item_and_before_commands() {
    let Some(world) = World::user() else { return };
    world.file("src/secret", "x");
    let secret = world.context().join("src/secret");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let spec = format!("{HEAD}contents:\n- dir: src\nextraCommands: echo ran\n");
    for args in [&[][..], &["--check"]] {
        let said = assemble(&world, &spec, args).failed(3);
        let lines: Vec<&str> = said.lines().take(2).collect();
        assert_eq!(
            lines,
            ["error: cannot read `secret`", "  --> context/image.yaml:4:3"],
            "{said}"
        );
    }
}

#[test]
fn what_no_layer_can_hold_is_refused_with_its_place() {
    let world = World::new();
    world.file("src/.wh.x", "");
    let long = "n".repeat(256);
    for (line, message) in [
        ("contents: [{file: {path: /a/.wh.b, text: x}}]", "`a/.wh.b` cannot be stored in a layer"),
        ("contents: [{dir: src}]", "`.wh.x` cannot be stored in a layer"),
        ("contents: [{dir: src, to: /.wh.d}]", "`.wh.d` cannot be stored in a layer"),
        (
            &format!("contents: [{{directory: {{path: /{long}}}}}]"),
            &format!("the name `{}…` has more than 255 bytes", &long[..60]),
        ),
        (
            "perms: [{path: /, xattrs: {trusted.overlay.opaque: y}}]",
            "`trusted.overlay.opaque` cannot be in a layer",
        ),
        (
            "perms: [{path: /, xattrs: {user.overlay.opaque: y}}]",
            "`user.overlay.opaque` cannot be in a layer",
        ),
    ] {
        let said = assemble(&world, &format!("{HEAD}{line}\n"), &[]).failed(1);
        let lines: Vec<&str> = said.lines().take(2).collect();
        assert_eq!(lines[0], format!("error: {message}"));
        assert!(lines[1].starts_with("  --> context/image.yaml:3:"), "{said}");
    }
}

#[test]
fn what_is_left_out_is_told() {
    let Some(world) = World::root() else { return };
    world.file("src/x", "");
    let made = std::process::Command::new("mknod")
        .arg(world.context().join("src/mark"))
        .args(["c", "0", "0"])
        .status();
    assert!(made.unwrap().success());
    let said = assemble(&world, &format!("{HEAD}contents: [{{dir: src}}]\n"), &[]);
    assert_eq!(said.code, 0);
    assert_eq!(world.listing("app").len(), 1);
    assert_eq!(
        said.stderr,
        "warning: `mark` of `src` is left out: a layer holds no sockets, and the device 0:0 marks deletions\n"
    );
}

/// Groups named paths as they are stored, and nobody knows those of a base.
#[test]
fn groups_follow_the_links_of_the_base() {
    for world in World::each() {
        world.file("base/usr/bin/old", "");
        std::os::unix::fs::symlink("usr/bin", world.context().join("base/bin")).unwrap();
        world.file("new/bin/tool", "tool");
        world.give();
        let base = "version: 1\nname: base\ncontents: [{dir: base}]\n";
        assemble(&world, base, &[]).ok();
        let spec = format!(
            "{ON_BASE}contents: [{{dir: new}}, {{file: {{path: /x, text: x}}}}]\nlayers: {{strategy: explicit, groups: [[/bin/tool]]}}\n"
        );
        let made = app(&world, &spec);
        let abouts: Vec<_> = made.config["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["comment"].clone())
            .collect();
        assert_eq!(abouts, ["dir base", "/bin/tool", "everything else"]);
        let said = assemble(&world, &spec.replace("/bin/tool", "/"), &[]).failed(1);
        assert_eq!(said.lines().next().unwrap(), "error: a group cannot have the root directory");
    }
}

/// Each mark cost as much as all files before it together.
#[test]
fn an_archive_may_mark_a_directory_opaque_as_often_as_it_likes() {
    let world = World::new().with_base();
    let mut members = Vec::new();
    for at in 0..20_000 {
        members.push(file(Box::leak(format!("etc/f{at}").into_boxed_str()), ""));
        members.push(file("etc/.wh..wh..opq", ""));
    }
    world.file("marks.tar", tar_of(&members));
    assemble(&world, &format!("{ON_BASE}contents: [{{tar: marks.tar}}]\n"), &[]).ok();
    let names = world.listing("app");
    assert_eq!(names.iter().filter(|line| line.starts_with("etc/")).count(), 20_000);
}

/// It was said not to be in the store.
#[test]
fn a_stored_image_can_be_named_by_its_digest() {
    let world = World::new().with_base();
    let digest = world.run(["image", "digest", "base"]).ok();
    let digest = digest.trim();
    let named = |name: &str| ON_BASE.replace("image: base", &format!("image: '{name}'"));
    let wanted = app(&world, ON_BASE);
    assert_eq!(app(&world, &named(&format!("base@{digest}"))), wanted);
    assert_eq!(app(&world, &named(&format!("other@{digest}"))), wanted);
    let gone = format!("base@sha256:{}", "0".repeat(64));
    let said = assemble(&world, &named(&gone), &[]).failed(1);
    assert_eq!(
        said.lines().next().unwrap(),
        format!("error: image `docker.io/library/{gone}` is not in the store")
    );
}

/// Its place is not in the file.
#[test]
fn a_command_of_the_command_line_fails_where_it_was_given() {
    let world = World::new();
    let said = assemble(&world, HEAD, &["--set", "extraCommands=exit 3"]).failed(1);
    assert!(
        said.ends_with(
            "  --> --set:1:1\n   |\n 1 | extraCommands=exit 3\n   | ^^^^^^^^^^^^^^^^^^^^\n"
        ),
        "{said}"
    );
}
