//! How often something is tried again, and after which waits.
//!
//! A few tries in quick succession help against a lost connection, and a longer wait against a registry that is restarted.
//! Ten tries wait for three quarters of a minute altogether, unless the server asks for more: with three of ten requests failing,
//! fewer than one in a hundred thousand fails for good.

use std::time::{Duration, SystemTime};

/// Tries of one thing, the first one included.
pub(super) const TRIES: u32 = 10;
/// The same where somebody else can be asked instead.
pub(super) const FEW_TRIES: u32 = 3;
/// First wait, in milliseconds; each is twice the one before.
const FIRST: u64 = 500;
/// No wait of ours is longer, in milliseconds.
const LONGEST: u64 = 8000;
/// All waits for one thing, those together that a server asked for.
pub(super) const WAITS: Duration = Duration::from_mins(2);

/// The failures of one thing so far.
#[derive(Debug)]
pub(super) struct Retry {
    tries: u32,
    failures: u32,
    /// All waits together.
    waits: Duration,
    waited: Duration,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self::at_most(TRIES)
    }

    pub(super) fn at_most(tries: u32) -> Self {
        Self::within(tries, WAITS)
    }

    /// So many tries, and no longer waits together.
    pub(super) fn within(tries: u32, waits: Duration) -> Self {
        Self { tries, failures: 0, waits, waited: Duration::ZERO }
    }

    /// The wait after another failure, not shorter than a server wants it; `None` when it was the last one. There is some
    /// chance in it, so that many builds do not come back at the same moment.
    pub(super) fn after_failure(&mut self, at_least: Duration) -> Option<Duration> {
        self.failures += 1;
        let chance = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos() % 250);
        let base = (FIRST << (self.failures - 1).min(16)).min(LONGEST);
        let wait = Duration::from_millis(base + u64::from(chance)).max(at_least);
        if self.failures >= self.tries || self.waited + wait > self.waits {
            return None;
        }
        self.waited += wait;
        Some(wait)
    }

    /// It goes on: as if nothing had failed.
    pub(super) fn progress(&mut self) {
        *self = Self::within(self.tries, self.waits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let mut retry = Retry::new();
        let waits: Vec<u64> = std::iter::from_fn(|| retry.after_failure(Duration::ZERO))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 8, 8, 8, 8]);
        retry.progress();
        assert!(retry.after_failure(Duration::ZERO).unwrap() < Duration::from_secs(1));
        // A server that is never ready is left.
        let minute = Duration::from_mins(1);
        let mut retry = Retry::new();
        assert_eq!(
            [1, 2, 3].map(|_| retry.after_failure(minute)),
            [Some(minute), Some(minute), None]
        );
    }
}
