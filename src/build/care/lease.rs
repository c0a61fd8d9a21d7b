//! Who uses a store: a locked file in `locks/use` for each process, with the time of its start.
//!
//! Things in the store have the time of their last use, and what is younger than a process may be its own. Times are
//! those of the clock on the wall, which may be set back while a build goes on: what it makes then looks older than its
//! own start. So the file also says how long the machine was up, which nobody sets, and a start is put back by as much
//! as the clock was. (A clock that was set back and forward again within one build is not noticed.)

use super::usage::Time;
use crate::layers::snapshot::random_id;
use crate::sys::signals::Doomed;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
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
        let mut lock = File::options().create_new(true).append(true).open(&path)?;
        lock.lock()?;
        lock.write_all(&nanoseconds(ClockId::Boottime).to_le_bytes())?;
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
            let Ok(file) = File::options().read(true).append(true).open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => fs::remove_file(&path)?,
                Err(TryLockError::WouldBlock) => {
                    let began = start(&file)?;
                    oldest = Some(oldest.map_or(began, |oldest: Time| oldest.min(began)));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(oldest)
    }

    /// When this process began.
    pub(super) fn began(&self) -> io::Result<Time> {
        start(&File::open(&self.path)?)
    }
}

/// When the process of a lease began, by the clock as it goes now where that was set back since.
fn start(lease: &File) -> io::Result<Time> {
    let found = lease.metadata()?;
    let written = (found.mtime(), found.mtime_nsec());
    let mut up = [0; 8];
    if lease.read_exact_at(&mut up, 0).is_err() {
        // Of a process that has only just made it.
        return Ok(written);
    }
    let passed = nanoseconds(ClockId::Boottime).saturating_sub(i64::from_le_bytes(up)).max(0);
    let before = nanoseconds(ClockId::Realtime).saturating_sub(passed);
    let set_back =
        written.0.saturating_mul(SECOND).saturating_add(written.1).saturating_sub(before);
    Ok(if set_back > SLACK { split(before.saturating_sub(SLACK)) } else { written })
}

fn split(nanoseconds: i64) -> Time {
    (nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND))
}

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds by which two clocks may be read apart. Times of files are those of the last tick besides.
const SLACK: i64 = 50_000_000;

fn nanoseconds(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec.saturating_mul(SECOND).saturating_add(now.tv_nsec)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _prune_takes_it = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::FileTimes;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_clock_that_was_set_back_puts_the_start_back() {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir_all(store.path().join("locks/use")).unwrap();
        let (own, other) = (Lease::take(store.path()).unwrap(), Lease::take(store.path()).unwrap());
        let now = nanoseconds(ClockId::Realtime) / SECOND;
        let seen = own.oldest_other(store.path()).unwrap().unwrap();
        assert!((now - 5..=now + 1).contains(&seen.0), "{seen:?} {now}");
        // As if the clock had been an hour ahead when the other began.
        let hour = Duration::from_hours(1);
        let file = File::options().append(true).open(&other.path).unwrap();
        file.set_times(FileTimes::new().set_modified(SystemTime::now() + hour)).unwrap();
        let seen = own.oldest_other(store.path()).unwrap().unwrap();
        assert!((now - 5..=now + 60).contains(&seen.0), "{seen:?} {now}");
        assert_eq!(other.began().unwrap().0 / 3600, seen.0 / 3600);
    }
}
