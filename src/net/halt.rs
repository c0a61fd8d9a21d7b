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
    /// before: the thread goes on then, and nobody hears of it. Panics when `work` does.
    pub(super) fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let given = Arc::new(Mutex::new(None));
        let place = Arc::clone(&given);
        let end = End { halt: Arc::clone(self), is_there: Arc::default() };
        let is_over = Arc::clone(&end.is_there);
        let thread = thread::Builder::new().spawn(move || {
            let _end = end;
            let given = work();
            *lock(&place) = Some(given);
        })?;
        let goes_on = |is_set: &mut bool| !*is_set && !*lock(&is_over);
        drop(self.changed.wait_while(lock(&self.is_set), goes_on));
        let is_over = *lock(&is_over);
        // Who enters a namespace afterwards must have one thread.
        if is_over && let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
        let given = lock(&given).take();
        given.ok_or_else(|| io::Error::other("it was stopped"))
    }
}

/// Says when it is dropped that some work is over, whether it gave something or panicked.
struct End {
    halt: Arc<Halt>,
    is_there: Arc<Mutex<bool>>,
}

impl Drop for End {
    fn drop(&mut self) {
        *lock(&self.is_there) = true;
        // Nobody is between a look and sleep meanwhile.
        let _is_set = lock(&self.halt.is_set);
        self.halt.changed.notify_all();
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

    #[test]
    fn nobody_waits_for_work_that_panics() {
        let halt = Arc::<Halt>::default();
        let waiting = thread::spawn(move || halt.apart(|| -> u8 { panic!("broken") }));
        let panic = waiting.join().unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken"));
    }
}
