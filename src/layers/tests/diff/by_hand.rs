//! Trees and uppers that no mount made: read whole, deep ones, and those with marks that a kernel does not leave so.

use super::{OLD, OPTIONS, base, set_time};
use crate::layers::diff::{DiffOptions, XattrFlavour, diff_overlay, read_tree};
use crate::layers::tests::{have_root, line, lines, open};
use crate::layers::times::TimePolicy;
use crate::layers::{ChangeKind, Changes, path_order, whiteout};
use crate::sys::fs as sys;
use std::fs;
use std::os::fd::AsFd;

#[test]
fn root_an_upper_made_by_hand_is_read_by_its_marks() {
    if !have_root("by hand") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&lower).unwrap();
    base(&lower);
    fs::create_dir_all(upper.join("new")).unwrap();
    fs::create_dir_all(upper.join("e/deep")).unwrap();
    let at = open(&upper);
    // Whiteouts of one inode, as the kernel makes them; one of them hides nothing.
    whiteout::make_whiteout_node(at.as_fd(), b"plain").unwrap();
    fs::hard_link(upper.join("plain"), upper.join("nothing")).unwrap();
    fs::hard_link(upper.join("plain"), upper.join("e/deep/er")).unwrap();
    // Opaque without anything below.
    whiteout::make_opaque(at.as_fd(), b"new", XattrFlavour::Trusted).unwrap();
    whiteout::make_opaque(at.as_fd(), b"e", XattrFlavour::Trusted).unwrap();
    let below = open(&lower);
    let changes = diff_overlay(at.as_fd(), Some(below.as_fd()), &OPTIONS, &TimePolicy::EXACT)
        .unwrap()
        .to_vec();
    assert_eq!(lines(&changes), ["d 755 e", "d 755 e/deep", "D e/deep/er", "d 755 new", "D plain"]);
    // Marks of the other flavour mean nothing.
    let other = DiffOptions { flavour: XattrFlavour::User, ..OPTIONS };
    let changes = diff_overlay(at.as_fd(), None, &other, &TimePolicy::EXACT).unwrap().to_vec();
    assert_eq!(lines(&changes), ["d 755 e", "d 755 e/deep", "d 755 new"]);
    sys::set_xattr(&at, b"new", b"trusted.overlay.redirect", b"/a").unwrap();
    let error = diff_overlay(at.as_fd(), None, &OPTIONS, &TimePolicy::EXACT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`new` is a redirect of overlayfs, which our mounts do not allow"
    );
}

#[test]
fn a_whole_tree_is_all_present_and_depth_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/f"), "x").unwrap();
    fs::hard_link(dir.path().join("a/f"), dir.path().join("a-b")).unwrap();
    let mut deep = dir.path().join("z");
    for _ in 0..1000 {
        deep.push("z");
    }
    fs::create_dir_all(&deep).unwrap();
    let changes = read_tree(open(dir.path()).as_fd(), &OPTIONS).unwrap().to_vec();
    let paths: Vec<String> =
        changes[..4].iter().map(|c| String::from_utf8_lossy(&c.path).into_owned()).collect();
    assert_eq!(paths, ["a", "a/f", "a-b", "z"]);
    assert!(line(&changes[2]).ends_with("a-b => a/f"));
    assert_eq!(changes.len(), 4 + 1000);
}

/// Directories further down than the ones that stay open are opened again for what comes after them.
#[test]
fn what_comes_after_a_deep_directory_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
    let mut wanted = Vec::new();
    for depth in 0..60 {
        let path = ["d"; 60][..depth].join("/");
        let here = if depth == 0 { String::new() } else { format!("{path}/") };
        for tree in [&upper, &lower] {
            fs::create_dir_all(tree.join(&path)).unwrap();
            fs::write(tree.join(&here).join("same"), "").unwrap();
            set_time(&tree.join(&here).join("same"), OLD);
        }
        fs::write(upper.join(&here).join("new"), "").unwrap();
        wanted.extend([path, format!("{here}new")].into_iter().filter(|path| !path.is_empty()));
    }
    wanted.sort_by(|a, b| path_order(a.as_bytes(), b.as_bytes()));
    let (upper, lower) = (open(&upper), open(&lower));
    let paths = |changes: &Changes| -> Vec<String> {
        changes.iter().map(|change| String::from_utf8(change.path).unwrap()).collect()
    };
    let changes =
        diff_overlay(upper.as_fd(), Some(lower.as_fd()), &OPTIONS, &TimePolicy::EXACT).unwrap();
    assert_eq!(paths(&changes), wanted);
    let all = diff_overlay(upper.as_fd(), None, &OPTIONS, &TimePolicy::EXACT).unwrap();
    assert_eq!(all, read_tree(upper.as_fd(), &OPTIONS).unwrap());
    assert_eq!(all.len(), 59 + 2 * 60);
}

/// An opaque directory hides names before, between and behind its own, and one whose place a socket took.
#[test]
fn hidden_names_are_deleted_in_order() {
    let options = DiffOptions { flavour: XattrFlavour::User, placeholders: true };
    for depth in [0, 20] {
        let dir = tempfile::tempdir().unwrap();
        let path = "d/".repeat(depth) + "o";
        let (upper, lower) = (dir.path().join("u"), dir.path().join("l"));
        let (above, below) = (upper.join(&path), lower.join(&path));
        fs::create_dir_all(&above).unwrap();
        fs::create_dir_all(below.join("e/f")).unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(below.join(name), name).unwrap();
        }
        fs::write(above.join("b"), "new").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(above.join("d")).unwrap();
        fs::write(above.join("x"), "").unwrap();
        whiteout::make_opaque(open(above.parent().unwrap()).as_fd(), b"o", XattrFlavour::User)
            .unwrap();
        let (upper, lower) = (open(&upper), open(&lower));
        let changes =
            diff_overlay(upper.as_fd(), Some(lower.as_fd()), &options, &TimePolicy::EXACT).unwrap();
        let found: Vec<String> = changes
            .iter()
            .skip(depth)
            .map(|change| {
                let word = if change.kind == ChangeKind::Deleted { "D " } else { "" };
                let name = change.path.strip_prefix(path.as_bytes()).unwrap();
                format!("{word}{}", String::from_utf8_lossy(name))
            })
            .collect();
        assert_eq!(found, ["", "D /a", "/b", "D /c", "D /d", "D /e", "/x"], "{depth}");
    }
}
