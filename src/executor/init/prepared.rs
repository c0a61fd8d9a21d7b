//! What of a sandbox can be made before its RUN is known: /proc, /dev and /sys, on a file system that stands in for the
//! rootfs until it comes. Nothing in them is of another RUN.

use super::mounts::{Carrier, put};
use super::{Doing, Step, attach_at, become_first, enter_network};
use crate::executor::Net;
use crate::executor::isolation::Kind;
use crate::executor::mounts::{DIRECTORIES, MOUNT_POINTS, MountOp};
use crate::sys::mount::{self, MountFlags};
use crate::sys::{fs, root};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The first operations of a list, for which no rootfs is needed and none of the mounts that it is given.
pub(in crate::executor) fn common(list: &[MountOp]) -> &[MountOp] {
    let end = list.iter().position(|op| !is_common(op)).unwrap_or(list.len());
    &list[..end]
}

fn is_common(op: &MountOp) -> bool {
    let path = match op {
        MountOp::Given { .. }
        | MountOp::Point { .. }
        | MountOp::File { .. }
        | MountOp::OuterProc => return false,
        // Not where scripts lie, which few RUNs have.
        MountOp::Directory { path, .. } => return DIRECTORIES.contains(&path.as_str()),
        MountOp::Device { .. } | MountOp::Sysfs => return true,
        MountOp::Fresh { target: path, .. }
        | MountOp::Symlink { path, .. }
        | MountOp::Mask { path }
        | MountOp::ReadOnly { path } => path,
    };
    MOUNT_POINTS.iter().any(|top| {
        path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// What was made, and where it stands.
#[derive(Debug)]
pub(in crate::executor) struct Prepared {
    base: OwnedFd,
    /// How many operations of the list are done.
    done: usize,
    /// Those of [`MOUNT_POINTS`] that have a mount, in the order of the list: one may be a link to another.
    tops: Vec<&'static str>,
}

/// In a process 1: does what does not depend on the RUN. `joined` is the network to go into.
pub(in crate::executor) fn prepare(
    (network, joined): (Net, Option<&OwnedFd>),
    list: &[MountOp],
    staging: &Path,
) -> Step<Prepared> {
    become_first(Kind::Namespaces)?;
    enter_network(network, joined)?;
    let doing = "making a file system to prepare mounts on";
    let flags = MountFlags { read_only: false, ..MountFlags::LOCKED };
    let made = mount::new_mount("tmpfs", &[("mode", "755"), ("size", "64k")], flags);
    let base = attach_at(&made.doing(doing)?, staging)?;
    for top in MOUNT_POINTS {
        fs::mkdir(&base, top.trim_start_matches('/').as_bytes(), 0o755).doing(doing)?;
    }
    let mut carrier = Carrier::new(&base, &[]);
    list.iter().try_for_each(|op| carrier.carry_out(op))?;
    let own = fs::fstat(&base).doing(doing)?;
    let mut tops = Vec::new();
    for top in list.iter().filter_map(top_of) {
        // One that need not be there (sysfs) may have stayed what it was.
        let found = root::stat_opt(&base, top.as_bytes()).doing(doing)?;
        if found.is_some_and(|found| found.dev != own.dev) {
            tops.push(top);
        }
    }
    Ok(Prepared { base, done: list.len(), tops })
}

/// Which of [`MOUNT_POINTS`] an operation mounts on.
fn top_of(op: &MountOp) -> Option<&'static str> {
    let target = match op {
        MountOp::Fresh { target, .. } => target,
        MountOp::Sysfs => "/sys",
        _ => return None,
    };
    MOUNT_POINTS.into_iter().find(|top| *top == target)
}

impl Prepared {
    /// Moves all that was mounted to the rootfs; says how many operations of its list are done with that.
    pub(super) fn move_to(&self, rootfs: &OwnedFd) -> Step<usize> {
        for top in &self.tops {
            let doing = || format!("mounting {top}");
            let mount = root::open_path(&self.base, top.as_bytes()).doing(doing())?;
            put(&mount, rootfs, top).doing(doing())?;
        }
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::mounts::standard;

    #[test]
    fn what_every_run_has_is_made_before_and_nothing_else() {
        let every = standard(false);
        assert_eq!(common(&every), every);
        let given = MountOp::Given { fd: 0, target: "/etc/hosts".to_owned() };
        let tmpfs = MountOp::Fresh {
            kind: "tmpfs".to_owned(),
            options: Vec::new(),
            flags: MountFlags::default(),
            target: "/device".to_owned(),
        };
        let pipes = MountOp::Directory { path: "/dev/pipes".to_owned(), mode: 0o755 };
        for other in [given, tmpfs, pipes, MountOp::OuterProc] {
            let list = [every.clone(), vec![other], every.clone()].concat();
            assert_eq!(common(&list), every);
        }
        assert_eq!(common(&[MountOp::OuterProc]), []);
    }
}
