//! Archives that lie, lead out or explode: each is an error that names the entry, and nothing outside changes.

use super::{have_root, open};
use crate::error::Result;
use crate::layers::apply::{AppliedStats, ApplyOptions, Devices, Limits, apply};
use crate::layers::compress::decompressor;
use crate::layers::pax;
use std::io::{Cursor, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A tar made block by block.
#[derive(Default, Clone)]
pub(super) struct Raw(Vec<u8>);

impl Raw {
    pub(super) fn add(self, kind: u8, name: &str, link: &str, body: &[u8]) -> Self {
        self.sized(kind, name, link, body, body.len() as u64)
    }

    fn sized(mut self, kind: u8, name: &str, link: &str, body: &[u8], size: u64) -> Self {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(size);
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(if name == "zero" { 0 } else { 3 }).unwrap();
            if name == "whiteout" {
                header.set_device_major(0).unwrap();
                header.set_device_minor(0).unwrap();
            }
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let text: Vec<u8> =
            records.iter().flat_map(|(k, v)| pax::record(k.as_bytes(), v.as_bytes())).collect();
        self.add(kind, "pax", "", &text)
    }

    pub(super) fn file(self, name: &str, body: &str) -> Self {
        self.add(b'0', name, "", body.as_bytes())
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.add(b'5', name, "", b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.add(b'2', name, target, b"")
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A root beside a canary that must stay as it is.
pub(super) struct Cage {
    dir: tempfile::TempDir,
}

impl Cage {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("out/canary"), "alive").unwrap();
        Self { dir }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn apply(&self, tar: &[u8], options: &ApplyOptions) -> Result<AppliedStats> {
        let result = apply(tar, open(&self.root()).as_fd(), options);
        let names = |path: &str| -> Vec<String> {
            let dir = open(&self.dir.path().join(path));
            let names = crate::sys::fs::list(dir).unwrap();
            names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(names(""), ["out", "root"]);
        assert_eq!(names("out"), ["canary"]);
        let canary = self.dir.path().join("out/canary");
        assert_eq!(std::fs::read(&canary).unwrap(), b"alive");
        assert_eq!(std::fs::metadata(&canary).unwrap().nlink(), 1);
        assert_eq!(std::fs::metadata(&canary).unwrap().mode() & 0o7777, 0o644);
        result
    }
}

/// Options that work without being root.
pub(super) fn options() -> ApplyOptions {
    ApplyOptions { owner: false, ..ApplyOptions::layer(Devices::Placeholder) }
}

fn refused(tar: Vec<u8>, expect: &str) {
    let cage = Cage::new();
    match cage.apply(&tar, &options()) {
        Ok(_) => panic!("accepted, expected: {expect}"),
        Err(error) => assert_eq!(error.to_string(), expect),
    }
}

fn raw() -> Raw {
    Raw::default()
}

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
fn sizes_that_disagree_are_refused() {
    let inner = raw().file("smuggled", "x").end();
    let honest = raw().pax(b'x', &[("size", "3")]).file("f", "abc").end();
    Cage::new().apply(&honest, &options()).unwrap();
    refused(
        raw().pax(b'x', &[("size", "1024")]).sized(b'0', "f", "", &inner, 0).end(),
        "archive entry `f` is damaged: its header says 0 bytes, its PAX `size` 1024",
    );
    refused(
        raw().pax(b'x', &[("size", "0")]).add(b'0', "f", "", &inner).end(),
        &format!(
            "archive entry `f` is damaged: its header says {} bytes, its PAX `size` 0",
            inner.len()
        ),
    );
    refused(
        raw().pax(b'g', &[("size", "0")]).file("f", "abc").end(),
        "archive entry `pax` is damaged: global header names or sizes every entry",
    );
    for (kind, what) in [(b'5', "d"), (b'1', "h"), (b'2', "l"), (b'6', "p")] {
        refused(
            raw().add(kind, what, "x", b"body").end(),
            &format!(
                "archive entry `{what}` is damaged: it has no content, but its header says 4 bytes"
            ),
        );
    }
    refused(
        raw().pax(b'x', &[("size", "-1")]).file("f", "").end(),
        "archive entry `f` is damaged: PAX `size` is negative",
    );
}

#[test]
fn bad_extended_headers_are_refused() {
    refused(
        raw().add(b'x', "p", "", b"99 path=x\n").file("f", "").end(),
        "archive entry `p` is damaged: extended header: record is longer than its header",
    );
    refused(
        raw().pax(b'x', &[("path", "a")]).pax(b'x', &[("path", "b")]).file("f", "").end(),
        "archive entry `pax` is damaged: two extended headers of one kind",
    );
    refused(
        raw().pax(b'x', &[("path", "a")]).add(b'L', "l", "", b"b\0").file("f", "").end(),
        "archive entry `b` is damaged: it has a GNU and a PAX `path`",
    );
    refused(
        raw().pax(b'x', &[("path", "a")]).end(),
        "archive is damaged after 1 entries: an extended header stands alone",
    );
    refused(
        raw().sized(b'x', "p", "", b"", 1 << 40).end(),
        "archive entry `p` is damaged: extended header is too large",
    );
    refused(
        raw().pax(b'x', &[("uid", "4294967295")]).file("f", "").end(),
        "archive entry `f` is damaged: bad `uid` 4294967295",
    );
    refused(
        raw().pax(b'x', &[("mtime", "soon")]).file("f", "").end(),
        "archive entry `f` is damaged: PAX `mtime` is not a time",
    );
    let large = "v".repeat(700_000);
    refused(
        raw().pax(b'g', &[("a", &large)]).pax(b'g', &[("b", &large)]).file("f", "").end(),
        "archive entry `pax` is damaged: global headers have more than 1048576 bytes together",
    );
    let many: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (&key[..], "")).collect();
    refused(
        raw().pax(b'x', &many).file("f", "").end(),
        "archive entry `pax` is damaged: extended header: it has more than 16384 records",
    );
    refused(
        raw().add(b'X', "f", "", b"").end(),
        "archive entry `f` is damaged: entries of type `X` are not known",
    );
}

#[test]
fn sparse_maps_must_fit() {
    let version = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s")];
    let sparse = |real: &str, map: &str| {
        let mut body = map.as_bytes().to_vec();
        body.resize(512, 0);
        body.extend_from_slice(b"data");
        let records = [&version[..], &[("GNU.sparse.realsize", real)]].concat();
        raw().pax(b'x', &records).add(b'0', "f", "", &body).end()
    };
    let cage = Cage::new();
    cage.apply(&sparse("100", "1\n96\n4\n"), &options()).unwrap();
    let expect = [&[0; 96][..], b"data"].concat();
    assert_eq!(std::fs::read(cage.root().join("s")).unwrap(), expect);
    let check = |real: &str, map: &str, expect: &str| {
        refused(sparse(real, map), &format!("archive entry `s` is damaged: {expect}"));
    };
    let misplaced = "sparse map has overlapping or misplaced pieces";
    check("99", "1\n96\n4\n", misplaced);
    check("100", "2\n50\n2\n10\n2\n", misplaced);
    check("100", "1\n18446744073709551615\n4\n", "sparse map has a bad number");
    check("100", "1\n96\n3\n", "sparse map holds 3 bytes, the entry 4");
    check("100", "9999999999\n", "sparse file has too many pieces");
    check("100", "x\n", "sparse map has a bad number");
    check("9000000000000000", "1\n96\n4\n", "the archive expands to more than 1099511627776 bytes");
    check("999999999999", "1\n96\n4\n", "the archive expands more than 500 times");
    refused(
        raw().pax(b'x', &[("GNU.sparse.map", "0,1")]).file("f", "x").end(),
        "archive entry `f` is damaged: only sparse files of format 1.0 are supported",
    );
}

#[test]
fn ends_are_checked() {
    let whole = raw().file("a", "x").file("b", "y").end();
    refused(whole[..512 + 100].to_vec(), "archive entry `a` is damaged: the archive is cut short");
    let long = raw().file("a", &"x".repeat(1000)).end();
    refused(long[..1024].to_vec(), "cannot unpack `a`: the archive is cut short");
    refused(
        whole[..1024 + 7].to_vec(),
        "archive is damaged after 1 entries: the archive is cut short",
    );
    refused(whole[..1024].to_vec(), "archive is damaged after 1 entries: the archive is cut short");
    refused(Vec::new(), "archive is damaged after 0 entries: the archive is cut short");
    let mut garbage = whole.clone();
    garbage.extend_from_slice(b"more");
    refused(garbage, "archive is damaged at its end: something follows the end mark");
    let mut padded = whole.clone();
    padded.resize(padded.len() + 10_000, 0);
    Cage::new().apply(&padded, &options()).unwrap();
    Cage::new().apply(&whole[..whole.len() - 512], &options()).unwrap();
    let mut damaged = whole;
    damaged[0] ^= 1;
    refused(damaged, "archive is damaged after 0 entries: header has the wrong checksum");
}

#[test]
fn limits_hold() {
    let with = |change: fn(&mut Limits), tar: Vec<u8>, expect: &str| {
        let mut options = options();
        change(&mut options.limits);
        let error = Cage::new().apply(&tar, &options).unwrap_err();
        assert_eq!(error.to_string(), format!("archive entry {expect}"));
    };
    with(
        |limits| limits.entries = 2,
        raw().dir("a").dir("b").dir("c").end(),
        "`c` is damaged: the archive has more than 2 entries",
    );
    with(
        |limits| limits.depth = 3,
        raw().dir("a/b/c").dir("a/b/c/d").end(),
        "`a/b/c/d` is damaged: the path has more than 3 components",
    );
    with(
        |limits| limits.path_len = 5,
        raw().dir("abcdef").end(),
        "`abcdef` is damaged: the path is longer than 5 bytes",
    );
    with(
        |limits| limits.total_bytes = Some(5),
        raw().file("a", "123").file("b", "456").end(),
        "`b` is damaged: the archive expands to more than 5 bytes",
    );
    refused(
        raw().pax(b'x', &[("path", &"n".repeat(256))]).file("f", "").end(),
        &format!(
            "archive entry `{}` is damaged: a component of the path is longer than 255 bytes",
            "n".repeat(256)
        ),
    );
}

#[test]
fn a_gzip_bomb_stops_at_the_limit() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let header = raw().sized(b'0', "bomb", "", b"", 64 << 20).0;
    encoder.write_all(&header).unwrap();
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    let packed = encoder.finish().unwrap();
    let cage = Cage::new();
    let mut options = options();
    options.limits.total_bytes = Some(1 << 20);
    let tar = decompressor(Cursor::new(packed)).unwrap();
    let error = apply(tar, open(&cage.root()).as_fd(), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "archive entry `bomb` is damaged: the archive expands to more than 1048576 bytes"
    );
    assert!(!cage.root().join("bomb").exists());
}

#[test]
fn zeros_need_no_disk() {
    let cage = Cage::new();
    let mut body = vec![0; 1 << 20];
    body.extend_from_slice(b"x");
    body.resize(3 << 20, 0);
    cage.apply(&raw().add(b'0', "z", "", &body).end(), &options()).unwrap();
    assert!(std::fs::read(cage.root().join("z")).unwrap() == body);
    assert!(std::fs::metadata(cage.root().join("z")).unwrap().blocks() * 512 < 1 << 20);
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
