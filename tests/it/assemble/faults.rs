//! What the spec names and this machine does not have, and other bad input: every byte of what is said.

use super::{HEAD, assemble, file, tar_of};
use crate::errors::{normal, transcript};
use crate::support::World;
use std::fs;

fn prepare(world: &World) {
    let tar = tar_of(&[file("a", "a"), file("b", &"b".repeat(5000))]);
    world
        .file("cut.tar", &tar[..2000])
        .file("text", "hello\n")
        .file("empty", "")
        .file("dir/x", "x");
    world.file("cut.tar.zst", &zstd::encode_all(&tar[..], 3).unwrap()[..30]);
    world.file("up.tar", raw_tar("../up"));
    world.file("fs/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-there", "x");
    world.file("graph", "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-gone\n\n0\n");
}

/// A tar whose only member has this name, which the library would not write.
fn raw_tar(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, &[][..]).unwrap();
    tar.into_inner().unwrap()
}

const CONTENTS: &[&str] = &[
    "dir: gone",
    "dir: text",
    "tar: gone",
    "tar: dir",
    "tar: text",
    "tar: empty",
    "tar: cut.tar",
    "tar: cut.tar.zst",
    "tar: up.tar",
    "file: {path: /x, source: gone}",
    "file: {path: /x, source: dir}",
    "directory: {path: /}",
    "preset: {ca-certificates: {source: gone}}",
    "preset: usr-bin-env",
    "preset: {nix-shell: {env: text}}",
    "closure: {paths: [/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-gone], root: dir}",
    "closure: {paths: [/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-gone], root: fs}",
    "closure: {paths: [/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-gone], root: fs, graph: graph}",
    "closure: {paths: [/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-gone], root: fs, registration: text}",
    "closure: {paths: [/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-gone], root: fs, graph: gone}",
    "closure: {paths: [/tmp/x]}",
];

#[test]
fn what_is_not_there_or_broken_is_told_with_its_place() {
    let mut found = String::new();
    for world in World::each() {
        prepare(&world);
        let mut all = String::new();
        for item in CONTENTS {
            for args in [&[][..], &["--check"]] {
                let said = assemble(&world, &format!("{HEAD}contents:\n- {item}\n"), args);
                let text = format!("== {item}\n{}\n", normal(&world, &said));
                if args.is_empty() {
                    all += &text;
                } else {
                    assert!(all.ends_with(&text), "--check says something else:\n{text}");
                }
            }
        }
        assert!(found.is_empty() || found == all, "{all}");
        found = all;
        assert!(!world.run(["image", "ls"]).ok().contains("app"));
    }
    transcript("assemble-contents", &found);
}

/// Whatever the text is, all its mistakes come at once.
#[test]
fn all_mistakes_of_a_spec_are_told_at_once() {
    for world in World::each() {
        let spec = "version: 1
nam: app
contents:
- {dir: a, tar: b}
- file: {path: x, text: y}
- directory: {path: /d, mode: 755}
created: yesterday
layers: {max: 0}
";
        let found = normal(&world, &assemble(&world, spec, &[]));
        transcript("assemble-mistakes", &found);
        for (text, wanted) in [
            ("", "error: the spec is empty\n"),
            ("version: 2\nnew: key\n", "error: version 2 of the spec is not known, only 1\n"),
            ("name: app\n", "error: `version` is required\n"),
            ("- a\n", "error: "),
        ] {
            let said = assemble(&world, text, &[]).failed(1);
            assert!(said.starts_with(wanted), "{said}");
        }
        fs::write(world.context().join("image.yaml"), b"version: 1\nname: \xff\n").unwrap();
        let said = world.run(["assemble", "-f", "context/image.yaml"]).failed(1);
        assert!(said.contains("context/image.yaml:2"), "{said}");
    }
}
