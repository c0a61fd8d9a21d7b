//! What a planned step leaves at each path.

use super::bodies::NONE;
use crate::context::xattr::Xattrs;
use crate::layers::planned::FileId;
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::sys::fs::Stat;
use std::collections::HashMap;

/// One path.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) entry: Entry,
    /// Which file it is, when that may have several names.
    pub(super) shared: Option<FileId>,
    /// Its leaf, when it is a file.
    pub(super) leaf: u32,
}

impl Node {
    pub(super) fn directory(mode: u32, owner: (u32, u32), mtime: (i64, u32)) -> Self {
        Self::plain(Entry {
            kind: EntryKind::Directory,
            mode,
            uid: owner.0,
            gid: owner.1,
            mtime,
            xattrs: Vec::new(),
        })
    }

    pub(super) fn plain(entry: Entry) -> Self {
        Self { entry, shared: None, leaf: NONE }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.entry.kind == EntryKind::Directory
    }

    /// Sets attributes; others that are there stay.
    pub(super) fn set_xattrs(&mut self, new: Xattrs) {
        let known = &mut self.entry.xattrs;
        for (name, value) in new {
            known.retain(|(old, _)| *old != name);
            known.push((name, value));
        }
        known.sort();
    }
}

/// Files with several names, as long as their copies are still there: what `executor::copy` links.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_source: HashMap<(u64, u64), u64>,
    by_path: HashMap<ImagePath, (u64, u64)>,
    next: u64,
}

impl Links {
    /// Which file the copy of a source is.
    pub(super) fn file(&mut self, stat: &Stat, path: &[u8]) -> FileId {
        let source = (stat.dev, stat.ino);
        if let Some(number) = self.by_source.get(&source) {
            return (0, *number);
        }
        self.next += 1;
        self.by_source.insert(source, self.next);
        self.by_path.insert(path.to_vec(), source);
        (0, self.next)
    }

    /// The copy at a path is replaced.
    pub(super) fn forget(&mut self, path: &[u8]) {
        if let Some(source) = self.by_path.remove(path) {
            self.by_source.remove(&source);
        }
    }

    /// Links are kept within one source only.
    pub(super) fn clear(&mut self) {
        self.by_source.clear();
        self.by_path.clear();
    }
}
