//! Any stream reads back as it was written, and no damage makes the reader panic.

use super::{change_of, deleted, read_back};
use crate::layers::tar_read::{Limits, for_each};
use crate::layers::tests::{entry, layer_of, present};
use crate::layers::{Change, Entry, EntryKind, ImagePath, path_order};
use crate::oci::Digest;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names that need every form of the path.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c]{1,2}".prop_map(String::into_bytes),
        "[a-z]{60,140}".prop_map(String::into_bytes),
        proptest::collection::vec(
            any::<u8>().prop_filter("a name", |b| !matches!(b, 0 | b'/' | b'.')),
            1..6
        ),
    ]
}

fn kind() -> impl Strategy<Value = Option<EntryKind>> {
    let target = proptest::collection::vec(1..=255_u8, 1..150);
    prop_oneof![
        Just(None),
        (0..3000_u64).prop_map(|size| Some(EntryKind::File { size })),
        target.prop_map(|target| Some(EntryKind::Symlink { target })),
        (0..4096_u32, 1..(1_u32 << 20))
            .prop_map(|(major, minor)| Some(EntryKind::CharDevice { major, minor })),
        Just(Some(EntryKind::Fifo)),
        Just(Some(EntryKind::Directory)),
        // Stands for a second name of the first file.
        Just(Some(EntryKind::Hardlink { target: Vec::new() })),
    ]
}

fn metadata() -> impl Strategy<Value = Entry> {
    let id = prop_oneof![0..10_u32, 0..u32::MAX];
    let time = prop_oneof![0..5_i64, -(1_i64 << 40)..(1_i64 << 40)];
    let xattr = ("user\\.[a-z]{1,5}", proptest::collection::vec(any::<u8>(), 0..20));
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..3);
    (0..=0o7777_u32, id.clone(), id, time, xattrs).prop_map(|(mode, uid, gid, seconds, xattrs)| {
        let xattrs = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
        Entry { kind: EntryKind::Directory, mode, uid, gid, mtime: (seconds, 0), xattrs }
    })
}

type Wanted = Vec<(Vec<Vec<u8>>, Option<EntryKind>, Entry)>;

/// Makes a canonical stream of what proptest wants, and the files on disk.
fn stream(wanted: Wanted, root: &Path) -> Vec<Change> {
    let mut paths: BTreeMap<ImagePath, (Option<EntryKind>, Entry)> = BTreeMap::new();
    for (parts, kind, entry) in wanted {
        let prefixes: Vec<ImagePath> = (1..parts.len()).map(|n| parts[..n].join(&b'/')).collect();
        let path = parts.join(&b'/');
        let is_dir = |p: &ImagePath| {
            paths.get(p).is_none_or(|(kind, _)| *kind == Some(EntryKind::Directory))
        };
        if paths.contains_key(&path) || !prefixes.iter().all(is_dir) {
            continue;
        }
        for prefix in prefixes {
            paths.entry(prefix).or_insert((Some(EntryKind::Directory), entry.clone()));
        }
        paths.insert(path, (kind, entry));
    }
    let mut paths: Vec<_> = paths.into_iter().collect();
    paths.sort_by(|a, b| path_order(&a.0, &b.0));
    let mut first: Option<(ImagePath, Entry)> = None;
    let mut changes = Vec::new();
    for (path, (kind, mut entry)) in paths {
        let disk = root.join(OsStr::from_bytes(&path));
        let Some(kind) = kind else {
            changes.push(deleted(&path));
            continue;
        };
        entry.kind = match (kind, &first) {
            (EntryKind::Hardlink { .. }, Some((target, inode))) => {
                entry = Entry { xattrs: Vec::new(), ..inode.clone() };
                EntryKind::Hardlink { target: target.clone() }
            }
            (EntryKind::Hardlink { .. }, None) => EntryKind::Fifo,
            (kind, _) => kind,
        };
        match entry.kind {
            EntryKind::Directory => std::fs::create_dir(&disk).unwrap(),
            EntryKind::File { size } => std::fs::write(&disk, vec![b'b'; size as usize]).unwrap(),
            _ => {}
        }
        if first.is_none() && matches!(entry.kind, EntryKind::File { .. }) {
            first = Some((path.clone(), entry.clone()));
        }
        changes.push(present(&path, entry));
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_reads_back(
        wanted in proptest::collection::vec(
            (proptest::collection::vec(name(), 1..4), kind(), metadata()), 0..12)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let changes = stream(wanted, dir.path());
        let tar = layer_of(&changes, dir.path());
        prop_assert_eq!(tar.len() % 512, 0);
        let back: Vec<_> = read_back(&tar).into_iter().map(|(entry, _)| change_of(entry)).collect();
        prop_assert_eq!(back, changes);
    }

    #[test]
    fn damaged_bytes_never_panic(seed in any::<u64>(), flips in 1..20_usize) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let mut file = entry(EntryKind::File { size: 1 }, 0o644);
        file.xattrs = vec![(b"user.k".to_vec(), b"v".to_vec())];
        let mut tar = layer_of(&[present(b"f", file)], dir.path());
        let mut state = seed;
        for _ in 0..flips {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 20) as usize % tar.len();
            tar[at] ^= (state >> 8) as u8;
        }
        let _either = for_each(&tar[..], &Limits::default(), |_, body| {
            std::io::copy(body, &mut std::io::sink()).map(|_| ()).map_err(|e| {
                crate::error::Error::integrity("body").cause(e)
            })
        });
        prop_assert!(Digest::of(&tar).as_str().starts_with("sha256:"));
    }
}
