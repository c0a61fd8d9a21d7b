//! Opening paths of a tree exactly as they are written: no link anywhere on the way is followed.
//!
//! The opposite of [`crate::sys::root`], which follows links inside the root. Used where we listed the tree ourselves,
//! so a link in the middle of a path means that somebody changed it meanwhile.

use super::ImagePath;
use crate::error::{Error, Result};
use crate::sys::{Named, SysResult, fs, root};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Longest path that the kernel resolves in one go (`PATH_MAX` without its final NUL).
pub(super) const MAX_PATH: usize = 4095;

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> SysResult<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => {
                return other
                    .named(|| format!("openat2({}, {}, BENEATH)", root.as_raw_fd(), shown(path)));
            }
        }
    }
}

/// Opens a directory of the tree for listing and `*at` calls; the empty path is the root.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> SysResult<OwnedFd> {
    open(root, path, OFlags::DIRECTORY)
}

/// Opens a file of the tree for reading, without blocking on a FIFO.
pub(super) fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> SysResult<File> {
    open(root, path, OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
}

/// Opens a regular file in a tree that somebody writes to, and nothing else: opening a device may do something.
pub(super) fn open_regular(root: BorrowedFd<'_>, path: &[u8]) -> SysResult<File> {
    let found = open(root, path, OFlags::PATH)?;
    if fs::fstat(&found)?.kind != fs::Kind::File {
        return Err(Errno::INVAL).named(|| format!("open({})", shown(path)));
    }
    fs::reopen_file(&found).map(File::from)
}

/// `dir/name`, or `name` at the root. Fails where no reader of images could follow.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Result<ImagePath> {
    let path = root::below(dir, name);
    if path.len() > MAX_PATH {
        let start = shown(&path[..64.min(path.len())]);
        return Err(Error::environment(format!(
            "a path is longer than {MAX_PATH} bytes: {start}…"
        ))
        .hint("remove deeply nested directories in the step that makes them"));
    }
    Ok(path)
}

/// Directory and name; the directory of a name at the root is empty.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A path for messages, in backticks; control characters and bytes that are no UTF-8 are replaced.
pub(super) fn shown(path: &[u8]) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    format!("`{}`", String::from_utf8_lossy(path).chars().map(visible).collect::<String>())
}
