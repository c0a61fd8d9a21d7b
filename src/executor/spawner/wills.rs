//! What is done in a tree should the builder not live to do it.

use crate::executor::Bequest;
use crate::sys::{fs, root};
use rustix::io::Errno;
use rustix::net as rnet;
use std::os::fd::OwnedFd;

/// What is left to do in a tree should the builder not live to do it.
pub(super) struct Will {
    /// Closed without a word when the builder died.
    pub(super) channel: OwnedFd,
    pub(super) tree: OwnedFd,
    pub(super) list: Vec<Bequest>,
}

/// Carries out a will whose channel closed without a word; true for one that is settled either way.
pub(super) fn is_over(will: &Will) -> bool {
    let mut byte = [0_u8; 1];
    match rnet::recv(&will.channel, &mut byte, rnet::RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => return false,
        Ok((_, 1)) => {}
        _ => carry_out(will),
    }
    true
}

/// The builder is gone: its secrets do not stay in the tree, nor do its caches.
pub(super) fn carry_out(will: &Will) {
    for Bequest { path, home } in &will.list {
        let (dir, name) = root::split_last(path.as_bytes());
        let Some(name) = name else { continue };
        let Ok(dir) = root::open_dir(&will.tree, dir) else { continue };
        // A link would lead out of the tree from where it goes.
        let is_dir = matches!(fs::lstat_opt(&dir, name), Ok(Some(stat)) if stat.is_dir());
        let _as_far_as_possible = match home {
            Some(home) if is_dir => fs::rename_to_path(&dir, name, home),
            Some(_) => Ok(()),
            None => fs::unlink(&dir, name),
        };
    }
}
