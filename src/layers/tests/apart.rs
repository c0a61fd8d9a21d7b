//! Layers that were applied apart show what the same layers show that were applied onto what is below.

use super::cage::{Raw, raw};
use super::unions::{FLAVOUR, OPTIONS, Store};
use super::{have_root, lines};
use crate::error::Result;
use crate::layers::Changes;
use crate::layers::apply::{ApplyOptions, Devices, apply};
use crate::layers::diff::read_tree;
use crate::layers::snapshot::{Snapshot, Snapshots};
use crate::sys::fs;
use proptest::prelude::*;
use std::os::fd::AsFd;
use std::sync::Arc;

type Top = Option<Arc<Snapshot>>;

/// Applies a layer through an overlay.
fn onto(snapshots: &Snapshots, below: &Top, tar: &[u8]) -> Top {
    let draft = snapshots.prepare(below.as_ref(), false).unwrap().unwrap();
    let root = fs::reopen_dir(draft.mount(None, false).unwrap()).unwrap();
    apply(tar, root.as_fd(), &ApplyOptions::layer(Devices::Real)).unwrap();
    draft.commit().map(Some).unwrap()
}

/// Applies a layer apart, and puts it there.
fn apart(snapshots: &Snapshots, below: &Arc<Snapshot>, tar: &[u8]) -> Result<Top> {
    let draft = snapshots.prepare(None, false)?.unwrap();
    let options = ApplyOptions { apart: Some(FLAVOUR), ..ApplyOptions::layer(Devices::Real) };
    let stats = apply(tar, draft.upper(), &options)?;
    draft.onto(below, stats.root)?.commit().map(Some)
}

/// Everything that can be seen.
fn seen(snapshots: &Snapshots, top: &Top) -> Changes {
    let view = snapshots.view(top.as_ref()).unwrap().unwrap();
    read_tree(view.as_fd(), &OPTIONS).unwrap()
}

/// Applies all but the first layer both ways, where both are possible; says of each whether they were.
fn both(layers: &[Vec<u8>]) -> Vec<bool> {
    let store = Store::new();
    let snapshots = store.snapshots(3);
    let first = onto(&snapshots, &None, &layers[0]);
    let (mut wanted, mut found) = (first.clone(), first);
    let mut possible = Vec::new();
    for (at, tar) in layers.iter().enumerate().skip(1) {
        wanted = onto(&snapshots, &wanted, tar);
        let below = found.as_ref().unwrap();
        let made = apart(&snapshots, below, tar);
        possible.push(made.is_ok());
        found = made.unwrap_or_else(|_| onto(&snapshots, &found, tar));
        assert_eq!(seen(&snapshots, &found), seen(&snapshots, &wanted), "layer {at}");
    }
    possible
}

fn hard_link(tar: Raw, name: &str, target: &str) -> Raw {
    tar.add(b'1', name, target, b"")
}

fn below() -> Raw {
    raw()
        .dir("d")
        .file("d/a", "a")
        .dir("d/sub")
        .file("d/sub/c", "c")
        .file("f", "f")
        .link("l", "d")
        .dir("gone")
        .file("gone/x", "x")
}

fn check(expect: bool, tar: Raw, shown: &[&str]) {
    let store = Store::new();
    let snapshots = store.snapshots(3);
    let lower = onto(&snapshots, &None, &below().end());
    let tar = tar.end();
    let made = apart(&snapshots, lower.as_ref().unwrap(), &tar);
    assert_eq!(made.is_ok(), expect, "{shown:?} {:?}", made.err());
    let wanted = seen(&snapshots, &onto(&snapshots, &lower, &tar));
    if let Ok(made) = made {
        assert_eq!(seen(&snapshots, &made), wanted);
    }
    let wanted = lines(&wanted.to_vec());
    let names = wanted.iter().map(|line| line.split(' ').nth(2).unwrap());
    assert_eq!(names.collect::<Vec<_>>(), shown);
}

#[test]
fn root_a_layer_that_says_what_it_needs_needs_nothing_below() {
    if !have_root("root_a_layer_that_says_what_it_needs_needs_nothing_below") {
        return;
    }
    let rest = ["d", "d/a", "d/sub", "d/sub/c", "f", "gone", "gone/x", "l"];
    check(true, raw().dir("d").file("d/a", "new").dir("d/sub"), &rest);
    check(
        true,
        hard_link(raw().dir("d").file("d/a", "new"), "d/b", "d/a").link("f", "d"),
        &["d", "d/a", "d/b", "d/sub", "d/sub/c", "f", "gone", "gone/x", "l"],
    );
    // Deletions: of a file, of a directory, of what is made anew before and after, of nothing.
    check(
        true,
        raw().dir("d").file("d/.wh.a", "").file(".wh.gone", "").file(".wh.nothing", ""),
        &["d", "d/sub", "d/sub/c", "f", "l"],
    );
    check(
        true,
        raw().file(".wh.gone", "").dir("gone").file("gone/y", "").dir("d").file(".wh.d", ""),
        &["d", "f", "gone", "gone/y", "l"],
    );
    check(
        true,
        raw().dir("d").file("d/n", "").file("d/.wh..wh..opq", "").dir("m").file("m/.wh.no", ""),
        &["d", "d/n", "f", "gone", "gone/x", "l", "m"],
    );
    // Another type in its place.
    check(
        true,
        raw().file("d", "").dir("f").file("f/x", "").file("l", ""),
        &["d", "f", "f/x", "gone", "gone/x", "l"],
    );
}

#[test]
fn root_what_only_the_layers_below_know_is_not_guessed() {
    if !have_root("root_what_only_the_layers_below_know_is_not_guessed") {
        return;
    }
    let rest = |more: &[&'static str]| {
        let all = [&["d", "d/a", "d/sub", "d/sub/c", "f", "gone", "gone/x", "l"], more].concat();
        let mut all = all.clone();
        all.sort_unstable();
        all
    };
    // A parent without an entry, one behind a link, a target that is not there, a name twice, all that is in the root.
    check(false, raw().file("d/new", ""), &rest(&["d/new"]));
    check(false, raw().file("l/new", ""), &rest(&["d/new"]));
    check(false, raw().link("k", "d").dir("d").file("k/new", ""), &rest(&["d/new", "k"]));
    check(false, hard_link(raw(), "h", "f"), &rest(&["h"]));
    check(false, raw().file("n", "1").file("n", "2"), &rest(&["n"]));
    check(false, raw().file("d/.wh.a", ""), &["d", "d/sub", "d/sub/c", "f", "gone", "gone/x", "l"]);
    check(false, raw().file("n", "").file(".wh..wh..opq", ""), &["n"]);
}

/// The names that an entry of a test may have.
const NAMES: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x", "a/x/p", "a/x/q", "c"];

#[derive(Clone, Debug)]
enum Put {
    File(usize),
    Directory(usize),
    Symlink(usize, usize),
    HardLink(usize, usize),
    Remove(usize),
    Opaque(usize),
    Root,
}

fn any_put() -> impl Strategy<Value = Put> {
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => name().prop_map(Put::File),
        6 => name().prop_map(Put::Directory),
        1 => (name(), name()).prop_map(|(from, to)| Put::Symlink(from, to)),
        1 => (name(), name()).prop_map(|(from, to)| Put::HardLink(from, to)),
        3 => name().prop_map(Put::Remove),
        1 => name().prop_map(Put::Opaque),
        1 => Just(Put::Root),
    ]
}

fn tar_of(puts: &[Put]) -> Vec<u8> {
    let mut tar = raw();
    for put in puts {
        tar = match *put {
            Put::File(at) => tar.file(NAMES[at], NAMES[at]),
            Put::Directory(at) => tar.dir(NAMES[at]),
            Put::Symlink(at, to) => tar.link(NAMES[at], &format!("/{}", NAMES[to])),
            Put::HardLink(at, to) => hard_link(tar, NAMES[at], NAMES[to]),
            Put::Remove(at) => {
                let (dir, name) = NAMES[at].rsplit_once('/').unwrap_or((".", NAMES[at]));
                tar.file(&format!("{dir}/.wh.{name}"), "")
            }
            Put::Opaque(at) => tar.file(&format!("{}/.wh..wh..opq", NAMES[at]), ""),
            Put::Root => tar.dir("./"),
        };
    }
    tar.end()
}

/// Only layers that can be applied at all.
fn applies(layers: &[Vec<Put>]) -> Option<Vec<Vec<u8>>> {
    let tars: Vec<Vec<u8>> = layers.iter().map(|puts| tar_of(puts)).collect();
    let dir = tempfile::tempdir().unwrap();
    let root = super::open(dir.path());
    let options = ApplyOptions::layer(Devices::Real);
    let applied = tars.iter().all(|tar| apply(&tar[..], root.as_fd(), &options).is_ok());
    applied.then_some(tars)
}

/// Through an overlay what was removed cannot be touched any more; on its own file system it can.
#[test]
fn root_a_directory_behind_a_link_may_go_in_the_layer_that_touched_it() {
    if !have_root("root_a_directory_behind_a_link_may_go_in_the_layer_that_touched_it") {
        return;
    }
    // The layer looks for something to delete in it, or says what it is like, or makes a file in it; then it goes, and its parent with it.
    let touched: [fn() -> Raw; 4] = [
        || raw().file("k/q/.wh..wh..opq", ""),
        || raw().file("k/q/.wh.nothing", ""),
        || raw().dir("k/q"),
        || raw().file("k/q/new", "").file("k/q/.wh.new", ""),
    ];
    let removed: [(&str, &[&str]); 3] =
        [(".wh.a", &["k"]), ("a", &["a", "k"]), ("a/.wh.q", &["a", "k"])];
    for touch in touched {
        for (remove, names) in removed {
            let store = Store::new();
            let snapshots = store.snapshots(3);
            let below = raw().dir("a").dir("a/q").link("k", "a").end();
            let lower = onto(&snapshots, &None, &below);
            let shown =
                seen(&snapshots, &onto(&snapshots, &lower, &touch().file(remove, "").end()));
            let shown = lines(&shown.to_vec());
            let shown = shown.iter().map(|line| line.split(' ').nth(2).unwrap());
            assert_eq!(shown.collect::<Vec<_>>(), names);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_global_rejects: 1 << 16, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_shows_the_same_that_was_applied_apart(
        layers in prop::collection::vec(prop::collection::vec(any_put(), 1..7), 2..6),
    ) {
        if have_root("a_layer_shows_the_same_that_was_applied_apart") {
            let tars = applies(&layers);
            prop_assume!(tars.is_some());
            both(&tars.unwrap_or_default());
        }
    }
}
