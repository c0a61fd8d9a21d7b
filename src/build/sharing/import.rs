//! Taking steps from shared caches.
//!
//! In the pass that has no worker yet a step that only a shared cache knows is gone past with a layer that is not here
//! ([`Imports::pass`]): the keys of what follows need no layer. Afterwards [`Imports::settle`] brings the layers that
//! the image or the steps that are left need, all at once; where one cannot be had, its record is banned and the pass
//! begins anew, so that in the end everything it went past is here. Layers that nobody needs never come.
//! With a worker a step's layer is fetched when the step is reached.

use super::need;
use super::record::{Document, MountEntry, StepEntry};
use super::source::{Extent, Lost, Source};
use super::unpack::{of_mount, unpack};
use super::{CacheFrom, FromPlace, SharedCaches, in_one_line};
use crate::build::cache::{self, StepRecord};
use crate::build::care;
use crate::build::jobs::Pending;
use crate::build::request::BuildRequest;
use crate::build::running::Shared;
use crate::build::stage::Builder;
use crate::build::state::Slot;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::Layer;
use crate::layers::compress::guarded;
use crate::layers::tar_read::{Limits, for_each};
use crate::net::{NetConfig, Patience, Registry};
use crate::oci::decompress::{Detected, detect};
use crate::oci::digest::HashingReader;
use crate::oci::spec::{Descriptor, descriptor};
use crate::oci::{ChainId, DiffId, Digest};
use crate::progress::Emitter;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Layers fetched at once.
const DOWNLOADS: usize = 4;

/// The caches of `--cache-from`.
#[derive(Debug)]
pub(in crate::build) struct Imports {
    caches: Vec<CacheFrom>,
    registry: Option<Arc<Registry>>,
    emitter: Emitter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What each cache says, once it was asked; nothing for one that failed.
    said: Option<Vec<Said>>,
    /// Records that led to nothing, by cache and key.
    banned: HashSet<(usize, Digest)>,
    /// Caches that do not answer any more.
    dead: HashSet<usize>,
    /// Layers that cannot be unpacked.
    refused: HashSet<Digest>,
    /// What the present pass went past, by key and by what it stands on.
    passed: HashMap<(Digest, ChainId), Passed>,
    selected: BTreeMap<Digest, Digest>,
}

#[derive(Debug, Default)]
struct Said {
    /// It said nothing that is of use.
    failed: bool,
    steps: HashMap<Digest, StepEntry>,
    selections: HashMap<Digest, Digest>,
    mounts: Vec<MountEntry>,
}

#[derive(Clone, Debug)]
struct Passed {
    offer: Offer,
    layer: Arc<Pending>,
}

/// What a cache has of a step.
#[derive(Clone, Debug)]
pub(in crate::build) struct Offer {
    cache: usize,
    /// Nanoseconds since 1970.
    pub(in crate::build) created: i64,
    pub(in crate::build) started: (i64, u32),
    /// None where the cache only knows that there was such a step.
    pub(in crate::build) layer: Option<Layer>,
    /// What its layer unpacks to, whether or not the cache has it.
    pub(in crate::build) diff_id: Option<DiffId>,
    /// What its layer stands on: that on which it was looked for.
    stands_on: ChainId,
}

impl Offer {
    /// Its layer, which is not here and may never come, in a stage.
    pub(in crate::build) fn slot(&self, layer: Arc<Pending>) -> Slot {
        Slot::unpacked_later(layer).foretelling(self.diff_id.clone())
    }

    /// Its step with this layer.
    pub(in crate::build) fn shared(&self, slot: Slot) -> Shared {
        Shared { slot, created: self.created, started: self.started }
    }
}

/// One layer to be fetched.
struct Wanted {
    key: Digest,
    passed: Passed,
}

impl Imports {
    /// The caches of a request. Fails only on settings that cannot be used.
    pub(in crate::build) fn of(request: &BuildRequest, emitter: &Emitter) -> Result<Self> {
        let SharedCaches { from, .. } = &request.shared;
        // Nothing would be looked up in them.
        let caches = if request.no_cache { Vec::new() } else { from.clone() };
        let remote = caches.iter().any(|cache| matches!(cache.place, FromPlace::Registry(_)));
        let net = NetConfig { patience: Patience::short(), ..request.net.clone() };
        let registry = remote.then(|| Registry::new(&net)).transpose()?.map(Arc::new);
        if let Some(registry) = &registry {
            registry.tell(emitter);
        }
        Ok(Self { caches, registry, emitter: emitter.clone(), state: Mutex::default() })
    }

    /// Has this layer no more: it cannot be unpacked. Records of the store that came from here do not count either.
    pub(in crate::build) fn refuse(&self, layer: &Digest) {
        self.lock().refused.insert(layer.clone());
    }

    /// Whether a layer is one of those.
    pub(in crate::build) fn refuses(&self, layer: &Digest) -> bool {
        self.lock().refused.contains(layer)
    }

    /// True when there are none.
    pub(in crate::build) fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, cache: usize) -> Source<'_> {
        Source { from: &self.caches[cache], registry: self.registry.as_ref() }
    }

    fn warn(&self, cache: usize, error: &Error) {
        let place = &self.caches[cache].place;
        self.emitter.warn(format!("cannot use the cache `{place}`: {}", in_one_line(error)));
    }

    /// What the caches say; they are asked once.
    fn said<'s>(&self, state: &'s mut State) -> &'s [Said] {
        if state.said.is_none() {
            let mut silent: HashSet<&str> = HashSet::new();
            let mut all = Vec::new();
            for cache in 0..self.caches.len() {
                let registry = self.registry_of(cache);
                let said = match registry {
                    Some(name) if silent.contains(name) => None,
                    _ => self.ask(cache, &mut |lost| {
                        silent.extend(registry.filter(|_| lost.extent == Extent::Registry));
                    }),
                };
                all.push(said.unwrap_or_else(|| Said { failed: true, ..Said::default() }));
            }
            state.said = Some(all);
        }
        state.said.as_deref().unwrap_or_default()
    }

    fn ask(&self, cache: usize, failed: &mut dyn FnMut(&Lost)) -> Option<Said> {
        match self.source(cache).records() {
            Ok((document, lost)) => {
                if lost > 0 {
                    let text = format!("{lost} of its layers are not among its blobs");
                    self.warn(cache, &Error::integrity(text));
                }
                Some(Said::of(document))
            }
            Err(lost) => {
                failed(&lost);
                self.warn(cache, &lost.error);
                None
            }
        }
    }

    fn registry_of(&self, cache: usize) -> Option<&str> {
        match &self.caches[cache].place {
            FromPlace::Registry(reference) => Some(&reference.registry),
            FromPlace::Local { .. } => None,
        }
    }

    /// Whether any of them has something of a step in a variant, on whatever layers.
    pub(in crate::build) fn know(&self, key: &Digest, variant: &str) -> bool {
        if self.caches.is_empty() {
            return false;
        }
        let mut state = self.lock();
        let mut entries = self.said(&mut state).iter().filter_map(|said| said.steps.get(key));
        entries.any(|entry| entry.stands_on(variant).is_some())
    }

    /// What a cache has of a step in a variant on these layers, the first one that has its layer.
    pub(in crate::build) fn find(
        &self,
        key: &Digest,
        (variant, stands_on): (&str, &ChainId),
        media_type: &str,
    ) -> Option<Offer> {
        if self.caches.is_empty() {
            return None;
        }
        let mut state = self.lock();
        self.said(&mut state);
        let mut known = None;
        for (cache, said) in state.said.iter().flatten().enumerate() {
            let Some(entry) = said.steps.get(key) else { continue };
            if entry.stands_on(variant) != Some(stands_on) {
                continue;
            }
            if state.dead.contains(&cache) || state.banned.contains(&(cache, key.clone())) {
                continue;
            }
            let fits = |layer: &&Layer| {
                layer.media_type == media_type && !state.refused.contains(&layer.digest)
            };
            let of_variant = entry.layers.iter().find(|layer| layer.variant == variant);
            let layer = of_variant.map(|entry| &entry.layer).filter(fits).cloned();
            let (created, started) = (entry.created, entry.started);
            let diff_id = entry.diff_id(variant).cloned();
            let stands_on = stands_on.clone();
            let offer = Offer { cache, created, started, layer, diff_id, stands_on };
            if offer.layer.is_some() {
                return Some(offer);
            }
            known.get_or_insert(offer);
        }
        known
    }

    /// Why none of them gave a step on these layers, for `--explain-cache`.
    pub(in crate::build) fn why_not(
        &self,
        key: &Digest,
        (variant, stands_on): (&str, Option<&ChainId>),
    ) -> Vec<String> {
        let state = self.lock();
        let said = state.said.iter().flatten().enumerate();
        let reason = |(cache, said): (usize, &Said)| {
            let place = &self.caches[cache].place;
            let of_variant =
                |entry: &StepEntry| entry.layers.iter().any(|it| it.variant == variant);
            match said.steps.get(key) {
                _ if said.failed => format!("the cache `{place}` cannot be used"),
                None => format!("the cache `{place}` does not have it"),
                Some(entry) if entry.layers.is_empty() => {
                    format!("the cache `{place}` knows it, and does not have its layer")
                }
                Some(entry) if !of_variant(entry) => {
                    format!("the cache `{place}` has it with another compression or epoch")
                }
                Some(entry) if entry.stands_on(variant) != stands_on => {
                    format!("the cache `{place}` has it for other layers below it")
                }
                Some(_) => format!("the cache `{place}` has it, and its layer cannot be used"),
            }
        };
        said.map(reason).collect()
    }

    /// What a selection was.
    pub(in crate::build) fn selection(&self, key: &Digest) -> Option<Digest> {
        if self.caches.is_empty() {
            return None;
        }
        let mut state = self.lock();
        let found = self.said(&mut state).iter().find_map(|said| said.selections.get(key))?.clone();
        state.selected.insert(key.clone(), found.clone());
        Some(found)
    }

    /// Goes past a step: its layer comes later, or never when nobody needs it.
    pub(in crate::build) fn pass(&self, key: &Digest, offer: Offer) -> Arc<Pending> {
        let mut state = self.lock();
        let which = (key.clone(), offer.stands_on.clone());
        let fresh = || Passed { offer, layer: Arc::default() };
        Arc::clone(&state.passed.entry(which).or_insert_with(fresh).layer)
    }

    /// Brings what is needed of the layers that were gone past; false when some cannot be had, so that the pass has to
    /// begin anew. Called while there is one thread; there is one thread again when it returns.
    pub(in crate::build) fn settle(&self, builder: &Builder<'_>, complete: bool) -> Result<bool> {
        let (passed, selected) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.passed), std::mem::take(&mut state.selected))
        };
        if passed.is_empty() && selected.is_empty() {
            return Ok(true);
        }
        let needed = need::needed(builder, complete);
        let (wanted, rest): (Vec<_>, Vec<_>) = passed
            .into_iter()
            .map(|((key, _), passed)| Wanted { key, passed })
            .partition(|wanted| needed.iter().any(|it| Arc::ptr_eq(it, &wanted.passed.layer)));
        let layers = wanted.iter().filter_map(|wanted| wanted.passed.offer.layer.as_ref());
        let (count, bytes) = layers
            .fold((0, 0), |(count, bytes), layer| (count + 1, u128::from(layer.size) + bytes));
        if count > 0 {
            self.emitter.note(format!("taking {count} layers, {bytes} bytes, from other machines"));
        }
        let came = self.bring_all(builder, &wanted);
        if came.iter().any(Option::is_some) {
            builder.store.images().sync()?;
        }
        let mut all = true;
        for (wanted, layer) in wanted.iter().zip(came) {
            let offer = &wanted.passed.offer;
            if let Some(layer) = layer {
                record(builder, &wanted.key, offer, &layer);
                wanted.passed.layer.set(Ok(layer));
            } else {
                self.lock().banned.insert((offer.cache, wanted.key.clone()));
                all = false;
            }
        }
        if all {
            for unneeded in rest {
                let error = Error::integrity("the layer of a shared cache was not fetched");
                unneeded.passed.layer.set(Err(error));
            }
            for (key, digest) in selected {
                builder.cache.remember_selection(&key, &digest);
            }
        }
        Ok(all)
    }

    fn bring_all(&self, builder: &Builder<'_>, wanted: &[Wanted]) -> Vec<Option<Layer>> {
        let came: Vec<Mutex<Option<Layer>>> = wanted.iter().map(|_| Mutex::default()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = wanted.get(at) else { return };
                let layer = self.bring(builder.store, &one.key, &one.passed.offer);
                *came[at].lock().unwrap_or_else(PoisonError::into_inner) = layer;
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..DOWNLOADS.min(wanted.len()) {
                scope.spawn(work);
            }
            work();
        });
        let layer = |one: Mutex<_>| one.into_inner().unwrap_or_else(PoisonError::into_inner);
        came.into_iter().map(layer).collect()
    }

    /// Brings one layer into the store and verifies it; none when it cannot be had, which is said.
    pub(in crate::build) fn bring(
        &self,
        store: &Store,
        key: &Digest,
        offer: &Offer,
    ) -> Option<Layer> {
        let layer = offer.layer.as_ref()?;
        if self.lock().dead.contains(&offer.cache) {
            return None;
        }
        let Err(Lost { error, extent }) = self.try_bring(store, offer.cache, layer) else {
            return Some(layer.clone());
        };
        self.lock().banned.insert((offer.cache, key.clone()));
        let first = self.bury(offer.cache, extent);
        if first {
            self.warn(offer.cache, &error);
        }
        None
    }

    /// Fills the empty directory of a cache mount; `None` when no cache has it, or the one that does is asked no more.
    /// `Some(false)`: what it has is of no use, which is said, and the directory is not empty any more.
    pub(in crate::build) fn fill(
        &self,
        (id, root): (&str, BorrowedFd<'_>),
        worker: &Worker,
        store: &Store,
    ) -> Option<bool> {
        if self.caches.is_empty() {
            return None;
        }
        let (cache, entry) = {
            let mut state = self.lock();
            let said = self.said(&mut state).iter().enumerate();
            let mut found =
                said.filter_map(|(cache, said)| Some((cache, of_mount(&said.mounts, id)?)));
            let (cache, entry) = found.next()?;
            let entry = entry.clone();
            if state.dead.contains(&cache) {
                return None;
            }
            (cache, entry)
        };
        let Err(Lost { error, extent }) = unpack(&entry, &self.source(cache), root, worker, store)
        else {
            return Some(true);
        };
        self.bury(cache, extent);
        self.warn(cache, &error.wrap("a cache mount stays empty"));
        Some(false)
    }

    /// Asks no more for what a failure says will not come; false where that was known.
    fn bury(&self, cache: usize, extent: Extent) -> bool {
        let mut state = self.lock();
        match (extent, self.registry_of(cache)) {
            (Extent::Blob, _) => true,
            (Extent::Registry, Some(registry)) => {
                let same = |at: &usize| self.registry_of(*at) == Some(registry);
                let news = !state.dead.contains(&cache);
                state.dead.extend((0..self.caches.len()).filter(same));
                news
            }
            _ => state.dead.insert(cache),
        }
    }

    fn try_bring(&self, store: &Store, cache: usize, layer: &Layer) -> Result<(), Lost> {
        let blob = blob(layer);
        let here = store.images().has(&blob);
        // One that is here and damaged comes once more.
        if here && check(store, layer).is_ok() {
            return Ok(());
        }
        self.source(cache).bring(&blob, store.images())?;
        care::room::check(store, &Emitter::silent())?;
        // What is not what its record says stays, since another record may say the right thing of it.
        Ok(check(store, layer)?)
    }
}

impl Said {
    fn of(document: Document) -> Self {
        let steps = document.steps.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let selections = document.selections.into_iter().collect();
        Self { failed: false, steps, selections, mounts: document.mounts }
    }
}

pub(super) fn blob(layer: &Layer) -> Descriptor {
    descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size)
}

/// Reads a blob to its end: it is what its digest says, and unpacks to what the diff id says, which is a tar.
fn check(store: &Store, layer: &Layer) -> Result<()> {
    let what = || format!("cannot read layer {}", layer.digest);
    let mut file = BufReader::with_capacity(1 << 18, store.images().open_blob(&blob(layer))?);
    let packing = detect(file.fill_buf().or_error(ErrorKind::Integrity, what)?);
    let mut plain = HashingReader::new(guarded(file, Limits::default().ratio)?);
    // What it is matters only when it is what it should be.
    let entries = for_each(&mut plain, &Limits::default(), |_, _| Ok(()));
    std::io::copy(&mut plain, &mut std::io::sink()).or_error(ErrorKind::Integrity, what)?;
    let found = plain.finish();
    let (digest, wanted) = (&layer.digest, &layer.diff_id);
    if found == layer.diff_id.0 {
        let kind = &layer.media_type;
        // Whoever pulls the image believes the media type.
        let as_said = match packing {
            Detected::Gzip => kind.ends_with("+gzip"),
            Detected::Zstd => kind.ends_with("+zstd"),
            Detected::Plain | Detected::Bzip2 | Detected::Xz => !kind.contains('+'),
        };
        if !as_said {
            return Err(Error::integrity(format!("layer {digest} is not packed as {kind}")));
        }
        return entries
            .map_err(|error| error.wrap(format!("layer {digest} is no archive of files")));
    }
    Err(Error::integrity(format!(
        "the content of layer {digest} has the wrong digest: expected {wanted}, found {found}"
    )))
}

/// Lets the store know a step whose blob is durable.
fn record(builder: &Builder<'_>, key: &Digest, offer: &Offer, layer: &Layer) {
    let variant = || builder.variant.clone();
    let stamp = cache::stamp(&builder.store.images().blob_path(&layer.digest));
    let record = StepRecord {
        version: 1,
        created: offer.created,
        started: offer.started,
        snapshot: None,
        layers: BTreeMap::from([(variant(), layer.clone())]),
        stamps: stamp.map(|stamp| (variant(), stamp)).into_iter().collect(),
        stands_on: BTreeMap::from([(variant(), offer.stands_on.clone())]),
    };
    builder.cache.put(key, record);
}
