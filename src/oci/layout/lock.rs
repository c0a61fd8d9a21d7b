//! Advisory locks on files in the root of a layout.
//!
//! linuxkit locks its cache by a POSIX record lock on `.lock`, which `flock` does not see. A lock of the open file
//! description does see it, and unlike a record lock it holds between threads of one process, too.
//!
//! Blobs that no name leads to yet are kept by an `flock` on the marker `oci-layout` ([`Layout::writing`]): every layout has
//! that file from the beginning, so that none has to be made, and all lock the same one.

use super::{Layout, MARKER};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::progress::Emitter;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};
use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::Duration,
};

/// How often a file is locked that others replace meanwhile.
const ATTEMPTS: usize = 10;

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
        let made = |path: &Path| File::options().create(true).read(true).append(true).open(path);
        let (file, ()) = self.with_file(name, made, |file| take(file, kind))?;
        Ok(FileLock(file))
    }

    /// Says that blobs are written, or found here, that get a name later: until the value is dropped nobody has the
    /// layout alone ([`Layout::try_writing_alone`]) and removes what has none. Waits for whoever has the layout for himself.
    /// Whoever locks the index, too, does so afterwards.
    pub fn writing(&self) -> Result<FileLock> {
        let shared = |file: &File| loop {
            match file.lock_shared() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Then nobody can have it for himself either.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
                taken => return taken,
            }
        };
        let present = |path: &Path| File::options().read(true).open(path);
        let (file, ()) = self.with_file(MARKER, present, shared)?;
        Ok(FileLock(file))
    }

    /// The layout for oneself, to remove blobs that have no name; nothing while somebody else writes into it.
    pub fn try_writing_alone(&self) -> Result<Option<FileLock>> {
        // Over a network it takes a file that may be written to; here it does not.
        let writable = |path: &Path| File::options().read(true).append(true).open(path);
        let open = |path: &Path| writable(path).or_else(|_| File::open(path));
        let (file, is_ours) = self.with_file(MARKER, open, |file| match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            // Nor can anybody say that he writes.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(true)
            }
            Err(TryLockError::Error(error)) => Err(error),
        })?;
        Ok(is_ours.then(|| FileLock(file)))
    }

    /// The same as soon as nobody writes into it, with a note where that takes a while. `go_on` fails when the waiting is to
    /// end. Who says himself that he writes into it, or has it alone already, would wait for ever.
    pub fn writing_alone(
        &self,
        emitter: &Emitter,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<FileLock> {
        let mut is_told = false;
        loop {
            if let Some(lock) = self.try_writing_alone()? {
                return Ok(lock);
            }
            if !is_told {
                let dir = self.root().display();
                emitter.note(format!("waiting until others have written into {dir}"));
                is_told = true;
            }
            // No call that blocks: Ctrl-C must end the waiting.
            go_on()?;
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn with_file<T>(
        &self,
        name: &str,
        open: impl Fn(&Path) -> io::Result<File>,
        lock: impl Fn(&File) -> io::Result<T>,
    ) -> Result<(File, T)> {
        let path = self.root().join(name);
        let locked = || -> io::Result<(File, T)> {
            let mut attempts = 1;
            loop {
                let file = open(&path)?;
                let taken = lock(&file)?;
                // Some file systems have no numbers that last: a lock there is better than none.
                if attempts == ATTEMPTS || is_at(&file, &path)? {
                    return Ok((file, taken));
                }
                attempts += 1;
            }
        };
        locked().or_error(ErrorKind::Environment, || format!("cannot lock `{}`", path.display()))
    }
}

/// False when the file was replaced or removed since it was opened: whoever opens it now sees none of its locks.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.metadata() {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs;

    #[test]
    fn a_file_that_was_replaced_is_locked_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("l")).unwrap();
        let (other, opened) = (dir.path().join("other"), Cell::new(0));
        for (replaced, wanted) in [(1, 2), (ATTEMPTS + 1, ATTEMPTS)] {
            opened.set(0);
            let open = |path: &Path| {
                let file = File::open(path)?;
                opened.set(opened.get() + 1);
                if opened.get() <= replaced {
                    fs::copy(path, &other)?;
                    fs::rename(&other, path)?;
                }
                Ok(file)
            };
            let (file, ()) = layout.with_file(MARKER, open, File::lock).unwrap();
            assert_eq!(opened.get(), wanted);
            // The lock of the file that is there now, unless that is never the same.
            assert_eq!(layout.try_writing_alone().unwrap().is_none(), replaced == 1);
            drop(file);
        }
    }
}
