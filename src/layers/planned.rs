//! The changes of a step that was never carried out on a tree: what it would have put there, compared with what is below.
//!
//! In: the paths that would be there, parents included, and a look at the tree below. Out: the same canonical stream that
//! [`super::diff`] reads out of an overlay after the step was carried out.

use super::beneath::{self, shown};
use super::node::{Node, represented, same_content};
use super::settle::{Found, settle_tagged};
use super::{Change, Entry, EntryKind, ImagePath, path_order};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::sys::fs;
use crate::sys::{SysResult, SysResultExt, root};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Names of one file have the same number.
pub type FileId = (u64, u64);

/// A path that the step would leave.
#[derive(Debug)]
pub struct Wanted {
    /// Where.
    pub path: ImagePath,
    /// What; never a hard link.
    pub entry: Entry,
    /// Which file it is, when that may have several names.
    pub shared: Option<FileId>,
    /// Comes back beside the change.
    pub tag: u32,
}

/// What is below the step.
pub trait Below {
    /// What a layer would say of a path, and which file it is; `None` when nothing is there.
    fn entry(&self, path: &[u8]) -> Result<Option<(Entry, Option<FileId>)>>;
    /// Opens the file at a path.
    fn open(&self, path: &[u8]) -> Result<File>;
}

/// The changes that leave what is wanted, with the tags of those that are present. `open` opens the wanted file at a
/// path, of the same size as the one below, to compare them.
pub fn changes(
    mut wanted: Vec<Wanted>,
    below: &dyn Below,
    open: &dyn Fn(&[u8], u32) -> Result<File>,
) -> Result<(Vec<Change>, Vec<u32>)> {
    wanted.sort_unstable_by(|a, b| path_order(&a.path, &b.path));
    let mut found = Vec::with_capacity(wanted.len());
    for Wanted { path, entry, shared, tag } in wanted {
        let lower = below.entry(&path)?;
        let mut changed = true;
        if lower.as_ref().is_some_and(|(lower, _)| *lower == entry) {
            let full = matches!(entry.kind, EntryKind::File { size } if size > 0);
            changed = full && {
                let read = || format!("cannot compare {} with the base", shown(&path));
                let same = same_content(open(&path, tag)?, below.open(&path)?);
                !same.or_error(ErrorKind::Environment, read)?
            };
        }
        let lower = lower.and_then(|(_, file)| file);
        found.push(Found { path, entry: Some(entry), changed, shared, lower, tag });
    }
    Ok(settle_tagged(found).unzip())
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
