//! The mount list of a RUN, carried out in its new mount namespace.

use super::{Doing, Step};
use crate::executor::mounts::MountOp;
use crate::sys::mount::{self, MountFlags};
use crate::sys::{Named, SysError, SysResult, fs, root};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Why a mount target cannot be made.
const READ_ONLY_AROUND: &str =
    ", which the read-only mount around it lacks (make it in what is mounted, or add `rw`)";

/// Carries out a list of mounts below `base`.
pub(super) struct Carrier<'a> {
    base: &'a OwnedFd,
    given: &'a [OwnedFd],
    /// Hides a directory already, and can be had once more for less than a new file system.
    cover: Option<OwnedFd>,
    /// Hides a file already: our own /dev/null, with all that it may not do.
    null: Option<OwnedFd>,
}

impl<'a> Carrier<'a> {
    pub(super) fn new(base: &'a OwnedFd, given: &'a [OwnedFd]) -> Self {
        Self { base, given, cover: None, null: None }
    }

    pub(super) fn carry_out(&mut self, op: &MountOp) -> Step {
        let base = self.base;
        match op {
            MountOp::Fresh { kind, options, flags, target } => {
                let options: Vec<(&str, &str)> =
                    options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let doing = || format!("mounting {kind} on {target}");
                let made = mount::new_mount(kind, &options, *flags).doing(doing())?;
                put(&made, base, target).doing(doing())
            }
            MountOp::Given { fd, target } => {
                let doing = format!("mounting on {target}");
                let given = self.given.get(*fd).ok_or(Errno::BADF).named(|| "given".to_owned());
                put(given.doing(doing.clone())?, base, target).doing(doing)
            }
            MountOp::OuterProc => outer_proc(base).doing("mounting /proc"),
            MountOp::Device { name } => device(name, base).doing(format!("mounting /dev/{name}")),
            MountOp::Sysfs => sysfs(base),
            MountOp::Directory { path, mode } => {
                let (dir, name) = parent(base, path).doing(format!("making {path}"))?;
                fs::mkdir(&dir, &name, *mode).doing(format!("making {path}"))
            }
            MountOp::File { path } => {
                let (dir, name) = parent(base, path).doing(format!("making {path}"))?;
                fs::create_new(&dir, &name, 0o644).map(drop).doing(format!("making {path}"))
            }
            MountOp::Point { path, is_dir } => {
                let explained = |error: SysError| {
                    let why = if error.errno == Errno::ROFS { READ_ONLY_AROUND } else { "" };
                    (format!("making the mount target {path}{why}"), error)
                };
                point(base, path, *is_dir).map_err(explained)
            }
            MountOp::Symlink { target, path } => {
                let (dir, name) = parent(base, path).doing(format!("making {path}"))?;
                fs::symlink(target.as_bytes(), &dir, &name).doing(format!("making {path}"))
            }
            MountOp::Mask { path } => self.mask(path).doing(format!("hiding {path}")),
            MountOp::ReadOnly { path } => {
                read_only(base, path).doing(format!("making {path} read-only"))
            }
        }
    }

    fn mask(&mut self, path: &str) -> SysResult<()> {
        let base = self.base;
        let Some(here) = open_opt(base, path)? else { return Ok(()) };
        let is_dir = fs::fstat(&here)?.is_dir();
        let known = if is_dir { &mut self.cover } else { &mut self.null };
        let hiding = match known {
            Some(known) => mount::clone_tree(known, b"", false)?,
            None if is_dir => {
                mount::new_mount("tmpfs", &[("size", "0k"), ("mode", "755")], MountFlags::LOCKED)?
            }
            None => mount::clone_tree(&root::open_path(base, b"/dev/null")?, b"", false)?,
        };
        mount::attach(&hiding, &here, b"")?;
        known.get_or_insert(hiding);
        Ok(())
    }
}

/// What `path` is inside the root; `None` when there is nothing.
fn open_opt(base: &OwnedFd, path: &str) -> SysResult<Option<OwnedFd>> {
    match root::open_path(base, path.as_bytes()) {
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => found.map(Some),
    }
}

fn parent(base: &OwnedFd, path: &str) -> SysResult<(OwnedFd, Vec<u8>)> {
    let (dir, name) = root::split_last(path.as_bytes());
    Ok((root::open_dir(base, dir)?, name.unwrap_or(b".").to_vec()))
}

/// Makes what is missing of a mount target inside another mount. Other builds may change a cache meanwhile, so every
/// step looks up its parent anew, inside the root.
fn point(base: &OwnedFd, path: &str, is_dir: bool) -> SysResult<()> {
    let (path, there) = root::canonical(base, path.as_bytes())?;
    if there {
        return Ok(());
    }
    for end in (1..=path.len()).filter(|at| *at == path.len() || path[*at] == b'/') {
        let (dir, name) = root::split_last(&path[..end]);
        let (dir, name) = (root::open_dir(base, dir)?, name.unwrap_or(b"."));
        if fs::lstat_opt(&dir, name)?.is_some() {
            continue;
        }
        if end < path.len() || is_dir {
            fs::mkdir(&dir, name, 0o755)?;
        } else {
            fs::create_new(&dir, name, 0o644)?;
        }
    }
    Ok(())
}

/// Attaches to whatever `target` is inside the root; links are followed in it, never out of it.
pub(super) fn put(mount: impl AsFd, base: &OwnedFd, target: &str) -> SysResult<()> {
    mount::attach(mount, root::open_path(base, target.as_bytes())?, b"")
}

fn device(name: &str, base: &OwnedFd) -> SysResult<()> {
    let target = format!("/dev/{name}");
    let (dir, leaf) = parent(base, &target)?;
    drop(fs::create_new(&dir, &leaf, 0o666)?);
    let node = mount::clone_tree_path(&target, false)?;
    mount::set_flags(
        &node,
        MountFlags { nosuid: true, noexec: true, ..MountFlags::default() },
        false,
    )?;
    // Just made, so it is no link.
    mount::attach(&node, &dir, &leaf)
}

/// With the masks that the container around put on it: these are locked, and stay where they are.
fn outer_proc(base: &OwnedFd) -> SysResult<()> {
    let proc = mount::clone_tree_path("/proc", true)?;
    let flags = MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false };
    mount::set_flags(&proc, flags, true)?;
    put(&proc, base, "/proc")
}

fn sysfs(base: &OwnedFd) -> Step {
    let made = mount::new_mount("sysfs", &[], MountFlags::LOCKED).or_else(|_| {
        // Not ours to mount without a network namespace of our own: show the host's.
        let host = mount::clone_tree_path("/sys", true)?;
        mount::set_flags(&host, MountFlags::LOCKED, true)?;
        Ok::<_, SysError>(host)
    });
    match made {
        Ok(made) => put(&made, base, "/sys").doing("mounting /sys"),
        // Hardly any build reads /sys; an empty directory is what remains.
        Err(_) => Ok(()),
    }
}

fn read_only(base: &OwnedFd, path: &str) -> SysResult<()> {
    let Some(here) = open_opt(base, path)? else { return Ok(()) };
    let copy = mount::clone_tree(&here, b"", true)?;
    mount::set_flags(&copy, MountFlags { read_only: true, ..MountFlags::default() }, true)?;
    mount::attach(&copy, &here, b"")
}
