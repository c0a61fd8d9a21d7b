//! Mount targets that the rootfs does not have.
//!
//! A missing target is made in a directory of its own that lies between the base and the upper directory of the
//! overlay. So it exists for the RUN, and nothing has to be taken out of the layer afterwards (design §10.10).

use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::whiteout;
use crate::sys::fs::{self, Stat};
use crate::sys::{SysResult, SysResultExt, owners, root};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

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

/// Makes what is missing below `dir`. Directories that the rootfs has are repeated with their metadata, since the topmost
/// one decides.
pub(super) fn make_stubs(
    lower: BorrowedFd<'_>,
    missing: &[(Vec<u8>, bool)],
    dir: &Path,
) -> Result<OwnedFd> {
    let what = || "cannot make mount targets".to_owned();
    std::fs::create_dir(dir).or_error(ErrorKind::Environment, what)?;
    let stubs = fs::open_dir_path(dir).or_error(ErrorKind::Environment, what)?;
    let mut repeated = Vec::new();
    let made = (|| -> SysResult<()> {
        if let Some(stat) = root::stat_opt(lower, b"")? {
            repeat(lower, &stubs, b".", &stat)?;
            repeated.push((b".".to_vec(), stat));
        }
        for (path, is_dir) in missing {
            make_stub(lower, &stubs, path, *is_dir, &mut repeated)?;
        }
        // Making entries changed the times; deepest first.
        for (path, stat) in repeated.iter().rev() {
            fs::set_mtime(&stubs, path, stat.mtime)?;
        }
        Ok(())
    })();
    made.or_error(ErrorKind::Environment, what)?;
    Ok(stubs)
}

fn make_stub(
    lower: BorrowedFd<'_>,
    stubs: &OwnedFd,
    path: &[u8],
    is_dir: bool,
    repeated: &mut Vec<(Vec<u8>, Stat)>,
) -> SysResult<()> {
    let ends: Vec<usize> =
        (0..=path.len()).filter(|at| *at == path.len() || path[*at] == b'/').collect();
    for end in ends {
        let part = &path[..end];
        if fs::lstat_opt(stubs, part)?.is_some() {
            continue;
        }
        if end == path.len() && !is_dir {
            fs::create_new(stubs, part, 0o644)?;
            continue;
        }
        fs::mkdir(stubs, part, 0o755)?;
        // The mode again: mkdir's is cut by the umask of whoever builds.
        fs::chmod(stubs, part, 0o755)?;
        if let Some(stat) = root::lstat_opt(lower, part)?
            && stat.is_dir()
        {
            repeat(lower, stubs, part, &stat)?;
            repeated.push((part.to_vec(), stat));
        }
    }
    Ok(())
}

fn repeat(lower: BorrowedFd<'_>, stubs: &OwnedFd, path: &[u8], stat: &Stat) -> SysResult<()> {
    let (uid, gid) = owners::of_name(lower, path, stat)?;
    fs::lchown(stubs, path, uid, gid)?;
    fs::chmod(stubs, path, stat.mode)?;
    for (name, value) in fs::list_xattrs(lower, path)? {
        if whiteout::is_private_xattr(&name) {
            continue;
        }
        fs::set_xattr(stubs, path, &name, &value)?;
    }
    Ok(())
}
