//! One suite of changes through both diffs: an overlay mount and a plain directory must give the same stream.

use super::{have_root, lines, open};
use crate::layers::diff::{
    DiffOptions, XattrFlavour, diff_overlay, diff_scan, read_tree, record_again, record_tree,
};
use crate::layers::times::TimePolicy;
use crate::layers::{Change, ChangeKind, Changes, PLACEHOLDER_XATTR, path_order, whiteout};
use crate::sys::fs as sys;
use nix::mount::{MsFlags, mount};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
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

#[test]
fn root_nothing_changed_is_an_empty_stream() {
    check("nothing", |_| (), &[]);
}

#[test]
fn root_new_things_of_every_type() {
    check(
        "new things",
        |root| {
            fs::write(root.join("a/new"), "12345").unwrap();
            fs::create_dir_all(root.join("n/sub")).unwrap();
            symlink("../nowhere//x/", root.join("n/l")).unwrap();
            let n = open(&root.join("n"));
            sys::mknod(&n, b"fifo", sys::Kind::Fifo, 0o640, (0, 0)).unwrap();
            sys::mknod(&n, b"null", sys::Kind::CharDevice, 0o666, (1, 3)).unwrap();
            sys::mknod(&n, b"disk", sys::Kind::BlockDevice, 0o660, (259, 70000)).unwrap();
            sys::chmod(&n, b"null", 0o666).unwrap();
            fs::write(root.join("n").join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
            fs::set_permissions(root.join("n/sub"), Permissions::from_mode(0o1777)).unwrap();
            fs::write(root.join("n-b"), "").unwrap();
            chown(root.join("n-b"), Some(7), Some(8)).unwrap();
            fs::set_permissions(root.join("n-b"), Permissions::from_mode(0o4755)).unwrap();
        },
        &[
            "d 755 a",
            "f 644 a/new 5",
            "d 755 n",
            "b 640 n/disk 259:70000",
            "p 640 n/fifo",
            "l 777 n/l -> ../nowhere//x/",
            "c 666 n/null 1:3",
            "d 1777 n/sub",
            "f 644 n/\\xff\\n 0",
            "f 4755 7:8 n-b 0",
        ],
    );
}

#[test]
fn root_deletions_name_the_topmost_path() {
    check(
        "deletions",
        |root| {
            fs::remove_file(root.join("a/one")).unwrap();
            fs::remove_dir_all(root.join("e")).unwrap();
            fs::remove_file(root.join("link")).unwrap();
        },
        &["d 755 a", "D a/one", "D e", "D link"],
    );
}

#[test]
fn root_a_directory_made_again_deletes_each_vanished_name() {
    check(
        "made again",
        |root| {
            fs::remove_dir_all(root.join("d")).unwrap();
            fs::create_dir_all(root.join("d/sub/new")).unwrap();
            fs::write(root.join("d/x"), "content of d/x").unwrap();
            set_time(&root.join("d/x"), OLD);
            fs::remove_dir_all(root.join("e/deep")).unwrap();
            fs::create_dir(root.join("e/deep")).unwrap();
        },
        &[
            "d 755 d",
            "d 755 d/sub",
            "d 755 d/sub/new",
            "D d/sub/y",
            "D d/y",
            "d 755 e",
            "d 755 e/deep",
            "D e/deep/er",
        ],
    );
}

#[test]
fn root_metadata_changes_are_changes() {
    check(
        "metadata",
        |root| {
            fs::set_permissions(root.join("a/one"), Permissions::from_mode(0o600)).unwrap();
            chown(root.join("d/x"), Some(1000), Some(1001)).unwrap();
            set_time(&root.join("d/y"), (2000, 0));
            sys::set_xattr(open(root), b"plain", b"user.k", b"w").unwrap();
            sys::set_xattr(open(root), b"plain", b"trusted.gone", b"w").unwrap();
            let cap = b"\x01\0\0\x02\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            sys::set_xattr(open(&root.join("a")), b"two", b"security.capability", cap).unwrap();
            fs::set_permissions(root.join("mt"), Permissions::from_mode(0o700)).unwrap();
        },
        &[
            "d 755 a",
            "f 600 a/one 16",
            "f 644 a/two 16 [security.capability=\\x01\\x00\\x00\\x02\\x02\\x00\\x00\\x00\\x00\\x00\
             \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00]",
            "d 755 d",
            "f 644 1000:1001 d/x 14",
            "f 644 d/y 14",
            "d 700 mt",
            "f 644 plain 16 [user.k=w]",
        ],
    );
}

#[test]
fn root_what_is_equal_in_the_end_is_no_change() {
    check(
        "equal",
        |root| {
            drop(OpenOptions::new().write(true).open(root.join("a/one")).unwrap());
            fs::set_permissions(root.join("a/two"), Permissions::from_mode(0o600)).unwrap();
            fs::set_permissions(root.join("a/two"), Permissions::from_mode(0o644)).unwrap();
            chown(root.join("d"), Some(0), Some(0)).unwrap();
            fs::remove_file(root.join("d/x")).unwrap();
            fs::write(root.join("d/x"), "content of d/x").unwrap();
            for path in ["d/x", "d"] {
                set_time(&root.join(path), OLD);
            }
        },
        &[],
    );
}

#[test]
fn root_content_is_compared_even_when_the_time_is_set_back() {
    check(
        "forged time",
        |root| {
            fs::write(root.join("d/x"), "CONTENT of d/x").unwrap();
            append(&root.join("plain"));
            for path in ["d/x", "plain"] {
                set_time(&root.join(path), OLD);
            }
        },
        &["d 755 d", "f 644 d/x 14", "f 644 plain 20 [user.k=v]"],
    );
}

#[test]
fn root_a_touched_directory_is_a_change() {
    check(
        "touched",
        |root| {
            fs::write(root.join("mt/t"), "").unwrap();
            fs::remove_file(root.join("mt/t")).unwrap();
        },
        &["d 755 mt"],
    );
}

#[test]
fn root_a_change_of_type_is_one_entry() {
    check(
        "types",
        |root| {
            fs::remove_file(root.join("a/one")).unwrap();
            fs::create_dir(root.join("a/one")).unwrap();
            fs::write(root.join("a/one/in"), "x").unwrap();
            fs::remove_dir_all(root.join("d")).unwrap();
            fs::write(root.join("d"), "file").unwrap();
            fs::remove_dir_all(root.join("e")).unwrap();
            symlink("a", root.join("e")).unwrap();
            fs::remove_file(root.join("link")).unwrap();
            fs::create_dir(root.join("link")).unwrap();
            fs::write(root.join("link/one"), "").unwrap();
        },
        &[
            "d 755 a",
            "d 755 a/one",
            "f 644 a/one/in 1",
            "f 644 d 4",
            "l 777 e -> a",
            "d 755 link",
            "f 644 link/one 0",
        ],
    );
}

#[test]
fn root_hard_links_name_the_first_path() {
    check(
        "hard links",
        |root| {
            fs::write(root.join("z"), "zz").unwrap();
            fs::hard_link(root.join("z"), root.join("a/z")).unwrap();
            fs::hard_link(root.join("z"), root.join("m")).unwrap();
            // An unchanged file with a new second name: the group goes as a whole.
            fs::hard_link(root.join("plain"), root.join("q")).unwrap();
            symlink("t", root.join("s1")).unwrap();
            fs::hard_link(root.join("s1"), root.join("s2")).unwrap();
        },
        &[
            "d 755 a",
            "f 644 a/z 2",
            "h 644 m => a/z",
            "f 644 plain 16 [user.k=v]",
            "h 644 q => plain",
            "l 777 s1 -> t",
            "h 777 s2 => s1",
            "h 644 z => a/z",
        ],
    );
}

#[test]
fn root_separate_files_that_become_one_are_a_change() {
    check(
        "joined",
        |root| {
            fs::remove_file(root.join("eq1")).unwrap();
            fs::hard_link(root.join("eq2"), root.join("eq1")).unwrap();
        },
        &["f 644 eq1 4", "h 644 eq2 => eq1"],
    );
}

#[test]
fn root_renames_are_deletions_and_new_names() {
    check(
        "renames",
        |root| {
            fs::rename(root.join("a/one"), root.join("d/one")).unwrap();
            fs::create_dir(root.join("n")).unwrap();
            fs::write(root.join("n/f"), "").unwrap();
            fs::rename(root.join("n"), root.join("o")).unwrap();
            fs::rename(root.join("o"), root.join("mt")).unwrap();
        },
        &["d 755 a", "D a/one", "d 755 d", "f 644 d/one 16", "d 755 mt", "f 644 mt/f 0"],
    );
}

#[test]
fn root_sockets_are_nothing() {
    check(
        "sockets",
        |root| {
            drop(std::os::unix::net::UnixListener::bind(root.join("mt/s")).unwrap());
            set_time(&root.join("mt"), OLD);
            fs::remove_file(root.join("a/one")).unwrap();
            drop(std::os::unix::net::UnixListener::bind(root.join("a/one")).unwrap());
        },
        &["d 755 a", "D a/one"],
    );
}

#[test]
fn root_placeholders_are_devices() {
    check(
        "placeholders",
        |root| {
            let node = whiteout::DeviceNode { block: false, major: 5, minor: 1, mode: 0o620 };
            whiteout::make_placeholder(open(root).as_fd(), b"console", node).unwrap();
            File::create(root.join("forged")).unwrap();
            let key = PLACEHOLDER_XATTR.as_bytes();
            sys::set_xattr(open(root), b"forged", key, b"c:1").unwrap();
        },
        &["c 620 console 5:1", "f 644 forged 0"],
    );
}

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
    assert!(super::line(&changes[2]).ends_with("a-b => a/f"));
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
