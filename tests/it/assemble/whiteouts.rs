//! What commands remove and put in its place, in the new layer and in layers below it: always what a build of the same
//! commands gives.

use super::{HEAD, assemble, at, quick, read};
use crate::support::World;
use std::fs;

/// A name and the commands.
const CASES: &[(&str, &str)] = &[
    ("a file is gone", "rm /usr/share/doc/a"),
    ("a directory is gone", "rm -r /usr/share/doc"),
    ("a directory is new", "rm -r /usr/share/doc; mkdir /usr/share/doc; echo n > /usr/share/doc/n"),
    (
        "a directory is new and has the same",
        "cp -a /usr/share/doc /d; rm -r /usr/share/doc; mv /d /usr/share/doc",
    ),
    ("a directory is a file", "rm -r /usr/share/doc; echo f > /usr/share/doc"),
    ("a directory is a link", "rm -r /usr/share/doc; ln -s /etc /usr/share/doc"),
    (
        "a file is a directory",
        "rm /usr/share/doc/a; mkdir /usr/share/doc/a; echo x > /usr/share/doc/a/x",
    ),
    ("a file is a link", "ln -sf b /usr/share/doc/a"),
    ("a device is new", "mknod /null c 1 3; mknod /usr/share/doc/d c 1 3"),
    ("a device takes the place of a file", "rm /usr/share/doc/a; mknod /usr/share/doc/a c 1 3"),
    ("a device takes the place of a directory", "rm -r /usr/share/doc; mknod /usr/share/doc c 1 3"),
    ("everything is gone", "rm -r /usr /var /home /root"),
];

fn on(base: &str, more: &str) -> String {
    format!("{HEAD}from: {{image: {base}}}\n{more}")
}

fn as_root(commands: &str) -> String {
    format!("runAsRoot: '{commands}'\n")
}

/// The listing of an image that is built with the same commands.
fn built(world: &World, commands: &[&str]) -> Vec<String> {
    let runs: Vec<String> = commands.iter().map(|command| format!("RUN {command}\n")).collect();
    world.build(&format!("FROM base\n{}", runs.concat()), &["-t", "built"]).ok();
    world.listing("built")
}

#[test]
fn what_commands_remove_is_gone_from_the_new_layer_and_stays_gone_above_it() {
    for world in World::each() {
        let world = world.with_base();
        for (name, commands) in CASES {
            let layers = quick(&world, &on("base", &as_root(commands))).layers.len();
            world.run(["image", "tag", "app", "old"]).ok();
            let listing = world.listing("old");
            assert_eq!(listing, built(&world, &[commands]), "{name}");
            // The files of `old` are put over a base that has them already: nothing is new.
            world.listing("old");
            fs::copy(world.path("out/listing.tar"), at(&world, "flat.tar")).unwrap();
            world.give();
            let again = quick(&world, &on("old", "contents: [{tar: flat.tar}]\n"));
            assert_eq!(again.layers.len(), layers, "{name}");
            let more = "echo 1 > /etc/more; test -e /bin";
            assemble(&world, &on("old", &as_root(more)), &[]).ok();
            assert_eq!(world.listing("app"), built(&world, &[commands, more]), "{name}");
        }
        read(&world, "app");
    }
}

/// The same layers as items of `contents`.
#[test]
fn whiteouts_of_a_tar_remove_what_the_base_has() {
    let world = World::new().with_base();
    for (name, commands) in CASES {
        let made = quick(&world, &on("base", &as_root(commands)));
        let listing = world.listing("app");
        world.file("layer.tar", made.layers.last().unwrap());
        let copied = quick(&world, &on("base", "contents: [{tar: layer.tar}]\n"));
        assert_eq!(copied.layers, made.layers, "{name}");
        assert_eq!(world.listing("app"), listing, "{name}");
    }
}

/// A file that comes back as it was is not new; one that the base has lost is.
#[test]
fn what_comes_back_is_written_when_the_base_has_it_no_more() {
    for world in World::each() {
        let world = world.with_base();
        quick(&world, &on("base", &as_root("rm -r /usr/share/doc")));
        world.run(["image", "tag", "app", "old"]).ok();
        let file = "contents: [{file: {path: /usr/share/doc/a, text: a}}]\n";
        let made = quick(&world, &on("old", file));
        let wanted = [
            "usr dir 755 0:0 0",
            "usr/share dir 755 0:0 0",
            "usr/share/doc dir 755 0:0 0",
            "usr/share/doc/a file 644 0:0 1",
        ];
        assert_eq!(made.top(), wanted);
        let listing = world.listing("app");
        let docs: Vec<_> =
            listing.iter().filter(|line| line.starts_with("usr/share/doc/")).collect();
        assert_eq!(docs, ["usr/share/doc/a file 644 0:0 1"]);
        let same = quick(&world, &on("base", file));
        assert_eq!(same.layers.len(), 1);
        let said = assemble(&world, &on("base", &format!("{file}layers: {{dedup: none}}\n")), &[]);
        said.ok();
        assert_eq!(read(&world, "app").top(), wanted);
    }
}
