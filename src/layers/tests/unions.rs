//! Stacks with unions in them show what the same stacks show without.

use super::have_root;
use crate::layers::Changes;
use crate::layers::diff::{DiffOptions, diff_overlay, read_tree};
use crate::layers::snapshot::{Form, Snapshot, Snapshots};
use crate::layers::times::TimePolicy;
use crate::layers::whiteout::XattrFlavour;
use crate::sys::fs;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const FLAVOUR: XattrFlavour = XattrFlavour::Trusted;
pub(super) const OPTIONS: DiffOptions = DiffOptions { flavour: FLAVOUR, placeholders: false };

/// Paths that the steps of a test change.
const PATHS: [&str; 9] = ["a", "b", "a/x", "a/y", "b/x", "a/x/p", "a/x/q", "b/x/p", "c"];

#[derive(Clone, Debug)]
enum Act {
    File(usize),
    Directory(usize),
    Remove(usize),
    FileInstead(usize),
    DirectoryInstead(usize),
    Mode(usize),
    Owner(usize),
    Attribute(usize),
    Symlink(usize),
    Fifo(usize),
    Link(usize, usize),
    Rename(usize, usize),
}

fn act(root: &Path, act: &Act) -> std::io::Result<()> {
    let at = |path: &usize| root.join(PATHS[*path]);
    let clear = |path: &Path| std::fs::remove_dir_all(path).or_else(|_| std::fs::remove_file(path));
    match act {
        // A pipe that nobody reads must not stop the test.
        Act::File(path) if !at(path).is_file() && at(path).exists() => Ok(()),
        Act::File(path) => std::fs::write(at(path), format!("{path}")),
        Act::Directory(path) => std::fs::create_dir(at(path)),
        Act::Remove(path) => clear(&at(path)),
        Act::FileInstead(path) => {
            clear(&at(path))?;
            std::fs::write(at(path), "instead")
        }
        Act::DirectoryInstead(path) => {
            clear(&at(path))?;
            std::fs::create_dir(at(path))
        }
        Act::Mode(path) => std::fs::set_permissions(at(path), PermissionsExt::from_mode(0o710)),
        Act::Owner(path) => std::os::unix::fs::lchown(at(path), Some(7), Some(8)),
        Act::Attribute(path) => Ok(setxattr(at(path), "user.t", b"1", XattrFlags::empty())?),
        Act::Symlink(path) => std::os::unix::fs::symlink("to", at(path)),
        Act::Fifo(path) => Ok(mknodat(CWD, at(path), FileType::Fifo, Mode::RUSR, 0)?),
        Act::Link(from, to) => std::fs::hard_link(at(from), at(to)),
        Act::Rename(from, to) => std::fs::rename(at(from), at(to)),
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    let path = || 0..PATHS.len();
    prop_oneof![
        3 => path().prop_map(Act::File),
        3 => path().prop_map(Act::Directory),
        2 => path().prop_map(Act::Remove),
        2 => path().prop_map(Act::FileInstead),
        2 => path().prop_map(Act::DirectoryInstead),
        1 => path().prop_map(Act::Mode),
        1 => path().prop_map(Act::Owner),
        1 => path().prop_map(Act::Attribute),
        1 => path().prop_map(Act::Symlink),
        1 => path().prop_map(Act::Fifo),
        2 => (path(), path()).prop_map(|(from, to)| Act::Link(from, to)),
        1 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
    ]
}

pub(super) struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn snapshots(&self, united: usize) -> Snapshots {
        let dir = fs::open_dir_path(self.dir.path()).unwrap();
        Snapshots::open(dir.as_fd(), "real", Form::Overlay(FLAVOUR), &Arc::default())
            .unwrap()
            .uniting(united)
    }

    fn unions(&self) -> Vec<PathBuf> {
        let snapshots = std::fs::read_dir(self.dir.path().join("snapshots")).unwrap();
        let inside = snapshots.flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap());
        let paths = inside.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().as_bytes().starts_with(b"union-")).collect()
    }
}

/// Does a step on a snapshot.
fn step(snapshots: &Snapshots, below: Option<&Arc<Snapshot>>, acts: &[Act]) -> Arc<Snapshot> {
    let draft = snapshots.prepare(below, false).unwrap().unwrap();
    let tree: OwnedFd = fs::reopen_dir(draft.mount(None, true).unwrap()).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
    for one in acts {
        let _what_cannot_be_done_is_not = act(&root, one);
    }
    drop(tree);
    let full =
        diff_overlay(draft.upper(), Some(draft.below().unwrap()), &OPTIONS, &TimePolicy::EXACT)
            .unwrap();
    assert_eq!(draft.changes(false, &TimePolicy::EXACT).unwrap(), full, "{acts:?}");
    draft.commit().unwrap()
}

/// Everything that can be seen, and what the topmost step changed.
fn seen(snapshots: &Snapshots, top: &Arc<Snapshot>) -> (Changes, Changes) {
    let view = snapshots.view(Some(top)).unwrap().unwrap();
    let below = snapshots.view(top.parent()).unwrap().unwrap();
    let tree = read_tree(view.as_fd(), &OPTIONS).unwrap();
    (tree, diff_overlay(top.upper(), Some(below.as_fd()), &OPTIONS, &TimePolicy::EXACT).unwrap())
}

fn with_reader_of_united(steps: &[Vec<Act>], united: usize) {
    let store = Store::new();
    let plain = store.snapshots(1 << 20);
    let mut below = None;
    let mut unions = 0;
    for (at, acts) in steps.iter().enumerate() {
        let top = step(&plain, below.as_ref(), acts);
        let short = store.snapshots(united);
        let found = short.find(top.id()).unwrap();
        let (wanted, got) = (seen(&plain, &top), seen(&short, &found));
        assert_eq!(got, wanted, "step {at} of {steps:?}, {united} at once");
        unions = store.unions().len();
        below = Some(top);
    }
    assert_eq!(unions > 0, steps.len() >= united);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_shows_the_same_with_unions(
        steps in prop::collection::vec(prop::collection::vec(any_act(), 1..6), 2..11),
        united in 2_usize..5,
    ) {
        if have_root("a_stack_shows_the_same_with_unions") {
            with_reader_of_united(&steps, united);
        }
    }
}
