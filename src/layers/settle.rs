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
    /// Whatever the caller wants to find again beside the change.
    pub(super) tag: u32,
}

impl Found {
    /// A vanished path.
    pub(super) fn deleted(path: ImagePath) -> Self {
        Self { path, entry: None, changed: true, shared: None, lower: None, tag: 0 }
    }
}

struct Group {
    first: usize,
    names: usize,
    changed: bool,
    lower: Option<Inode>,
}

/// Drops what did not change, keeps the parents of what did, and turns second names into hard links. A group of names
/// of one inode stays or goes as a whole: half a group would lose the link.
pub(super) fn settle(found: Vec<Found>) -> Vec<Change> {
    settle_tagged(found).map(|(change, _)| change).collect()
}

/// The same with the tags of what is kept.
pub(super) fn settle_tagged(mut found: Vec<Found>) -> impl Iterator<Item = (Change, u32)> {
    let groups = hard_links(&found);
    for item in &mut found {
        if let Some(group) = item.shared.and_then(|inode| groups.get(&inode)) {
            item.changed |= group.changed;
        }
    }
    keep_parents(&mut found);
    let first_names: HashMap<Inode, ImagePath> = groups
        .iter()
        .filter(|(_, group)| group.names > 1 && group.changed)
        .map(|(inode, group)| (*inode, found[group.first].path.clone()))
        .collect();
    let kept = found.into_iter().filter(|item| item.changed);
    kept.map(move |item| {
        let tag = item.tag;
        (change(item, &first_names), tag)
    })
}

fn change(item: Found, first_names: &HashMap<Inode, ImagePath>) -> Change {
    let Some(mut entry) = item.entry else {
        return Change { path: item.path, kind: ChangeKind::Deleted };
    };
    if let Some(first) = item.shared.and_then(|inode| first_names.get(&inode))
        && *first != item.path
    {
        entry.kind = EntryKind::Hardlink { target: first.clone() };
        // They belong to the inode, which the first name describes.
        entry.xattrs.clear();
    }
    Change { path: item.path, kind: ChangeKind::Present(entry) }
}

fn hard_links(found: &[Found]) -> HashMap<Inode, Group> {
    let mut groups: HashMap<Inode, Group> = HashMap::new();
    for (at, item) in found.iter().enumerate() {
        let Some(inode) = item.shared else { continue };
        let group = groups.entry(inode).or_insert(Group {
            first: at,
            names: 0,
            changed: false,
            lower: item.lower,
        });
        group.names += 1;
        // Names that were separate files below and now are one changed, though each looks the same.
        group.changed |= item.changed || group.lower != item.lower;
    }
    groups
}

fn keep_parents(found: &mut [Found]) {
    let mut parents: Vec<usize> = Vec::new();
    for at in 0..found.len() {
        while parents.last().is_some_and(|dir| !is_parent(&found[*dir].path, &found[at].path)) {
            parents.pop();
        }
        if found[at].changed {
            for dir in parents.iter().rev() {
                found[*dir].changed = true;
            }
        }
        if matches!(&found[at].entry, Some(entry) if entry.kind == EntryKind::Directory) {
            parents.push(at);
        }
    }
}

fn is_parent(dir: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}
