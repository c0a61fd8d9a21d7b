//! Who uses a store: a locked file in `locks/use` for each process, with the time of its start.

use super::usage::Time;
use crate::layers::snapshot::random_id;
use crate::sys::signals::Doomed;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Says that a process uses the store; gone with the value, and without meaning when the process is.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    _lock: File,
    _doomed: Option<Doomed>,
}

impl Lease {
    /// The file that is locked exclusively while things are removed.
    pub(in crate::build) fn gate(store: &Path) -> PathBuf {
        store.join("locks/gate")
    }

    /// Takes one; waits while somebody removes something.
    pub(in crate::build) fn take(store: &Path) -> io::Result<Self> {
        let gate = File::options().create(true).append(true).open(Self::gate(store))?;
        // Nobody mistakes the file for that of a dead process before it is locked.
        gate.lock_shared()?;
        let path = store.join("locks/use").join(random_id());
        let doomed = Doomed::new(&path);
        let lock = File::options().create_new(true).append(true).open(&path)?;
        lock.lock()?;
        Ok(Self { path, _lock: lock, _doomed: doomed })
    }

    /// When the oldest of the other processes began; `None` when there are none. Files of dead ones are removed. The gate
    /// must be held exclusively.
    pub(super) fn oldest_other(&self, store: &Path) -> io::Result<Option<Time>> {
        let mut oldest = None;
        for entry in fs::read_dir(store.join("locks/use"))? {
            let path = entry?.path();
            if path == self.path {
                continue;
            }
            let Ok(file) = File::options().append(true).open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => fs::remove_file(&path)?,
                Err(TryLockError::WouldBlock) => {
                    let found = file.metadata()?;
                    let began = (found.mtime(), found.mtime_nsec());
                    oldest = Some(oldest.map_or(began, |oldest: Time| oldest.min(began)));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(oldest)
    }

    /// When this process began.
    pub(super) fn began(&self) -> io::Result<Time> {
        let found = fs::metadata(&self.path)?;
        Ok((found.mtime(), found.mtime_nsec()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _prune_takes_it = fs::remove_file(&self.path);
    }
}
