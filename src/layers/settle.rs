//! The last pass of every diff: from what was found at each path to the canonical change stream.
//!
//! In: everything that was visited, in path order, directories before their content, with a verdict for each path on
//! its own. Out: the stream. What depends on more than one path is decided here: hard links, and parents.

use super::changes::Changes;
use super::entry_table::EntryTable;
use super::{Entry, EntryKind, ImagePath};
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Inode and the device that holds it.
pub(super) type Inode = (u64, u64);

/// One visited path.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: ImagePath,
    /// What is there; `None` when it is gone.
    pub(super) entry: Option<Entry>,
    /// Differs from the tree below, looked at alone.
    pub(super) changed: bool,
    /// Its inode, when that has several names.
    pub(super) shared: Option<Inode>,
    /// Inode of the same path in the tree below.
    pub(super) lower: Option<Inode>,
}

impl Found {
    /// A vanished path.
    pub(super) fn deleted(path: ImagePath) -> Self {
        Self { path, entry: None, changed: true, shared: None, lower: None }
    }
}

/// Visited paths, in path order.
pub(super) trait Visited {
    fn len(&self) -> usize;
    fn path(&self, at: usize) -> &[u8];
    fn is_dir(&self, at: usize) -> bool;
    /// Its inode, when that has several names.
    fn shared(&self, at: usize) -> Option<Inode>;
    /// Inode of the same path in the tree below, of those whose inode has several names.
    fn lower(&self, at: usize) -> Option<Inode>;
    fn is_changed(&self, at: usize) -> bool;
    fn set_changed(&mut self, at: usize);
}

/// What a walk finds, in path order; some fifty bytes and the path itself for each.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    table: EntryTable,
    changed: Vec<bool>,
    /// Up to the last one that is gone.
    gone: Vec<bool>,
    /// What has several names: its inode, and that of the same path in the tree below.
    inodes: Vec<(Inode, Option<Inode>)>,
}

impl Gathered {
    /// Adds the next path.
    pub(super) fn push(&mut self, found: Found) {
        let Found { path, entry, changed, shared, lower } = found;
        if entry.is_none() {
            self.gone.resize(self.changed.len(), false);
            self.gone.push(true);
        }
        let number = shared.and_then(|inode| {
            self.inodes.push((inode, lower));
            NonZeroU32::new(self.inodes.len() as u32)
        });
        self.changed.push(changed);
        self.table.put(path, entry.unwrap_or(NOTHING), number, 0);
        debug_assert_eq!(self.table.len(), self.changed.len(), "a path came twice");
    }

    /// Whether a path that was added is a directory.
    pub(super) fn has_dir(&self, path: &[u8]) -> bool {
        self.table.find(path).is_some_and(|at| self.table.is_dir(at))
    }

    /// Drops what did not change, and turns second names into hard links.
    pub(super) fn settle(mut self) -> Changes {
        let links = decide(&mut self);
        let kept: Vec<u32> =
            (0..).zip(&self.changed).filter(|(_, changed)| **changed).map(|(at, _)| at).collect();
        let links = links.into_iter().map(|(at, first)| (at as u32, first as u32));
        if kept.len() > self.len() / 2 {
            return Changes::new(self.table, kept, links.collect(), self.gone);
        }
        // Of a whole tree in which little changed the rest is not kept.
        let new = |old: u32| kept.binary_search(&old).ok().map(|at| at as u32);
        let links = links.filter_map(|(at, first)| Some((new(at)?, new(first)?))).collect();
        let mut table = EntryTable::default();
        let mut gone = Vec::new();
        for at in &kept {
            table.put(self.table.path(*at).to_vec(), self.table.entry(*at), None, 0);
            gone.push(self.gone.get(*at as usize) == Some(&true));
        }
        Changes::new(table, (0..kept.len() as u32).collect(), links, gone)
    }

    fn inodes(&self, at: usize) -> Option<(Inode, Option<Inode>)> {
        let number = self.table.shared(at as u32)?;
        self.inodes.get(number.get() as usize - 1).copied()
    }
}

/// Stands in the table for what is gone.
const NOTHING: Entry =
    Entry { kind: EntryKind::Fifo, mode: 0, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };

impl Visited for Gathered {
    fn len(&self) -> usize {
        self.changed.len()
    }

    fn path(&self, at: usize) -> &[u8] {
        self.table.path(at as u32)
    }

    fn is_dir(&self, at: usize) -> bool {
        self.table.is_dir(at as u32)
    }

    fn shared(&self, at: usize) -> Option<Inode> {
        self.inodes(at).map(|(inode, _)| inode)
    }

    fn lower(&self, at: usize) -> Option<Inode> {
        self.inodes(at).and_then(|(_, lower)| lower)
    }

    fn is_changed(&self, at: usize) -> bool {
        self.changed[at]
    }

    fn set_changed(&mut self, at: usize) {
        self.changed[at] = true;
    }
}

/// Marks all that the layer has as changed: the parents of what did change, and all names of an inode that did, since
/// half a group would lose the link. Gives the second names in the layer of an inode, with the first ones.
pub(super) fn decide(found: &mut impl Visited) -> HashMap<usize, usize> {
    let groups = hard_links(found);
    let mut links = HashMap::new();
    for at in 0..found.len() {
        let group = found.shared(at).and_then(|inode| groups.get(&inode));
        let Some(group) = group.filter(|group| group.changed) else { continue };
        found.set_changed(at);
        if group.first != at {
            links.insert(at, group.first);
        }
    }
    keep_parents(found);
    links
}

struct Group {
    first: usize,
    changed: bool,
    lower: Option<Inode>,
}

fn hard_links(found: &impl Visited) -> HashMap<Inode, Group> {
    let mut groups: HashMap<Inode, Group> = HashMap::new();
    for at in 0..found.len() {
        let Some(inode) = found.shared(at) else { continue };
        let lower = found.lower(at);
        let group = groups.entry(inode).or_insert(Group { first: at, changed: false, lower });
        // Names that were separate files below and now are one changed, though each looks the same.
        group.changed |= found.is_changed(at) || group.lower != lower;
    }
    groups
}

fn keep_parents(found: &mut impl Visited) {
    let mut parents: Vec<usize> = Vec::new();
    for at in 0..found.len() {
        while parents.last().is_some_and(|dir| !is_parent(found.path(*dir), found.path(at))) {
            parents.pop();
        }
        if found.is_changed(at) {
            for dir in &parents {
                found.set_changed(*dir);
            }
        }
        if found.is_dir(at) {
            parents.push(at);
        }
    }
}

fn is_parent(dir: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}
