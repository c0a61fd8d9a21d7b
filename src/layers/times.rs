//! Which times a layer says, and when two are the same.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Which times go into a layer (design §5, Epoch).
#[derive(Clone, Copy, Debug)]
pub struct TimePolicy {
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// When the step started: what has this time or a later one was made by it.
    pub started: (i64, u32),
}

impl TimePolicy {
    /// No time is the same as another one.
    pub const EXACT: Self = Self { epoch: None, started: (i64::MIN, 0) };

    /// The whole second that is recorded for a modification time.
    pub fn apply(&self, mtime: (i64, u32)) -> i64 {
        if self.epoch.is_some_and(|_| mtime >= self.started) {
            return self.epoch.unwrap_or_default();
        }
        self.of_old(mtime)
    }

    /// What a layer says of something that was there before the step.
    fn of_old(&self, mtime: (i64, u32)) -> i64 {
        // Nanoseconds count forward, so cutting them off floors negative times too.
        self.epoch.map_or(mtime.0, |epoch| mtime.0.min(epoch))
    }

    /// Whether a time after the step is the one below, as far as layers tell. A tree that was kept has times to the
    /// nanosecond and of any year, one that was unpacked those of its layers: the layer of the step must not depend on it.
    /// What the step itself made is new, whatever is below.
    pub fn same(&self, new: (i64, u32), below: (i64, u32)) -> bool {
        new == below || (new < self.started && self.of_old(new) == self.of_old(below))
    }
}

/// Whether a time of a file is at least as long ago by the clock on the wall.
pub(super) fn is_past(time: (i64, u32), by: Duration) -> bool {
    let now = clock_gettime(ClockId::Realtime);
    let nanoseconds =
        |seconds: i64, more: i64| i128::from(seconds) * 1_000_000_000 + i128::from(more);
    let passed = nanoseconds(now.tv_sec, now.tv_nsec) - nanoseconds(time.0, time.1.into());
    passed >= by.as_nanos() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_when_a_layer_says_the_same() {
        let (plain, epoch) = (
            TimePolicy { epoch: None, started: (100, 5) },
            TimePolicy { epoch: Some(50), started: (100, 5) },
        );
        let cases = [
            // Kept to the nanosecond, and unpacked.
            ((40, 7), (40, 0), [false, true, true]),
            ((40, 7), (41, 7), [false, false, false]),
            ((60, 7), (50, 0), [false, false, true]),
            ((60, 7), (70, 7), [false, false, true]),
            // Made by the step.
            ((100, 5), (50, 0), [false, false, false]),
            ((100, 5), (100, 0), [false, false, false]),
            ((100, 4), (100, 0), [false, true, true]),
            ((100, 5), (100, 5), [true, true, true]),
        ];
        for (new, below, expect) in cases {
            let found = [TimePolicy::EXACT, plain, epoch].map(|times| times.same(new, below));
            assert_eq!(found, expect, "{new:?} {below:?}");
        }
    }
}
