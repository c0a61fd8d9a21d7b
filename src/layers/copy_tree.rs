//! A copy of a whole tree with everything that a layer can say about it, and our own marks.
//!
//! For trees without an overlay that two stages go on from. File data is shared where the file system can do that
//! (`copy_file_range`). Directories are visited without recursion; hard links stay hard links; sockets are left out.

use super::beneath::{self, join, shown};
use super::settle::Inode;
use super::{ImagePath, whiteout};
use crate::error::{ErrorKind, Result};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::{SysResult, SysResultExt as _, owners};
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Copies what is in `from`, and the metadata of its root, to the empty directory `to`.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut links: HashMap<Inode, ImagePath> = HashMap::new();
    let mut waiting = vec![ImagePath::new()];
    let mut directories = Vec::new();
    while let Some(path) = waiting.pop() {
        let what = || format!("cannot copy {}", shown(&path));
        let both = beneath::open_dir(from, &path)
            .and_then(|source| Ok((source, beneath::open_dir(to, &path)?)));
        let (source, target) = both.or_error(ErrorKind::Environment, what)?;
        for name in fs::list(&source).or_error(ErrorKind::Environment, what)? {
            let child = join(&path, &name)?;
            let copy = Copy { to, source: &source, target: &target, name: &name };
            let is_dir = copy
                .entry(&child, &mut links)
                .or_error(ErrorKind::Environment, || format!("cannot copy {}", shown(&child)))?;
            if is_dir {
                waiting.push(child);
            }
        }
        directories.push(path);
    }
    // Last, since making entries changes times, and a mode may forbid making them.
    for path in directories.iter().rev() {
        let both = beneath::open_dir(from, path)
            .and_then(|source| Ok((source, beneath::open_dir(to, path)?)));
        let done = both.and_then(|(source, target)| {
            let stat = fs::fstat(&source)?;
            metadata((&source, &target), b".", &stat)
        });
        done.or_error(ErrorKind::Environment, || format!("cannot copy {}", shown(path)))?;
    }
    Ok(())
}

struct Copy<'a> {
    to: BorrowedFd<'a>,
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    name: &'a [u8],
}

impl Copy<'_> {
    /// True for a directory, whose content and metadata follow.
    fn entry(&self, path: &[u8], links: &mut HashMap<Inode, ImagePath>) -> SysResult<bool> {
        let (source, target, name) = (self.source, self.target, self.name);
        let stat = fs::lstat(source, name)?;
        if stat.is_dir() {
            fs::mkdir(target, name, 0o700)?;
            return Ok(true);
        }
        if stat.nlink > 1 {
            let inode = (stat.dev, stat.ino);
            if let Some(first) = links.get(&inode) {
                fs::link(self.to, first, target, name)?;
                return Ok(false);
            }
            links.insert(inode, path.to_vec());
        }
        if stat.kind != Kind::Socket {
            copy_node((source, target), name, &stat)?;
        }
        Ok(false)
    }
}

/// Copies what is neither a directory nor a socket, with its metadata; its other names are the caller's business.
pub(super) fn copy_node(
    (source, target): (&OwnedFd, &OwnedFd),
    name: &[u8],
    stat: &Stat,
) -> SysResult<()> {
    match stat.kind {
        Kind::File => {
            let from = fs::open_read(source, name)?;
            let file = fs::create_new(target, name, 0o600)?;
            fs::copy_data(&from, &file, stat.size)?;
        }
        Kind::Symlink => fs::symlink(&fs::readlink(source, name)?, target, name)?,
        _ => fs::mknod(target, name, stat.kind, 0o600, stat.rdev)?,
    }
    metadata((source, target), name, stat)
}

/// Owner first: a change of it clears set-uid bits and capabilities.
pub(super) fn metadata(
    (source, target): (&OwnedFd, &OwnedFd),
    name: &[u8],
    stat: &Stat,
) -> SysResult<()> {
    let (uid, gid) = owners::of_name(source, name, stat)?;
    fs::lchown(target, name, uid, gid)?;
    if stat.kind != Kind::Symlink {
        fs::chmod(target, name, stat.mode)?;
        for (key, value) in fs::list_xattrs(source, name)? {
            if !whiteout::is_private_xattr(&key) || whiteout::is_our_mark(&key) {
                fs::set_xattr(target, name, &key, &value)?;
            }
        }
    }
    fs::set_mtime(target, name, stat.mtime)
}
