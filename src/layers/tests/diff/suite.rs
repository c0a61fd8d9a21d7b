//! One suite of changes through both diffs.

use super::{OLD, append, check, set_time};
use crate::layers::tests::open;
use crate::layers::{PLACEHOLDER_XATTR, whiteout};
use crate::sys::fs as sys;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

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
