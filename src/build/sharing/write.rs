//! The end of a build with `--cache-to`: the layers that are not there yet, the directories of cache mounts, the records,
//! the name.
//!
//! What the cache had before stays where the build failed, and directories of cache mounts stay where their RUNs were
//! cached this time.

use super::artifact::{self, Artifact};
use super::export::{Exports, Noted, Selected, UsedMount, wants, warn, wrap};
use super::import::{Imports, Offer, blob};
use super::pack::{self, Place};
use super::record::{Document, LayerEntry, MountEntry, StepEntry};
use super::source::Source;
use super::{CacheFrom, CacheTo, FromPlace, Mounts, Pick, ToPlace, local};
use crate::build::caches::CacheMounts;
use crate::build::keys;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::isolation::Kind;
use crate::layers::Layer;
use crate::net::Registry;
use crate::oci::layout::{FileLock, Layout};
use crate::oci::spec::{Descriptor, descriptor};
use crate::oci::{Digest, Reference, media};
use crate::plan::step::{BuildPlan, RunMountKind, StepKind};
use crate::progress::Emitter;
use crate::timings::Phase;
use std::collections::BTreeMap;

/// The plan, the variant of its layers, the caches that were read, and what RUNs were done with.
type Inputs<'a> = (&'a BuildPlan, &'a str, &'a Imports, Option<&'a Worker>);

/// What cache mounts are read with, and those that are locked where that was done for all together.
type Reader<'a> = (&'a Worker, Option<&'a CacheMounts>);

impl Exports {
    /// Writes all caches; `failed` says that the build did not get to its end.
    pub(in crate::build) fn finish(
        &self,
        inputs: Inputs<'_>,
        (store, emitter): (&Store, &Emitter),
        failed: bool,
    ) -> Result<()> {
        if self.caches.is_empty() || self.interrupted() || (failed && self.notes().steps.is_empty())
        {
            return Ok(());
        }
        let _heeding = self.cancel.get().map(|cancel| cancel.heed());
        if failed {
            self.leave_push()?;
        }
        let mut first = Ok(());
        for cache in &self.caches {
            let done = self.write(cache, inputs, (store, emitter), failed);
            if self.interrupted() {
                return Ok(());
            }
            match done {
                Ok(()) => {}
                Err(error) if cache.ignore_error || failed => warn(emitter, cache, &error),
                Err(error) => first = first.and(Err(wrap(cache, error))),
            }
        }
        first
    }

    fn write(
        &self,
        cache: &CacheTo,
        inputs: Inputs<'_>,
        (store, emitter): (&Store, &Emitter),
        failed: bool,
    ) -> Result<()> {
        let mut span = emitter.span(Phase::CacheTo);
        span.about(&cache.place);
        let (plan, _, _, worker) = inputs;
        let mut held = self.held(cache, (plan, worker), store)?;
        let _alone = self.alone(cache, emitter)?;
        for is_last in [false, true] {
            let inputs = (inputs, held.as_ref());
            let document = self.compose(cache, inputs, (store, emitter), failed)?;
            // What is in them is in the layout now, which is written to once.
            drop(held.take());
            let artifact = Artifact::new(&document, cache.key.as_ref())?;
            if let Some(text) = self.put(cache, (store, emitter), &artifact, is_last)? {
                let steps = document.steps.len();
                emitter.note(format!("cache to {}: {steps} steps{text}", cache.place));
                break;
            }
        }
        Ok(())
    }

    /// Locks the directories of cache mounts that go into a layout, before that is locked: a RUN that has one may take
    /// long, and whoever writes into the layout would wait for it, too. For registries each is locked when it is packed.
    fn held(
        &self,
        cache: &CacheTo,
        (plan, worker): (&BuildPlan, Option<&Worker>),
        store: &Store,
    ) -> Result<Option<CacheMounts>> {
        let (ToPlace::Local { .. }, Some(worker)) = (&cache.place, worker) else { return Ok(None) };
        let mut wanted = self.notes().mounts.clone();
        let earlier = if cache.mounts == Mounts::None { None } else { self.earlier(cache) };
        for entry in earlier.into_iter().flat_map(|earlier| earlier.mounts) {
            if !self.is_whole(cache, &entry)?
                && let Some((name, mount)) = planned_mount(plan, &entry.mount)
            {
                wanted.entry(name).or_insert(mount);
            }
        }
        wanted.retain(|_, mount| cache.mounts.has(&mount.id));
        let wanted = wanted.into_iter().map(|(name, mount)| (name, mount.sharing)).collect();
        let by_hand = worker.isolation.kind == Kind::Chroot;
        CacheMounts::take(store, wanted, by_hand, &worker.cancel).map(Some)
    }

    /// What is found in a directory stays there until this is dropped.
    fn alone(&self, cache: &CacheTo, emitter: &Emitter) -> Result<Option<FileLock>> {
        let ToPlace::Local { dir, tag } = &cache.place else { return Ok(None) };
        let stopped = || self.cancel.get().and_then(|cancel| cancel.interrupted());
        let go_on = || stopped().map_or(Ok(()), Err);
        let layout = Layout::create(dir)?;
        let lock = layout.writing_alone(emitter, &go_on)?;
        // The image of this build may be there by now.
        local::check(&layout, tag)?;
        Ok(Some(lock))
    }

    /// Brings an artifact to its place, and what there is to say of that; `None` where it has to be made anew, since the
    /// registry misses blobs that it said it has.
    fn put(
        &self,
        cache: &CacheTo,
        (store, emitter): (&Store, &Emitter),
        artifact: &Artifact,
        is_last: bool,
    ) -> Result<Option<String>> {
        let reference = match &cache.place {
            ToPlace::Local { dir, tag } => {
                local::write(
                    store.images(),
                    (&Layout::create(dir)?, tag),
                    artifact,
                    local::Durable::All,
                )?;
                return Ok(Some(String::new()));
            }
            ToPlace::Registry(reference) => reference,
        };
        let registry = self.registry(cache)?;
        let sent = push(&registry, reference, (store, emitter), artifact)?;
        let all = artifact.layers.len();
        match registry.put_manifest(reference, media::OCI_MANIFEST, &artifact.manifest) {
            Ok(()) => Ok(Some(format!(", {sent} of {all} blobs were not there"))),
            Err(error) => match error.unknown_blobs() {
                Some(missing) if !is_last => {
                    registry.doubt(reference, missing);
                    Ok(None)
                }
                _ => Err(error.into()),
            },
        }
    }

    /// What the cache is to say: nothing that stands on blobs which are neither there nor here.
    fn compose(
        &self,
        cache: &CacheTo,
        ((plan, variant, imports, worker), held): (Inputs<'_>, Option<&CacheMounts>),
        (store, emitter): (&Store, &Emitter),
        failed: bool,
    ) -> Result<Document> {
        let worker = worker.map(|worker| (worker, held));
        let mut elsewhere =
            |key: &Digest, offer: &Offer| self.elsewhere(cache, (store, imports), key, offer);
        let wanted = |stage| wants(cache, plan, stage);
        let mut document = self.document(variant, &|_| true, &wanted, &mut elsewhere);
        let used = self.notes().mounts.clone();
        let mut mounts = self.pack(cache, used, worker, (store, emitter))?;
        if (failed || cache.mounts != Mounts::None)
            && let Some(mut earlier) = self.earlier(cache)
        {
            // Those of RUNs that were cached this time.
            let older = std::mem::take(&mut earlier.mounts);
            let known = |entry: &MountEntry| mounts.iter().any(|it| it.mount == entry.mount);
            let older = older.into_iter().filter(|entry| !known(entry)).collect();
            mounts.extend(self.kept(cache, older, (plan, worker), (store, emitter))?);
            if failed {
                document = document.and_older(earlier);
            }
        }
        let mut has = |blob: &Descriptor| Ok(store.images().has(blob) || self.has(cache, blob)?);
        let (document, lost) =
            artifact::standing_on::<Error>(document.with_mounts(mounts), &mut has)?;
        if lost > 0 {
            emitter.warn(format!(
                "the cache `{}` goes without {lost} layers or directories of cache mounts, whose blobs are neither there nor here",
                cache.place
            ));
        }
        Ok(document)
    }

    /// Directories of cache mounts that the cache had before. Where it has lost a chunk of one that is here, too, that is
    /// packed anew.
    fn kept(
        &self,
        cache: &CacheTo,
        older: Vec<MountEntry>,
        (plan, worker): (&BuildPlan, Option<Reader<'_>>),
        (store, emitter): (&Store, &Emitter),
    ) -> Result<Vec<MountEntry>> {
        let mut all = Vec::new();
        for entry in older {
            let is_whole = self.is_whole(cache, &entry)?;
            let here = if is_whole { None } else { planned_mount(plan, &entry.mount) };
            let here = here.into_iter().collect();
            let again = self.pack(cache, here, worker, (store, emitter))?;
            all.push(again.into_iter().next().unwrap_or(entry));
        }
        Ok(all)
    }

    /// Whether the place of a cache has all chunks of a cache mount.
    fn is_whole(&self, cache: &CacheTo, entry: &MountEntry) -> Result<bool> {
        for chunk in &entry.chunks {
            let blob = descriptor(pack::CHUNK.into(), &chunk.digest, chunk.size);
            if !self.has(cache, &blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the place of a cache has a blob.
    fn has(&self, cache: &CacheTo, blob: &Descriptor) -> Result<bool> {
        match &cache.place {
            ToPlace::Registry(reference) => Ok(self.registry(cache)?.has_blob(blob, reference)?),
            ToPlace::Local { dir, .. } => Ok(Layout::open(dir).is_ok_and(|it| it.has(blob))),
        }
    }

    /// Packs directories of cache mounts, as far as the cache is to have them and they are here. One that cannot be read
    /// as a whole is no reason for a build to fail.
    fn pack(
        &self,
        cache: &CacheTo,
        used: BTreeMap<String, UsedMount>,
        worker: Option<Reader<'_>>,
        (store, emitter): (&Store, &Emitter),
    ) -> Result<Vec<MountEntry>> {
        let Some((worker, held)) = worker else { return Ok(Vec::new()) };
        let by_hand = worker.isolation.kind == Kind::Chroot;
        let layout = match &cache.place {
            ToPlace::Local { dir, .. } => Some(Layout::create(dir)?),
            ToPlace::Registry(_) => None,
        };
        let registry = if layout.is_none() { Some(self.registry(cache)?) } else { None };
        let place = match (&cache.place, &layout, &registry) {
            (ToPlace::Registry(reference), _, Some(registry)) => {
                Place::Registry(registry, reference)
            }
            (_, Some(layout), _) => Place::Layout(layout),
            _ => return Err(Error::internal("the place of a cache was not opened")),
        };
        let mut packed = Vec::new();
        for (name, UsedMount { id, sharing }) in used {
            if !cache.mounts.has(&id) {
                continue;
            }
            // Nobody writes to it meanwhile, unless it is shared.
            let own;
            let locked = if let Some(held) = held {
                held
            } else {
                let wanted = vec![(name.clone(), sharing)];
                own = CacheMounts::take(store, wanted, by_hand, &worker.cancel)?;
                &own
            };
            // What got lost since the others were locked is for the next build to bring back.
            let Some(path) = locked.path(&name).ok().filter(|path| path.exists()) else { continue };
            match pack::pack((&name, path), &place, worker, store)? {
                Ok(entry) => packed.push(entry),
                Err(error) => warn_of_mount(emitter, cache, &id, &error),
            }
        }
        Ok(packed)
    }

    /// The steps of stages for which `known` holds, those of stages for which `wanted` holds with their layers; `elsewhere`
    /// looks for layers that were never fetched.
    pub(super) fn document(
        &self,
        variant: &str,
        known: &dyn Fn(usize) -> bool,
        wanted: &dyn Fn(usize) -> bool,
        elsewhere: &mut dyn FnMut(&Digest, &Offer) -> Option<Layer>,
    ) -> Document {
        let (steps, selections) = {
            let notes = self.notes();
            (notes.steps.clone(), notes.selections.clone())
        };
        let entry = |(key, noted): (Digest, Noted)| {
            let any = |holds: &dyn Fn(usize) -> bool| noted.stages.iter().any(|at| holds(*at));
            if !any(known) {
                return None;
            }
            let wanted = any(wanted);
            let layer = match (noted.layer.get(), &noted.offer) {
                _ if !wanted => None,
                (None, Some(offer)) => elsewhere(&key, offer),
                (layer, _) => layer,
            };
            // A step whose layer was never finished is none, and neither is one on top of it.
            if wanted && layer.is_none() && noted.offer.is_none() {
                return None;
            }
            let stands_on = vec![(variant.to_owned(), noted.stack.chain()?)];
            let told = if layer.is_some() { None } else { noted.diff_id() };
            let diff_ids = told.map(|diff_id| (variant.to_owned(), diff_id)).into_iter().collect();
            let layers = layer.map(|layer| LayerEntry { variant: variant.to_owned(), layer });
            let (created, started) = (noted.created, noted.started);
            let layers = layers.into_iter().collect();
            Some(StepEntry { key, created, started, layers, diff_ids, stands_on })
        };
        let entries = steps.into_iter().filter_map(entry).collect();
        let selection = |Selected { stack, what, content }: Selected| {
            Some((keys::selection(&stack.chain()?, &what), content))
        };
        Document::new(entries, selections.into_iter().filter_map(selection).collect())
    }

    /// A layer that only the place has that the build took the step from: it goes from there to here, unless it is here.
    fn elsewhere(
        &self,
        cache: &CacheTo,
        (store, imports): (&Store, &Imports),
        key: &Digest,
        offer: &Offer,
    ) -> Option<Layer> {
        let layer = offer.layer.as_ref()?;
        let there = self.has(cache, &blob(layer)).unwrap_or(false);
        if there { Some(layer.clone()) } else { imports.bring(store, key, offer) }
    }

    /// What the cache says now.
    fn earlier(&self, cache: &CacheTo) -> Option<Document> {
        let place = match &cache.place {
            ToPlace::Registry(reference) => FromPlace::Registry(reference.clone()),
            ToPlace::Local { dir, tag } => {
                FromPlace::Local { dir: dir.clone(), pick: Pick::Tag(tag.clone()) }
            }
        };
        let from = CacheFrom { place, key: cache.key.clone() };
        let registry = self.registry(cache).ok();
        let source = Source { from: &from, registry: registry.as_ref() };
        source.records().ok().map(|(document, _)| document)
    }
}

/// Says that the directory of a cache mount stays here.
fn warn_of_mount(emitter: &Emitter, cache: &CacheTo, id: &str, error: &Error) {
    let (place, why) = (&cache.place, error.in_one_line());
    emitter.warn(format!("the cache `{place}` does not get the cache mount `{id}`: {why}"));
}

/// Sends everything but the manifest; how many blobs were sent.
fn push(
    registry: &Registry,
    target: &Reference,
    (store, emitter): (&Store, &Emitter),
    artifact: &Artifact,
) -> Result<usize> {
    let here = |blob: &&Descriptor| store.images().has(blob);
    let layers: Vec<Descriptor> = artifact.layers.iter().filter(here).cloned().collect();
    let sent = registry.push_blobs(store.images(), &layers, target, emitter)?;
    push_documents(registry, target, (store, emitter), artifact)?;
    Ok(sent)
}

/// Sends what an artifact has beside layers and its manifest.
pub(super) fn push_documents(
    registry: &Registry,
    target: &Reference,
    (store, emitter): (&Store, &Emitter),
    artifact: &Artifact,
) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("cache-")
        .tempdir_in(store.sub("tmp"))
        .or_error(ErrorKind::Environment, || "cannot write into the store".to_owned())?;
    let small = Layout::create(dir.path())?;
    let config = small.put_document(artifact::CONFIG, &artifact.config)?;
    registry.push_blob(&small, &config, target, emitter)?;
    if let Some(bytes) = artifact.empty {
        let empty = small.put_document("application/octet-stream", bytes)?;
        registry.push_blob(&small, &empty, target, emitter)?;
    }
    Ok(())
}

/// The cache mount of this name that a RUN of the plan has, carried out or not.
fn planned_mount(plan: &BuildPlan, key: &Digest) -> Option<(String, UsedMount)> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let runs = steps.filter_map(|step| match &step.kind {
        StepKind::Run(run) => Some(run),
        _ => None,
    });
    runs.flat_map(|run| &run.mounts).find_map(|mount| match &mount.kind {
        // With `from` what is in it has a name of its own that is known while the RUN is at work.
        RunMountKind::Cache { id, from: None, sharing, .. } if pack::mount_key(id) == *key => {
            Some((id.clone(), UsedMount { id: id.clone(), sharing: *sharing }))
        }
        _ => None,
    })
}
