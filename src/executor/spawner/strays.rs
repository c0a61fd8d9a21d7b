//! Ending what a RUN left behind where no process namespace does it.
//!
//! The spawner is a subreaper, and so is process 1 of such a RUN: orphans of a RUN that goes on are not our children.
//! So every child of ours that is no process 1 belongs to a RUN that is over, and is killed; its own children then
//! come to us, until none is left.

use crate::sys::process;

/// Kills and reaps all children but those in `known`, and all that they leave behind.
pub(super) fn end(known: &[i32]) {
    loop {
        let strays: Vec<i32> =
            process::children().into_iter().filter(|pid| !known.contains(pid)).collect();
        if strays.is_empty() {
            return;
        }
        for pid in &strays {
            process::kill(*pid, libc::SIGKILL);
        }
        for pid in &strays {
            let _reaped = process::wait(*pid, true);
        }
    }
}
