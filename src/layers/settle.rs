//! The last pass of every diff: from what was found at each path to the canonical change stream.
//!
//! In: everything that was visited, in path order, directories before their content, with a verdict for each path on
//! its own. Out: the stream. What depends on more than one path is decided here: hard links, and parents.

use super::{Change, ChangeKind, Entry, EntryKind, ImagePath};
use std::collections::HashMap;

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

impl Visited for Vec<Found> {
    fn len(&self) -> usize {
        self.len()
    }

    fn path(&self, at: usize) -> &[u8] {
        &self[at].path
    }

    fn is_dir(&self, at: usize) -> bool {
        matches!(&self[at].entry, Some(entry) if entry.kind == EntryKind::Directory)
    }

    fn shared(&self, at: usize) -> Option<Inode> {
        self[at].shared
    }

    fn lower(&self, at: usize) -> Option<Inode> {
        self[at].lower
    }

    fn is_changed(&self, at: usize) -> bool {
        self[at].changed
    }

    fn set_changed(&mut self, at: usize) {
        self[at].changed = true;
    }
}

/// Drops what did not change, and turns second names into hard links.
pub(super) fn settle(mut found: Vec<Found>) -> Vec<Change> {
    let first_names: HashMap<Inode, ImagePath> = decide(&mut found)
        .into_iter()
        .map(|(inode, first)| (inode, found[first].path.clone()))
        .collect();
    let kept = found.into_iter().filter(|item| item.changed);
    kept.map(|item| change(item, &first_names)).collect()
}

/// Marks all that the layer has as changed: the parents of what did change, and all names of an inode that did, since
/// half a group would lose the link. Gives the first name of each inode that the layer has under several.
pub(super) fn decide(found: &mut impl Visited) -> HashMap<Inode, usize> {
    let mut groups = hard_links(found);
    for at in 0..found.len() {
        if found.shared(at).and_then(|inode| groups.get(&inode)).is_some_and(|group| group.changed)
        {
            found.set_changed(at);
        }
    }
    keep_parents(found);
    groups.retain(|_, group| group.names > 1 && group.changed);
    groups.into_iter().map(|(inode, group)| (inode, group.first)).collect()
}

struct Group {
    first: usize,
    names: usize,
    changed: bool,
    lower: Option<Inode>,
}

fn change(item: Found, first_names: &HashMap<Inode, ImagePath>) -> Change {
    let Some(mut entry) = item.entry else {
        return Change { path: item.path, kind: ChangeKind::Deleted };
    };
    if let Some(first) = item.shared.and_then(|inode| first_names.get(&inode))
        && *first != item.path
    {
        entry = link_to(entry, first.clone());
    }
    Change { path: item.path, kind: ChangeKind::Present(entry) }
}

/// What a layer says of another name of a file.
pub(super) fn link_to(entry: Entry, target: ImagePath) -> Entry {
    // Attributes belong to the inode, which the first name describes.
    Entry { kind: EntryKind::Hardlink { target }, xattrs: Vec::new(), ..entry }
}

fn hard_links(found: &impl Visited) -> HashMap<Inode, Group> {
    let mut groups: HashMap<Inode, Group> = HashMap::new();
    for at in 0..found.len() {
        let Some(inode) = found.shared(at) else { continue };
        let lower = found.lower(at);
        let group =
            groups.entry(inode).or_insert(Group { first: at, names: 0, changed: false, lower });
        group.names += 1;
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
