//! Writing what a build knows of its steps to shared caches.
//!
//! Every step that a build took or made is noted ([`Exports::note`]). Layers go to registries while later steps still
//! run, as a head start whose failures are forgotten; at the end the rest follows, then the records, then the name, so
//! that nobody sees a part of a cache. A build that failed leaves what it finished, besides what was there before.

use super::artifact::Artifact;
use super::import::{Imports, Offer, blob};
use super::pack::{self, Place};
use super::record::MountEntry;
use super::record::{Document, LayerEntry, StepEntry};
use super::source::Source;
use super::{CacheFrom, CacheTo, FromPlace, Mode, Mounts, Pick, ToPlace, in_one_line, local};
use crate::build::caches::CacheMounts;
use crate::build::jobs::Pending;
use crate::build::request::BuildRequest;
use crate::build::stage::Builder;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::isolation::Kind;
use crate::executor::sandbox::Cancel;
use crate::layers::Layer;
use crate::net::Registry;
use crate::oci::layout::Layout;
use crate::oci::{Digest, Reference, blobs, media};
use crate::plan::step::CacheSharing;
use crate::plan::step::{BuildPlan, StageBase};
use crate::progress::Emitter;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Uploads at once while steps run.
const UPLOADS: usize = 2;

/// The caches of `--cache-to`, and what is to be in them.
#[derive(Debug)]
pub(in crate::build) struct Exports {
    caches: Vec<CacheTo>,
    inline: bool,
    registry: Option<Arc<Registry>>,
    cancel: Arc<OnceLock<Arc<Cancel>>>,
    notes: Mutex<Notes>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Notes {
    steps: BTreeMap<Digest, Noted>,
    selections: BTreeMap<Digest, Digest>,
    mounts: BTreeMap<String, UsedMount>,
}

/// A cache mount of a RUN of this build.
#[derive(Clone, Debug)]
struct UsedMount {
    /// As the Dockerfile has it.
    id: String,
    sharing: CacheSharing,
}

/// A step of this build.
#[derive(Clone, Debug)]
struct Noted {
    stages: BTreeSet<usize>,
    created: i64,
    started: (i64, u32),
    layer: Arc<Pending>,
    /// Where its layer is when it was never fetched.
    offer: Option<Offer>,
}

/// Layers that wait for a head start.
#[derive(Debug, Default)]
struct Queue {
    layers: VecDeque<(Digest, Arc<Pending>, usize)>,
    /// Stages that may still make some.
    open: usize,
}

/// Says that a stage is at work, until it is dropped.
pub(in crate::build) struct Open<'a>(&'a Exports);

/// What is told of a step.
pub(in crate::build) struct Told<'a> {
    pub(in crate::build) stage: usize,
    pub(in crate::build) key: &'a Digest,
    pub(in crate::build) created: i64,
    pub(in crate::build) started: (i64, u32),
    pub(in crate::build) layer: &'a Arc<Pending>,
    pub(in crate::build) offer: Option<Offer>,
}

impl Exports {
    /// The caches of a request. Fails when one cannot be written, or would replace an image.
    pub(in crate::build) fn of(request: &BuildRequest, emitter: &Emitter) -> Result<Self> {
        let cancel = Arc::<OnceLock<Arc<Cancel>>>::default();
        let mut all = Self {
            caches: Vec::new(),
            inline: request.shared.inline.is_some(),
            registry: None,
            cancel: Arc::clone(&cancel),
            notes: Mutex::default(),
            queue: Mutex::default(),
            changed: Condvar::new(),
        };
        let remote = |cache: &CacheTo| matches!(cache.place, ToPlace::Registry(_));
        if request.shared.to.iter().any(remote) {
            let mut registry = Registry::new(&request.net)?;
            let interrupted = move || cancel.get().is_some_and(|it| it.signal().is_some());
            registry.stop_uploads_when(interrupted);
            all.registry = Some(Arc::new(registry));
        }
        for cache in &request.shared.to {
            match all.check(cache, request) {
                Ok(()) => all.caches.push(cache.clone()),
                Err(error) if cache.ignore_error && error.kind() != ErrorKind::Usage => {
                    warn(emitter, cache, &error);
                }
                Err(error) => return Err(wrap(cache, error)),
            }
        }
        Ok(all)
    }

    /// What would fail later fails now.
    fn check(&self, cache: &CacheTo, request: &BuildRequest) -> Result<()> {
        let reference = match &cache.place {
            ToPlace::Local { dir, .. } => return Layout::create(dir).map(drop),
            ToPlace::Registry(reference) => reference,
        };
        let hint = "give the cache a tag of its own, for example `buildcache`";
        if request.tags.contains(reference) {
            return Err(Error::usage(format!("`{reference}` is the name of the image")).hint(hint));
        }
        let registry = self.registry()?;
        registry.check_push(reference)?;
        // A registry that does not say what it has is no reason to stop.
        match registry.current(reference) {
            Ok(Some((found, bytes))) if is_image(&found, &bytes) => Err(Error::image(format!(
                "`{reference}` is an image, which the cache would replace"
            ))
            .hint(hint)),
            _ => Ok(()),
        }
    }

    fn registry(&self) -> Result<&Arc<Registry>> {
        self.registry.as_ref().ok_or_else(|| Error::internal("no client for caches"))
    }

    /// True when nobody wants to know of steps.
    fn is_empty(&self) -> bool {
        self.caches.is_empty() && !self.inline
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another attempt begins.
    pub(in crate::build) fn forget(&self) {
        *self.notes() = Notes::default();
    }

    /// Notes a step that was taken or made.
    pub(in crate::build) fn note(&self, told: Told<'_>) {
        if self.is_empty() {
            return;
        }
        let fresh = || Noted {
            stages: BTreeSet::new(),
            created: told.created,
            started: told.started,
            layer: Arc::clone(told.layer),
            offer: told.offer,
        };
        self.notes().steps.entry(told.key.clone()).or_insert_with(fresh).stages.insert(told.stage);
        let mut queue = self.queue();
        if queue.open > 0 {
            queue.layers.push_back((told.key.clone(), Arc::clone(told.layer), told.stage));
            self.changed.notify_one();
        }
    }

    /// Notes what a selection is.
    pub(in crate::build) fn note_selection(&self, key: &Digest, digest: &Digest) {
        if !self.is_empty() {
            self.notes().selections.insert(key.clone(), digest.clone());
        }
    }

    /// Notes a cache mount that a RUN has: under which name it is kept, its id, and how it is shared.
    pub(in crate::build) fn note_mount(&self, name: &str, id: &str, sharing: CacheSharing) {
        if self.caches.iter().any(|cache| cache.mounts.has(id)) {
            let used = UsedMount { id: id.to_owned(), sharing };
            self.notes().mounts.insert(name.to_owned(), used);
        }
    }

    /// A stage goes to work.
    pub(in crate::build) fn open(&self) -> Open<'_> {
        self.queue().open += 1;
        Open(self)
    }

    /// How many threads should [`Exports::follow`].
    pub(in crate::build) fn followers(&self) -> usize {
        if self.registry.is_some() && !self.caches.is_empty() { UPLOADS } else { 0 }
    }

    /// Uploads end when a signal stops the build.
    pub(in crate::build) fn stop_with(&self, cancel: &Arc<Cancel>) {
        // A second attempt of a build has the same worker.
        let _same = self.cancel.set(Arc::clone(cancel));
    }

    fn interrupted(&self) -> bool {
        self.cancel.get().is_some_and(|cancel| cancel.signal().is_some())
    }

    /// Uploads layers as they get done, until no stage is at work any more.
    pub(in crate::build) fn follow(&self, builder: &Builder<'_>) {
        let mut queue = self.queue();
        loop {
            if self.interrupted() {
                return;
            }
            if let Some((_, layer, stage)) = queue.layers.pop_front() {
                drop(queue);
                self.send(builder, &layer, stage);
                queue = self.queue();
            } else if queue.open == 0 {
                return;
            } else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn send(&self, builder: &Builder<'_>, layer: &Pending, stage: usize) {
        let (Ok(layer), Ok(registry)) = (layer.wait(), self.registry()) else { return };
        for cache in &self.caches {
            if let ToPlace::Registry(reference) = &cache.place
                && wants(cache, builder.plan, stage)
            {
                // The end does it again, and tells.
                let images = builder.store.images();
                let _head_start = registry.push_blob(images, &blob(&layer), reference);
            }
        }
    }

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
                let (sent, all) = self.push(reference, store, &artifact)?;
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
        let place = match (&cache.place, &layout) {
            (ToPlace::Registry(reference), _) => Place::Registry(self.registry()?, reference),
            (_, Some(layout)) => Place::Layout(layout),
            (_, None) => return Err(Error::internal("a layout was not opened")),
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
        let source = Source { from: &from, registry: self.registry.as_ref() };
        source.records().ok().map(|(document, _)| document)
    }

    /// How many blobs were sent, and how many there are.
    fn push(
        &self,
        target: &Reference,
        store: &Store,
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
        let sent = registry.push_blobs(store.images(), &absent, target)?;
        let dir = tempfile::Builder::new()
            .prefix("cache-")
            .tempdir_in(store.sub("tmp"))
            .or_error(ErrorKind::Environment, || "cannot write into the store".to_owned())?;
        let small = Layout::create(dir.path())?;
        let config = small.put_document(super::artifact::CONFIG, &artifact.config)?;
        registry.push_blob(&small, &config, target)?;
        if let Some(bytes) = artifact.empty {
            let empty = small.put_document("application/octet-stream", bytes)?;
            registry.push_blob(&small, &empty, target)?;
        }
        registry.put_manifest(target, media::OCI_MANIFEST, &artifact.manifest)?;
        Ok((sent, artifact.layers.len()))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.queue().open -= 1;
        self.0.changed.notify_all();
    }
}

/// Whether a cache is to have the layers of a stage.
fn wants(cache: &CacheTo, plan: &BuildPlan, stage: usize) -> bool {
    cache.mode == Mode::Max || plan.targets.iter().any(|target| is_below(plan, *target, stage))
}

/// True for a stage whose layers are in those of `of`.
pub(super) fn is_below(plan: &BuildPlan, of: usize, stage: usize) -> bool {
    let mut at = of;
    loop {
        match plan.stages[at].base {
            _ if at == stage => return true,
            StageBase::Stage(below) => at = below,
            _ => return false,
        }
    }
}

fn is_image(found: &crate::oci::spec::Descriptor, bytes: &[u8]) -> bool {
    match blobs::parse(found, bytes) {
        Ok(blobs::Parsed::Manifest(manifest)) => {
            media::is_image_config(manifest.config().media_type())
        }
        Ok(blobs::Parsed::Index(index)) => {
            let about = |entry: &crate::oci::spec::Descriptor| entry.platform().is_some();
            index.manifests().iter().any(about)
        }
        Err(_) => false,
    }
}

fn wrap(cache: &CacheTo, error: Error) -> Error {
    error.wrap(format!("cannot write the cache `{}`", cache.place))
}

fn warn(emitter: &Emitter, cache: &CacheTo, error: &Error) {
    emitter.warn(format!("cannot write the cache `{}`: {}", cache.place, in_one_line(error)));
}
