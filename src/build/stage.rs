//! One stage: for each step the key, the cache, and if need be the work.
//!
//! [`Builder::advance`] without a worker goes on while the cache answers and stops at the first step that needs a
//! rootfs; with a worker it goes to the end. The same code path gives both the same keys.

use super::assemble::HistoryItem;
use super::bind_copies::Copies;
use super::cache::StepCache;
use super::care;
use super::downloads::Downloads;
use super::explain::Explainer;
use super::images::BaseImage;
use super::jobs::{Content, Jobs, Pending};
use super::keys;
use super::made::{Done, Made};
use super::naming::{StepName, phase_of};
use super::order::{Limit, Permit};
use super::prepare::Prepared;
use super::remembered::Remembered;
use super::remote::Remotes;
use super::request::BuildRequest;
use super::running::{Claim, Doing, Running, Shared};
use super::selections::Selections;
use super::sharing::export::Exports;
use super::sharing::import::Imports;
use super::stack::Stack;
use super::state::{Slot, StageState, States};
use super::store::Store;
use super::tick;
use super::tree;
use super::unread::Unread;
use super::worker::Worker;
use crate::context::FileDigestCache;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::apply::is_in_dev;
use crate::layers::beforehand::Manner;
use crate::layers::diff;
use crate::layers::snapshot::Draft;
use crate::layers::times::TimePolicy;
use crate::oci::Digest;
use crate::plan::step::{BaseRef, BuildPlan, RunMountKind, StageBase, StagePlan, Step, StepKind};
use crate::progress::{Emitter, Event, StepId};
use crate::timings::Phase;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// What all stages of a build share.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub request: &'a BuildRequest,
    pub plan: &'a BuildPlan,
    pub store: &'a Arc<Store>,
    pub cache: StepCache,
    pub imports: &'a Imports,
    pub exports: &'a Exports,
    pub emitter: &'a Emitter,
    pub images: BTreeMap<BaseRef, BaseImage>,
    /// What of them is still to come.
    pub downloads: &'a Downloads,
    pub epoch: Option<i64>,
    pub states: States,
    pub limit: Limit,
    /// What comes after each step of each stage.
    pub ways: Vec<Vec<u64>>,
    pub variant: String,
    pub file_digests: FileDigestCache,
    pub next_step: AtomicU32,
    pub made: Mutex<Vec<Made>>,
    pub running: Running,
    /// Stages whose next step the cache does not have.
    pub missing: Mutex<BTreeSet<usize>>,
    pub remotes: Remotes,
    /// The image of `--qemu-image`, when it is needed.
    pub qemu_image: OnceLock<BaseImage>,
    /// Held while the tree of `--qemu-image` is looked for.
    pub qemu_tree: Mutex<()>,
    pub explainer: Explainer,
    /// Of what bind mounts show.
    pub copies: Copies,
    pub selections: Selections,
}

/// The tools of a build that runs steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tools<'a> {
    pub worker: &'a Worker,
    pub jobs: &'a Jobs,
}

impl Builder<'_> {
    /// Goes on with a stage as far as possible; true when it is complete.
    pub(super) fn advance(&self, stage: usize, tools: Option<Tools<'_>>) -> Result<bool> {
        // From a step to the one after it, where nothing comes between.
        let mut place = None;
        let plan = &self.plan.stages[stage];
        // Waiting for the stage below belongs to the first step.
        let waiting = self.emitter.timings().at_step(stage, 1);
        let Some(mut state) = self.begin(stage, tools.is_some())? else { return Ok(false) };
        drop(waiting);
        let shown = plan.steps.iter().filter(|step| !matches!(step.kind, StepKind::Config)).count();
        let mut position = plan.steps[..state.next]
            .iter()
            .filter(|step| !matches!(step.kind, StepKind::Config))
            .count();
        while state.next < plan.steps.len() {
            let step = &plan.steps[state.next];
            if let Some(tools) = tools {
                tools.worker.cancel.check()?;
            }
            if matches!(step.kind, StepKind::Config) {
                state.history.extend(history(step, None));
                state.next += 1;
                continue;
            }
            position += 1;
            place = place.filter(|_| self.goes_straight_on(step));
            let _at = self.emitter.timings().at_step(stage, position);
            let name =
                StepName { stage, plan, platform: self.shown_platform(stage), position, of: shown };
            let went_on = self
                .step(&mut state, step, &name, tools, &mut place)
                .map_err(|error| self.placed(error, step, stage))?;
            if !went_on {
                self.states.set(stage, state, false);
                return Ok(false);
            }
            state.next += 1;
            if tools.is_some() {
                self.states.show(stage, &state.slots);
            }
        }
        self.states.set(stage, state, true);
        Ok(true)
    }

    /// The state to go on from; `None` when the stage below is not complete yet.
    fn begin(&self, stage: usize, wait: bool) -> Result<Option<StageState>> {
        if let Some(state) = self.states.get(stage) {
            return Ok(Some(state));
        }
        let fresh = |key, slots, history| Some(StageState::new(key, slots, history));
        Ok(match &self.plan.stages[stage].base {
            StageBase::Scratch => fresh(keys::base(None), Vec::new(), Vec::new()),
            StageBase::Image(base) => {
                let image = self.image(base)?;
                fresh(keys::base(Some(&image.manifest)), image.slots(), image.history())
            }
            StageBase::Stage(below) => {
                let below =
                    if wait { Some(self.wait_for(*below)?) } else { self.states.complete(*below) };
                below.map(|state| StageState { next: 0, ..state })
            }
        })
    }

    /// The state of another stage, once it is complete.
    pub(super) fn wait_for(&self, stage: usize) -> Result<StageState> {
        let _span = self.emitter.span(Phase::WaitStage);
        self.states.wait(stage).ok_or_else(stopped)
    }

    fn claim(&self, key: &Digest, stack: &Stack, place: &mut Option<Permit<'_>>) -> Claim<'_> {
        let _span = self.emitter.span(Phase::WaitSame);
        self.running.claim(key, stack, &mut || *place = None)
    }

    /// Whether a stage may keep its place until it knows that it needs one for this step: what comes between is short and
    /// waits for nobody.
    fn goes_straight_on(&self, step: &Step) -> bool {
        let takes_files = |kind: &RunMountKind| {
            matches!(kind, RunMountKind::Bind { .. } | RunMountKind::Cache { from: Some(_), .. })
        };
        let is_short = match &step.kind {
            StepKind::Run(run) => !run.mounts.iter().any(|mount| takes_files(&mount.kind)),
            StepKind::Config | StepKind::Workdir(_) => true,
            StepKind::Copy(_) => false,
        };
        is_short && self.imports.is_empty()
    }

    /// A place among the steps that work, for the next step of a stage; `place` is the one that it still has.
    fn take_place(
        &self,
        state: &StageState,
        stage: usize,
        (prepared, mut place): (&Prepared, Option<Permit<'_>>),
        worker: &Worker,
    ) -> Result<Permit<'_>> {
        if !prepared.is_independent() && self.is_base_coming(state, stage)? {
            // Before: with a place it would keep out those whose base is here.
            place = None;
            self.await_base(state, stage, worker)?;
        }
        let span = self.emitter.span(Phase::WaitPlace);
        let way = self.ways[stage][state.next];
        let permit = match place {
            Some(place) => self.limit.exchange(place, way),
            None => self.limit.take(way),
        };
        drop(span);
        // The wait, and that for the stage that does the same, may have been long.
        worker.cancel.check()?;
        Ok(permit)
    }

    pub(super) fn image(&self, base: &BaseRef) -> Result<&BaseImage> {
        self.images
            .get(base)
            .ok_or_else(|| Error::internal(format!("image `{}` was not resolved", base.reference)))
    }

    /// The image on which a stage finally stands.
    pub(super) fn image_below(&self, stage: usize) -> Result<Option<&BaseImage>> {
        match &self.plan.stages[stage].base {
            StageBase::Scratch => Ok(None),
            StageBase::Image(base) => self.image(base).map(Some),
            StageBase::Stage(below) => self.image_below(*below),
        }
    }

    /// One step; false when it needs a worker and there is none.
    fn step<'b>(
        &'b self,
        state: &mut StageState,
        step: &Step,
        name: &StepName<'_>,
        tools: Option<Tools<'_>>,
        place: &mut Option<Permit<'b>>,
    ) -> Result<bool> {
        let looking = self.emitter.span(Phase::LookUp);
        let Some(prepared) = self.prepare(state, step, name.plan, tools.map(|t| t.worker))? else {
            return Ok(false);
        };
        self.explainer.saw(name.stage, state, &prepared);
        let (key, own) = (prepared.key.clone(), prepared.record.clone());
        let (alone, waits) = (prepared.is_independent(), tools.is_some());
        let looks = !self.ignores_cache(name.plan);
        let took = |state: &mut StageState, shared, offer| {
            self.took(state, (step, name), (&key, &own), shared, offer)
        };
        let mut found = || *place = None;
        let known =
            if looks { self.remembered(&own, state, (alone, waits), &mut found) } else { None };
        if let Some(known) = &known
            && let Some(layer) = self.usable(&own, known)
        {
            let slot = Slot::new(Pending::ready(layer), None, &known.record, alone);
            return Ok(took(state, Shared::of(slot, &known.record), None));
        }
        let mut stands_on = || state.stands_on(alone, waits);
        let offer = if looks { self.offer(&own, &mut stands_on) } else { None };
        if let (Some(offer), None) = (&offer, tools) {
            let slot = offer.slot(self.imports.pass(&own, offer.clone()));
            return Ok(took(state, offer.shared(slot), Some(offer.clone())));
        }
        let fitting = known.as_ref().filter(|known| known.fits).map(|known| &known.record);
        let Some(tools) = tools else {
            if fitting.is_none() {
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(name.stage);
            }
            return Ok(false);
        };
        drop(looking);
        let stack = state.stack(alone);
        let doing = match self.claim(&own, &stack, place) {
            Claim::Mine(doing) => doing,
            Claim::Failed => return Err(stopped()),
            Claim::Done(shared) => return Ok(took(state, shared, None)),
        };
        if let Some(shared) = offer.and_then(|offer| self.imported((&own, &stack), &offer)) {
            doing.done(shared.clone());
            return Ok(took(state, shared, None));
        }
        let blame = self.blame(step, name.stage);
        if let Some(record) = fitting
            && let Some(layer) = self.rewrite(record, (&own, &stack), blame, tools)?
        {
            let shared = Shared::of(Slot::new(layer, None, record, alone), record);
            doing.done(shared.clone());
            return Ok(took(state, shared, None));
        }
        self.perform(
            state,
            (step, name),
            (prepared, &stack),
            (doing, known.as_ref()),
            (tools, place),
        )
    }

    /// Carries a step out; its layer is written in the background.
    fn perform<'b>(
        &'b self,
        state: &mut StageState,
        (step, name): (&Step, &StepName<'_>),
        (prepared, stack): (Prepared, &Stack),
        (doing, known): (Doing<'_>, Option<&Remembered>),
        (tools, place): (Tools<'_>, &mut Option<Permit<'b>>),
    ) -> Result<bool> {
        let (key, own) = (prepared.key.clone(), prepared.record.clone());
        let alone = prepared.is_independent();
        let permit = self.take_place(state, name.stage, (&prepared, place.take()), tools.worker)?;
        let id = self.announce(step, name);
        self.tell_why(id, (name.stage, state.next), (known, stack));
        let began = Instant::now();
        let started = now();
        match self.carry_out((state, name.stage), step, prepared, (id, started), tools) {
            Ok(mut done) => {
                let layer = self.submit(&done, started, self.blame(step, name.stage), tools);
                let created = nanoseconds(now());
                self.explainer.carried_out(name.stage, state.next);
                let record = self.remember((&own, stack), &layer, &done, created, started);
                let planned = done.planned();
                // From here on others may mount the tree.
                drop(done.ending.take());
                let slot = Slot { planned, ..Slot::new(layer, done.tree, &record, alone) };
                let shared = Shared::of(slot, &record);
                doing.done(shared.clone());
                self.note_step(name.stage, (&own, stack), &shared, None);
                append(state, step, (key, own), shared.slot, created);
                self.emitter.emit(Event::StepDone { id, took: began.elapsed() });
                *place = Some(permit);
                Ok(true)
            }
            Err(error) => {
                let exit_code = match error.kind() {
                    ErrorKind::RunFailed(code) => Some(code),
                    _ => None,
                };
                self.emitter.emit(match error.kind() {
                    ErrorKind::Interrupted(_) => Event::StepStopped { id },
                    _ => Event::StepFailed { id, exit_code },
                });
                Err(error)
            }
        }
    }

    /// `--no-cache`, or `--no-cache-filter` with the name of the stage.
    pub(super) fn ignores_cache(&self, plan: &StagePlan) -> bool {
        let named =
            |name: &String| plan.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.request.no_cache || self.request.no_cache_stages.iter().any(named)
    }

    /// Whether a step whose layer is empty changed nothing, or only times that the layer does not tell for its epoch: later
    /// steps see these, and so does a build without an epoch.
    fn is_unchanged(draft: &Draft<'_>, times: TimePolicy, tools: Tools<'_>) -> Result<bool> {
        let true_times = TimePolicy { epoch: None, ..times };
        let placeholders = tools.diff_options().placeholders;
        Ok(times.epoch.is_none() || draft.changes(placeholders, &true_times)?.is_empty())
    }

    fn carry_out(
        &self,
        (state, stage): (&StageState, usize),
        step: &Step,
        prepared: Prepared,
        (id, started): (StepId, (i64, u32)),
        tools: Tools<'_>,
    ) -> Result<Done> {
        let (worker, times) = (tools.worker, self.times(started));
        if let Some(planned) = self.planned(state, stage, step, &prepared, (times, tools))? {
            let content = Content::Planned(Arc::new(planned));
            return Ok(Done { tree: None, content, ending: None, watched: None });
        }
        // The diff of the step before has looked at what a RUN may make again.
        let has_own_times = step.as_run().is_some() && tick::are_short(self.store);
        if !has_own_times {
            tick::outlive(state.last_made());
        }
        let nothing = prepared.is_independent().then(|| state.on(Vec::new()));
        let below = nothing.as_ref().unwrap_or(state);
        let mounting = self.emitter.span(Phase::Mount);
        let draft = tree::draft(self.store, below, worker, self.others_want(stage, state))?;
        drop(mounting);
        let working = self.emitter.span(phase_of(step));
        let is_watched = step.as_run().is_some() && !worker.snapshots.are_whole();
        let manner = Manner { options: tools.diff_options(), times };
        let watched = is_watched.then(|| tools.jobs.watch(draft.upper(), manner)).flatten();
        let ending = self.work(&draft, (stage, state.next), prepared, id, worker);
        if let Some(watched) = &watched {
            watched.end();
        }
        let ending = ending?;
        drop(working);
        if step.as_run().is_some() && Unread::is_worth_it(&draft, &times, tools)? {
            care::room::check(self.store, self.emitter)?;
            let unread = Unread::of(draft, tools)?;
            let tree = Some(Arc::clone(&unread.snapshot));
            return Ok(Done { tree, content: Content::Unread(Arc::new(unread)), ending, watched });
        }
        let _diff = self.emitter.span(Phase::Diff);
        let changes = draft.changes(tools.diff_options().placeholders, &times)?;
        care::room::check(self.store, self.emitter)?;
        if changes.is_empty() && Self::is_unchanged(&draft, times, tools)? {
            drop(ending);
            return Ok(Done::nothing(draft.unchanged()?));
        }
        if tools.worker.isolation.placeholders() && changes.devices().any(|path| !is_in_dev(path)) {
            draft.note_placeholders();
        }
        let own = draft.commit()?;
        let content = Content::Tree(Arc::new(changes), Some(Arc::clone(&own)));
        Ok(Done { tree: Some(own), content, ending, watched })
    }
}

impl Tools<'_> {
    pub(super) fn diff_options(self) -> diff::DiffOptions {
        diff::DiffOptions {
            flavour: self.worker.snapshots.xattr_flavour(),
            placeholders: self.worker.isolation.placeholders(),
        }
    }
}

/// Appends a step: its key and that of its record, its layer, and when that was made.
pub(super) fn append(
    state: &mut StageState,
    step: &Step,
    (key, own): (Digest, Digest),
    slot: Slot,
    created: i64,
) {
    state.key = key;
    state.slots.push(Slot { step: Some(own), ..slot });
    state.history.extend(history(step, Some(created)));
}

fn history(step: &Step, created: Option<i64>) -> Option<HistoryItem> {
    let created_by = step.created_by.clone()?;
    Some(HistoryItem::Step { created_by, created: if step.empty_layer { None } else { created } })
}

/// Time now, seconds and nanoseconds, by the clock that the kernel stamps files with.
pub(super) fn now() -> (i64, u32) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (time.tv_sec, time.tv_nsec as u32)
}

fn nanoseconds(time: (i64, u32)) -> i64 {
    time.0.saturating_mul(1_000_000_000).saturating_add(time.1.into())
}

/// Another stage failed; its own error is the one to show.
pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted(0), "stopped because another stage failed")
}
