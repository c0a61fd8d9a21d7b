//! Removing trees that somebody else made.

use super::{chmod, fstat, list, lstat_opt, open_dir, rmdir, show, unlink};
use crate::sys::{SysError, SysResult};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Removes `name` and everything below it, never following a link and never crossing into another mount.
/// Unreadable directories are made readable first. A missing name is fine, and so is one that somebody else removes
/// at the same time.
pub fn remove_tree(dir: impl AsFd, name: &[u8]) -> SysResult<()> {
    match remove_present(dir.as_fd(), name) {
        Err(error) if error.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

fn remove_present(dir: BorrowedFd<'_>, name: &[u8]) -> SysResult<()> {
    let Some(stat) = lstat_opt(dir, name)? else { return Ok(()) };
    if !stat.is_dir() {
        return unlink(dir, name);
    }
    if stat.mode & 0o700 != 0o700 {
        // Fails only where removal below fails with a clearer message.
        let _ignored = chmod(dir, name, 0o700);
    }
    let inner = open_dir(dir, name)?;
    if fstat(&inner)?.dev != stat.dev {
        return Err(SysError {
            call: format!("remove_tree({}): another mount", show(name)),
            errno: Errno::XDEV,
        });
    }
    for child in list(&inner)? {
        remove_tree(&inner, &child)?;
    }
    rmdir(dir, name)
}
