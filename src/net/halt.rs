//! The end of a client before its time: no request begins any more, and nobody waits for another try, or for a call that
//! knows no end.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
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
        let mut is_set = lock(&self.is_set);
        self.changed.notify_all();
        !std::mem::replace(&mut *is_set, true)
    }

    pub(super) fn is_set(&self) -> bool {
        *lock(&self.is_set)
    }

    /// Sleeps so long, or until then.
    pub(super) fn sleep(&self, time: Duration) {
        let _woken = self.changed.wait_timeout_while(lock(&self.is_set), time, |is_set| !*is_set);
    }

    /// What `work` gives, which is done by a thread of its own. Fails when that cannot be made, and when the end comes
    /// before: the thread goes on then, and nobody hears of it.
    pub(super) fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let done = Arc::new(Mutex::new(None));
        let (halt, place) = (Arc::clone(self), Arc::clone(&done));
        let thread = thread::Builder::new().spawn(move || {
            let given = work();
            *lock(&place) = Some(given);
            // Nobody is between a look and sleep meanwhile.
            let _is_set = lock(&halt.is_set);
            halt.changed.notify_all();
        })?;
        let goes_on = |is_set: &mut bool| !*is_set && lock(&done).is_none();
        drop(self.changed.wait_while(lock(&self.is_set), goes_on));
        let done = lock(&done).take();
        if done.is_some() {
            // Who enters a namespace afterwards must have one thread.
            let _nothing = thread.join();
        }
        done.ok_or_else(|| io::Error::other("it was stopped"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

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

    #[test]
    fn work_without_an_end_is_left_alone() {
        let halt = Arc::<Halt>::default();
        assert_eq!(halt.apart(|| 7).unwrap(), 7);
        let ((begin, begun), (end, never)) = (channel::<()>(), channel::<()>());
        let work = move || {
            begin.send(()).unwrap();
            never.recv()
        };
        let error = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| halt.apart(work));
            begun.recv().unwrap();
            halt.set();
            waiting.join().unwrap().unwrap_err()
        });
        assert_eq!(error.to_string(), "it was stopped");
        drop(end);
    }
}
