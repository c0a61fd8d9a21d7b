//! How far each stage is: its key, its layers, its history.

use super::assemble::HistoryItem;
use super::cache::StepRecord;
use super::jobs::Pending;
use super::planned::Planned;
use crate::layers::Layer;
use crate::layers::snapshot::Snapshot;
use crate::oci::{ChainId, DiffId, Digest};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One layer of a stage.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The layer, perhaps still being written.
    pub layer: Arc<Pending>,
    /// Its snapshot, when it was used in this build.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Its snapshot by the step's record, which may be gone.
    pub recorded: Option<String>,
    /// What it is, when it never was a tree.
    pub planned: Option<Arc<Planned>>,
    /// What the layer unpacks to, where that is known of one that is not here.
    pub foretold: Option<DiffId>,
}

impl Slot {
    pub(super) fn new(
        layer: Arc<Pending>,
        snapshot: Option<Arc<Snapshot>>,
        record: &StepRecord,
    ) -> Self {
        let recorded = record.snapshot.clone();
        Self { layer, snapshot, recorded, planned: None, foretold: None }
    }

    /// A layer that was made on nothing: what lies below it is seen only when its blob is unpacked onto that.
    pub(super) fn unpacked_later(layer: Arc<Pending>) -> Self {
        Self { layer, snapshot: None, recorded: None, planned: None, foretold: None }
    }

    /// The same with what its layer unpacks to: that is on its way, or never comes.
    pub(super) fn foretelling(self, diff_id: Option<DiffId>) -> Self {
        Self { foretold: diff_id, ..self }
    }

    /// What its layer unpacks to, when that is known by now.
    fn diff_id(&self) -> Option<DiffId> {
        self.layer.get().map(|layer| layer.diff_id).or_else(|| self.foretold.clone())
    }
}

/// A stage up to and without the step `next`.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    /// Key of all so far.
    pub key: Digest,
    /// Index of the next step.
    pub next: usize,
    /// Layers, bottom first.
    pub slots: Vec<Slot>,
    /// History, base's first.
    pub history: Vec<HistoryItem>,
}

impl StageState {
    /// The same place with other layers, for their tree alone: there is no history in it.
    pub(super) fn on(&self, slots: Vec<Slot>) -> Self {
        Self { key: self.key.clone(), next: self.next, slots, history: Vec::new() }
    }

    /// When the newest layer was made, as far as the history says, in seconds and nanoseconds.
    pub(super) fn last_made(&self) -> (i64, u32) {
        let created = |item: &HistoryItem| match item {
            HistoryItem::Step { created, .. } => *created,
            HistoryItem::Inherited(_) => None,
        };
        let made = self.history.iter().rev().find_map(created).unwrap_or_default();
        (made.div_euclid(1_000_000_000), made.rem_euclid(1_000_000_000) as u32)
    }

    /// Chain id of the lowest `count` layers, when all of them are known by now.
    pub(super) fn chain(&self, count: usize) -> Option<ChainId> {
        let known: Option<Vec<DiffId>> =
            self.slots[..count].iter().map(|slot| Some(slot.layer.get()?.diff_id)).collect();
        ChainId::of(&known?)
    }

    /// What all layers unpack to, bottom first, when that is known by now; also of layers that are not here.
    pub(super) fn diff_ids(&self) -> Option<Vec<DiffId>> {
        self.slots.iter().map(Slot::diff_id).collect()
    }

    /// All layers; waits for those that are still being written.
    pub(super) fn layers(&self) -> crate::error::Result<Vec<Layer>> {
        self.slots.iter().map(|slot| slot.layer.wait()).collect()
    }
}

/// The states of all stages, and waiting for one to be complete.
#[derive(Debug)]
pub(super) struct States {
    states: Mutex<Vec<Known>>,
    changed: Condvar,
}

/// What is known of one stage.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Where it was when it last stopped, or ended.
    state: Option<StageState>,
    progress: Progress,
    /// Layers that it has had since.
    done: Vec<Slot>,
}

impl Known {
    fn slots_after(&self, seen: usize) -> Vec<Slot> {
        let stopped = self.state.as_ref().map_or(&[][..], |state| &state.slots);
        let all = if self.done.len() > stopped.len() { &self.done } else { stopped };
        all.iter().skip(seen).cloned().collect()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Open,
    Complete,
    Failed,
}

impl States {
    pub(super) fn new(count: usize) -> Self {
        let states = Mutex::new(vec![Known::default(); count]);
        Self { states, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all states, while nobody waits for one.
    pub(super) fn reset(&self) {
        self.lock().iter_mut().for_each(|state| *state = Known::default());
    }

    /// The state of a stage, if it has begun.
    pub(super) fn get(&self, stage: usize) -> Option<StageState> {
        self.lock()[stage].state.clone()
    }

    /// The state of a complete stage.
    pub(super) fn complete(&self, stage: usize) -> Option<StageState> {
        let states = self.lock();
        (states[stage].progress == Progress::Complete)
            .then(|| states[stage].state.clone())
            .flatten()
    }

    /// True when nothing of a stage is left to do.
    pub(super) fn is_complete(&self, stage: usize) -> bool {
        let states = self.lock();
        states[stage].progress == Progress::Complete && states[stage].state.is_some()
    }

    /// Stores a state.
    pub(super) fn set(&self, stage: usize, state: StageState, complete: bool) {
        let progress = if complete { Progress::Complete } else { Progress::Open };
        self.lock()[stage] = Known { state: Some(state), progress, done: Vec::new() };
        self.changed.notify_all();
    }

    /// Shows the layers that a stage has by now, while it goes on.
    pub(super) fn show(&self, stage: usize, slots: &[Slot]) {
        let mut states = self.lock();
        let done = &mut states[stage].done;
        done.extend(slots.iter().skip(done.len()).cloned());
        self.changed.notify_all();
    }

    /// Notes that a stage will never be complete.
    pub(super) fn fail(&self, stage: usize) {
        self.lock()[stage].progress = Progress::Failed;
        self.changed.notify_all();
    }

    /// Waits until a stage has more than `seen` layers or is complete: those above, and whether it is; `None` when it
    /// failed.
    pub(super) fn slots_after(&self, stage: usize, seen: usize) -> Option<(Vec<Slot>, bool)> {
        let mut states = self.lock();
        loop {
            let slots = states[stage].slots_after(seen);
            match states[stage].progress {
                Progress::Failed => return None,
                Progress::Complete => return Some((slots, true)),
                Progress::Open if !slots.is_empty() => return Some((slots, false)),
                Progress::Open => {}
            }
            states = self.changed.wait(states).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a stage; `None` when it failed.
    pub(super) fn wait(&self, stage: usize) -> Option<StageState> {
        let mut states = self.lock();
        loop {
            match states[stage].progress {
                Progress::Complete => return states[stage].state.clone(),
                Progress::Failed => return None,
                Progress::Open => {}
            }
            states = self.changed.wait(states).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::oci::media;

    fn layer(text: &str) -> Layer {
        let digest = Digest::of(text.as_bytes());
        let diff_id = DiffId(digest.clone());
        Layer { digest, size: 1, diff_id, media_type: media::OCI_LAYER.to_owned() }
    }

    fn slot(text: &str) -> Slot {
        Slot::unpacked_later(Pending::ready(layer(text)))
    }

    #[test]
    fn what_layers_unpack_to_is_known_when_they_are_written_or_before() {
        let diff_id = |text: &str| layer(text).diff_id;
        let written = Arc::new(Pending::default());
        let never = Slot::unpacked_later(Arc::default()).foretelling(Some(diff_id("b")));
        let slots = vec![slot("a"), never, Slot::unpacked_later(Arc::clone(&written))];
        let key = Digest::of(b"key");
        let state = StageState { key, next: 0, slots, history: Vec::new() };
        assert_eq!(state.diff_ids(), None);
        assert_eq!(state.on(Vec::new()).diff_ids(), Some(Vec::new()));
        written.set(Ok(layer("c")));
        assert_eq!(state.diff_ids(), Some(vec![diff_id("a"), diff_id("b"), diff_id("c")]));
        // One that will never be is not known, either.
        let failed = Arc::new(Pending::default());
        failed.set(Err(Error::internal("it failed")));
        assert_eq!(state.on(vec![Slot::unpacked_later(failed)]).diff_ids(), None);
    }

    #[test]
    fn layers_of_a_stage_are_shown_before_it_is_complete() {
        let slots = [slot("a"), slot("b"), slot("c")];
        let digests = |slots: &[Slot]| -> Vec<Digest> {
            slots.iter().map(|slot| slot.layer.wait().unwrap().digest).collect()
        };
        let after = |states: &States, seen| {
            let (slots, complete) = states.slots_after(0, seen).unwrap();
            (digests(&slots), complete)
        };
        let states = States::new(1);
        states.show(0, &slots[..1]);
        assert_eq!(after(&states, 0), (digests(&slots[..1]), false));
        states.show(0, &slots[..2]);
        assert_eq!(after(&states, 0), (digests(&slots[..2]), false));
        assert_eq!(after(&states, 1), (digests(&slots[1..2]), false));
        let key = Digest::of(b"key");
        let state = StageState { key, next: 3, slots: slots.to_vec(), history: Vec::new() };
        states.set(0, state, true);
        assert_eq!(after(&states, 2), (digests(&slots[2..]), true));
        states.fail(0);
        assert!(states.slots_after(0, 0).is_none());
    }
}
