//! `--explain-cache`: why the cache did not have a step.
//!
//! In: what a build looks up and carries out; out: for each step that is carried out one or more reasons, by comparison
//! with what the same step depended on when it was carried out last. That is written at the end of a build that carried
//! something out, asked for or not, so that the next build can be asked; nothing of it is on the way of a build that
//! finds everything. It is a service: it decides nothing, and what is missing is told as unknown.

pub(super) mod files;
mod memory;
mod parts;

use super::prepare::Prepared;
use super::remembered::Remembered;
use super::stack::Stack;
use super::stage::Builder;
use super::state::StageState;
use super::store::Store;
use crate::oci::Digest;
use crate::plan::step::{CopyFrom, RunMountKind, StageBase, Step, StepKind};
use crate::progress::{Event, StepId};
use files::FileList;
use memory::{StageMemory, StepMemory};
use parts::Around;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Part of the files that a COPY takes.
pub(super) use parts::{FILES, MOUNTED};

/// Reasons of one step.
const REASONS: usize = 12;
/// Lists of files that are kept for each that a stage has.
const GENERATIONS: usize = 4;
/// Characters of a reason.
const LONGEST: usize = 4000;

/// What a build remembers of its steps, by stage and index.
#[derive(Debug)]
pub(super) struct Explainer {
    dir: PathBuf,
    seen: Mutex<BTreeMap<(usize, usize), Seen>>,
    /// What was known of a stage when this build began.
    known: Mutex<BTreeMap<usize, Arc<Before>>>,
}

/// A step that was looked up.
#[derive(Clone, Debug)]
struct Seen {
    /// Under which its record is.
    key: Digest,
    /// Of the tree below.
    parent: Digest,
    /// Whether its key depends on that tree.
    stands_alone: bool,
    inputs: Vec<(String, Digest)>,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Cached,
    Missed,
    CarriedOut,
}

/// A stage as it was, and which of its steps the present ones are.
#[derive(Debug)]
struct Before {
    stage: Option<StageMemory>,
    /// Of those that there are, when not for this one.
    platforms: Vec<String>,
    aligned: BTreeMap<usize, usize>,
}

impl Before {
    fn step(&self, at: usize) -> Option<&StepMemory> {
        self.stage.as_ref()?.steps.get(*self.aligned.get(&at)?)
    }
}

impl Explainer {
    pub(super) fn of(store: &Store) -> Self {
        let dir = store.sub("cache").join("explain");
        Self { dir, seen: Mutex::default(), known: Mutex::default() }
    }

    /// A step was looked up.
    pub(super) fn saw(&self, stage: usize, state: &StageState, prepared: &Prepared) {
        let seen = Seen {
            key: prepared.record.clone(),
            parent: state.key.clone(),
            stands_alone: prepared.is_independent(),
            inputs: prepared.inputs.clone(),
            outcome: Outcome::Cached,
        };
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((stage, state.next), seen);
    }

    fn set(&self, stage: usize, at: usize, outcome: Outcome) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = all.get_mut(&(stage, at)) {
            seen.outcome = outcome;
        }
    }

    /// A step was carried out.
    pub(super) fn carried_out(&self, stage: usize, at: usize) {
        self.set(stage, at, Outcome::CarriedOut);
    }

    fn seen(&self, stage: usize, at: usize) -> Option<Seen> {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(stage, at)).cloned()
    }

    /// Keeps which files a digest is over.
    pub(super) fn keep(&self, digest: &Digest, list: FileList) {
        list.keep(&self.dir, digest);
    }
}

impl Builder<'_> {
    /// A step is about to be carried out.
    pub(super) fn tell_why(
        &self,
        id: StepId,
        (stage, at): (usize, usize),
        (known, stack): (Option<&Remembered>, &Stack),
    ) {
        self.explainer.set(stage, at, Outcome::Missed);
        if self.request.explain.wanted {
            let mut reasons = self.reasons(stage, at, known);
            if let Some(seen) = self.explainer.seen(stage, at)
                && !self.ignores_cache(&self.plan.stages[stage])
            {
                let below = stack.chain();
                reasons.extend(self.imports.why_not(&seen.key, (&*self.variant, below.as_ref())));
            }
            let more = reasons.len().saturating_sub(REASONS);
            reasons.truncate(REASONS);
            // What was remembered may be anything; it must not become pages.
            for reason in &mut reasons {
                cut(reason);
            }
            if more > 0 {
                reasons.push(format!("and {more} more"));
            }
            self.emitter.emit(Event::StepMissed { id, reasons });
        }
    }

    fn reasons(&self, stage: usize, at: usize, known: Option<&Remembered>) -> Vec<String> {
        let plan = &self.plan.stages[stage];
        if self.request.no_cache {
            return vec!["`--no-cache` was given".to_owned()];
        }
        if self.ignores_cache(plan) {
            return vec![format!("`--no-cache-filter` names the stage `{}`", parts::named(plan))];
        }
        if let Some(known) = known {
            return vec![self.lost(known)];
        }
        let before = self.before(stage);
        let Some(known) = &before.stage else {
            return vec![match &before.platforms[..] {
                [] => "nothing is known of this stage yet".to_owned(),
                others => format!(
                    "platform: it was carried out for {}, and not for {}",
                    others.join(", "),
                    plan.platform
                ),
            }];
        };
        let Some(seen) = self.explainer.seen(stage, at) else { return Vec::new() };
        let first = first_step(&plan.steps) == Some(at);
        let mut reasons = Vec::new();
        if first && !seen.stands_alone {
            reasons.extend(self.base_changed(stage, &known.base, &seen.parent));
        }
        let Some(old) = before.step(at) else {
            let new = "it is new in this stage".to_owned();
            reasons.push(new);
            return reasons;
        };
        let step = &plan.steps[at];
        let now = self.parts(stage, step, &seen.inputs);
        reasons.extend(parts::differences(
            (&old.text, &old.parts),
            (&step.text, &now),
            &|name, old, new| self.files_changed(step, name, (old, new)),
        ));
        if reasons.is_empty() {
            reasons.push(self.below_changed(stage, at, &seen, old));
        }
        reasons
    }

    /// All of a step is as it was.
    fn below_changed(&self, stage: usize, at: usize, seen: &Seen, old: &StepMemory) -> String {
        if seen.key.as_str() == old.key {
            return "its record is gone: it was removed, or its build did not end well".to_owned();
        }
        let steps = &self.plan.stages[stage].steps;
        let above = (0..at).rev().find(|at| !matches!(steps[*at].kind, StepKind::Config));
        match above.and_then(|above| self.explainer.seen(stage, above)) {
            Some(above) if above.outcome != Outcome::Cached => "the step above missed".to_owned(),
            _ if seen.parent.as_str() != old.parent => {
                "what is below it is another tree than when it was carried out last".to_owned()
            }
            _ => "its inputs are the same in another order or form".to_owned(),
        }
    }

    /// There is a record, and no use for it.
    fn lost(&self, known: &Remembered) -> String {
        let record = &known.record;
        if record.stands_on.is_empty() {
            return "its record is of an older version and names no layers below it".to_owned();
        }
        if !known.fits {
            return "its record is for other layers below it".to_owned();
        }
        let Some(layer) = record.layers.get(&self.variant) else {
            let known: Vec<&str> = record.layers.keys().map(String::as_str).collect();
            return format!(
                "its layer is there with another compression or epoch ({}, not {}), and the tree it was made from is gone",
                known.join(", "),
                self.variant
            );
        };
        let what = match self.store.images().blob_size(&layer.digest) {
            None => "missing",
            Some(_) => "damaged",
        };
        format!("the blob {} of its layer is {what}", layer.digest)
    }

    fn base_changed(&self, stage: usize, old: &(String, String), key: &Digest) -> Option<String> {
        let (name, digest) = self.base(stage, key);
        let (old_name, old_digest) = old;
        if *old_name != name {
            return Some(format!("base changed: `{old_name}` → `{name}`"));
        }
        if *old_digest == digest {
            return None;
        }
        Some(match self.plan.stages[stage].base {
            StageBase::Stage(_) => format!("the {name}, on which it stands, has another tree"),
            _ => format!("base image `{name}` changed: {old_digest} → {digest}"),
        })
    }

    /// What FROM names, and what that is: the image's digest, or the key of a stage's tree.
    fn base(&self, stage: usize, key: &Digest) -> (String, String) {
        match &self.plan.stages[stage].base {
            StageBase::Scratch => ("scratch".to_owned(), String::new()),
            StageBase::Stage(below) => {
                let name = parts::named(&self.plan.stages[*below]);
                (format!("stage {name}"), key.to_string())
            }
            StageBase::Image(base) => {
                let image = self.images.get(base);
                let digest = image.map_or_else(String::new, |image| image.manifest.to_string());
                (base.reference.clone(), digest)
            }
        }
    }

    fn parts(&self, stage: usize, step: &Step, inputs: &[(String, Digest)]) -> memory::Parts {
        let network = match &step.kind {
            StepKind::Run(run) => self.network(run),
            _ => self.request.network,
        };
        let settings = &self.request.run;
        parts::of(step, Around { stage: &self.plan.stages[stage], settings, network, inputs })
    }

    fn files_changed(&self, step: &Step, name: &str, (old, new): (&str, &str)) -> String {
        let from = match &step.kind {
            StepKind::Copy(copy) => Some(&copy.from),
            StepKind::Run(run) => run.mounts.iter().find_map(|mount| match &mount.kind {
                RunMountKind::Bind { from, .. } if name == format!("{MOUNTED}{}", mount.target) => {
                    Some(from)
                }
                _ => None,
            }),
            _ => None,
        };
        let place = parts::place_of(from.unwrap_or(&CopyFrom::Context), &self.plan.stages);
        let digests = (Digest::parse(old), Digest::parse(new));
        let which = match digests {
            (Ok(old), Ok(new)) => files::difference(&self.explainer.dir, &old, &new),
            _ => None,
        };
        let which = which.unwrap_or_else(|| "changed, which of them is not known".to_owned());
        let mounted = name.strip_prefix(MOUNTED);
        let mounted = mounted.map_or_else(String::new, |target| format!(" mounted at {target}"));
        format!("files of {place}{mounted}: {which}")
    }

    /// What was known of a stage.
    fn before(&self, stage: usize) -> Arc<Before> {
        let mut all = self.explainer.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.entry(stage).or_insert_with(|| Arc::new(self.read_before(stage)));
        Arc::clone(before)
    }

    fn read_before(&self, stage: usize) -> Before {
        let plan = &self.plan.stages[stage];
        let mut known = memory::read(&self.memory_path(stage));
        let mut found = known.platforms.remove(&plan.platform.to_string());
        if let Some(stage) = &mut found {
            // No image has so many layers; a file that says so is none of ours.
            stage.steps.truncate(memory::ALIGNED);
        }
        let platforms = known.platforms.into_keys().collect();
        let old: Vec<&str> =
            found.iter().flat_map(|stage| &stage.steps).map(|step| step.text.as_str()).collect();
        let shown = |(_, step): &(usize, &Step)| !matches!(step.kind, StepKind::Config);
        let (at, new): (Vec<usize>, Vec<&str>) = plan
            .steps
            .iter()
            .enumerate()
            .filter(shown)
            .map(|(at, step)| (at, step.text.as_str()))
            .unzip();
        let aligned = memory::align(&old, &new);
        let aligned =
            at.into_iter().zip(aligned).filter_map(|(at, old)| Some((at, old?))).collect();
        Before { stage: found, platforms, aligned }
    }

    fn memory_path(&self, stage: usize) -> PathBuf {
        let stage = parts::named(&self.plan.stages[stage]);
        let origin = &self.request.explain.origin;
        memory::path(&self.explainer.dir, origin, self.plan.source.name(), &stage)
    }

    /// Remembers the stages of which something was carried out.
    pub(super) fn remember_inputs(&self) {
        let seen = self.explainer.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (stage, plan) in self.plan.stages.iter().enumerate() {
            let own: BTreeMap<usize, &Seen> =
                seen.range((stage, 0)..(stage + 1, 0)).map(|((_, at), seen)| (*at, seen)).collect();
            if !own.values().any(|seen| seen.outcome == Outcome::CarriedOut) {
                continue;
            }
            let before = self.before(stage);
            let first = own.values().next().map(|seen| &seen.parent);
            let base = first.map(|parent| self.base(stage, parent)).unwrap_or_default();
            let step = |(at, step): (usize, &Step)| match own.get(&at) {
                Some(seen) if seen.outcome != Outcome::Missed => Some(StepMemory {
                    text: step.text.clone(),
                    key: seen.key.to_string(),
                    parent: seen.parent.to_string(),
                    parts: self.parts(stage, step, &seen.inputs),
                }),
                // It failed, or was not reached: what it was before is still the last that is known.
                _ => before.step(at).cloned(),
            };
            let steps: Vec<StepMemory> = plan.steps.iter().enumerate().filter_map(step).collect();
            let lists = self.kept_lists(&steps, before.stage.as_ref());
            memory::write(
                &self.memory_path(stage),
                &plan.platform.to_string(),
                StageMemory { base, steps, lists },
            );
        }
    }
}

impl Builder<'_> {
    /// The lists of files that stay for a stage: its own and a few older ones, for whoever goes back and forth. The
    /// others are removed, since every change of a file makes another list.
    fn kept_lists(&self, steps: &[StepMemory], before: Option<&StageMemory>) -> Vec<String> {
        let of_files = |(name, _): &(&String, &String)| *name == FILES || name.starts_with(MOUNTED);
        let own = steps.iter().flat_map(|step| step.parts.iter().filter(of_files));
        let mut lists: Vec<String> = own.map(|(_, digest)| digest.clone()).collect();
        let kept = lists.len() * GENERATIONS;
        lists.extend(before.into_iter().flat_map(|stage| stage.lists.clone()));
        let mut seen = BTreeSet::new();
        lists.retain(|list| seen.insert(list.clone()));
        for list in lists.drain(kept.min(lists.len())..) {
            files::forget(&self.explainer.dir, &list);
        }
        lists
    }
}

fn cut(reason: &mut String) {
    if let Some((end, _)) = reason.char_indices().nth(LONGEST) {
        reason.truncate(end);
        reason.push('…');
    }
}

fn first_step(steps: &[Step]) -> Option<usize> {
    steps.iter().position(|step| !matches!(step.kind, StepKind::Config))
}
