//! The ticks in which file systems count time.
//!
//! Two changes within one tick have the same time. A step that makes again what the step before it made, a tick later
//! another time and in the same tick none, would have a layer that depends on how fast the machine is.

use super::store::Store;
use crate::sys::probe;
use std::time::Duration;

/// Milliseconds between two times that the kernel gives to files, at most.
const LONGEST: u32 = 10;

/// File systems that give a file a time of its own when somebody looked at the last one, from Linux 6.13 on: ext4, XFS,
/// btrfs, tmpfs.
const FINE: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// Whether two changes of a file have the same time only when nothing looks at it between them, as a diff does.
pub(super) fn are_short(store: &Store) -> bool {
    let kind = rustix::fs::statfs(store.sub("tmp")).map(|stat| stat.f_type as u32);
    probe::kernel_version() >= Some((6, 13)) && kind.is_ok_and(|kind| FINE.contains(&kind))
}

/// Waits until the kernel gives files a later time than this one (seconds and nanoseconds).
pub(super) fn outlive(time: (i64, u32)) {
    // Bounded, since times may lie in the future.
    for _ in 0..LONGEST {
        if super::stage::now() > time {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
