//! Advisory locks on files in the root of a layout.
//!
//! linuxkit locks its cache by a POSIX record lock on `.lock`, which `flock` does not see. A lock of the open file
//! description does see it, and unlike a record lock it holds between threads of one process, too.

use super::Layout;
use crate::error::{ErrorKind, Result, ResultExt};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};
use std::{
    fs::{File, TryLockError},
    io,
};

/// Who else may have a lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// All who want it shared, too.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A lock that is held until the value is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl Layout {
    /// Waits for the lock on a file beside `index.json`, which is made when it is not there.
    pub fn lock_file(&self, name: &str, kind: LockKind) -> Result<FileLock> {
        let (file, ()) = self.with_file(name, |file| take(file, kind))?;
        Ok(FileLock(file))
    }

    /// The same without waiting: nothing while somebody else has it.
    pub fn try_lock_file(&self, name: &str, kind: LockKind) -> Result<Option<FileLock>> {
        let (file, is_ours) = self.with_file(name, |file| try_take(file, kind))?;
        Ok(is_ours.then(|| FileLock(file)))
    }

    fn with_file<T>(
        &self,
        name: &str,
        lock: impl FnOnce(&File) -> io::Result<T>,
    ) -> Result<(File, T)> {
        let path = self.root().join(name);
        let locked = || -> io::Result<(File, T)> {
            let file = File::options().create(true).read(true).append(true).open(&path)?;
            let taken = lock(&file)?;
            Ok((file, taken))
        };
        locked().or_error(ErrorKind::Environment, || format!("cannot lock `{}`", path.display()))
    }
}

/// All of a file.
fn whole(kind: LockKind) -> libc::flock {
    let how = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    libc::flock {
        l_type: how as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn take(file: &File, kind: LockKind) -> io::Result<()> {
    let whole = whole(kind);
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&whole)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            // A sandbox may not know these locks; programs of ours still see each other then.
            Err(Errno::EINVAL) => {
                return match kind {
                    LockKind::Shared => file.lock_shared(),
                    LockKind::Exclusive => file.lock(),
                };
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// False when somebody else has it.
fn try_take(file: &File, kind: LockKind) -> io::Result<bool> {
    let whole = whole(kind);
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        // As above.
        Err(Errno::EINVAL) => {
            let taken = match kind {
                LockKind::Shared => file.try_lock_shared(),
                LockKind::Exclusive => file.try_lock(),
            };
            match taken {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(error),
            }
        }
        Err(error) => Err(error.into()),
    }
}
