//! How far each stage is: its key, its layers, its history.

use super::assemble::HistoryItem;
use super::cache::StepRecord;
use super::jobs::Pending;
use super::keys;
use super::planned::Planned;
use super::stack::{Stack, Unpacked};
use crate::layers::Layer;
use crate::layers::snapshot::Snapshot;
use crate::oci::{ChainId, DiffId, Digest};
use std::collections::BTreeMap;
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
    /// What it unpacks to in each variant that is remembered of this run of its step. Layers of images have no variants.
    pub variants: Option<BTreeMap<String, DiffId>>,
    /// Key of its step's record, once it is in a stage; none for a layer of an image.
    pub step: Option<Digest>,
}

impl Slot {
    /// The layer of a step with this record. What the snapshot of one that is independent shows has nothing below it.
    pub(super) fn new(
        layer: Arc<Pending>,
        snapshot: Option<Arc<Snapshot>>,
        record: &StepRecord,
        independent: bool,
    ) -> Self {
        let known = |(name, layer): (&String, &Layer)| (name.clone(), layer.diff_id.clone());
        let variants = Some(record.layers.iter().map(known).collect());
        let slot = Self { variants, ..Self::unpacked_later(layer) };
        if independent {
            return slot;
        }
        Self { snapshot, recorded: record.snapshot.clone(), ..slot }
    }

    /// A layer that was made on nothing: what lies below it is seen only when its blob is unpacked onto that.
    pub(super) fn unpacked_later(layer: Arc<Pending>) -> Self {
        let (foretold, variants) = (None, Some(BTreeMap::new()));
        Self {
            layer,
            snapshot: None,
            recorded: None,
            planned: None,
            foretold,
            variants,
            step: None,
        }
    }

    /// A layer of an image, which may be on its way.
    pub(super) fn of_image(layer: Arc<Pending>, diff_id: DiffId) -> Self {
        Self { foretold: Some(diff_id), variants: None, ..Self::unpacked_later(layer) }
    }

    /// The same with what its layer unpacks to: that is on its way, or never comes.
    pub(super) fn foretelling(self, diff_id: Option<DiffId>) -> Self {
        Self { foretold: diff_id, ..self }
    }

    /// What its layer unpacks to, when that is known by now.
    fn diff_id(&self) -> Option<DiffId> {
        self.layer.get().map(|layer| layer.diff_id).or_else(|| self.foretold.clone())
    }

    /// The same, and waits for a layer that is still being written. None for one that cannot be written, which is told
    /// elsewhere.
    fn diff_id_when_written(&self) -> Option<DiffId> {
        self.diff_id().or_else(|| self.layer.wait().ok().map(|layer| layer.diff_id))
    }

    /// What this run of its step unpacks to in a variant, as far as that is remembered.
    fn diff_id_in(&self, variant: &str) -> Option<DiffId> {
        match &self.variants {
            Some(known) => known.get(variant).cloned(),
            None => self.diff_id(),
        }
    }

    fn unpacked(&self) -> Unpacked {
        let (foretold, step) = (self.foretold.clone(), self.step.clone());
        Unpacked { layer: Arc::clone(&self.layer), foretold, step }
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
    /// How many of the layers were looked at for [`StageState::stands_on`], and their chain id.
    pub chained: (usize, Option<ChainId>),
    /// Those of the layers that somebody asked for.
    pub stacked: Stack,
}

impl StageState {
    /// The beginning of a stage.
    pub(super) fn new(key: Digest, slots: Vec<Slot>, history: Vec<HistoryItem>) -> Self {
        Self { key, next: 0, slots, history, chained: (0, None), stacked: Stack::default() }
    }

    /// The same place with other layers, for their tree alone: there is no history in it.
    pub(super) fn on(&self, slots: Vec<Slot>) -> Self {
        Self { next: self.next, ..Self::new(self.key.clone(), slots, Vec::new()) }
    }

    /// What the layer of the next step stands on, when that is known by now; with `waits` layers that are still being
    /// written are waited for. Each layer is hashed once, however many steps ask.
    pub(super) fn stands_on(&mut self, independent: bool, waits: bool) -> Option<ChainId> {
        if independent {
            return Some(keys::stands_on(None));
        }
        let (mut count, mut chain) = std::mem::take(&mut self.chained);
        for slot in &self.slots[count..] {
            let diff_id = if waits { slot.diff_id_when_written() } else { slot.diff_id() };
            let Some(diff_id) = diff_id else { break };
            chain = Some(ChainId::next(chain.as_ref(), &diff_id));
            count += 1;
        }
        self.chained = (count, chain.clone());
        (count == self.slots.len()).then(|| keys::stands_on(chain))
    }

    /// Whether a record is of a run on the very runs of the steps that are below now, in whatever variant.
    pub(super) fn bears(&self, record: &StepRecord, independent: bool) -> bool {
        record.stands_on.iter().any(|(variant, known)| {
            let slots: &[Slot] = if independent { &[] } else { &self.slots };
            let here: Option<Vec<DiffId>> = slots.iter().map(|it| it.diff_id_in(variant)).collect();
            here.is_some_and(|here| keys::stands_on(ChainId::of(&here)) == *known)
        })
    }

    /// The layers on which the layer of the next step stands.
    pub(super) fn stack(&mut self, independent: bool) -> Stack {
        if independent {
            return Stack::default();
        }
        for slot in &self.slots[self.stacked.depth()..] {
            self.stacked = std::mem::take(&mut self.stacked).with(slot.unpacked());
        }
        self.stacked.clone()
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

    /// The layers of a complete stage: one list, whoever asks for it and however often.
    pub(super) fn complete_stack(&self, stage: usize) -> Option<Stack> {
        let mut states = self.lock();
        let known = &mut states[stage];
        if known.progress != Progress::Complete {
            return None;
        }
        known.state.as_mut().map(|state| state.stack(false))
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
        let written = Arc::new(Pending::default());
        let never = Slot::unpacked_later(Arc::default()).foretelling(Some(layer("b").diff_id));
        let slots = vec![slot("a"), never, Slot::unpacked_later(Arc::clone(&written))];
        let key = Digest::of(b"key");
        let mut state = StageState::new(key, slots, Vec::new());
        assert_eq!(state.stack(false).chain(), None);
        assert_eq!(state.on(Vec::new()).stack(false).chain(), Some(chain(&[])));
        written.set(Ok(layer("c")));
        assert_eq!(state.stack(false).chain(), Some(chain(&["a", "b", "c"])));
        // One that will never be is not known, either.
        let failed = Arc::new(Pending::default());
        failed.set(Err(Error::internal("it failed")));
        assert_eq!(state.on(vec![Slot::unpacked_later(failed)]).stack(false).chain(), None);
    }

    fn chain(texts: &[&str]) -> ChainId {
        let diff_ids: Vec<DiffId> = texts.iter().map(|text| layer(text).diff_id).collect();
        keys::stands_on(ChainId::of(&diff_ids))
    }

    #[test]
    fn what_a_layer_stands_on_is_waited_for_when_that_is_asked() {
        let base = Slot::of_image(Arc::default(), layer("base").diff_id);
        let mut state = StageState::new(Digest::of(b"key"), vec![base], Vec::new());
        assert_eq!(state.stands_on(false, false), Some(chain(&["base"])));
        let written = Arc::new(Pending::default());
        state.slots.push(Slot::unpacked_later(Arc::clone(&written)));
        state.slots.push(slot("b"));
        assert_eq!(state.stands_on(false, false), None);
        assert_eq!(state.stands_on(true, false), Some(chain(&[])));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| state.stands_on(false, true));
            written.set(Ok(layer("a")));
            assert_eq!(waits.join().unwrap(), Some(chain(&["base", "a", "b"])));
        });
        assert_eq!(state.stands_on(false, false), Some(chain(&["base", "a", "b"])));
        let failed = Arc::new(Pending::default());
        failed.set(Err(Error::internal("it failed")));
        state.slots.push(Slot::unpacked_later(failed));
        assert_eq!(state.stands_on(false, true), None);
    }

    /// A record with these layers by variant, on these.
    fn record(layers: &[(&str, &str)], below: &[(&str, ChainId)]) -> StepRecord {
        let named = |(name, text): &(&str, &str)| ((*name).to_owned(), layer(text));
        let below = below.iter().map(|(name, chain)| ((*name).to_owned(), chain.clone()));
        StepRecord {
            version: 1,
            created: 1,
            started: (1, 1),
            snapshot: None,
            layers: layers.iter().map(named).collect(),
            stamps: BTreeMap::new(),
            stands_on: below.collect(),
        }
    }

    #[test]
    fn another_variant_tells_whether_the_runs_below_are_the_same() {
        let base = Slot::of_image(Arc::default(), layer("base").diff_id);
        let first = record(&[("x", "first in x")], &[("x", chain(&["base"]))]);
        // It is being written in `y`.
        let slots = vec![base, Slot::new(Arc::default(), None, &first, false)];
        let state = StageState::new(Digest::of(b"key"), slots, Vec::new());
        let below = |variant, layers: &[&str]| record(&[], &[(variant, chain(layers))]);
        assert!(state.bears(&below("x", &["base", "first in x"]), false));
        assert!(!state.bears(&below("x", &["base", "another run"]), false));
        assert!(!state.bears(&below("y", &["base", "first in x"]), false));
        assert!(!state.bears(&record(&[], &[]), false));
        assert!(!state.bears(&below("x", &["base", "first in x"]), true));
        assert!(state.bears(&below("x", &[]), true));
    }

    #[test]
    fn a_complete_stage_has_one_list_of_layers_for_all() {
        let (states, key) = (States::new(1), Digest::of(b"key"));
        let slots = vec![slot("a"), Slot::unpacked_later(Arc::default())];
        let state = || StageState::new(key.clone(), slots.clone(), Vec::new());
        assert!(states.complete_stack(0).is_none());
        states.set(0, state(), false);
        assert!(states.complete_stack(0).is_none());
        states.set(0, state(), true);
        let stacks = [(); 2].map(|()| states.complete_stack(0).unwrap());
        assert!(stacks[0].shares_all_with(&stacks[1]));
        assert!(!stacks[0].shares_all_with(&state().stack(false)));
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
        let state = StageState { next: 3, ..StageState::new(key, slots.to_vec(), Vec::new()) };
        states.set(0, state, true);
        assert_eq!(after(&states, 2), (digests(&slots[2..]), true));
        states.fail(0);
        assert!(states.slots_after(0, 0).is_none());
    }
}
