//! Archives that lead out or trick: each is an error that names the entry, or stays inside; nothing outside changes.

use super::cage::{Cage, options, raw, refused};
use super::{have_root, open};
use crate::layers::apply::{ApplyOptions, Devices};
use std::os::fd::AsFd;

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["../out/x", "a/../../out/x", "..", "/../x"] {
        refused(
            raw().file(path, "x").end(),
            &format!("archive entry `{path}` is damaged: the path leads out of the root"),
        );
    }
    refused(
        raw().add(b'1', "h", "../out/canary", b"").end(),
        "archive entry `h` is damaged: link target: the path leads out of the root",
    );
    refused(
        raw().pax(b'x', &[("path", "../out/x")]).file("ok", "x").end(),
        "archive entry `../out/x` is damaged: the path leads out of the root",
    );
}

#[test]
fn absolute_paths_stay_inside() {
    let cage = Cage::new();
    let tar = raw().file("/f", "x").add(b'1', "/h", "/f", b"").dir("./a/./").end();
    cage.apply(&tar, &options()).unwrap();
    assert_eq!(std::fs::read(cage.root().join("h")).unwrap(), b"x");
    assert!(cage.root().join("a").is_dir());
}

#[test]
fn links_planted_by_the_archive_do_not_lead_out() {
    for target in ["../out", "/out", "../../../../../../../../tmp", "a/../../out"] {
        let cage = Cage::new();
        let tar = raw()
            .link("esc", target)
            .file("esc/canary", "dead")
            .file("esc/.wh.canary", "")
            .file("esc/.wh..wh..opq", "")
            .end();
        cage.apply(&tar, &options()).unwrap();
        assert!(cage.root().join("esc").is_symlink());
    }
    // A link as the last component is replaced, never followed.
    let cage = Cage::new();
    let out = cage.dir.path().join("out/canary");
    let tar = raw().link("l", out.to_str().unwrap()).file("l", "mine").end();
    cage.apply(&tar, &options()).unwrap();
    assert_eq!(std::fs::read(cage.root().join("l")).unwrap(), b"mine");
    // Nor is one that a directory entry meets, whose mode and time come last.
    let cage = Cage::new();
    let tar = raw().dir("d").link("d", "../out").dir("d").link("d", "../out").end();
    cage.apply(&tar, &options()).unwrap();
    assert!(cage.root().join("d").is_symlink());
    // A hard link to a link is a link.
    let cage = Cage::new();
    let tar = raw().link("l", "../out/canary").add(b'1', "h", "l", b"").file("h", "x").end();
    cage.apply(&tar, &options()).unwrap();
    assert!(cage.root().join("l").is_symlink());
    let cage = Cage::new();
    let tar = raw().link("l", "../out").add(b'1', "h", "l/canary", b"").end();
    assert_eq!(
        cage.apply(&tar, &options()).unwrap_err().to_string(),
        "archive entry `h` is damaged: it links to `l/canary`, which is not there"
    );
}

#[test]
fn link_loops_and_files_as_directories_are_refused() {
    refused(
        raw().link("a", "b").link("b", "a").file("a/f", "").end(),
        "cannot unpack `a/f`: openat2(\"a\", IN_ROOT): too many levels of symbolic links",
    );
    refused(
        raw().file("f", "").file("f/g", "").end(),
        "cannot unpack `f/g`: openat2(\"f\", IN_ROOT): not a directory",
    );
}

#[test]
fn whiteout_tricks_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh...", "d/.wh../"] {
        let last = name.trim_start_matches("d/").trim_end_matches('/');
        refused(
            raw().file("f", "x").add(b'5', name, "", b"").end(),
            &format!("archive entry `{name}` is damaged: whiteout `{last}` names no file"),
        );
    }
    refused(
        raw().file(".wh.d/x", "").end(),
        "archive entry `.wh.d/x` is damaged: whiteout `.wh.d` is used as a directory",
    );
    let cage = Cage::new();
    let archive = ApplyOptions { owner: false, ..ApplyOptions::archive(Devices::Skip) };
    let error = cage.apply(&raw().file("a/.wh.x", "").end(), &archive).unwrap_err();
    assert_eq!(
        error.to_string(),
        "archive entry `a/.wh.x` cannot be unpacked: names that start with `.wh.` mark deletions \
         in image layers"
    );
    // aufs's own files are no files.
    let cage = Cage::new();
    cage.apply(&raw().file(".wh..wh.plnk/7", "x").file(".wh..wh.aufs", "").end(), &options())
        .unwrap();
    assert_eq!(crate::sys::fs::list(open(&cage.root())).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn deep_paths_work_up_to_the_limit() {
    let cage = Cage::new();
    let deep = "d/".repeat(1024);
    let tar = raw().pax(b'x', &[("path", &deep)]).dir("d").end();
    cage.apply(&tar, &options()).unwrap();
    assert!(cage.root().join(&deep).is_dir());
}

#[test]
fn private_attributes_do_not_come_in() {
    let cage = Cage::new();
    let records = [
        ("SCHILY.xattr.user.kept", "v"),
        ("SCHILY.xattr.user.overlay.opaque", "y"),
        ("SCHILY.xattr.user.nativebuild.node", "c:1:3:666"),
        ("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
        ("SCHILY.xattr.security.selinux", "x"),
    ];
    cage.apply(&raw().pax(b'x', &records).file("f", "").end(), &options()).unwrap();
    let xattrs = crate::sys::fs::list_xattrs(open(&cage.root()), b"f").unwrap();
    assert_eq!(xattrs, [(b"user.kept".to_vec(), b"v".to_vec())]);
}

#[test]
fn root_devices_are_made_recorded_or_left_out() {
    use crate::layers::diff::{DiffOptions, XattrFlavour, read_tree};
    let tar = raw().add(b'3', "null", "", b"").add(b'4', "disk", "", b"").end();
    let read = |cage: &Cage, placeholders| {
        let options = DiffOptions { flavour: XattrFlavour::User, placeholders };
        let changes = read_tree(open(&cage.root()).as_fd(), &options).unwrap().to_vec();
        super::lines(&changes)
    };
    let cage = Cage::new();
    let recorded = ApplyOptions { owner: false, ..ApplyOptions::layer(Devices::Placeholder) };
    cage.apply(&tar, &recorded).unwrap();
    let owner = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(owner(&read(&cage, true)[0])[..2], ["b", "644"]);
    assert_eq!(owner(&read(&cage, false)[0])[..2], ["f", "600"]);
    let cage = Cage::new();
    let left_out = ApplyOptions { owner: false, ..ApplyOptions::layer(Devices::Skip) };
    assert_eq!(cage.apply(&tar, &left_out).unwrap().skipped_devices, 2);
    assert!(read(&cage, true).is_empty());
    if have_root("devices") {
        let cage = Cage::new();
        cage.apply(&tar, &ApplyOptions::layer(Devices::Real)).unwrap();
        assert_eq!(read(&cage, false), ["b 644 disk 1:3", "c 644 null 1:3"]);
    }
    refused(
        raw().add(b'3', "whiteout", "", b"").end(),
        "archive entry `whiteout` is refused: the character device 0:0 is overlayfs's mark of a \
         deletion",
    );
}
