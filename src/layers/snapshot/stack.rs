//! Differences on top of each other, as overlayfs shows them.

use super::{Snapshot, Snapshots, environment, random_id, reopen};
use crate::error::{Error, Result};
use crate::layers::whiteout::XattrFlavour;
use crate::sys::fs;
use crate::sys::mount::{self, Overlay};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Most lower directories in one overlay (the kernel takes 500).
const FLAT: usize = 450;

impl Snapshots {
    /// The view of a stack of differences.
    pub(super) fn stacked(&self, top: &Arc<Snapshot>) -> Result<OwnedFd> {
        if top.depth == 1 {
            return reopen(top.fs.as_fd());
        }
        let lowers = self.lowers(top)?;
        let lowers = lowers.iter().map(|(snapshot, merged)| snapshot.dir(*merged)).collect();
        let made = mount::overlay(&Overlay { lowers, upper: None, userxattr: self.userxattr() });
        reopen(overlay_made(made)?.as_fd())
    }

    pub(super) fn userxattr(&self) -> bool {
        self.xattr_flavour() == XattrFlavour::User
    }

    /// The directories of a stack from the top down; true with the one that stands for all below it.
    pub(super) fn lowers(&self, top: &Arc<Snapshot>) -> Result<Vec<(Arc<Snapshot>, bool)>> {
        let mut list = Vec::with_capacity(top.depth.min(FLAT));
        let mut next = Some(top);
        while let Some(snapshot) = next {
            let merged = snapshot.depth == FLAT && top.depth > FLAT;
            if merged {
                self.merge(snapshot)?;
            }
            list.push((Arc::clone(snapshot), merged));
            if merged {
                break;
            }
            next = snapshot.parent.as_ref();
        }
        if list.len() > FLAT {
            return Err(Error::environment(format!(
                "the image has {} layers; more than {} cannot be stacked here",
                top.depth,
                2 * FLAT
            ))
            .hint("join RUN instructions with `&&`, or start from a flattened base image"));
        }
        Ok(list)
    }

    /// Mounts the stack up to `snapshot` as one directory; attached in our private mount namespace, since overlayfs
    /// takes no lower from a detached mount.
    fn merge(&self, snapshot: &Arc<Snapshot>) -> Result<()> {
        if snapshot.merged.get().is_some() {
            return Ok(());
        }
        let lowers = self.lowers(snapshot)?;
        let lowers = lowers.iter().map(|(lower, merged)| lower.dir(*merged)).collect();
        let made = mount::overlay(&Overlay { lowers, upper: None, userxattr: self.userxattr() });
        let made = overlay_made(made)?;
        let name = format!("merged-{}", random_id());
        let attached = (|| {
            fs::mkdir(&self.staging, name.as_bytes(), 0o700)?;
            mount::attach(&made, &self.staging, name.as_bytes())?;
            fs::open_dir(&self.staging, name.as_bytes())
        })();
        let _other_thread_was_first = snapshot.merged.set(environment(attached, "stack layers")?);
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
