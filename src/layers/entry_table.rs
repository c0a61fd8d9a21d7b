//! Paths with what is there, many of them in little memory: some forty bytes and the path itself for each.
//!
//! Most files of a tree have mode, owner and attributes in common with others, so those are kept once; paths lie one
//! after the other. A path that is put in again keeps its number.

use super::{Entry, EntryKind, ImagePath};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

/// Paths and their entries, numbered as they came.
#[derive(Debug, Default)]
pub struct EntryTable {
    nodes: Vec<Node>,
    /// All paths, without anything between them.
    paths: Vec<u8>,
    index: HashTable<u32>,
    hasher: RandomState,
    commons: Vec<Common>,
    common_index: HashTable<u32>,
    /// Targets of links.
    targets: Vec<Box<[u8]>>,
}

/// One path.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where its path begins; it ends where the next one does.
    path: usize,
    /// Bytes of a file, index of a target.
    size: u64,
    seconds: i64,
    nanoseconds: u32,
    /// Index into `commons`.
    common: u32,
    shared: Option<NonZeroU32>,
    tag: u32,
}

/// What many paths have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Common {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

impl EntryTable {
    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of a path.
    pub fn find(&self, path: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(path);
        self.index.find(hash, |at| self.path(*at) == path).copied()
    }

    /// Path of a number.
    pub fn path(&self, at: u32) -> &[u8] {
        let end = self.nodes.get(at as usize + 1).map_or(self.paths.len(), |next| next.path);
        &self.paths[self.nodes[at as usize].path..end]
    }

    /// What is at a path.
    pub fn entry(&self, at: u32) -> Entry {
        let node = &self.nodes[at as usize];
        let Common { kind, mode, uid, gid, xattrs } = self.commons[node.common as usize].clone();
        let target = || self.targets[node.size as usize].to_vec();
        let kind = match kind {
            Kind::File => EntryKind::File { size: node.size },
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink => EntryKind::Symlink { target: target() },
            Kind::Hardlink => EntryKind::Hardlink { target: target() },
            Kind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            Kind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
            Kind::Fifo => EntryKind::Fifo,
        };
        Entry { kind, mode, uid, gid, mtime: (node.seconds, node.nanoseconds), xattrs }
    }

    /// Whether a directory is at a path.
    pub fn is_dir(&self, at: u32) -> bool {
        self.commons[self.nodes[at as usize].common as usize].kind == Kind::Directory
    }

    /// Whether a device node is at a path.
    pub fn is_device(&self, at: u32) -> bool {
        let kind = self.commons[self.nodes[at as usize].common as usize].kind;
        matches!(kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. })
    }

    /// Which file it is, when that may have several names.
    pub fn shared(&self, at: u32) -> Option<NonZeroU32> {
        self.nodes[at as usize].shared
    }

    /// What was put in beside the entry.
    pub fn tag(&self, at: u32) -> u32 {
        self.nodes[at as usize].tag
    }

    /// Puts something at a path, in place of what was there. The number of paths must stay below 2³².
    pub fn put(&mut self, path: ImagePath, entry: Entry, shared: Option<NonZeroU32>, tag: u32) {
        let mut node = self.node(entry, shared, tag);
        if let Some(at) = self.find(&path) {
            node.path = self.nodes[at as usize].path;
            self.nodes[at as usize] = node;
            return;
        }
        let hash = self.hasher.hash_one(path.as_slice());
        self.nodes.push(node);
        self.paths.extend_from_slice(&path);
        let (nodes, paths, hasher) = (&self.nodes, &self.paths, &self.hasher);
        let rehash = |at: &u32| {
            let end = nodes.get(*at as usize + 1).map_or(paths.len(), |next| next.path);
            hasher.hash_one(&paths[nodes[*at as usize].path..end])
        };
        self.index.insert_unique(hash, (nodes.len() - 1) as u32, rehash);
    }

    /// Gives back the memory that is needed only to find paths and to put more in; neither can be done any more.
    pub fn seal(&mut self) {
        self.index = HashTable::new();
        self.common_index = HashTable::new();
        self.nodes.shrink_to_fit();
        self.paths.shrink_to_fit();
    }

    /// Changes the time of a path.
    pub fn set_mtime(&mut self, at: u32, mtime: (i64, u32)) {
        let node = &mut self.nodes[at as usize];
        (node.seconds, node.nanoseconds) = mtime;
    }

    fn node(&mut self, entry: Entry, shared: Option<NonZeroU32>, tag: u32) -> Node {
        let Entry { kind, mode, uid, gid, mtime: (seconds, nanoseconds), xattrs } = entry;
        let (kind, size) = match kind {
            EntryKind::File { size } => (Kind::File, size),
            EntryKind::Directory => (Kind::Directory, 0),
            EntryKind::Symlink { target } => (Kind::Symlink, self.target(target)),
            EntryKind::Hardlink { target } => (Kind::Hardlink, self.target(target)),
            EntryKind::CharDevice { major, minor } => (Kind::CharDevice { major, minor }, 0),
            EntryKind::BlockDevice { major, minor } => (Kind::BlockDevice { major, minor }, 0),
            EntryKind::Fifo => (Kind::Fifo, 0),
        };
        let common = self.common(Common { kind, mode, uid, gid, xattrs });
        Node { path: self.paths.len(), size, seconds, nanoseconds, common, shared, tag }
    }

    fn common(&mut self, common: Common) -> u32 {
        let (commons, hasher) = (&mut self.commons, &self.hasher);
        let hash = hasher.hash_one(&common);
        if let Some(at) = self.common_index.find(hash, |at| commons[*at as usize] == common) {
            return *at;
        }
        let at = commons.len() as u32;
        commons.push(common);
        let rehash = |at: &u32| hasher.hash_one(&commons[*at as usize]);
        self.common_index.insert_unique(hash, at, rehash);
        at
    }

    fn target(&mut self, target: Vec<u8>) -> u64 {
        self.targets.push(target.into_boxed_slice());
        self.targets.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, number: u32) -> Entry {
        let xattrs = match number % 3 {
            0 => vec![(b"user.a".to_vec(), vec![number as u8])],
            _ => Vec::new(),
        };
        let mtime = (i64::from(number) - 5, number);
        Entry { kind, mode: 0o644 + number, uid: number, gid: 7, mtime, xattrs }
    }

    fn kinds() -> Vec<EntryKind> {
        vec![
            EntryKind::File { size: u64::MAX },
            EntryKind::Directory,
            EntryKind::Symlink { target: b"../x".to_vec() },
            EntryKind::Hardlink { target: b"a/b".to_vec() },
            EntryKind::CharDevice { major: 1, minor: 3 },
            EntryKind::BlockDevice { major: 1, minor: 3 },
            EntryKind::Fifo,
            EntryKind::File { size: 0 },
            EntryKind::Symlink { target: Vec::new() },
        ]
    }

    #[test]
    fn what_is_put_in_comes_back() {
        let mut table = EntryTable::default();
        assert!(table.is_empty());
        for (number, kind) in (0..).zip(kinds()) {
            let path = format!("dir/{number}").into_bytes();
            table.put(path, entry(kind, number), NonZeroU32::new(number), number + 9);
        }
        assert_eq!(table.len(), kinds().len());
        for (number, kind) in (0..).zip(kinds()) {
            let path = format!("dir/{number}").into_bytes();
            assert_eq!(table.find(&path), Some(number));
            assert_eq!(table.path(number), path);
            assert_eq!(table.is_dir(number), kind == EntryKind::Directory);
            assert_eq!(table.entry(number), entry(kind, number));
            assert_eq!(table.shared(number), NonZeroU32::new(number));
            assert_eq!(table.tag(number), number + 9);
        }
        assert_eq!(table.find(b"dir/99"), None);
        assert_eq!(table.find(b""), None);
    }

    #[test]
    fn a_path_that_is_put_in_again_keeps_its_number() {
        let mut table = EntryTable::default();
        for path in ["a", "", "ab"] {
            table.put(path.into(), entry(EntryKind::Directory, 1), None, 0);
        }
        let new = entry(EntryKind::Symlink { target: b"t".to_vec() }, 2);
        table.put(Vec::new(), new.clone(), NonZeroU32::new(4), 5);
        assert_eq!((table.len(), table.find(b"")), (3, Some(1)));
        assert_eq!((table.entry(1), table.shared(1), table.tag(1)), (new, NonZeroU32::new(4), 5));
        assert_eq!([table.path(0), table.path(1), table.path(2)], [&b"a"[..], b"", b"ab"]);
        table.set_mtime(2, (-1, 8));
        assert_eq!(table.entry(2).mtime, (-1, 8));
        assert_eq!(table.entry(0), entry(EntryKind::Directory, 1));
    }

    #[test]
    fn what_many_have_in_common_is_kept_once() {
        let mut table = EntryTable::default();
        for number in 0..10_000 {
            let alike = entry(EntryKind::File { size: number }, 1);
            table.put(format!("f{number}").into_bytes(), alike, None, 0);
        }
        assert_eq!((table.len(), table.commons.len()), (10_000, 1));
        assert_eq!(table.entry(9_999), entry(EntryKind::File { size: 9_999 }, 1));
        assert!(size_of::<Node>() <= 40);
    }
}
