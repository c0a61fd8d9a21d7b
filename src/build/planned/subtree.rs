//! The content of a directory of a source.

use super::bodies::NONE;
use super::gather::{DEFAULT_ACL, Gather, directory, parent};
use super::source::{Source, attributes};
use crate::context::{FileTree, Selected, Visitor, WalkEntry, xattr};
use crate::error::Result;
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::sys::root::below;

/// The content of a directory.
pub(super) struct Subtree<'g, 'a> {
    pub(super) gather: &'g mut Gather<'a>,
    pub(super) tree: &'g FileTree,
    pub(super) selected: &'g Selected,
    pub(super) base: ImagePath,
    pub(super) root: u32,
    /// False when something was met that cannot be planned.
    pub(super) planned: bool,
}

impl Subtree<'_, '_> {
    fn source<'s>(&'s self, entry: &'s WalkEntry<'_>, path: &'s [u8]) -> Source<'s> {
        Source { tree: self.tree, dir: entry.dir, name: entry.name, stat: entry.stat, path }
    }

    /// Metadata of a directory of the copy.
    fn directory(&mut self, dir: &WalkEntry<'_>) -> Result<bool> {
        let path = below(&self.base, dir.path);
        let from = below(&self.selected.path, dir.path);
        let known = match self.gather.table.find(&path) {
            Some(at) => Some(self.gather.table.entry(at)),
            None => self.gather.ground.look(&path)?.map(|(entry, _)| entry),
        };
        let is_new = known.is_none();
        let known = known.unwrap_or_else(|| directory((0, 0), (0, 0)));
        let inherits = known.xattrs.iter().any(|(name, _)| name == DEFAULT_ACL);
        if known.kind != EntryKind::Directory || inherits {
            return Ok(false);
        }
        let source = self.source(dir, &from);
        let Some(xattrs) = attributes(&source)? else { return Ok(false) };
        let (uid, gid) = self.gather.owner(&source)?;
        let stat = dir.stat;
        let chmod = self.gather.request.chmod.as_ref();
        let mode = chmod.map_or(stat.mode, |change| change.apply(stat.mode, true));
        let mut entry = Entry { mode, uid, gid, mtime: stat.mtime, ..known };
        set_xattrs(&mut entry.xattrs, xattrs);
        if is_new && parent(&path) == self.base {
            self.gather.touch(&self.base);
        }
        self.gather.table.put(path, entry, None, NONE);
        Ok(true)
    }
}

impl Visitor for Subtree<'_, '_> {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.planned &= self.directory(dir)?;
        Ok(())
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        let path = below(&self.base, entry.path);
        let from = below(&self.selected.path, entry.path);
        // Directories further down get the time of their source in the end.
        let touch = parent(&path) == self.base;
        let source = Source {
            tree: self.tree,
            dir: entry.dir,
            name: entry.name,
            stat: entry.stat,
            path: &from,
        };
        self.planned &= self.gather.put(&source, path, self.root, touch)?;
        Ok(())
    }

    fn leave(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }

    fn is_done(&self) -> bool {
        !self.planned
    }
}

/// Sets attributes; others that are there stay.
fn set_xattrs(known: &mut xattr::Xattrs, new: xattr::Xattrs) {
    for (name, value) in new {
        known.retain(|(old, _)| *old != name);
        known.push((name, value));
    }
    known.sort();
}
