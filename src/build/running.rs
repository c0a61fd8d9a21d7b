//! Steps of this build that are being carried out or were, by key and by the layers that they stand on: what two stages
//! have in common is done once.
//!
//! Platforms often share the first steps of a stage. Whoever comes first does the step; the others wait and take its
//! layer. What a build made counts within it even with `--no-cache`. With `--no-cache-filter` two stages may have the same
//! steps and not the same layers: then each does its own.

use super::cache::StepRecord;
use super::stack::Stack;
use super::state::Slot;
use crate::oci::Digest;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The steps, and waiting for one.
#[derive(Debug, Default)]
pub(super) struct Running {
    steps: Mutex<Steps>,
    changed: Condvar,
}

/// By key, and for each key by what they stand on. None of them ever goes.
type Steps = HashMap<Digest, Vec<(Stack, Outcome)>>;

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
    /// Which one of this key.
    at: usize,
}

impl Running {
    /// Waits while another does the step. Before that the caller must give up its place under the limit of steps, in
    /// `waits`: the other one may need it.
    pub(super) fn claim(&self, key: &Digest, stack: &Stack, waits: &mut dyn FnMut()) -> Claim<'_> {
        let mut steps = self.lock();
        loop {
            let same = steps.entry(key.clone()).or_default();
            match same.iter().find(|(below, _)| below.is(stack)).map(|(_, outcome)| outcome) {
                Some(Outcome::Done(shared)) => return Claim::Done(shared.clone()),
                Some(Outcome::Failed) => return Claim::Failed,
                Some(Outcome::Open) => {
                    waits();
                    steps = self.changed.wait(steps).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    same.push((stack.clone(), Outcome::Open));
                    let at = same.len() - 1;
                    return Claim::Mine(Doing { running: self, key: key.clone(), at });
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doing<'_> {
    /// Gives the others what was made.
    pub(super) fn done(self, shared: Shared) {
        self.set(&mut self.running.lock(), Outcome::Done(shared));
    }

    /// Says how it ended, unless that was said.
    fn set(&self, steps: &mut Steps, ended: Outcome) {
        let step = steps.get_mut(&self.key).and_then(|same| same.get_mut(self.at));
        if let Some((_, outcome @ Outcome::Open)) = step {
            *outcome = ended;
        }
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.set(&mut self.running.lock(), Outcome::Failed);
        self.running.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::jobs::Pending;
    use crate::build::state::StageState;
    use crate::layers::Layer;
    use crate::oci::DiffId;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn slot(text: &str) -> Slot {
        let digest = Digest::of(text.as_bytes());
        let diff_id = DiffId(digest.clone());
        let layer = Layer { digest, size: 1, diff_id, media_type: String::new() };
        Slot::unpacked_later(Pending::ready(layer))
    }

    fn shared(created: i64) -> Shared {
        Shared { slot: slot("layer"), created, started: (0, 0) }
    }

    fn on(layers: &[&str]) -> Stack {
        let slots = layers.iter().map(|text| slot(text)).collect();
        StageState::new(Digest::of(b"key"), slots, Vec::new()).stack(false)
    }

    #[test]
    fn a_step_of_many_stages_is_done_once() {
        let (running, key) = (Running::default(), Digest::of(b"key"));
        let done = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (running, key, done) = (&running, &key, Arc::clone(&done));
                scope.spawn(move || match running.claim(key, &on(&["a"]), &mut || ()) {
                    Claim::Mine(doing) => {
                        done.fetch_add(1, Ordering::SeqCst);
                        doing.done(shared(number));
                    }
                    Claim::Done(_) | Claim::Failed => {}
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert!(matches!(
            running.claim(&Digest::of(b"other"), &on(&["a"]), &mut || ()),
            Claim::Mine(_)
        ));
    }

    #[test]
    fn a_step_on_other_layers_is_another_one() {
        let (running, key) = (Running::default(), Digest::of(b"key"));
        for (created, layers) in [(1, ["a", "b"]), (2, ["a", "c"])] {
            let Claim::Mine(doing) = running.claim(&key, &on(&layers), &mut || ()) else {
                unreachable!("nobody has it")
            };
            doing.done(shared(created));
        }
        let created = |layers| match running.claim(&key, &on(layers), &mut || ()) {
            Claim::Done(shared) => shared.created,
            Claim::Mine(_) | Claim::Failed => 0,
        };
        assert_eq!(created(&["a", "b"]), 1);
        assert_eq!(created(&["a", "c"]), 2);
        assert_eq!(created(&["c", "a"]), 0);
    }

    #[test]
    fn a_step_that_failed_is_not_done_again() {
        let (running, key) = (Running::default(), Digest::of(b"key"));
        let claim = || running.claim(&key, &Stack::default(), &mut || ());
        let Claim::Mine(first) = claim() else { unreachable!("nobody has it") };
        std::thread::scope(|scope| {
            let next = scope.spawn(|| matches!(claim(), Claim::Failed));
            drop(first);
            assert!(next.join().unwrap());
        });
    }
}
