//! Small files, which are packed with their neighbours.

use super::super::small::settled;
use super::*;
use std::time::SystemTime;

/// Files below a directory, all of a time long ago.
fn small_files(tree: &Tree, dir: &str, count: usize) {
    for at in 0..count {
        tree.write(&format!("{dir}/{at:04}"), &text(3000 + at * 7 % 5000));
    }
    settle(tree);
}

/// What a layer says of times is the same whenever a test runs.
fn settle(tree: &Tree) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let mut paths = vec![tree.upper()];
    while let Some(path) = paths.pop() {
        fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn small_files_are_packed_with_their_neighbours() {
    let tree = Tree::new();
    small_files(&tree, "usr/share", 1000);
    tree.write("usr/share/0500-large", &text(100_000));
    settle(&tree);
    let mut upper = tree.watch();
    upper.look();
    // All there are, and one of them is the large file.
    assert_eq!(tree.layer(), (12, true));
}

#[test]
fn a_few_small_files_are_left_alone() {
    let tree = Tree::new();
    small_files(&tree, "few", 400);
    let mut upper = tree.watch();
    upper.look();
    assert_eq!(spilled(&upper), 0);
}

#[test]
fn nothing_is_done_where_nothing_changed() {
    let tree = Tree::new();
    small_files(&tree, "a", 1000);
    let mut upper = tree.watch();
    upper.look();
    let packed = spilled(&upper);
    upper.smalls.forget_rest();
    assert!(!upper.smalls.are_due());
    tree.write("a/0007", &text(2000));
    settle(&tree);
    upper.look();
    assert!(spilled(&upper) > packed);
    // There is a rest until it is done once more.
    let packed = spilled(&upper);
    tree.write("a/0007", &text(2001));
    settle(&tree);
    upper.look();
    assert_eq!(spilled(&upper), packed);
    upper.smalls.forget_rest();
    assert!(upper.smalls.are_due());
}

#[test]
fn a_file_that_changes_or_goes_costs_its_block() {
    let tree = Tree::new();
    small_files(&tree, "usr", 1000);
    let mut upper = tree.watch();
    upper.look();
    tree.write("usr/0100", b"short");
    fs::remove_file(tree.upper().join("usr/0900")).unwrap();
    settle(&tree);
    // Of eleven.
    assert_eq!(tree.layer(), (9, true));
}

#[test]
fn what_was_just_written_is_left_for_later() {
    let tree = Tree::new();
    small_files(&tree, "usr", 1000);
    let mut upper = tree.watch_old(AGE);
    upper.look();
    // However old the times are that they were given.
    assert_eq!(spilled(&upper), 0);
}

/// The command may do anything between two of our calls.
#[test]
fn what_is_another_thing_by_now_is_not_opened() {
    let tree = Tree::new();
    tree.write("a", &text(3007));
    let root = crate::sys::fs::open_dir_path(&tree.upper()).unwrap();
    let mut buffer = [0; 3007];
    let mut is_settled = |name: &[u8]| settled(root.as_fd(), name, &mut buffer, Duration::ZERO);
    assert!(is_settled(b"a"));
    assert!(!is_settled(b"gone"));
    tree.write("a", &text(3006));
    assert!(!is_settled(b"a"));
    let path = tree.upper().join("a");
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(&root, "a", rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(!is_settled(b"a"));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/services", &path).unwrap();
    assert!(!is_settled(b"a"));
}

/// A tree that changes while it is looked at is looked at again later.
#[test]
fn a_tree_that_cannot_be_read_is_tried_again() {
    let tree = Tree::new();
    small_files(&tree, "usr", 1000);
    // No layer can hold it.
    tree.write("usr/.wh.0001", b"");
    let mut upper = tree.watch();
    upper.look();
    fs::remove_file(tree.upper().join("usr/.wh.0001")).unwrap();
    settle(&tree);
    upper.smalls.forget_rest();
    upper.look();
    assert_eq!(tree.layer(), (11, true));
}
