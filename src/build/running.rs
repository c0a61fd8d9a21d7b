//! Steps of this build that are being carried out or were, by key: what two stages have in common is done once.
//!
//! Platforms often share the first steps of a stage. Whoever comes first does the step; the others wait and take its
//! layer. What a build made counts within it even with `--no-cache`.

use super::cache::StepRecord;
use super::state::Slot;
use crate::oci::Digest;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The steps, and waiting for one.
#[derive(Debug, Default)]
pub(super) struct Running {
    steps: Mutex<HashMap<Digest, Outcome>>,
    changed: Condvar,
}

#[derive(Debug)]
enum Outcome {
    Open,
    Done(Shared),
    Failed,
}

/// What a step left for the others.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) slot: Slot,
    /// Nanoseconds since 1970.
    pub(super) created: i64,
    /// When it began, seconds and nanoseconds.
    pub(super) started: (i64, u32),
}

impl Shared {
    /// A layer with the times of its record.
    pub(super) fn of(slot: Slot, record: &StepRecord) -> Self {
        Self { slot, created: record.created, started: record.started }
    }
}

/// Who does a step.
pub(super) enum Claim<'a> {
    /// The caller; others wait until the value is dropped.
    Mine(Doing<'a>),
    /// Somebody else did it.
    Done(Shared),
    /// Somebody else could not do it; the build is about to end with that error.
    Failed,
}

/// The right to do a step. Dropped without a result, the step has failed for all.
#[derive(Debug)]
pub(super) struct Doing<'a> {
    running: &'a Running,
    key: Digest,
}

impl Running {
    /// Waits while another does the step. The caller must hold no place under the limit of steps.
    pub(super) fn claim(&self, key: &Digest) -> Claim<'_> {
        let mut steps = self.lock();
        loop {
            match steps.get(key) {
                Some(Outcome::Done(shared)) => return Claim::Done(shared.clone()),
                Some(Outcome::Failed) => return Claim::Failed,
                Some(Outcome::Open) => {
                    steps = self.changed.wait(steps).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    steps.insert(key.clone(), Outcome::Open);
                    return Claim::Mine(Doing { running: self, key: key.clone() });
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Outcome>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doing<'_> {
    /// Gives the others what was made.
    pub(super) fn done(self, shared: Shared) {
        self.running.lock().insert(self.key.clone(), Outcome::Done(shared));
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        let mut steps = self.running.lock();
        if let Some(step @ Outcome::Open) = steps.get_mut(&self.key) {
            *step = Outcome::Failed;
        }
        drop(steps);
        self.running.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::jobs::Pending;
    use crate::layers::Layer;
    use crate::oci::DiffId;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn shared(created: i64) -> Shared {
        let digest = Digest::of(b"layer");
        let layer = Layer {
            digest: digest.clone(),
            size: 1,
            diff_id: DiffId(digest),
            media_type: String::new(),
        };
        let slot = Slot::unpacked_later(Pending::ready(layer));
        Shared { slot, created, started: (0, 0) }
    }

    #[test]
    fn a_step_of_many_stages_is_done_once() {
        let (running, key) = (Running::default(), Digest::of(b"key"));
        let done = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (running, key, done) = (&running, &key, Arc::clone(&done));
                scope.spawn(move || match running.claim(key) {
                    Claim::Mine(doing) => {
                        done.fetch_add(1, Ordering::SeqCst);
                        doing.done(shared(number));
                    }
                    Claim::Done(_) | Claim::Failed => {}
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert!(matches!(running.claim(&Digest::of(b"other")), Claim::Mine(_)));
    }

    #[test]
    fn a_step_that_failed_is_not_done_again() {
        let (running, key) = (Running::default(), Digest::of(b"key"));
        let Claim::Mine(first) = running.claim(&key) else { unreachable!("nobody has it") };
        std::thread::scope(|scope| {
            let next = scope.spawn(|| matches!(running.claim(&key), Claim::Failed));
            drop(first);
            assert!(next.join().unwrap());
        });
    }
}
