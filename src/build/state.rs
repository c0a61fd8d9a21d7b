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
}

impl Slot {
    pub(super) fn new(
        layer: Arc<Pending>,
        snapshot: Option<Arc<Snapshot>>,
        record: &StepRecord,
    ) -> Self {
        Self { layer, snapshot, recorded: record.snapshot.clone(), planned: None }
    }

    /// A layer that was made on nothing: what lies below it is seen only when its blob is unpacked onto that.
    pub(super) fn unpacked_later(layer: Arc<Pending>) -> Self {
        Self { layer, snapshot: None, recorded: None, planned: None }
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

    /// All layers; waits for those that are still being written.
    pub(super) fn layers(&self) -> crate::error::Result<Vec<Layer>> {
        self.slots.iter().map(|slot| slot.layer.wait()).collect()
    }
}

/// The states of all stages, and waiting for one to be complete.
#[derive(Debug)]
pub(super) struct States {
    states: Mutex<Vec<(Option<StageState>, Progress)>>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Complete,
    Failed,
}

impl States {
    pub(super) fn new(count: usize) -> Self {
        let states = Mutex::new(vec![(None, Progress::Open); count]);
        Self { states, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Option<StageState>, Progress)>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all states, while nobody waits for one.
    pub(super) fn reset(&self) {
        self.lock().iter_mut().for_each(|state| *state = (None, Progress::Open));
    }

    /// The state of a stage, if it has begun.
    pub(super) fn get(&self, stage: usize) -> Option<StageState> {
        self.lock()[stage].0.clone()
    }

    /// The state of a complete stage.
    pub(super) fn complete(&self, stage: usize) -> Option<StageState> {
        let states = self.lock();
        (states[stage].1 == Progress::Complete).then(|| states[stage].0.clone()).flatten()
    }

    /// True when nothing of a stage is left to do.
    pub(super) fn is_complete(&self, stage: usize) -> bool {
        let states = self.lock();
        states[stage].1 == Progress::Complete && states[stage].0.is_some()
    }

    /// Stores a state.
    pub(super) fn set(&self, stage: usize, state: StageState, complete: bool) {
        let progress = if complete { Progress::Complete } else { Progress::Open };
        self.lock()[stage] = (Some(state), progress);
        self.changed.notify_all();
    }

    /// Notes that a stage will never be complete.
    pub(super) fn fail(&self, stage: usize) {
        self.lock()[stage].1 = Progress::Failed;
        self.changed.notify_all();
    }

    /// Waits until a stage has more than `seen` layers or is complete: those above, and whether it is; `None` when it
    /// failed.
    pub(super) fn slots_after(&self, stage: usize, seen: usize) -> Option<(Vec<Slot>, bool)> {
        let mut states = self.lock();
        loop {
            let (state, progress) = &states[stage];
            let slots = state.iter().flat_map(|state| state.slots.iter().skip(seen));
            let slots: Vec<Slot> = slots.cloned().collect();
            match progress {
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
            match states[stage].1 {
                Progress::Complete => return states[stage].0.clone(),
                Progress::Failed => return None,
                Progress::Open => {}
            }
            states = self.changed.wait(states).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
