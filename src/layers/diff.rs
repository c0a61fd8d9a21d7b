//! What a step changed: from an overlay upper directory to the canonical change stream.
//!
//! In: the upper directory and a read view of everything below it. Out: [`Change`]s as [`super`] defines them. The
//! cost is that of the upper, never of the whole tree. For trees without an overlay there are [`diff_scan`] and
//! [`read_tree`], which give the same stream. Memory is bounded by the number of paths in the upper; directories are
//! visited without recursion and without holding descriptors, so depth costs nothing.
//!
//! Where isolation cannot be hidden: overlayfs breaks a hard link of the layers below when one of its names changes,
//! a plain file system does not.

pub use super::scan::{Tree, diff_scan, read_tree, read_tree_noting, record_again, record_tree};
pub use super::whiteout::XattrFlavour;

use super::beneath::{self, join, shown};
use super::node::{Node, represented, same_content};
use super::settle::{Found, settle};
use super::{Change, Entry, EntryKind, ImagePath, whiteout};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::sys::SysResultExt as _;
use crate::sys::fs;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How to read a tree.
#[derive(Clone, Copy, Debug)]
pub struct DiffOptions {
    /// Spelling of overlayfs's marks in the upper.
    pub flavour: XattrFlavour,
    /// Files with [`super::PLACEHOLDER_XATTR`] are device nodes.
    pub placeholders: bool,
}

/// Changes of `upper` against `lower`, the merged view of everything below (`None`: nothing is below).
///
/// `upper` is the upper directory itself, never the merged mount; it may still be mounted if nothing writes to it.
pub fn diff_overlay(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    options: &DiffOptions,
) -> Result<Vec<Change>> {
    let walk = Walk { upper, lower, options };
    let mut found = Vec::new();
    let mut stack = vec![walk.directory(b"", lower.is_some(), false)?.into_iter()];
    while let Some(level) = stack.last_mut() {
        let Some(item) = level.next() else {
            stack.pop();
            continue;
        };
        let next = item.descend.map(|descend| (item.found.path.clone(), descend));
        found.push(item.found);
        if let Some((path, descend)) = next {
            stack.push(walk.directory(&path, descend.lower, descend.opaque)?.into_iter());
        }
    }
    Ok(settle(found))
}

struct Walk<'a> {
    upper: BorrowedFd<'a>,
    lower: Option<BorrowedFd<'a>>,
    options: &'a DiffOptions,
}

struct Item {
    found: Found,
    descend: Option<Descend>,
}

/// How to visit a directory of the upper.
struct Descend {
    /// The tree below has a directory at the same path.
    lower: bool,
    /// What the tree below has there is hidden. Overlayfs marks only the topmost such directory.
    opaque: bool,
}

impl Walk<'_> {
    fn directory(&self, path: &[u8], lower: bool, opaque: bool) -> Result<Vec<Item>> {
        let upper = beneath::open_dir(self.upper, path).or_error(ErrorKind::Environment, || {
            format!("cannot read {} of the step's changes", shown(path))
        })?;
        let lower = match self.lower.filter(|_| lower) {
            Some(root) => Some(open_lower(root, path)?),
            None => None,
        };
        let names = fs::list(&upper)
            .or_error(ErrorKind::Environment, || format!("cannot list {}", shown(path)))?;
        let mut items = Vec::with_capacity(names.len());
        let mut present = BTreeSet::new();
        let mut gone = Vec::new();
        for name in names {
            let child = join(path, &name)?;
            let stat = fs::lstat(&upper, &name)
                .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(&child)))?;
            if !represented(&stat) {
                // A socket is no part of a layer: what it replaced is gone.
                gone.push(name);
                continue;
            }
            let node = Node::read(upper.as_fd(), &name, stat, &child)?;
            items.push(self.present(child, &name, &node, (&upper, lower.as_ref()), opaque)?);
            present.insert(name);
        }
        if let Some(lower) = &lower {
            if opaque {
                gone = list_lower(lower, path)?;
                gone.retain(|name| !present.contains(name));
            }
            deletions(path, lower, gone, &mut items)?;
        }
        // Names of one directory: bytes decide, as in path order.
        items.sort_by(|a, b| a.found.path.cmp(&b.found.path));
        Ok(items)
    }

    fn present(
        &self,
        path: ImagePath,
        name: &[u8],
        node: &Node,
        (upper, lower): (&OwnedFd, Option<&OwnedFd>),
        opaque: bool,
    ) -> Result<Item> {
        if whiteout::is_indirect(&node.xattrs, self.options.flavour) {
            return Err(Error::internal(format!(
                "{} is a redirect of overlayfs, which our mounts do not allow",
                shown(&path)
            )));
        }
        let entry = self.entry(node, &path)?;
        let below = match lower {
            Some(dir) => lower_node(dir, name, &path)?,
            None => None,
        };
        let mut changed = true;
        if let Some(below) = &below
            && below.entry(self.options.placeholders).as_ref() == Some(&entry)
        {
            changed = matches!(entry.kind, EntryKind::File { size } if size > 0)
                && !same_bytes(upper, lower, name, &path)?;
        }
        let is_dir = entry.kind == EntryKind::Directory;
        let descend = is_dir.then(|| Descend {
            lower: below.as_ref().is_some_and(|below| below.stat.is_dir()),
            opaque: opaque || whiteout::is_opaque(&node.xattrs, self.options.flavour),
        });
        let found = Found {
            path,
            entry: Some(entry),
            changed,
            shared: (!is_dir && node.stat.nlink > 1).then(|| node.inode()),
            lower: below.map(|below| below.inode()),
        };
        Ok(Item { found, descend })
    }

    fn entry(&self, node: &Node, path: &[u8]) -> Result<Entry> {
        node.entry(self.options.placeholders).ok_or_else(|| {
            Error::internal(format!("{} was taken for a part of the layer", shown(path)))
        })
    }
}

/// Deletions of the names in `gone` that the tree below has.
fn deletions(
    path: &[u8],
    lower: &OwnedFd,
    gone: Vec<Vec<u8>>,
    items: &mut Vec<Item>,
) -> Result<()> {
    for name in gone {
        let child = join(path, &name)?;
        let below = fs::lstat_opt(lower, &name)
            .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(&child)))?;
        if below.is_some_and(|stat| represented(&stat)) {
            items.push(Item { found: Found::deleted(child), descend: None });
        }
    }
    Ok(())
}

fn open_lower(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    beneath::open_dir(root, path)
        .or_error(ErrorKind::Environment, || format!("cannot read {} of the base", shown(path)))
}

fn list_lower(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    fs::list(dir)
        .or_error(ErrorKind::Environment, || format!("cannot list {} of the base", shown(path)))
}

fn lower_node(dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<Node>> {
    let stat = fs::lstat_opt(dir, name)
        .or_error(ErrorKind::Environment, || format!("cannot read {} of the base", shown(path)))?;
    match stat {
        Some(stat) if represented(&stat) => Node::read(dir.as_fd(), name, stat, path).map(Some),
        _ => Ok(None),
    }
}

fn same_bytes(upper: &OwnedFd, lower: Option<&OwnedFd>, name: &[u8], path: &[u8]) -> Result<bool> {
    let message = || format!("cannot compare {} with the base", shown(path));
    let Some(lower) = lower else { return Ok(false) };
    let upper = fs::open_read(upper, name).or_error(ErrorKind::Environment, message)?;
    let lower = fs::open_read(lower, name).or_error(ErrorKind::Environment, message)?;
    same_content(upper, lower).or_error(ErrorKind::Environment, message)
}
