//! The end of a build with `--cache-to`: the layers that are not there yet, the directories of cache mounts, the records,
//! the name.
//!
//! What the cache had before stays where the build failed, and directories of cache mounts stay where their RUNs were
//! cached this time.

use super::artifact::{self, Artifact};
use super::export::{Exports, Noted, UsedMount, wants, warn, wrap};
use super::import::{Imports, Offer, blob};
use super::pack::{self, Place};
use super::record::{Document, LayerEntry, MountEntry, StepEntry};
use super::source::Source;
use super::{CacheFrom, CacheTo, FromPlace, Mounts, Pick, ToPlace, local};
use crate::build::caches::CacheMounts;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::isolation::Kind;
use crate::layers::Layer;
use crate::oci::layout::Layout;
use crate::oci::{Digest, Reference, blobs, media};
use crate::plan::step::BuildPlan;
use crate::progress::Emitter;

impl Exports {
    /// Writes all caches; `failed` says that the build did not get to its end.
    pub(in crate::build) fn finish(
        &self,
        inputs: (&BuildPlan, &str, &Imports, Option<&Worker>),
        (store, emitter): (&Store, &Emitter),
        failed: bool,
    ) -> Result<()> {
        if self.caches.is_empty() || self.interrupted() || (failed && self.notes().steps.is_empty())
        {
            return Ok(());
        }
        let _heeding = self.cancel.get().map(|cancel| cancel.heed());
        if failed && self.registry().is_ok() {
            // That of `--push` sends nothing any more.
            self.use_client(self.client()?);
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
        (plan, variant, imports, worker): (&BuildPlan, &str, &Imports, Option<&Worker>),
        (store, emitter): (&Store, &Emitter),
        failed: bool,
    ) -> Result<()> {
        let mut elsewhere =
            |key: &Digest, offer: &Offer| self.elsewhere(cache, (store, imports), key, offer);
        let wanted = |stage| wants(cache, plan, stage);
        let mut document = self.document(variant, &|_| true, &wanted, &mut elsewhere);
        let mut mounts = self.pack(cache, worker, store)?;
        if (failed || cache.mounts != Mounts::None)
            && let Some(mut earlier) = self.earlier(cache)
        {
            // Those of RUNs that were cached this time.
            mounts.append(&mut earlier.mounts);
            if failed {
                document = document.and_older(earlier);
            }
        }
        // The sort is stable, so that of two the new one stays.
        document = document.with_mounts(mounts);
        let artifact = Artifact::new(&document, cache.key.as_ref())?;
        let text = match &cache.place {
            ToPlace::Local { dir, tag } => {
                let layout = Layout::create(dir)?;
                local::write(store.images(), &layout, tag, &artifact)?;
                String::new()
            }
            ToPlace::Registry(reference) => {
                let (sent, all) = self.push(reference, (store, emitter), &artifact)?;
                format!(", {sent} of {all} blobs were not there")
            }
        };
        emitter.note(format!("cache to {}: {} steps{text}", cache.place, document.steps.len()));
        Ok(())
    }

    /// Packs the directories of cache mounts that this build used.
    fn pack(
        &self,
        cache: &CacheTo,
        worker: Option<&Worker>,
        store: &Store,
    ) -> Result<Vec<MountEntry>> {
        let Some(worker) = worker else { return Ok(Vec::new()) };
        let used = self.notes().mounts.clone();
        let by_hand = worker.isolation.kind == Kind::Chroot;
        let layout = match &cache.place {
            ToPlace::Local { dir, .. } => Some(Layout::create(dir)?),
            ToPlace::Registry(_) => None,
        };
        let registry = if layout.is_none() { Some(self.registry()?) } else { None };
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
            // Nobody writes to it who has locked it.
            let wanted = vec![(name.clone(), sharing)];
            let locked = CacheMounts::take(store, wanted, by_hand, &worker.cancel)?;
            let path = locked.path(&name, sharing)?;
            if path.exists() {
                packed.push(pack::pack((&name, path), &place, worker, store)?);
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
            // A step whose layer was never finished is none.
            if wanted && layer.is_none() && noted.offer.is_none() {
                return None;
            }
            let layers = layer.map(|layer| LayerEntry { variant: variant.to_owned(), layer });
            let (created, started) = (noted.created, noted.started);
            Some(StepEntry { key, created, started, layers: layers.into_iter().collect() })
        };
        let entries = steps.into_iter().filter_map(entry).collect();
        Document::new(entries, selections.into_iter().collect())
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
        let there = match &cache.place {
            ToPlace::Registry(reference) => {
                self.registry().ok()?.has_blob(&blob(layer), reference).unwrap_or(false)
            }
            ToPlace::Local { dir, .. } => {
                Layout::open(dir).is_ok_and(|layout| layout.has(&blob(layer)))
            }
        };
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
        let registry = self.registry().ok();
        let source = Source { from: &from, registry: registry.as_ref() };
        source.records().ok().map(|(document, _)| document)
    }

    /// How many blobs were sent, and how many there are.
    fn push(
        &self,
        target: &Reference,
        (store, emitter): (&Store, &Emitter),
        artifact: &Artifact,
    ) -> Result<(usize, usize)> {
        let registry = self.registry()?;
        let mut absent = Vec::new();
        for blob in &artifact.layers {
            if store.images().has(blob) {
                absent.push(blob.clone());
            } else if !registry.has_blob(blob, target)? {
                return Err(blobs::missing(blob));
            }
        }
        let sent = registry.push_blobs(store.images(), &absent, target, emitter)?;
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
        registry.put_manifest(target, media::OCI_MANIFEST, &artifact.manifest)?;
        Ok((sent, artifact.layers.len()))
    }
}
