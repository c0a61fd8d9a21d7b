//! What a step changed: from an overlay upper directory to the canonical change stream.
//!
//! In: the upper directory and a read view of everything below it. Out: [`Changes`] as [`super`] defines them. The
//! cost is that of the upper, never of the whole tree. For trees without an overlay there are [`diff_scan`] and
//! [`read_tree`], which give the same stream. Memory is bounded by the number of paths in the upper; directories are
//! visited without recursion, and few are held open, so depth costs nothing.
//!
//! Where isolation cannot be hidden: overlayfs breaks a hard link of the layers below when one of its names changes,
//! a plain file system does not.

pub use super::scan::{Tree, diff_scan, read_tree, read_tree_without, record_again, record_tree};
pub use super::whiteout::XattrFlavour;

use super::beneath::{self, join, shown};
use super::node::{Node, represented, same_content};
use super::settle::{Found, Gathered};
use super::times::TimePolicy;
use super::{Changes, Entry, EntryKind, ImagePath, whiteout};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::sys::SysResultExt as _;
use crate::sys::fs::{self, Names};
use std::iter::Peekable;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec::IntoIter;

/// Directories on the way that stay open; those further down are opened again after each that is in them.
pub(super) const HELD: usize = 8;

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
/// `times` are those of the layer that the changes are for.
pub fn diff_overlay(
    upper: BorrowedFd<'_>,
    lower: Option<BorrowedFd<'_>>,
    options: &DiffOptions,
    times: &TimePolicy,
) -> Result<Changes> {
    let mut gathered = Gathered::default();
    let walk = Walk { upper, lower, options, times };
    walk.each(&mut |found| {
        gathered.push(found);
        true
    })?;
    Ok(gathered.settle())
}

/// Whether `upper` shows anything else than `lower`; what is the same is looked at until something differs.
pub fn differs(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    options: &DiffOptions,
    times: &TimePolicy,
) -> Result<bool> {
    let mut differs = false;
    let walk = Walk { upper, lower: Some(lower), options, times };
    walk.each(&mut |found| {
        differs = found.changed;
        !differs
    })?;
    Ok(differs)
}

struct Walk<'a> {
    upper: BorrowedFd<'a>,
    lower: Option<BorrowedFd<'a>>,
    options: &'a DiffOptions,
    times: &'a TimePolicy,
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

/// A directory on the way to where the walk is.
struct Level {
    path: ImagePath,
    how: Descend,
    /// Names in the upper; those before `at` are done.
    names: Names,
    at: usize,
    /// Names that an opaque directory hides, in order.
    hidden: Peekable<IntoIter<Vec<u8>>>,
    /// Opened again when it is needed.
    open: Option<Open>,
}

struct Open {
    upper: OwnedFd,
    lower: Option<OwnedFd>,
}

impl Level {
    /// The next name, and whether the upper has it.
    fn next(&mut self) -> Option<(Vec<u8>, bool)> {
        let listed = (self.at < self.names.len()).then(|| self.names.get(self.at));
        let Some(listed) = listed else { return self.hidden.next().map(|name| (name, false)) };
        if let Some(hidden) = self.hidden.next_if(|name| &name[..] <= listed)
            && hidden != listed
        {
            return Some((hidden, false));
        }
        self.at += 1;
        Some((listed.to_vec(), true))
    }
}

impl Walk<'_> {
    /// Visits everything in path order, as long as `visit` wants more.
    fn each(&self, visit: &mut dyn FnMut(Found) -> bool) -> Result<()> {
        let root = Descend { lower: self.lower.is_some(), opaque: false };
        let mut levels = vec![self.level(ImagePath::new(), root)?];
        while let (depth, Some(level)) = (levels.len(), levels.last_mut()) {
            let Some((name, listed)) = level.next() else {
                levels.pop();
                continue;
            };
            let Some(item) = self.item(level, &name, listed)? else { continue };
            let next = item.descend.map(|descend| (item.found.path.clone(), descend));
            if !visit(item.found) {
                return Ok(());
            }
            if let Some((path, descend)) = next {
                if depth > HELD {
                    level.open = None;
                }
                levels.push(self.level(path, descend)?);
            }
        }
        Ok(())
    }

    fn level(&self, path: ImagePath, how: Descend) -> Result<Level> {
        let open = self.open(&path, &how)?;
        let names = fs::list_opened(&open.upper)
            .or_error(ErrorKind::Environment, || format!("cannot list {}", shown(&path)))?;
        let hidden = match &open.lower {
            Some(lower) if how.opaque => list_lower(lower, &path)?,
            _ => Vec::new(),
        };
        let hidden = hidden.into_iter().peekable();
        Ok(Level { path, how, names, at: 0, hidden, open: Some(open) })
    }

    fn open(&self, path: &[u8], how: &Descend) -> Result<Open> {
        let upper = beneath::open_dir(self.upper, path).or_error(ErrorKind::Environment, || {
            format!("cannot read {} of the step's changes", shown(path))
        })?;
        let lower = match self.lower.filter(|_| how.lower) {
            Some(root) => Some(open_lower(root, path)?),
            None => None,
        };
        Ok(Open { upper, lower })
    }

    /// What is at a name; `None` for what is in neither tree as far as a layer can say.
    fn item(&self, level: &mut Level, name: &[u8], listed: bool) -> Result<Option<Item>> {
        let open = match level.open.take() {
            Some(open) => open,
            None => self.open(&level.path, &level.how)?,
        };
        let open = level.open.insert(open);
        let path = join(&level.path, name)?;
        if listed {
            let stat = fs::lstat(&open.upper, name)
                .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(&path)))?;
            if represented(&stat) {
                let node = Node::read(open.upper.as_fd(), name, stat, &path)?;
                return self.present(path, name, &node, open, level.how.opaque).map(Some);
            }
            // A socket is no part of a layer: what it replaced is gone.
        }
        let Some(lower) = &open.lower else { return Ok(None) };
        let below = fs::lstat_opt(lower, name)
            .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(&path)))?;
        let gone = below.is_some_and(|stat| represented(&stat));
        Ok(gone.then(|| Item { found: Found::deleted(path), descend: None }))
    }

    fn present(
        &self,
        path: ImagePath,
        name: &[u8],
        node: &Node,
        open: &Open,
        opaque: bool,
    ) -> Result<Item> {
        if whiteout::is_indirect(&node.xattrs, self.options.flavour) {
            return Err(Error::internal(format!(
                "{} is a redirect of overlayfs, which our mounts do not allow",
                shown(&path)
            )));
        }
        let entry = self.entry(node, &path)?;
        let below = match &open.lower {
            Some(dir) => lower_node(dir, name, &path)?,
            None => None,
        };
        let mut changed = true;
        if let Some(below) = &below
            && below
                .entry(self.options.placeholders)
                .is_some_and(|old| entry.is_same(&old, self.times))
        {
            changed = matches!(entry.kind, EntryKind::File { size } if size > 0)
                && !same_bytes(open, name, &path)?;
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

fn same_bytes(open: &Open, name: &[u8], path: &[u8]) -> Result<bool> {
    let message = || format!("cannot compare {} with the base", shown(path));
    let Some(lower) = &open.lower else { return Ok(false) };
    let upper = fs::open_read(&open.upper, name).or_error(ErrorKind::Environment, message)?;
    let lower = fs::open_read(lower, name).or_error(ErrorKind::Environment, message)?;
    same_content(upper, lower).or_error(ErrorKind::Environment, message)
}
