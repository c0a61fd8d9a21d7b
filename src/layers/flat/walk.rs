//! What is in the tree, path by path, beside the tree below it.

use super::{FlatTree, Inode, ROOT};
use crate::layers::settle::{Found, Gathered};
use crate::layers::{Change, EntryKind, ImagePath};
use crate::sys::root;
use std::collections::{BTreeMap, HashMap};

impl FlatTree {
    /// First name and number of names of everything but directories.
    pub(super) fn links(&self) -> HashMap<u64, (ImagePath, usize)> {
        let mut links = HashMap::new();
        for item in self.walk(None) {
            if let Some((_, inode)) = item.shared {
                links.entry(inode).or_insert((item.path, 0)).1 += 1;
            }
        }
        links
    }

    /// All paths in path order, and what of `below` is gone.
    pub(super) fn walk(&self, below: Option<&Self>) -> Vec<Found> {
        let mut found = Vec::new();
        let mut waiting =
            vec![Step { path: Vec::new(), here: Some(ROOT), below: below.map(|_| ROOT) }];
        while let Some(step) = waiting.pop() {
            let lower = below.zip(step.below).map(|(tree, inode)| &tree.inodes[inode]);
            if !step.path.is_empty() {
                match step.here {
                    None => {
                        found.push(Found::deleted(step.path));
                        continue;
                    }
                    Some(inode) => found.push(self.found(&step, inode, lower)),
                }
            }
            let own = step.here.map(|inode| &self.inodes[inode].children);
            let both = lower.filter(|lower| lower.entry.kind == EntryKind::Directory);
            let is_dir = step.here.is_some_and(|inode| self.is_directory(inode));
            let old = both.filter(|_| is_dir).map(|lower| &lower.children);
            let mut names: Vec<&Vec<u8>> =
                own.into_iter().chain(old).flat_map(BTreeMap::keys).collect();
            names.sort_unstable();
            names.dedup();
            // The last one that is put there is the next one that is taken.
            for name in names.into_iter().rev() {
                waiting.push(Step {
                    path: root::below(&step.path, name),
                    here: own.and_then(|own| own.get(name).copied()),
                    below: old.and_then(|old| old.get(name).copied()),
                });
            }
        }
        found
    }

    fn found(&self, step: &Step, inode: usize, lower: Option<&Inode>) -> Found {
        let own = &self.inodes[inode];
        let same = lower.is_some_and(|lower| same(own, lower));
        Found {
            path: step.path.clone(),
            entry: Some(own.entry.clone()),
            changed: !same,
            shared: (!self.is_directory(inode)).then_some((0, inode as u64)),
            lower: step.below.map(|below| (1, below as u64)),
        }
    }
}

/// The change stream of what was found.
pub(super) fn settled(found: Vec<Found>) -> Vec<Change> {
    let mut gathered = Gathered::default();
    for item in found {
        gathered.push(item);
    }
    gathered.settle().to_vec()
}

struct Step {
    path: ImagePath,
    here: Option<usize>,
    below: Option<usize>,
}

/// Equal as far as a layer of ours can say it: its times are whole seconds.
fn same(a: &Inode, b: &Inode) -> bool {
    let (mut x, mut y) = (a.entry.clone(), b.entry.clone());
    (x.mtime.1, y.mtime.1) = (0, 0);
    x == y && a.content == b.content
}
