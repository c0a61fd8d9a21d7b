//! The canonical change stream, as long as it may be, in little memory.
//!
//! A step may leave a million files. They are kept in a table, and each [`Change`] is made when it is asked for.

use super::entry_table::EntryTable;
use super::{Change, ChangeKind, Entry, EntryKind, ImagePath};
use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};

/// A change stream.
#[derive(Default)]
pub struct Changes {
    table: EntryTable,
    /// Numbers of the paths of the stream, in its order.
    order: Vec<u32>,
    /// Second names of files, with the first ones.
    links: HashMap<u32, u32>,
    /// What is gone, by number; nothing beyond the end is.
    gone: Vec<bool>,
}

impl Changes {
    /// The numbers of a table that are in the stream, in its order; second names with the first ones; and, by number, what
    /// is gone.
    pub(super) fn new(
        mut table: EntryTable,
        mut order: Vec<u32>,
        links: HashMap<u32, u32>,
        gone: Vec<bool>,
    ) -> Self {
        order.shrink_to_fit();
        table.seal();
        Self { table, order, links, gone }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> Iter<'_> {
        Iter { changes: self, numbers: self.order.iter() }
    }

    /// All at once, for whoever needs few or has to sort them.
    pub fn to_vec(&self) -> Vec<Change> {
        self.iter().collect()
    }

    /// Paths of the device nodes that are made or changed.
    pub fn devices(&self) -> impl Iterator<Item = &[u8]> {
        self.order.iter().filter(|at| self.table.is_device(**at)).map(|at| self.table.path(*at))
    }

    pub(super) fn table(&self) -> &EntryTable {
        &self.table
    }

    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }

    /// The first name of the file at a place.
    pub(super) fn first_name(&self, place: usize) -> u32 {
        let number = self.order[place];
        self.links.get(&number).copied().unwrap_or(number)
    }

    fn change(&self, number: u32) -> Change {
        let path = self.table.path(number).to_vec();
        if self.gone.get(number as usize) == Some(&true) {
            return Change { path, kind: ChangeKind::Deleted };
        }
        let entry = self.table.entry(number);
        let entry = match self.links.get(&number) {
            Some(first) => link_to(entry, self.table.path(*first).to_vec()),
            None => entry,
        };
        Change { path, kind: ChangeKind::Present(entry) }
    }
}

/// What a layer says of another name of a file.
fn link_to(entry: Entry, target: ImagePath) -> Entry {
    // Attributes belong to the inode, which the first name describes.
    Entry { kind: EntryKind::Hardlink { target }, xattrs: Vec::new(), ..entry }
}

/// The changes of [`Changes::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    changes: &'a Changes,
    numbers: std::slice::Iter<'a, u32>,
}

impl Iterator for Iter<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.numbers.next().map(|number| self.changes.change(*number))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.numbers.size_hint()
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = Change;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Debug for Changes {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self).finish()
    }
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

#[cfg(test)]
impl FromIterator<Change> for Changes {
    fn from_iter<T: IntoIterator<Item = Change>>(changes: T) -> Self {
        let mut made = Self::default();
        for (number, Change { path, kind }) in (0..).zip(changes) {
            let ChangeKind::Present(entry) = kind else { panic!("deletions are made by diffs") };
            made.table.put(path, entry, None, 0);
            made.order.push(number);
        }
        made
    }
}
