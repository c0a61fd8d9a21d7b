//! Mount targets that the rootfs does not have.
//!
//! A missing target is made in a directory of its own that lies between the base and the upper directory of the
//! overlay. So it exists for the RUN, and nothing has to be taken out of the layer afterwards (design §10.10).

use super::missing::{Lack, Lacks, parts};
use super::scratch::Scratch;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::sys::fs;
use crate::sys::sweeper::Sweeper;
use crate::sys::{SysResult, SysResultExt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Directories of stubs that were made, to be used again: most RUNs of a build miss the same. Each belongs to one RUN
/// until its command is over, since overlayfs does not want what it shows to be changed from outside; while the mounts of
/// that go away nobody looks any more.
#[derive(Debug)]
pub struct Stubs {
    tmp: PathBuf,
    sweeper: Arc<Sweeper>,
    idle: Mutex<Vec<Made>>,
    /// What rootfs were missing.
    pub(super) lacks: Lacks,
}

/// A directory with stubs.
#[derive(Debug)]
struct Made {
    _scratch: Scratch,
    dir: OwnedFd,
    lack: Lack,
}

/// A directory with stubs while a RUN has it.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    from: &'a Stubs,
    made: Option<Made>,
}

impl Stubs {
    /// They will lie in `tmp`.
    pub(super) fn new(tmp: PathBuf, sweeper: &Arc<Sweeper>) -> Self {
        Self { tmp, sweeper: Arc::clone(sweeper), idle: Mutex::default(), lacks: Lacks::default() }
    }

    /// A directory that has what a tree is missing.
    pub(super) fn lend(&self, lack: Lack) -> Result<Lent<'_>> {
        let made = match self.take(&lack) {
            Some(made) => Made { lack, ..made },
            None => self.make(lack)?,
        };
        made.set_times()
            .or_error(ErrorKind::Environment, || "cannot make mount targets".to_owned())?;
        Ok(Lent { from: self, made: Some(made) })
    }

    /// One that differs from what is wanted by no more than times.
    fn take(&self, lack: &Lack) -> Option<Made> {
        let mut idle = self.idle();
        let fits = |made: &Made| {
            let pairs = || made.lack.repeated.iter().zip(&lack.repeated);
            made.lack.missing == lack.missing
                && made.lack.repeated.len() == lack.repeated.len()
                && pairs().all(|(old, new)| old.is_like(new))
        };
        let at = idle.iter().position(fits)?;
        Some(idle.swap_remove(at))
    }

    fn make(&self, lack: Lack) -> Result<Made> {
        let what = || "cannot make mount targets".to_owned();
        let scratch = Scratch::new(&self.tmp, &self.sweeper)?;
        let path = scratch.path.join("stubs");
        std::fs::create_dir(&path).or_error(ErrorKind::Environment, what)?;
        let dir = fs::open_dir_path(&path).or_error(ErrorKind::Environment, what)?;
        let made = Made { _scratch: scratch, dir, lack };
        made.fill().or_error(ErrorKind::Environment, what)?;
        Ok(made)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Made>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    pub(super) fn dir(&self) -> Option<BorrowedFd<'_>> {
        self.made.as_ref().map(|made| made.dir.as_fd())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.from.idle().extend(self.made.take());
    }
}

impl Made {
    fn fill(&self) -> SysResult<()> {
        for (path, is_dir) in &self.lack.missing {
            for part in parts(path) {
                if fs::lstat_opt(&self.dir, part)?.is_some() {
                    continue;
                }
                if part.len() == path.len() && !is_dir {
                    fs::create_new(&self.dir, part, 0o644)?;
                    continue;
                }
                fs::mkdir(&self.dir, part, 0o755)?;
                // The mode again: mkdir's is cut by the umask of whoever builds.
                fs::chmod(&self.dir, part, 0o755)?;
            }
        }
        self.lack.repeated.iter().try_for_each(|one| one.apply(&self.dir))
    }

    /// Making entries changed the times; deepest first.
    fn set_times(&self) -> SysResult<()> {
        let mut deepest_first = self.lack.repeated.iter().rev();
        deepest_first.try_for_each(|one| fs::set_mtime(&self.dir, &one.path, one.mtime))
    }
}
