//! The tree of a stack of layers without a file system: nothing is unpacked, and no privilege is needed.
//!
//! In: uncompressed layers, bottom first. Out: the tree as [`Change`]s, whole or against another, and the bodies of its
//! files, which wait in a [`Spool`]. A layer does here what [`super::apply`] does to a directory: parents are resolved
//! through links inside the root and made where they are missing, whiteouts do not touch what their own layer brought, a
//! hard link is the same file. Memory is bounded by the number of paths, which the tar reader bounds.
//! image-spec layer.md#applying-changesets.

mod layer;
mod spool;
mod walk;

pub use spool::Spool;

use super::beneath::shown;
use super::settle::Found;
use super::tar_read::{Limits, for_each};
use super::{Change, Entry, EntryKind, ImagePath};
use crate::error::{Error, Result};
use crate::oci::Digest;
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use walk::settled;

/// Where the root is among the inodes.
const ROOT: usize = 0;

#[derive(Debug)]
struct Inode {
    entry: Entry,
    /// Of a file's bytes.
    content: Option<Digest>,
    /// Where it begins in the spool.
    body: Option<u64>,
    /// Names of a directory.
    children: BTreeMap<Vec<u8>, usize>,
}

/// The files of an image.
#[derive(Debug)]
pub struct FlatTree {
    /// What lost its last name stays, unseen.
    inodes: Vec<Inode>,
    spool: Option<Spool>,
    /// Paths that the present layer brought, as it writes them, with all their parents.
    seen: HashSet<ImagePath>,
    /// Directories that the present layer emptied, by path and inode: below is nothing then but what it brought.
    emptied: HashSet<(ImagePath, usize)>,
}

impl FlatTree {
    /// An empty tree; without a spool it knows its files' digests and not their bytes.
    pub fn new(spool: Option<Spool>) -> Self {
        Self { inodes: vec![directory()], spool, seen: HashSet::new(), emptied: HashSet::new() }
    }

    /// Puts a layer on top.
    pub fn apply(&mut self, tar: impl Read, limits: &Limits) -> Result<()> {
        self.seen.clear();
        self.emptied.clear();
        for_each(tar, limits, |member, body| self.take(member, body))
    }

    /// Everything in it, each path present.
    pub fn changes(&self) -> Vec<Change> {
        settled(self.walk(None))
    }

    /// What makes `below` this tree.
    pub fn changes_from(&self, below: &Self) -> Vec<Change> {
        let mut found = self.walk(Some(below));
        let (own, old) = (self.links(), below.links());
        for item in &mut found {
            // A name that shares its file with others than before is changed, though it looks the same.
            let links = item.shared.and_then(|(_, inode)| own.get(&inode));
            item.changed |= links != item.lower.and_then(|(_, inode)| old.get(&inode));
        }
        settled(found)
    }

    /// Each path with what it is and the digest of its bytes; a further name of a file looks like the first.
    pub fn files(&self) -> Vec<(ImagePath, Entry, Option<Digest>)> {
        let file = |found: Found| {
            let content = found.shared.and_then(|(_, at)| self.inodes[at as usize].content.clone());
            Some((found.path, found.entry?, content))
        };
        self.walk(None).into_iter().filter_map(file).collect()
    }

    /// Writes the bytes of a file.
    pub fn body(&self, path: &[u8], size: u64, out: &mut dyn Write) -> Result<()> {
        let mut at = Some(ROOT);
        for part in path.split(|b| *b == b'/') {
            at = at.and_then(|inode| self.inodes[inode].children.get(part).copied());
        }
        let body = at.and_then(|inode| self.inodes[inode].body);
        match (body, &self.spool) {
            (Some(body), Some(spool)) => spool.write(body, size, out),
            _ => Err(Error::internal(format!("the bytes of {} were not kept", shown(path)))),
        }
    }

    fn is_directory(&self, inode: usize) -> bool {
        self.inodes[inode].entry.kind == EntryKind::Directory
    }
}

/// A directory of which nothing is recorded.
fn directory() -> Inode {
    let kind = EntryKind::Directory;
    let entry = Entry { kind, mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };
    Inode { entry, content: None, body: None, children: BTreeMap::new() }
}
