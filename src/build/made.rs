//! What carrying out a step leaves: its layer, which is written in the background, and its record.
//!
//! In: what changed ([`Done`]), or a record of the store; out: a [`Pending`] layer, and a [`Made`] which becomes a record
//! once the blob is durable ([`Builder::record_made`]).

use super::beforehand::Watched;
use super::blobs;
use super::cache::{self, StepRecord};
use super::jobs::{Content, Job, Pending};
use super::keys;
use super::naming::Blame;
use super::planned::Planned;
use super::remembered::Remembered;
use super::stack::Stack;
use super::stage::{Builder, Tools};
use crate::error::Result;
use crate::executor::sandbox::Ending;
use crate::layers::snapshot::Snapshot;
use crate::layers::tar_write::TimePolicy;
use crate::layers::{Layer, diff};
use crate::oci::{DiffId, Digest};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

/// A step that was carried out, to be recorded once its blob is durable.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) key: Digest,
    pub(super) slot: Arc<Pending>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) created: i64,
    pub(super) started: (i64, u32),
    /// The layers below its own.
    pub(super) stack: Stack,
}

/// What carrying out a step gave.
pub(super) struct Done {
    /// The tree after the step; none where nobody needs one.
    pub(super) tree: Option<Arc<Snapshot>>,
    pub(super) content: Content,
    /// The mounts of a command, which nobody may see in the tree any more.
    pub(super) ending: Option<Ending>,
    /// What was packed of it while it ran.
    pub(super) watched: Option<Arc<Watched>>,
}

impl Done {
    /// A step that changed nothing.
    pub(super) fn nothing(tree: Option<Arc<Snapshot>>) -> Self {
        Self { tree, content: Content::Tree(Arc::default(), None), ending: None, watched: None }
    }

    /// The step's own snapshot.
    pub(super) fn own(&self) -> Option<&Arc<Snapshot>> {
        match &self.content {
            Content::Tree(_, own) => own.as_ref(),
            Content::Unread(unread) => Some(&unread.snapshot),
            Content::Planned(_) => None,
        }
    }

    pub(super) fn planned(&self) -> Option<Arc<Planned>> {
        match &self.content {
            Content::Tree(..) | Content::Unread(_) => None,
            Content::Planned(planned) => Some(Arc::clone(planned)),
        }
    }
}

impl Builder<'_> {
    /// The layer of a record in the wanted variant, when it is for what is below it now and its blob is there.
    pub(super) fn usable(&self, key: &Digest, known: &Remembered) -> Option<Layer> {
        let record = &known.record;
        let layer = record.layers.get(&self.variant).filter(|_| known.is_here)?;
        if self.imports.refuses(&layer.digest) {
            return None;
        }
        // Marks it as used, which its stamp does not show.
        let found = cache::stamp_of(&self.store.images().blob_metadata(&layer.digest)?);
        if found.0 != layer.size {
            return None;
        }
        // A blob that was touched since is read once more before it is believed.
        if record.stamps.get(&self.variant) != Some(&found) {
            if !blobs::is_whole(self.store, &layer.digest) {
                return None;
            }
            let mut seen = record.clone();
            seen.stamps.insert(self.variant.clone(), found);
            self.cache.put(key, seen);
        }
        Some(layer.clone())
    }

    /// Times of the layer of a step that began then.
    pub(super) fn times(&self, started: (i64, u32)) -> TimePolicy {
        TimePolicy { epoch: self.epoch.filter(|_| !self.request.keep_times), started }
    }

    /// Writes the layer of a known step in another variant (epoch, compression) from its snapshot.
    pub(super) fn rewrite(
        &self,
        record: &StepRecord,
        step: (&Digest, &Stack),
        blame: Blame,
        tools: Tools<'_>,
    ) -> Result<Option<Arc<Pending>>> {
        let is_empty = |(variant, layer): (&String, &Layer)| {
            layer.diff_id == empty_diff_id() && keys::has_true_times(variant)
        };
        if record.layers.iter().any(is_empty) {
            let done = Done::nothing(None);
            return Ok(Some(self.rewritten(record, step, (&done, blame), tools)));
        }
        let Some(id) = &record.snapshot else { return Ok(None) };
        let Some(snapshot) = tools.worker.snapshots.find(id) else { return Ok(None) };
        if tools.worker.snapshots.are_whole() {
            // What it changed cannot be told from the whole any more: the step is carried out again.
            return Ok(None);
        }
        let Some(lower) = tools.worker.snapshots.view(snapshot.parent())? else { return Ok(None) };
        let times = self.times(record.started);
        let changes = diff::diff_overlay(
            snapshot.upper(),
            Some(lower.as_fd()),
            &tools.diff_options(),
            &times,
        )?;
        let done = Done {
            tree: None,
            content: Content::Tree(Arc::new(changes), Some(snapshot)),
            ending: None,
            watched: None,
        };
        Ok(Some(self.rewritten(record, step, (&done, blame), tools)))
    }

    fn rewritten(
        &self,
        record: &StepRecord,
        step: (&Digest, &Stack),
        (done, blame): (&Done, Blame),
        tools: Tools<'_>,
    ) -> Arc<Pending> {
        let layer = self.submit(done, record.started, blame, tools);
        let _same_record = self.remember(step, &layer, done, record.created, record.started);
        layer
    }

    pub(super) fn submit(
        &self,
        done: &Done,
        started: (i64, u32),
        blame: Blame,
        tools: Tools<'_>,
    ) -> Arc<Pending> {
        let slot = Arc::new(Pending::default());
        let timings = self.emitter.timings();
        tools.jobs.submit(Job {
            slot: Arc::clone(&slot),
            content: done.content.clone(),
            blame,
            place: timings.place(),
            queued: timings.instant(),
            times: self.times(started),
            watched: done.watched.clone(),
        });
        slot
    }

    pub(super) fn remember(
        &self,
        (key, stack): (&Digest, &Stack),
        slot: &Arc<Pending>,
        done: &Done,
        created: i64,
        started: (i64, u32),
    ) -> StepRecord {
        let made = Made {
            key: key.clone(),
            slot: Arc::clone(slot),
            snapshot: done.own().cloned(),
            created,
            started,
            stack: stack.clone(),
        };
        let record = made.record(BTreeMap::new());
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        record
    }

    /// Records what was made; called when its blobs are durable. Steps whose layer failed are left out, and those above.
    pub(super) fn record_made(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for made in made {
            if let (Some(layer), Some(below)) = (made.slot.get(), made.stack.chain()) {
                let stamp = cache::stamp(&self.store.images().blob_path(&layer.digest));
                let variant = || self.variant.clone();
                let stamps = stamp.map(|stamp| (variant(), stamp)).into_iter().collect();
                let layers = BTreeMap::from([(variant(), layer)]);
                let stands_on = BTreeMap::from([(variant(), below)]);
                let record = StepRecord { stamps, stands_on, ..made.record(layers) };
                self.cache.put(&made.key, record);
            }
        }
    }
}

impl Made {
    fn record(&self, layers: BTreeMap<String, Layer>) -> StepRecord {
        StepRecord {
            version: 1,
            created: self.created,
            started: self.started,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.id().to_owned()),
            layers,
            stamps: BTreeMap::new(),
            stands_on: BTreeMap::new(),
        }
    }
}

/// Diff id of a layer without entries.
pub(super) fn empty_diff_id() -> DiffId {
    DiffId(Digest::of(&[0; 1024]))
}
