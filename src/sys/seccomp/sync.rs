//! Calls that wait until something is on the disk: a RUN that fails is thrown away as a whole, and what it leaves is made
//! durable by the builder, so waiting in between protects nothing and makes package managers slow.

use super::{DONE, Test, Verdict};

/// `MS_SYNC`, the same number everywhere; without it `msync` waits for nothing anyway.
const MS_SYNC: &[Test] = &[Test::AnyOf(4)];

/// Success for calls that would only wait; `None` for all others.
pub(super) fn verdict(name: &str) -> Option<Verdict> {
    match name {
        "fsync"
        | "fdatasync"
        | "sync"
        | "syncfs"
        | "sync_file_range"
        | "sync_file_range2"
        | "arm_sync_file_range" => Some(DONE),
        "msync" => Some(Verdict::When(2, MS_SYNC, &DONE, &Verdict::Allow)),
        _ => None,
    }
}
