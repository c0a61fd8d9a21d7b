//! Archives that lie about themselves or explode: each is an error that names the entry.

use super::cage::{Cage, options, raw, refused};
use super::open;
use crate::layers::apply::{Limits, apply};
use crate::layers::compress::decompressor;
use std::io::{Cursor, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

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
