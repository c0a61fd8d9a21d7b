//! What we write: frozen bytes, readable by others, read back by us as it was.

mod random;

use super::{TIMES, entry, have_program, layer_of, open, present};
use crate::layers::compress::{Compression, Workers, compress_layer};
use crate::layers::fresh::{WORTH_IT, write_fresh_layer};
use crate::layers::tar_read::{Limits, TarEntry, for_each};
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::layers::whiteout::Whiteout;
use crate::layers::{Change, ChangeKind, Entry, EntryKind};
use crate::sys::writeback::PART;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

fn deleted(path: &[u8]) -> Change {
    Change { path: path.to_vec(), kind: ChangeKind::Deleted }
}

/// Every kind of entry and every reason for an extended header.
fn every_kind(root: &Path) -> Vec<Change> {
    use EntryKind::{BlockDevice, CharDevice, Directory, Fifo, File, Hardlink, Symlink};
    std::fs::create_dir(root.join("dir")).unwrap();
    std::fs::write(root.join("dir/file"), "hello, layer\n").unwrap();
    std::fs::write(root.join("zero"), "").unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(root.join("z-big"), &big).unwrap();
    let long = ["n".repeat(150).into_bytes(), b"m".repeat(90)].join(&b'/');
    let longer = [b"n".repeat(150), b"o".repeat(200)].join(&b'/');
    let mut file = entry(File { size: 13 }, 0o4755);
    file.xattrs = vec![
        (b"security.capability".to_vec(), [&b"\x01\0\0\x02\0\x04\0\0"[..], &[0; 12]].concat()),
        (b"user.k".to_vec(), Vec::new()),
    ];
    let mut owned = entry(File { size: 0 }, 0o600);
    (owned.uid, owned.gid, owned.mtime) = (3_000_000, 4_000_000_000, (-5, 999));
    vec![
        present(b"dir", entry(Directory, 0o1755)),
        present(b"dir/block", entry(BlockDevice { major: 259, minor: 70_000 }, 0o660)),
        present(b"dir/char", entry(CharDevice { major: 1, minor: 3 }, 0o666)),
        present(b"dir/fifo", entry(Fifo, 0o600)),
        present(b"dir/file", file),
        deleted(b"dir/gone"),
        present(b"dir/hard", entry(Hardlink { target: b"dir/file".to_vec() }, 0o4755)),
        present(b"dir/link", entry(Symlink { target: b"../..//x/./y/".to_vec() }, 0o777)),
        present(b"dir/long", entry(Symlink { target: b"t".repeat(300) }, 0o777)),
        present(b"dir/utf", entry(Symlink { target: "é\u{fe}".into() }, 0o777)),
        present("dir-é".as_bytes(), entry(Directory, 0o700)),
        deleted(b"gone"),
        present(&b"n".repeat(150), entry(Directory, 0o755)),
        present(&long, entry(Directory, 0o755)),
        present(&longer, entry(Fifo, 0o644)),
        present(b"x\xff\xfe", entry(Fifo, 0o644)),
        present(b"z-big", entry(File { size: 12_000_000 }, 0o644)),
        present(b"zero", owned),
    ]
}

/// The tar of `layer-format 4`, which is that of 1 to 3. If this fails, every layer that users have cached or pushed
/// would get a new digest: do not change the numbers, make a format 5.
#[test]
fn layer_format_4_is_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let changes = every_kind(dir.path());
    let check = |changes: &[Change], compression: Compression, diff_id: &str, digest: &str| {
        let root = open(dir.path());
        let workers = Workers::new(2);
        let (_, layer) = compress_layer(compression, &workers, std::io::sink(), |out| {
            write_layer(changes, root.as_fd(), &TIMES, out)
        })
        .unwrap();
        assert_eq!((layer.diff_id.0.hex(), layer.digest.hex()), (diff_id, digest));
    };
    let tar = "bd5644a2fe9ee7ec8812d9f8101bc118ea13faba92623f1ad973c91887a6dd0d";
    check(&changes, Compression::None, tar, tar);
    for (level, digest) in [
        (4, "9af895b0fc7ed149796c10464453e69a27e9d37a830baaef0a38983d86c9645c"),
        (6, "8bfa948132c59019955b2b2a4559538267de30eb14c20905f130d367c9c67767"),
    ] {
        check(&changes, Compression::Gzip { level }, tar, digest);
    }
    check(
        &changes,
        Compression::Zstd { level: 3 },
        tar,
        "7305badaf7c94248defb989d86f08bc3835e035c2819cde9e47f03b1f4cae1d1",
    );
    // Known to everybody as the layer in which nothing happened.
    let empty = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    check(&[], Compression::None, empty, empty);
}

#[test]
fn times_follow_the_epoch() {
    let check = |epoch, mtime, expect| {
        let policy = TimePolicy { epoch, started: (100, 5) };
        assert_eq!(policy.apply(mtime), expect, "{epoch:?} {mtime:?}");
    };
    check(None, (100, 999), 100);
    check(None, (-2, 500_000_000), -2);
    check(Some(50), (100, 5), 50);
    check(Some(50), (101, 0), 50);
    check(Some(50), (100, 4), 50);
    check(Some(50), (49, 0), 49);
    check(Some(500), (100, 5), 500);
    check(Some(500), (100, 4), 100);
    check(Some(500), (-1, 0), -1);
}

fn read_back(tar: &[u8]) -> Vec<(TarEntry, Vec<u8>)> {
    let mut out = Vec::new();
    for_each(tar, &Limits::default(), |entry, body| {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        out.push((entry.clone(), bytes));
        Ok(())
    })
    .unwrap();
    out
}

/// The change that an entry of one of our layers came from.
fn change_of(entry: TarEntry) -> Change {
    match entry.whiteout {
        Some(Whiteout::Remove(name)) => {
            let parent = entry.path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            deleted(&[&entry.path[..parent], &name].concat())
        }
        _ => present(&entry.path, entry.entry),
    }
}

#[test]
fn every_kind_reads_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut changes = every_kind(dir.path());
    let tar = layer_of(&changes, dir.path());
    let back: Vec<_> = read_back(&tar).into_iter().map(|(entry, _)| change_of(entry)).collect();
    for change in &mut changes {
        if let ChangeKind::Present(entry) = &mut change.kind {
            entry.mtime.1 = 0;
        }
    }
    assert_eq!(back, changes);
}

#[test]
fn sparse_files_are_written_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("s")).unwrap();
    file.set_len(3_000_000).unwrap();
    file.write_at(b"data", 1_000_000).unwrap();
    file.write_at(b"end", 2_500_000).unwrap();
    let changes = [present(b"s", entry(EntryKind::File { size: 3_000_000 }, 0o644))];
    let back = read_back(&layer_of(&changes, dir.path()));
    assert!(back[0].1 == std::fs::read(dir.path().join("s")).unwrap());
}

/// Sizes on both sides of where a file is begun to be written, and of its parts; with holes before, between and after data.
#[test]
fn what_was_just_made_is_written_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mut changes = every_kind(dir.path());
    changes.retain(|change| change.kind != ChangeKind::Deleted);
    for (at, size) in [WORTH_IT - 1, WORTH_IT, PART, PART + 1, 3 * PART].into_iter().enumerate() {
        let name = format!("zz{at}");
        let file = std::fs::File::create(dir.path().join(&name)).unwrap();
        file.set_len(size).unwrap();
        file.write_at(b"data", size / 4).unwrap();
        file.write_at(b"more", size / 4 * 3).unwrap();
        changes.push(present(name.as_bytes(), entry(EntryKind::File { size }, 0o644)));
    }
    let expected = layer_of(&changes, dir.path());
    let write = |changes: Vec<Change>, out: &mut Vec<u8>| {
        write_fresh_layer(&changes.into_iter().collect(), open(dir.path()).as_fd(), &TIMES, out)
    };
    let mut found = Vec::new();
    write(changes, &mut found).unwrap();
    assert!(found == expected, "{} and {} bytes", found.len(), expected.len());
    let changes = vec![present(b"zz4", entry(EntryKind::File { size: PART }, 0o644))];
    let error = write(changes, &mut Vec::new()).unwrap_err();
    assert_eq!(error.message(), "`zz4` changed while it was read");
}

#[test]
fn a_file_that_is_not_as_it_was_found_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "1234").unwrap();
    std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
    let check = |path: &[u8], size, expect: &str| {
        let changes = [present(path, entry(EntryKind::File { size }, 0o644))];
        let root = open(dir.path());
        let error = write_layer(&changes, root.as_fd(), &TIMES, &mut Vec::new()).unwrap_err();
        assert_eq!(error.message(), expect);
    };
    check(b"f", 3, "`f` changed while it was read");
    check(b"f", 5, "`f` changed while it was read");
    check(b"gone", 5, "cannot read `gone`");
    check(b"l", 4, "cannot read `l`");
    check(b"../f", 4, "cannot read `../f`");
    check(b".wh.f", 0, "`.wh.f` cannot be stored in a layer");
}

#[test]
fn other_readers_see_the_same_entries() {
    let dir = tempfile::tempdir().unwrap();
    let changes = every_kind(dir.path());
    let tar = layer_of(&changes, dir.path());
    let file = dir.path().join("layer.tar");
    std::fs::write(&file, &tar).unwrap();
    let names: Vec<Vec<u8>> =
        read_back(&tar).into_iter().map(|(entry, _)| entry.original).collect();
    if have_program("other readers", "tar") {
        let mut command = Command::new("tar");
        command.args(["--quoting-style=literal", "--show-transformed-names", "-tf"]).arg(&file);
        let output = command.env("LC_ALL", "C").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let mut expect = names.join(&b'\n');
        expect.push(b'\n');
        assert_eq!(output.stdout.escape_ascii().to_string(), expect.escape_ascii().to_string());
    }
    if have_program("other readers", "python3") {
        let script = "import sys, tarfile\n\
            for m in tarfile.open(sys.argv[1], errors='surrogateescape'):\n\
            \x20 print(m.type.decode(), oct(m.mode)[2:], m.uid, m.gid, m.size, int(m.mtime))";
        let output = Command::new("python3").args(["-c", script]).arg(&file).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let ours: String = read_back(&tar).iter().map(|(entry, _)| python_line(entry)).collect();
        assert_eq!(String::from_utf8_lossy(&output.stdout), ours);
    }
}

fn python_line(entry: &TarEntry) -> String {
    let (kind, size) = match entry.entry.kind {
        EntryKind::File { size } => (0, size),
        EntryKind::Hardlink { .. } => (1, 0),
        EntryKind::Symlink { .. } => (2, 0),
        EntryKind::CharDevice { .. } => (3, 0),
        EntryKind::BlockDevice { .. } => (4, 0),
        EntryKind::Directory => (5, 0),
        EntryKind::Fifo => (6, 0),
    };
    let Entry { mode, uid, gid, mtime, .. } = &entry.entry;
    format!("{kind} {mode:o} {uid} {gid} {size} {}\n", mtime.0)
}

#[test]
fn archives_of_gnu_tar_are_read_in_all_its_formats() {
    if !have_program("GNU tar", "tar") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let long = "d".repeat(120);
    std::fs::create_dir_all(tree.join(&long)).unwrap();
    std::fs::write(tree.join(&long).join("f".repeat(120)), "x").unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(5_000_000).unwrap();
    for at in 0..40_u64 {
        sparse.write_at(b"data", at * 100_000 + 7).unwrap();
    }
    let body = std::fs::read(tree.join("sparse")).unwrap();
    for format in ["gnu", "posix"] {
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--sparse", "--format", format, "-C"]).arg(&tree);
        let tar = command.args(["-cf", "-", "."]).output().unwrap().stdout;
        let back = read_back(&tar);
        let paths: Vec<_> = back.iter().map(|(e, _)| String::from_utf8_lossy(&e.path)).collect();
        assert_eq!(paths, ["", &long, &format!("{long}/{}", "f".repeat(120)), "sparse"]);
        assert!(back[3].1 == body, "{format}");
        assert!(tar.len() < 1_000_000, "{format}: not sparse");
    }
}
