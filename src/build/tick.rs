//! The ticks in which file systems count time.
//!
//! Two changes within one tick have the same time. A step that makes again what the step before it made, a tick later
//! another time and in the same tick none, would have a layer that depends on how fast the machine is.

use std::time::Duration;

/// Milliseconds between two times that the kernel gives to files, at most.
const LONGEST: u32 = 10;

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
