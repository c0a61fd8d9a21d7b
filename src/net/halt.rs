//! The end of a client before its time: no request begins any more, and nobody waits for another try.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whether it has come.
#[derive(Debug, Default)]
pub(super) struct Halt {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Halt {
    /// False when it was set before.
    pub(super) fn set(&self) -> bool {
        let mut is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.notify_all();
        !std::mem::replace(&mut *is_set, true)
    }

    pub(super) fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps so long, or until then.
    pub(super) fn sleep(&self, time: Duration) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let _woken = self.changed.wait_timeout_while(is_set, time, |is_set| !*is_set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_is_woken_and_sleeps_no_more() {
        let halt = Halt::default();
        let long = Duration::from_hours(1);
        std::thread::scope(|scope| {
            scope.spawn(|| halt.sleep(long));
            assert!(halt.set());
        });
        halt.sleep(long);
        assert!(!halt.set());
        assert!(halt.is_set());
    }
}
