//! Trees out of layers, and what tells two of them apart.

use super::*;
use crate::layers::EntryKind;
use crate::transfer::diff::Pair;
use crate::transfer::flatten::files;

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

/// `path kind [content digest's start]` of all paths.
fn tree(layers: &[&[Member<'_>]]) -> Vec<String> {
    try_tree(layers).unwrap()
}

fn try_tree(layers: &[&[Member<'_>]]) -> crate::error::Result<Vec<String>> {
    let world = World::new();
    let tars: Vec<Vec<u8>> = layers.iter().map(|members| tar_of(members)).collect();
    let root = image(&world.store, &tars);
    let found = read::image(&world.store, &root).unwrap();
    let files = files(&world.store, found.manifest.layers(), None)?;
    let line = |(path, file): (&Vec<u8>, &crate::transfer::flatten::File)| {
        let path = String::from_utf8_lossy(path);
        match (&file.entry.kind, &file.content) {
            (EntryKind::File { size }, Some(_)) => format!("{path} {size}"),
            (EntryKind::Directory, _) => format!("{path}/"),
            (EntryKind::Symlink { target }, _) => {
                format!("{path} -> {}", String::from_utf8_lossy(target))
            }
            (other, _) => format!("{path} {other:?}"),
        }
    };
    Ok(files.iter().map(line).collect())
}

#[test]
fn whiteouts_remove_what_is_below_and_nothing_of_their_own_layer() {
    let base: &[Member<'_>] = &[
        ("d", DIR, ""),
        ("d/a", FILE, "1"),
        ("d/b", FILE, "22"),
        ("e", DIR, ""),
        ("e/x", DIR, ""),
        ("e/x/y", FILE, "1"),
        ("f", FILE, "1"),
    ];
    assert_eq!(
        tree(&[base, &[("d/.wh.a", FILE, ""), ("d/c", FILE, "333"), (".wh.e", FILE, "")]]),
        ["d/", "d/b 2", "d/c 3", "f 1"]
    );
    assert_eq!(
        tree(&[base, &[("d/new", FILE, "1"), ("d/.wh..wh..opq", FILE, "")]]),
        ["d/", "d/new 1", "e/", "e/x/", "e/x/y 1", "f 1"]
    );
    // A directory that is there again after its removal, whichever comes first.
    for again in [
        [(".wh.e", FILE, ""), ("e", DIR, ""), ("e/n", FILE, "1")],
        [("e", DIR, ""), ("e/n", FILE, "1"), (".wh.e", FILE, "")],
    ] {
        assert_eq!(tree(&[base, &again])[3..], ["e/", "e/n 1", "f 1"]);
    }
    assert_eq!(tree(&[base, &[("e", FILE, "1")]]), ["d/", "d/a 1", "d/b 2", "e 1", "f 1"]);
}

#[test]
fn links_on_the_way_are_followed_inside_the_image() {
    let base: &[Member<'_>] = &[
        ("usr", DIR, ""),
        ("usr/lib", DIR, ""),
        ("lib", LINK, "usr/lib"),
        ("up", LINK, "/../../usr"),
    ];
    assert_eq!(
        tree(&[base, &[("lib/x", FILE, "1"), ("up/lib/y", FILE, "22")]]),
        ["lib -> usr/lib", "up -> /../../usr", "usr/", "usr/lib/", "usr/lib/x 1", "usr/lib/y 2"]
    );
    let itself = try_tree(&[&[("l", LINK, "l"), ("l/x", FILE, "1")]]).unwrap_err();
    assert_eq!(itself.causes()[1], "too many links lead to it");
}

#[test]
fn a_further_name_is_the_same_file() {
    assert_eq!(tree(&[&[("a", FILE, "123"), ("b", HARD, "a")]]), ["a 3", "b 3"]);
}

#[test]
fn differences_are_told_by_path_member_and_history() {
    let world = World::new();
    let one = image(
        &world.store,
        &[tar_of(&[("same", FILE, "x"), ("gone", FILE, "x"), ("a-b", FILE, "1"), ("a", DIR, "")])],
    );
    let two = image(
        &world.store,
        &[tar_of(&[
            ("same", FILE, "x"),
            ("a", LINK, "same"),
            ("a-b", FILE, "2"),
            ("new\n", FILE, ""),
        ])],
    );
    for (name, root) in [("one:1", &one), ("two:1", &two)] {
        let name = crate::oci::Reference::parse(name).unwrap();
        world.store.set_name(&name, root, crate::oci::layout::Origin::Built).unwrap();
    }
    let access = world.access();
    let at = |name: &str| Location::parse(name).unwrap();
    let diff = Pair::open(&access, &at("one:1"), &at("two:1"), None).unwrap().diff().unwrap();
    assert_eq!(
        diff.text(),
        "files:\n  C /a: directory -> symbolic link\n  C /a-b: content\n  D /gone\n  A /new\\n\n"
    );
    assert!(
        Pair::open(&access, &at("one:1"), &at("one:1"), None).unwrap().diff().unwrap().is_empty()
    );
}
