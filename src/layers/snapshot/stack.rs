//! Differences on top of each other, as overlayfs shows them.
//!
//! What every lower costs is paid at each mount and each look-up, so long stacks are kept short ([`super::union`]). Where
//! that cannot be done, the lower part of the stack is mounted as one directory.

use super::{Snapshot, Snapshots, environment, random_id, reopen};
use crate::error::{Error, Result};
use crate::layers::whiteout::XattrFlavour;
use crate::sys::fs;
use crate::sys::mount::{self, Overlay};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Most lower directories in one overlay (the kernel takes 500).
const FLAT: usize = 450;

/// One lower directory: that of the snapshot, or one that stands for it and those below it.
#[derive(Clone, Debug)]
pub(super) struct Lower {
    pub(super) top: Arc<Snapshot>,
    pub(super) kind: LowerKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LowerKind {
    /// The difference to its parent.
    Own,
    /// The differences of several, united.
    United,
    /// All of them, mounted.
    Nested,
}

impl Lower {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        let stands_for = match self.kind {
            LowerKind::Own => None,
            LowerKind::United => self.top.union().map(|union| &union.dir),
            LowerKind::Nested => self.top.nested.get(),
        };
        stands_for.unwrap_or(&self.top.fs).as_fd()
    }

    /// How many snapshots it stands for, when that is known.
    pub(super) fn span(&self) -> usize {
        match self.kind {
            LowerKind::Own => 1,
            LowerKind::United => self.top.union().map_or(1, |union| union.span),
            LowerKind::Nested => self.top.depth,
        }
    }

    /// What lies below it.
    pub(super) fn below(&self) -> Option<&Arc<Snapshot>> {
        match self.kind {
            LowerKind::Own => self.top.parent.as_ref(),
            LowerKind::United => self.top.union().and_then(|union| union.below.as_ref()),
            LowerKind::Nested => None,
        }
    }
}

impl Snapshots {
    /// The view of a stack of differences.
    pub(super) fn stacked(&self, top: &Arc<Snapshot>) -> Result<OwnedFd> {
        let lowers = self.lowers(top)?;
        match &lowers[..] {
            [only] => reopen(only.dir()),
            _ => reopen(self.mounted(&lowers)?.as_fd()),
        }
    }

    pub(super) fn userxattr(&self) -> bool {
        self.xattr_flavour() == XattrFlavour::User
    }

    /// The directories of a stack from the top down.
    pub(super) fn lowers(&self, top: &Arc<Snapshot>) -> Result<Vec<Lower>> {
        let mut list = self.parts(Some(top), usize::MAX);
        if list.len() <= FLAT {
            return Ok(list);
        }
        let lowest = list.split_off(list.len() - FLAT);
        if list.len() >= FLAT {
            return Err(Error::environment(format!(
                "the image has {} layers; more than {} cannot be stacked where the store allows no hard links",
                top.depth,
                2 * FLAT - 1
            ))
            .hint("join RUN instructions with `&&`, or start from a flattened base image"));
        }
        let top = Arc::clone(&lowest[0].top);
        self.nest(&top, &lowest)?;
        list.push(Lower { top, kind: LowerKind::Nested });
        Ok(list)
    }

    fn mounted(&self, lowers: &[Lower]) -> Result<OwnedFd> {
        let lowers = lowers.iter().map(Lower::dir).collect();
        overlay_made(mount::overlay(&Overlay { lowers, upper: None, userxattr: self.userxattr() }))
    }

    /// Mounts the stack up to `top` as one directory; attached in our private mount namespace, since overlayfs takes no
    /// lower from a detached mount.
    fn nest(&self, top: &Snapshot, lowers: &[Lower]) -> Result<()> {
        if top.nested.get().is_some() {
            return Ok(());
        }
        let made = self.mounted(lowers)?;
        let name = format!("merged-{}", random_id());
        let attached = (|| {
            fs::mkdir(&self.staging, name.as_bytes(), 0o700)?;
            mount::attach(&made, &self.staging, name.as_bytes())?;
            fs::open_dir(&self.staging, name.as_bytes())
        })();
        let _other_thread_was_first = top.nested.set(environment(attached, "stack layers")?);
        Ok(())
    }
}

pub(super) fn overlay_made(made: crate::sys::SysResult<OwnedFd>) -> Result<OwnedFd> {
    made.map_err(|error| {
        Error::environment("cannot mount an overlay file system on the store").cause(error).hint(
            "the store must be on a file system that overlayfs takes as upper (ext4, xfs, btrfs, tmpfs; not overlay, \
             not NFS); choose one with `--root`",
        )
    })
}
