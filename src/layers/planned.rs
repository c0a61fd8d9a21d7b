//! The changes of a step that was never carried out on a tree: what it would have put there, compared with what is below.
//!
//! In: the paths that would be there, parents included, and a look at the tree below. Out: the same canonical stream that
//! [`super::diff`] reads out of an overlay after the step was carried out.

use super::beneath::{self, shown};
use super::entry_table::EntryTable;
use super::node::{Node, represented, same_content};
use super::settle::{Visited, decide};
use super::times::TimePolicy;
use super::{Changes, Entry, EntryKind, path_order};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::sys::fs;
use crate::sys::{SysResult, SysResultExt, root};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Device and inode, or whatever else names of one file have in common.
pub type FileId = (u64, u64);

/// What is below the step.
pub trait Below {
    /// What a layer would say of a path, and which file it is; `None` when nothing is there.
    fn entry(&self, path: &[u8]) -> Result<Option<(Entry, Option<FileId>)>>;
    /// Opens the file at a path.
    fn open(&self, path: &[u8]) -> Result<File>;
}

/// Everything that a step would leave, and which of it is the layer.
#[derive(Debug)]
pub struct Plan {
    changes: Changes,
}

impl Plan {
    /// What of `table`, parents included, differs from what is below. Nothing in it is a hard link; names of one file
    /// have the same number as shared. `open` opens the file of a number, of the same size as the one below, to compare
    /// them; `times` are those of the layer.
    pub fn new(
        table: EntryTable,
        below: &dyn Below,
        open: &dyn Fn(&EntryTable, u32) -> Result<File>,
        times: &TimePolicy,
    ) -> Result<Self> {
        let mut order: Vec<u32> = (0..table.len() as u32).collect();
        order.sort_unstable_by(|a, b| path_order(table.path(*a), table.path(*b)));
        let mut compared =
            Compared { table: &table, order, changed: Vec::new(), lower: HashMap::new() };
        compared.changed.reserve_exact(table.len());
        for at in 0..table.len() {
            compared.compare(at, below, open, times)?;
        }
        let links = decide(&mut compared);
        let Compared { mut order, changed, .. } = compared;
        let links = links.into_iter().map(|(at, first)| (order[at], order[first])).collect();
        let mut changed = changed.into_iter();
        order.retain(|_| changed.next() == Some(true));
        Ok(Self { changes: Changes::new(table, order, links, Vec::new()) })
    }

    /// Place of a path in the layer, when it has it.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let table = self.changes.table();
        self.changes.order().binary_search_by(|at| path_order(table.path(*at), path)).ok()
    }

    /// What the layer makes of a place: a second name of a file is the file.
    pub fn entry(&self, place: usize) -> Entry {
        self.changes.table().entry(self.changes.first_name(place))
    }

    /// Path and tag of the file at a place, of its first name if it has several.
    pub fn source(&self, place: usize) -> (&[u8], u32) {
        let (table, number) = (self.changes.table(), self.changes.first_name(place));
        (table.path(number), table.tag(number))
    }

    /// The layer.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Paths and tags of the layer, in its order.
    pub fn tagged(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let table = self.changes.table();
        self.changes.order().iter().map(|number| (table.path(*number), table.tag(*number)))
    }
}

/// What was found out about a table.
struct Compared<'a> {
    table: &'a EntryTable,
    /// Numbers of all paths, in path order.
    order: Vec<u32>,
    changed: Vec<bool>,
    /// Files below, by place, where something is that may have several names.
    lower: HashMap<usize, FileId>,
}

impl Compared<'_> {
    fn compare(
        &mut self,
        at: usize,
        below: &dyn Below,
        open: &dyn Fn(&EntryTable, u32) -> Result<File>,
        times: &TimePolicy,
    ) -> Result<()> {
        let number = self.order[at];
        let path = self.table.path(number);
        let Some((lower, file)) = below.entry(path)? else {
            self.changed.push(true);
            return Ok(());
        };
        if let Some(file) = file.filter(|_| self.table.shared(number).is_some()) {
            self.lower.insert(at, file);
        }
        let entry = self.table.entry(number);
        let mut changed = !entry.is_same(&lower, times);
        if !changed && matches!(entry.kind, EntryKind::File { size } if size > 0) {
            let read = || format!("cannot compare {} with the base", shown(path));
            let same = same_content(open(self.table, number)?, below.open(path)?);
            changed = !same.or_error(ErrorKind::Environment, read)?;
        }
        self.changed.push(changed);
        Ok(())
    }
}

impl Visited for Compared<'_> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn path(&self, at: usize) -> &[u8] {
        self.table.path(self.order[at])
    }

    fn is_dir(&self, at: usize) -> bool {
        self.table.is_dir(self.order[at])
    }

    fn shared(&self, at: usize) -> Option<FileId> {
        self.table.shared(self.order[at]).map(file_id)
    }

    fn lower(&self, at: usize) -> Option<FileId> {
        self.lower.get(&at).copied()
    }

    fn is_changed(&self, at: usize) -> bool {
        self.changed[at]
    }

    fn set_changed(&mut self, at: usize) {
        self.changed[at] = true;
    }
}

fn file_id(number: NonZeroU32) -> FileId {
    (0, number.get().into())
}

/// What a layer would say of a path of a mounted tree, no link followed, and which file it is.
pub fn entry_of(
    tree: BorrowedFd<'_>,
    path: &[u8],
    placeholders: bool,
) -> Result<Option<(Entry, FileId)>> {
    let read = || format!("cannot read {} of the base", shown(path));
    let (parent, name) = root::split_last(path);
    let dir = open_dir(tree, parent).or_error(ErrorKind::Environment, read)?;
    let Some(dir) = dir else { return Ok(None) };
    let name = name.unwrap_or(b".");
    let stat = fs::lstat_opt(&dir, name).or_error(ErrorKind::Environment, read)?;
    let Some(stat) = stat.filter(represented) else { return Ok(None) };
    let node = Node::read(dir.as_fd(), name, stat, path)?;
    Ok(node.entry(placeholders).map(|entry| (entry, node.inode())))
}

/// Opens a file of a mounted tree, no link followed.
pub fn open_file(tree: BorrowedFd<'_>, path: &[u8]) -> SysResult<File> {
    beneath::open_file(tree, path)
}

fn open_dir(tree: BorrowedFd<'_>, path: &[u8]) -> SysResult<Option<OwnedFd>> {
    match beneath::open_dir(tree, path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}
