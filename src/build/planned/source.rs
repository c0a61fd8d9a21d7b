//! A node of a source: what the copy of it would be.

use super::bodies::{NONE, time_of_change};
use super::gather::{Gather, Node};
use crate::context::{FileTree, xattr};
use crate::error::Result;
use crate::layers::whiteout::is_private_xattr;
use crate::layers::{Entry, EntryKind};
use crate::sys::fs::{self, Kind, Stat};
use std::os::fd::BorrowedFd;

/// A node to copy.
pub(super) struct Source<'a> {
    pub(super) tree: &'a FileTree,
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) stat: &'a Stat,
    /// Path in its tree, for messages.
    pub(super) path: &'a [u8],
}

impl Gather<'_> {
    /// The copy of a node that is no directory.
    pub(super) fn node(&mut self, source: &Source<'_>, root: u32) -> Result<Option<Node>> {
        let stat = source.stat;
        let Some(xattrs) = attributes(source)? else { return Ok(None) };
        let (uid, gid) = self.owner(source)?;
        let mut mode = self.request.chmod.as_ref().map_or(stat.mode, |c| c.apply(stat.mode, false));
        let mut leaf = NONE;
        let kind = match stat.kind {
            Kind::File => {
                leaf = self.files.add(root, (stat.ino, time_of_change(source.tree, stat)));
                EntryKind::File { size: stat.size }
            }
            Kind::Socket => EntryKind::File { size: 0 },
            Kind::Symlink => {
                mode = 0o777;
                let target = fs::readlink(source.dir, source.name);
                let target = target.map_err(|e| source.tree.unreadable(source.path, &e))?;
                EntryKind::Symlink { target }
            }
            Kind::Fifo => EntryKind::Fifo,
            Kind::Directory | Kind::CharDevice | Kind::BlockDevice => return Ok(None),
        };
        // Links have no attributes in a layer.
        let xattrs = if stat.kind == Kind::Symlink { Vec::new() } else { xattrs };
        let entry = Entry { kind, mode, uid, gid, mtime: stat.mtime, xattrs };
        Ok(Some(Node { entry, shared: None, leaf }))
    }

    pub(super) fn owner(&self, source: &Source<'_>) -> Result<(u32, u32)> {
        if let Some(owner) = self.request.chown {
            return Ok(owner);
        }
        let tree = source.tree;
        tree.owner(source.dir, source.name, source.stat)
            .map_err(|error| tree.unreadable(source.path, &error))
    }
}

/// Attributes that end up in the layer; `None` where one is a mark of ours, or one that not every node can have.
pub(super) fn attributes(source: &Source<'_>) -> Result<Option<xattr::Xattrs>> {
    let tree = source.tree;
    let read = xattr::read(source.dir, source.name, !tree.is_context())
        .map_err(|error| tree.unreadable(source.path, &error))?;
    let plain = matches!(source.stat.kind, Kind::File | Kind::Directory);
    if read.iter().any(|(name, _)| !plain || is_private_xattr(name)) {
        return Ok(None);
    }
    Ok(Some(read))
}
