//! Removing trees that somebody else made.

use super::{chmod, fstat, list, lstat_opt, open_dir, rename_new, rmdir, show, unlink};
use crate::sys::{SysError, SysResult};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Levels that are visited one inside the other. A command can nest a million directories; what is further down is moved
/// up first, so that neither the stack nor the descriptors run out.
const DEEPEST: usize = 64;

/// Removes `name` and everything below it, never following a link and never crossing into another mount.
/// Unreadable directories are made readable first. A missing name is fine, and so is one that somebody else removes
/// at the same time.
pub fn remove_tree(dir: impl AsFd, name: &[u8]) -> SysResult<()> {
    let mut moved = 0;
    there(remove(dir.as_fd(), name, &mut |inner| {
        loop {
            let before = moved;
            for child in list(inner)? {
                there(remove_below(inner, (inner, &child), 1, &mut moved))?;
            }
            // What was moved up is still there.
            if moved == before {
                return Ok(());
            }
        }
    }))
}

/// What is gone is fine.
fn there(result: SysResult<()>) -> SysResult<()> {
    match result {
        Err(error) if error.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// Removes a name, a directory after `empty` removed what is in it.
fn remove(
    dir: BorrowedFd<'_>,
    name: &[u8],
    empty: &mut dyn FnMut(&OwnedFd) -> SysResult<()>,
) -> SysResult<()> {
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
    empty(&inner)?;
    rmdir(dir, name)
}

fn remove_below(
    top: &OwnedFd,
    (dir, name): (&OwnedFd, &[u8]),
    depth: usize,
    moved: &mut usize,
) -> SysResult<()> {
    remove(dir.as_fd(), name, &mut |inner| {
        for child in list(inner)? {
            let is_deep =
                depth == DEEPEST && lstat_opt(inner, &child)?.is_some_and(|it| it.is_dir());
            there(if is_deep {
                move_up(inner, &child, top, moved)
            } else {
                remove_below(top, (inner, &child), depth + 1, moved)
            })?;
        }
        Ok(())
    })
}

/// Moves a directory into the topmost one, under a name that is free.
fn move_up(dir: &OwnedFd, name: &[u8], top: &OwnedFd, moved: &mut usize) -> SysResult<()> {
    // To move a directory is to write into it, too.
    let _ignored = chmod(dir, name, 0o700);
    loop {
        *moved += 1;
        if rename_new(dir, name, top, format!("{moved}").as_bytes())? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::{mkdir, open_dir_path, symlink};

    /// Directories inside each other, beside links.
    fn nest(dir: OwnedFd, levels: usize) {
        let mut inner = dir;
        for level in 0..levels {
            mkdir(&inner, b"0", 0o700).unwrap();
            symlink(b"/", &inner, b"link").unwrap();
            if level == 0 {
                // Taken when something is moved up, and not to be read as they are.
                mkdir(&inner, b"1", 0).unwrap();
                mkdir(&inner, b"2", 0).unwrap();
            }
            inner = open_dir(&inner, b"0").unwrap();
        }
    }

    #[test]
    fn what_is_nested_deeply_is_removed_with_few_descriptors_and_little_stack() {
        let dir = tempfile::tempdir().unwrap();
        let top = open_dir_path(dir.path()).unwrap();
        mkdir(&top, b"tree", 0o700).unwrap();
        nest(open_dir(&top, b"tree").unwrap(), 20_000);
        let most = std::thread::Builder::new().stack_size(256 << 10);
        let removed = most.spawn(move || remove_tree(&top, b"tree").map(|()| list(&top)));
        assert_eq!(removed.unwrap().join().unwrap().unwrap().unwrap(), Vec::<Vec<u8>>::new());
    }
}
