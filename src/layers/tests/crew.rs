//! Files that several threads make: the tree, and the error, are those of one thread, whatever the entries have to do with
//! each other.

use super::cage::{Cage, Raw, options};
use super::{line, open};
use crate::error::Result;
use crate::layers::apply::crew::ALONE;
use crate::layers::apply::{AppliedStats, apply};
use crate::layers::diff::{DiffOptions, XattrFlavour, read_tree};
use proptest::prelude::*;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

/// What is there before, and what an archive makes of it: the files with their times and contents.
fn applied(tar: &[u8], alone: bool) -> (Result<AppliedStats>, Vec<String>) {
    let cage = Cage::new();
    let root = cage.root();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/c"), "below").unwrap();
    symlink("a", root.join("d")).unwrap();
    ALONE.set(alone);
    let result = apply(tar, open(&root).as_fd(), &options());
    ALONE.set(false);
    let flavour = DiffOptions { flavour: XattrFlavour::User, placeholders: true };
    let tree = read_tree(open(&root).as_fd(), &flavour).unwrap();
    let told = |change: crate::layers::Change| {
        let path = root.join(std::str::from_utf8(&change.path).unwrap());
        let content = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        let crate::layers::ChangeKind::Present(entry) = &change.kind else { unreachable!() };
        // What was there before has the time of this test.
        let time = if entry.mtime.0 > 1_000_000 { 0 } else { entry.mtime.0 };
        format!("{} {time} {}", line(&change), content.escape_ascii())
    };
    (result, tree.iter().map(told).collect())
}

fn check(tar: Raw) {
    let tar = tar.end();
    let (alone, expected) = applied(&tar, true);
    let (together, found) = applied(&tar, false);
    match (alone, together) {
        (Ok(alone), Ok(together)) => {
            assert_eq!(alone, together);
            assert_eq!(expected, found);
        }
        // What is left is nobody's.
        (Err(alone), Err(together)) => {
            assert_eq!((alone.kind(), alone.to_string()), (together.kind(), together.to_string()));
        }
        (alone, together) => panic!("{alone:?} {together:?}"),
    }
}

#[test]
fn many_files_are_all_there() {
    let mut tar = Raw::default();
    for dir in 0..20 {
        tar = tar.dir(&format!("new{dir}"));
        for file in 0..40 {
            tar = tar.file(&format!("new{dir}/{file}"), &"x".repeat(dir * file * 97));
        }
    }
    check(tar);
}

#[test]
fn what_depends_on_a_file_waits_for_it() {
    let raw = Raw::default;
    let files = |mut tar: Raw| {
        for number in 0..50 {
            tar = tar.file(&format!("f{number}"), "content");
        }
        tar
    };
    check(files(raw()).add(b'1', "hard", "f49", b""));
    check(files(raw()).file("f49", "again").file("f48", "").dir("f47").link("f46", "f45"));
    check(files(raw()).file("f49/below", "x"));
    check(files(raw()).dir("f49/below"));
    // By another name of the directory.
    check(raw().file("a/new", "1").file("d/new", "2").add(b'1', "d/other", "a/new", b""));
    check(files(raw().dir("e")).link("e", "a").file("e/x", "x").file("a/x", "y"));
    check(files(raw()).file(".wh.a", "").file("a/late", "x"));
    check(raw().file("a/x", "1").file("a/.wh..wh..opq", "").file("a/y", "2"));
    check(files(raw()).file("d/one", "1").file(".wh.d", "").file("d/two", "2"));
    check(files(raw()).add(b'1', "hard", "missing", b"").file("never", ""));
    check(files(raw()).sized(b'0', "cut", "", b"short", 4000));
}

/// One that comes again, after files in it were handed out.
#[test]
fn a_directory_may_come_after_its_files() {
    let mut tar = Raw::default();
    for number in 0..50 {
        tar = tar.file(&format!("a/{number}"), "x");
    }
    tar = tar.pax(b'x', &[("SCHILY.xattr.user.note", "x")]).dir("a");
    check(tar.file("a/after", "x"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_gives_what_one_thread_makes(
        entries in prop::collection::vec(
            (0_u8..8, "[abd](/[abcd]){0,2}", "[abd](/[abc]){0,1}", 0_usize..3),
            1..40,
        ),
    ) {
        let mut tar = Raw::default();
        for (kind, path, other, length) in entries {
            tar = match kind {
                0..=3 => tar.file(&path, ["", "short", "a little longer"][length]),
                4 => tar.dir(&path),
                5 => tar.link(&path, &other),
                6 => tar.add(b'1', &path, &other, b""),
                _ => {
                    let (dir, name) = path.rsplit_once('/').unwrap_or((".", &path));
                    let name = if length == 0 { ".wh..opq" } else { name };
                    tar.file(&format!("{dir}/.wh.{name}"), "")
                }
            };
        }
        check(tar);
    }
}
