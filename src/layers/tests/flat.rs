//! Trees without a file system: the same as what the same layers leave in a directory, and what leads from one to another.

use super::cage::{Cage, Raw, options};
use super::{TIMES, lines, open};
use crate::layers::diff::{DiffOptions, XattrFlavour, read_tree};
use crate::layers::flat::{FlatTree, Spool};
use crate::layers::tar_read::Limits;
use crate::layers::tar_write::{write_layer, write_stream};
use crate::layers::{Change, ChangeKind};
use proptest::prelude::*;
use std::os::fd::AsFd;

fn spool() -> Spool {
    Spool::new(tempfile::tempfile().unwrap())
}

fn flat(layers: &[Vec<u8>]) -> crate::error::Result<FlatTree> {
    let mut tree = FlatTree::new(Some(spool()));
    for layer in layers {
        tree.apply(&layer[..], &Limits::default())?;
    }
    Ok(tree)
}

fn tar(tree: &FlatTree, changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::new();
    write_stream(changes, &mut |path, size, out| tree.body(path, size, out), &TIMES, &mut out)
        .unwrap();
    out
}

/// All belongs to root: an ordinary user can give a directory's files to nobody else.
fn roots(mut changes: Vec<Change>) -> Vec<Change> {
    for change in &mut changes {
        if let ChangeKind::Present(entry) = &mut change.kind {
            (entry.uid, entry.gid) = (0, 0);
        }
    }
    changes
}

/// The tree of the same layers in a directory: its changes and its tar.
fn unpacked(layers: &[Vec<u8>]) -> crate::error::Result<(Vec<Change>, Vec<u8>)> {
    let cage = Cage::new();
    for layer in layers {
        cage.apply(layer, &options())?;
    }
    let root = open(&cage.root());
    let flavour = XattrFlavour::Trusted;
    let options = DiffOptions { flavour, placeholders: true };
    let changes = roots(read_tree(root.as_fd(), &options).unwrap().to_vec());
    let mut out = Vec::new();
    write_layer(&changes, root.as_fd(), &TIMES, &mut out).unwrap();
    Ok((changes, out))
}

/// A member: which kind, its path, a target or a body.
#[derive(Clone, Debug)]
struct Wish(u8, String, String);

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
}

fn wish() -> impl Strategy<Value = Wish> {
    let target = (prop_oneof![Just(""), Just("/"), Just("../")], path())
        .prop_map(|(start, path)| format!("{start}{path}"));
    prop_oneof![
        2 => (path(), "[a-z]{0,9}").prop_map(|(path, body)| Wish(b'0', path, body)),
        2 => path().prop_map(|path| Wish(b'5', path, String::new())),
        1 => (path(), target).prop_map(|(path, target)| Wish(b'2', path, target)),
        1 => (path(), path()).prop_map(|(path, target)| Wish(b'1', path, target)),
        1 => path().prop_map(|path| Wish(b'6', path, String::new())),
        1 => path().prop_map(|path| {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
            Wish(b'0', format!("{dir}/.wh.{name}"), String::new())
        }),
        1 => path().prop_map(|path| Wish(b'0', format!("{path}/.wh..wh..opq"), String::new())),
    ]
}

fn layers(wishes: &[Vec<Wish>]) -> Vec<Vec<u8>> {
    let layer = |wishes: &Vec<Wish>| {
        let add = |raw: Raw, Wish(kind, name, text): &Wish| match kind {
            b'0' => raw.file(name, text),
            kind => raw.add(*kind, name, text, b""),
        };
        wishes.iter().fold(Raw::default(), add).end()
    };
    wishes.iter().map(layer).collect()
}

fn stacks() -> impl Strategy<Value = Vec<Vec<Wish>>> {
    proptest::collection::vec(proptest::collection::vec(wish(), 0..9), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_flat_tree_is_the_tree_that_the_layers_leave_in_a_directory(wishes in stacks()) {
        let layers = layers(&wishes);
        match (flat(&layers), unpacked(&layers)) {
            (Ok(tree), Ok((changes, bytes))) => {
                let found = tree.changes();
                prop_assert_eq!(lines(&found), lines(&changes));
                // A directory that a layer reaches through a link, which it then removes, keeps the present time.
                if wishes.iter().flatten().all(|Wish(kind, ..)| *kind != b'2') {
                    prop_assert!(found == changes, "{found:?}\n{changes:?}");
                    prop_assert!(tar(&tree, &found) == bytes);
                }
            }
            (Err(_), Err(_)) => {}
            // A directory with a time to set, that the layer replaced by a link to itself.
            (Ok(_), Err(error)) if format!("{error:?}").contains("too many levels") => {}
            (flat, unpacked) => prop_assert!(false, "{flat:?}\n{unpacked:?}"),
        }
    }

    #[test]
    fn the_layer_between_two_trees_leads_from_one_to_the_other(
        from in stacks(), to in stacks(), common in stacks()
    ) {
        let join = |rest: Vec<Vec<Wish>>| layers(&common.iter().cloned().chain(rest).collect::<Vec<_>>());
        let (from_wishes, from, to) = (from.clone(), join(from), join(to));
        let (Ok(a), Ok(b)) = (flat(&from), flat(&to)) else { return Ok(()) };
        let changes = b.changes_from(&a);
        let layer = tar(&b, &changes);
        let all: Vec<Vec<u8>> = from.into_iter().chain([layer]).collect();
        let (there, bytes) = match unpacked(&all) {
            Ok(found) => found,
            Err(error) if format!("{error:?}").contains("too many levels") => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
        };
        prop_assert_eq!(lines(&there), lines(&b.changes()));
        if [&common, &from_wishes].into_iter().flatten().flatten().all(|Wish(kind, ..)| *kind != b'2') {
            prop_assert!(there == b.changes());
            prop_assert!(tar(&b, &b.changes()) == bytes);
        }
        let again = flat(&all).unwrap();
        prop_assert!(b.changes_from(&again).is_empty());
    }
}

#[test]
fn bodies_of_zeros_need_no_disk_and_come_back() {
    let body = "\0".repeat(300_000) + "x" + &"\0".repeat(200_000);
    let layers = [Raw::default().file("a", &body).file("b", "y").end()];
    let tree = flat(&layers).unwrap();
    assert!(tar(&tree, &tree.changes()) == unpacked(&layers).unwrap().1);
    let mut out = Vec::new();
    tree.body(b"a", body.len() as u64, &mut out).unwrap();
    assert!(out == body.as_bytes());
    let without = FlatTree::new(None);
    let error = without.body(b"a", 1, &mut out).unwrap_err();
    assert_eq!(error.message(), "the bytes of `a` were not kept");
}

/// Found by a random test: the tree in a directory had it, since the way to the target was found before.
#[test]
fn a_hard_link_in_the_place_of_what_led_to_its_target_is_refused() {
    let through_link = Raw::default().link("a/b", "c").file("a/b/b", "");
    let through_dir = Raw::default().file("a/b/b", "");
    for raw in [through_link, through_dir] {
        let layers = [raw.add(b'1', "a/b", "a/b/b", b"").end()];
        for error in [flat(&layers).unwrap_err(), unpacked(&layers).unwrap_err()] {
            let error = format!("{error:?}");
            assert!(error.contains("it links to `a/b/b`, which is not there"), "{error}");
        }
    }
}

#[test]
fn what_no_directory_could_hold_is_refused() {
    for (raw, why) in [
        (Raw::default().link("a", "b").link("b", "a").file("a/x", ""), "too many links lead to it"),
        (Raw::default().file("a", "").file("a/x", ""), "something on the way is no directory"),
        (Raw::default().add(b'1', "a", "b", b""), "it links to `b`, which is not there"),
        (Raw::default().dir("b").add(b'1', "a", "b", b""), "it links to `b`, a directory"),
        (
            Raw::default().add(b'3', "whiteout", "", b""),
            "the character device 0:0 is overlayfs's mark of a deletion",
        ),
        (Raw::default().file("./", ""), "a file with the name of a directory"),
    ] {
        let error = flat(&[raw.end()]).unwrap_err();
        assert!(format!("{error:?}").contains(why), "{why}: {error:?}");
    }
}
