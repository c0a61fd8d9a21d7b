//! Mount targets that the rootfs does not have.
//!
//! A missing target is made in a directory of its own that lies between the base and the upper directory of the
//! overlay. So it exists for the RUN, and nothing has to be taken out of the layer afterwards (design §10.10).

use super::scratch::Scratch;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::whiteout;
use crate::sys::fs::{self, Stat};
use crate::sys::sweeper::Sweeper;
use crate::sys::{SysResult, SysResultExt, owners, root};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which of `points` (path, true for a directory) a tree does not have, all links followed.
pub(super) fn missing_points(
    lower: BorrowedFd<'_>,
    points: &[(String, bool)],
) -> Result<Vec<(Vec<u8>, bool)>> {
    let mut missing = Vec::new();
    for (path, is_dir) in points {
        let found = root::canonical(lower, path.as_bytes())
            .or_error(ErrorKind::Image, || format!("cannot find the mount target `{path}`"))?;
        if !found.1 {
            missing.push((found.0, *is_dir));
        }
    }
    Ok(missing)
}

/// Directories of stubs that were made, to be used again: most RUNs of a build miss the same. Each belongs to one RUN at
/// a time, since overlayfs does not want what it shows to be changed from outside.
#[derive(Debug)]
pub struct Stubs {
    tmp: PathBuf,
    sweeper: Arc<Sweeper>,
    idle: Mutex<Vec<Made>>,
}

/// A directory with stubs.
#[derive(Debug)]
struct Made {
    _scratch: Scratch,
    dir: OwnedFd,
    missing: Vec<(Vec<u8>, bool)>,
    repeated: Vec<Repeated>,
}

/// A directory with stubs while a RUN has it.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    from: &'a Stubs,
    made: Option<Made>,
}

/// A directory of the rootfs that has to be there once more, since the topmost one decides.
#[derive(Debug)]
struct Repeated {
    path: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    mtime: (i64, u32),
}

impl Stubs {
    /// They will lie in `tmp`.
    pub(super) fn new(tmp: PathBuf, sweeper: &Arc<Sweeper>) -> Self {
        Self { tmp, sweeper: Arc::clone(sweeper), idle: Mutex::default() }
    }

    /// A directory that has what a tree is missing.
    pub(super) fn lend(
        &self,
        lower: BorrowedFd<'_>,
        missing: Vec<(Vec<u8>, bool)>,
    ) -> Result<Lent<'_>> {
        let what = || "cannot make mount targets".to_owned();
        let repeated = repeated(lower, &missing).or_error(ErrorKind::Environment, what)?;
        let made = match self.take(&missing, &repeated) {
            Some(made) => Made { repeated, ..made },
            None => self.make(missing, repeated)?,
        };
        made.set_times().or_error(ErrorKind::Environment, what)?;
        Ok(Lent { from: self, made: Some(made) })
    }

    /// One that differs from what is wanted by no more than times.
    fn take(&self, missing: &[(Vec<u8>, bool)], repeated: &[Repeated]) -> Option<Made> {
        let mut idle = self.idle();
        let fits = |made: &Made| {
            let pairs = || made.repeated.iter().zip(repeated);
            made.missing == missing
                && made.repeated.len() == repeated.len()
                && pairs().all(|(old, new)| old.is_like(new))
        };
        let at = idle.iter().position(fits)?;
        Some(idle.swap_remove(at))
    }

    fn make(&self, missing: Vec<(Vec<u8>, bool)>, repeated: Vec<Repeated>) -> Result<Made> {
        let what = || "cannot make mount targets".to_owned();
        let scratch = Scratch::new(&self.tmp, &self.sweeper)?;
        let path = scratch.path.join("stubs");
        std::fs::create_dir(&path).or_error(ErrorKind::Environment, what)?;
        let dir = fs::open_dir_path(&path).or_error(ErrorKind::Environment, what)?;
        let made = Made { _scratch: scratch, dir, missing, repeated };
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
        for (path, is_dir) in &self.missing {
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
        self.repeated.iter().try_for_each(|one| one.apply(&self.dir))
    }

    /// Making entries changed the times; deepest first.
    fn set_times(&self) -> SysResult<()> {
        let mut deepest_first = self.repeated.iter().rev();
        deepest_first.try_for_each(|one| fs::set_mtime(&self.dir, &one.path, one.mtime))
    }
}

impl Repeated {
    fn of(lower: BorrowedFd<'_>, path: &[u8], stat: &Stat) -> SysResult<Self> {
        let xattrs = fs::list_xattrs(lower, path)?;
        let xattrs = xattrs.into_iter().filter(|(name, _)| !whiteout::is_private_xattr(name));
        Ok(Self {
            path: path.to_vec(),
            mode: stat.mode,
            owner: owners::of_name(lower, path, stat)?,
            xattrs: xattrs.collect(),
            mtime: stat.mtime,
        })
    }

    fn is_like(&self, other: &Self) -> bool {
        let what = |one: &Self| (one.path.clone(), one.mode, one.owner, one.xattrs.clone());
        what(self) == what(other)
    }

    fn apply(&self, stubs: &OwnedFd) -> SysResult<()> {
        fs::lchown(stubs, &self.path, self.owner.0, self.owner.1)?;
        fs::chmod(stubs, &self.path, self.mode)?;
        let mut xattrs = self.xattrs.iter();
        xattrs.try_for_each(|(name, value)| fs::set_xattr(stubs, &self.path, name, value))
    }
}

/// The directories that a tree has above what it is missing, parents first.
fn repeated(lower: BorrowedFd<'_>, missing: &[(Vec<u8>, bool)]) -> SysResult<Vec<Repeated>> {
    let mut found: Vec<Repeated> = Vec::new();
    if let Some(stat) = root::stat_opt(lower, b"")? {
        found.push(Repeated::of(lower, b".", &stat)?);
    }
    for part in missing.iter().flat_map(|(path, _)| parts(path)) {
        if found.iter().any(|one| one.path == part) {
            continue;
        }
        if let Some(stat) = root::lstat_opt(lower, part)?
            && stat.is_dir()
        {
            found.push(Repeated::of(lower, part, &stat)?);
        }
    }
    Ok(found)
}

/// `a`, `a/b` and `a/b/c` of `a/b/c`.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..=path.len()).filter(|at| *at == path.len() || path[*at] == b'/').map(|at| &path[..at])
}
