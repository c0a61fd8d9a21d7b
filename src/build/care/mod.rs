//! Care of the store: what is in it, who uses it, and what may go (docs/store.md "Removing").
//!
//! Everything that is used gets a new time stamp when it is looked up: blobs their time of access, records, snapshots
//! and cache mounts a time of modification. A process that opens the store holds a [`Lease`], whose time is that of its
//! start. So what was used or made since the oldest running process began is in use, and everything else may go.

mod lease;
pub mod prune;
pub mod room;
mod temporary;
pub mod usage;

pub use lease::Lease;
pub use temporary::TempTree;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use std::path::Path;

/// Notes that a file is used; nothing happens when it is not there.
pub(super) fn touch(path: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    // A store that cannot be written keeps older stamps; what goes too early is made again.
    let _best_effort = utimensat(CWD, path, &times, AtFlags::empty());
}
