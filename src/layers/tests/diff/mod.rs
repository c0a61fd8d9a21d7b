//! Tests of both diffs: an overlay mount and a plain directory must give the same stream of the same change.

mod by_hand;
mod suite;

use super::{have_root, lines, open};
use crate::layers::diff::{
    DiffOptions, XattrFlavour, diff_overlay, diff_scan, record_again, record_tree,
};
use crate::layers::times::TimePolicy;
use crate::layers::{Change, ChangeKind, path_order};
use crate::sys::fs as sys;
use nix::mount::{MsFlags, mount};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

const OPTIONS: DiffOptions = DiffOptions { flavour: XattrFlavour::Trusted, placeholders: true };

/// Every path of the base has this time, so that both runs start alike.
const OLD: (i64, u32) = (1000, 500);

fn base(root: &Path) {
    for dir in ["a", "d/sub", "e/deep/er", "keep", "mt"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for file in ["a/one", "a/two", "d/x", "d/y", "d/sub/y", "e/deep/er/f", "keep/f", "plain"] {
        fs::write(root.join(file), format!("content of {file}")).unwrap();
    }
    fs::write(root.join("eq1"), "same").unwrap();
    fs::write(root.join("eq2"), "same").unwrap();
    symlink("a", root.join("link")).unwrap();
    fs::hard_link(root.join("keep/f"), root.join("keep/g")).unwrap();
    sys::set_xattr(open(root), b"plain", b"user.k", b"v").unwrap();
    age(root);
}

/// Sets all times to [`OLD`], deepest first.
fn age(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        for child in fs::read_dir(path).unwrap() {
            age(&child.unwrap().path());
        }
    }
    set_time(path, OLD);
}

fn set_time(path: &Path, time: (i64, u32)) {
    let parent = open(path.parent().unwrap());
    sys::set_mtime(parent, path.file_name().unwrap().as_bytes(), time).unwrap();
}

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

/// Times that the change itself made differ between two runs.
fn without_new_times(mut changes: Vec<Change>) -> Vec<Change> {
    for change in &mut changes {
        if let ChangeKind::Present(entry) = &mut change.kind
            && entry.mtime.0 > 1_000_000_000
        {
            entry.mtime = (-1, 0);
        }
    }
    changes
}

/// Changes seen through an overlay mount, whose mount namespace ends with its thread.
fn through_overlay(change: fn(&Path), flavour: XattrFlavour) -> Vec<Change> {
    let job = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("t"), dir.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(at(name)).unwrap();
        }
        base(&at("lower"));
        let options = format!(
            "lowerdir={},upperdir={},workdir={},{}",
            at("lower").display(),
            at("upper").display(),
            at("work").display(),
            match flavour {
                XattrFlavour::User => "userxattr",
                XattrFlavour::Trusted => "redirect_dir=off,metacopy=off",
            }
        );
        let flags = MsFlags::empty();
        mount(Some("o"), &at("merged"), Some("overlay"), flags, Some(&options[..])).unwrap();
        change(&at("merged"));
        let (upper, lower) = (open(&at("upper")), open(&at("lower")));
        let changes = diff_overlay(
            upper.as_fd(),
            Some(lower.as_fd()),
            &DiffOptions { flavour, ..OPTIONS },
            &TimePolicy::EXACT,
        )
        .unwrap()
        .to_vec();
        drop((upper, lower));
        nix::mount::umount(&at("merged")).unwrap();
        nix::mount::umount(dir.path()).unwrap();
        changes
    };
    std::thread::spawn(job).join().unwrap()
}

fn through_scan(change: fn(&Path)) -> Vec<Change> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    base(&root);
    let before = record_tree(open(&root).as_fd()).unwrap();
    change(&root);
    let changes =
        diff_scan(&before, open(&root).as_fd(), &OPTIONS, &TimePolicy::EXACT).unwrap().to_vec();
    let after = record_again(open(&root).as_fd(), &before).unwrap();
    assert!(
        diff_scan(&after, open(&root).as_fd(), &OPTIONS, &TimePolicy::EXACT).unwrap().is_empty()
    );
    changes
}

fn check(test: &str, change: fn(&Path), expect: &[&str]) {
    if !have_root(test) {
        return;
    }
    let overlay = without_new_times(through_overlay(change, XattrFlavour::Trusted));
    assert_eq!(lines(&overlay), expect, "{test}: overlay");
    let user = without_new_times(through_overlay(change, XattrFlavour::User));
    assert_eq!(user, overlay, "{test}: overlay with user attributes");
    let scan = without_new_times(through_scan(change));
    assert_eq!(lines(&scan), expect, "{test}: scan");
    assert_eq!(overlay, scan, "{test}");
    assert!(overlay.is_sorted_by(|a, b| path_order(&a.path, &b.path).is_lt()), "{test}: order");
}
