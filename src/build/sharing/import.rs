//! Taking steps from shared caches.
//!
//! In the pass that has no worker yet a step that only a shared cache knows is gone past with a layer that is not here
//! ([`Imports::pass`]): the keys of what follows need no layer. Afterwards [`Imports::settle`] brings the layers that
//! the image or the steps that are left need, all at once; where one cannot be had, its record is banned and the pass
//! begins anew, so that in the end everything it went past is here. Layers that nobody needs never come.
//! With a worker a step's layer is fetched when the step is reached. How they come is in [`super::bring`].

use super::record::{Document, MountEntry, StepEntry};
use super::source::{Extent, Lost, Source};
use super::unpack::of_mount;
use super::{CacheFrom, FromPlace, SharedCaches};
use crate::build::jobs::Pending;
use crate::build::request::BuildRequest;
use crate::build::running::Shared;
use crate::build::state::Slot;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::net::{NetConfig, Patience, Registry};
use crate::oci::spec::{Descriptor, descriptor};
use crate::oci::{ChainId, DiffId, Digest};
use crate::progress::Emitter;
use crate::timings::Phase;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The caches of `--cache-from`.
#[derive(Debug)]
pub(in crate::build) struct Imports {
    caches: Vec<CacheFrom>,
    registry: Option<Arc<Registry>>,
    pub(super) emitter: Emitter,
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
pub(super) struct Passed {
    pub(super) offer: Offer,
    pub(super) layer: Arc<Pending>,
}

/// What a cache has of a step.
#[derive(Clone, Debug)]
pub(in crate::build) struct Offer {
    /// Which one.
    pub(super) cache: usize,
    /// Nanoseconds since 1970.
    pub(in crate::build) created: i64,
    pub(in crate::build) started: (i64, u32),
    /// None where the cache only knows that there was such a step.
    pub(in crate::build) layer: Option<Layer>,
    /// What its layer unpacks to, whether or not the cache has it.
    pub(in crate::build) diff_id: Option<DiffId>,
    /// What its layer stands on: that on which it was looked for.
    pub(super) stands_on: ChainId,
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

    pub(super) fn source(&self, cache: usize) -> Source<'_> {
        Source { from: &self.caches[cache], registry: self.registry.as_ref() }
    }

    pub(super) fn warn(&self, cache: usize, error: &Error) {
        let place = &self.caches[cache].place;
        self.emitter.warn(format!("cannot use the cache `{place}`: {}", error.in_one_line()));
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
        let mut span = self.emitter.span(Phase::CacheFrom);
        span.about(&self.caches[cache].place);
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

    /// What was gone past since the last time, and which selections were told.
    pub(super) fn take_passed(&self) -> (Vec<(Digest, Passed)>, BTreeMap<Digest, Digest>) {
        let mut state = self.lock();
        let passed = std::mem::take(&mut state.passed).into_iter();
        (
            passed.map(|((key, _), passed)| (key, passed)).collect(),
            std::mem::take(&mut state.selected),
        )
    }

    /// The first cache that has the directory of a cache mount, unless it is asked no more.
    pub(super) fn mount(&self, id: &str) -> Option<(usize, MountEntry)> {
        if self.caches.is_empty() {
            return None;
        }
        let mut state = self.lock();
        let said = self.said(&mut state).iter().enumerate();
        let mut found = said.filter_map(|(cache, said)| Some((cache, of_mount(&said.mounts, id)?)));
        let (cache, entry) = found.next()?;
        let entry = entry.clone();
        (!state.dead.contains(&cache)).then_some((cache, entry))
    }

    /// Has this step no more.
    pub(super) fn ban(&self, offer: &Offer, key: &Digest) {
        self.lock().banned.insert((offer.cache, key.clone()));
    }

    /// Whether a cache is asked no more.
    pub(super) fn is_dead(&self, cache: usize) -> bool {
        self.lock().dead.contains(&cache)
    }

    /// Asks no more for what a failure says will not come; false where that was known.
    pub(super) fn bury(&self, cache: usize, extent: Extent) -> bool {
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
