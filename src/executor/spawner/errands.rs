//! Having something done by a process of its own: a copy of the spawner, which has no threads and little memory.

use super::{socket_pair, wire};
use crate::sys::{SysResult, process};
use rustix::net as rnet;
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What such a process does: the order, as [`super::read_order`] reads it, and descriptors. It may be killed at any moment.
pub type Errand = fn(&OwnedFd, Vec<OwnedFd>);

/// In the new process, whose parent has this number.
pub(super) fn carry_out(errand: Errand, parent: i32, order: &OwnedFd, fds: Vec<OwnedFd>) -> ! {
    // Killed with the spawner, however and whenever that ends.
    if process::die_with_parent().is_ok() && process::parent_id() == parent {
        // Nothing of the spawner's is to be unwound here.
        let _panicked = catch_unwind(AssertUnwindSafe(|| errand(order, fds)));
    }
    process::exit_now(0)
}

/// The way to a spawner.
#[derive(Debug)]
pub struct Errands(OwnedFd);

impl Errands {
    pub(super) fn new(requests: OwnedFd) -> Self {
        Self(requests)
    }

    /// Has it done until it is done, or the descriptor is closed: then the process is killed.
    pub fn run(&self, order: &impl Serialize, list: &[BorrowedFd<'_>]) -> SysResult<OwnedFd> {
        let memory = wire::memory_file(order)?;
        let (ours, theirs) = socket_pair(rnet::SocketType::STREAM)?;
        wire::send(&self.0, b'k', &[&[memory.as_fd(), theirs.as_fd()], list].concat())?;
        Ok(ours)
    }
}
