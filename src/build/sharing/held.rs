//! Events of steps that may have to be taken back: while it is open which steps a shared cache really has.

use crate::progress::{Emitter, Event, Sink};
use crate::timings::Timings;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keeps events until it is known whether they count.
pub(in crate::build) struct Held {
    to: Emitter,
    events: Mutex<Option<Vec<Event>>>,
}

impl Held {
    /// Events for `to` wait until [`Held::release`].
    pub(in crate::build) fn before(to: &Emitter) -> Arc<Self> {
        // When something happened is recorded then, and not once more when it is told.
        let to = to.clone().timed(Timings::default());
        Arc::new(Self { to, events: Mutex::new(Some(Vec::new())) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps so far do not count; what else was said does.
    pub(in crate::build) fn forget_steps(&self) {
        if let Some(events) = &mut *self.lock() {
            events.retain(|event| {
                !matches!(event, Event::StepStarted { .. } | Event::StepCached { .. })
            });
        }
    }

    /// Gives everything on, and what comes from now on at once.
    pub(in crate::build) fn release(&self) {
        let mut held = self.lock();
        for event in held.take().into_iter().flatten() {
            self.to.emit(event);
        }
    }
}

impl Sink for Held {
    fn event(&self, event: Event) {
        let mut held = self.lock();
        if let Some(events) = &mut *held {
            events.push(event);
        } else {
            drop(held);
            self.to.emit(event);
        }
    }
}
