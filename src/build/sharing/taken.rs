//! Steps that are taken instead of done: what the shared caches have of them, and what these are told.

use super::export::Told;
use super::import::Offer;
use crate::build::jobs::Pending;
use crate::build::made::Made;
use crate::build::naming::StepName;
use crate::build::running::Shared;
use crate::build::stack::Stack;
use crate::build::stage::{Builder, append};
use crate::build::state::{Slot, StageState};
use crate::oci::{ChainId, Digest};
use crate::plan::step::Step;
use crate::progress::Event;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

impl Builder<'_> {
    /// Appends a step that was not carried out; always true.
    pub(in crate::build) fn took(
        &self,
        state: &mut StageState,
        (step, name): (&Step, &StepName<'_>),
        (key, own): (&Digest, &Digest),
        shared: Shared,
        offer: Option<Offer>,
    ) -> bool {
        let id = self.announce(step, name);
        self.emitter.emit(Event::StepCached { id });
        if !self.exports.is_empty() {
            let stack = state.stack(key != own);
            self.note_step(name.stage, (own, &stack), &shared, offer);
        }
        append(state, step, (key.clone(), own.clone()), shared.slot, shared.created);
        true
    }

    pub(in crate::build) fn note_step(
        &self,
        stage: usize,
        (key, stack): (&Digest, &Stack),
        shared: &Shared,
        offer: Option<Offer>,
    ) {
        let Shared { slot, created, started } = shared;
        let (created, started) = (*created, *started);
        let layer = &slot.layer;
        self.exports.note(Told { stage, key, created, started, stack, layer, offer });
    }

    /// What a shared cache has of a step, for the layers that are below it: what it stands on is only asked for where a
    /// cache knows it at all.
    pub(in crate::build) fn offer(
        &self,
        key: &Digest,
        stands_on: &mut dyn FnMut() -> Option<ChainId>,
    ) -> Option<Offer> {
        if !self.imports.know(key, &self.variant) {
            return None;
        }
        let kind = self.request.compression.media_type();
        self.imports.find(key, (self.variant.as_str(), &stands_on()?), kind)
    }

    /// Takes a layer out of a shared cache, to be recorded when it is durable.
    pub(in crate::build) fn imported(
        &self,
        (key, stack): (&Digest, &Stack),
        offer: &Offer,
    ) -> Option<Shared> {
        let slot = Pending::ready(self.imports.bring(self.store, key, offer)?);
        let (created, started) = (offer.created, offer.started);
        let (key, stack, snapshot) = (key.clone(), stack.clone(), None);
        let made = Made { key, slot: Arc::clone(&slot), snapshot, created, started, stack };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        Some(offer.shared(Slot::unpacked_later(slot)))
    }

    /// Forgets how far the stages are, while there is no worker.
    pub(in crate::build) fn begin_again(&self) {
        self.states.reset();
        self.exports.forget();
        self.next_step.store(1, Ordering::Relaxed);
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
