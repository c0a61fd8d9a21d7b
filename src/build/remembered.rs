//! What is remembered of a step, and whether it is of use.
//!
//! The key of a step says what it and the steps below were given, not what they left: a command may leave something else
//! each time. So a layer counts only on the very layers on which it was made. With a worker one below may still be
//! written; it is waited for where there is a record at all, which is rare: the step below was carried out though the one
//! above is known.

use super::cache::StepRecord;
use super::stage::Builder;
use super::state::StageState;
use crate::oci::Digest;

/// The record of a step.
pub(super) struct Remembered {
    pub(super) record: StepRecord,
    /// Its layer of the wanted variant was made on the layers that are below now.
    pub(super) is_here: bool,
    /// Those are of the same runs as then, in whatever variant: the layer can be written again from its tree.
    pub(super) fits: bool,
}

impl Builder<'_> {
    /// The record of the next step of a stage. `found` is called when there is one, before it is waited for what is below.
    pub(super) fn remembered(
        &self,
        key: &Digest,
        state: &mut StageState,
        (independent, waits): (bool, bool),
        found: &mut dyn FnMut(),
    ) -> Option<Remembered> {
        let record = self.cache.get(key)?;
        found();
        let known = record.stands_on.get(&self.variant);
        let is_here = known.is_some() && state.stands_on(independent, waits).as_ref() == known;
        let fits = is_here || state.bears(&record, independent);
        Some(Remembered { record, is_here, fits })
    }

    /// Whether the next step of a stage, which depends on what is below it, need not be carried out.
    pub(super) fn is_known(&self, key: &Digest, state: &mut StageState, waits: bool) -> bool {
        self.remembered(key, state, (false, waits), &mut || ()).is_some_and(|known| known.fits)
            || self.offer(key, &mut || state.stands_on(false, waits)).is_some()
    }
}
