//! Writing what a build knows of its steps to shared caches.
//!
//! Every step that a build took or made is noted ([`Exports::note`]). Layers go to registries while later steps still
//! run, and from time to time what is done by now is written ([`super::stream`]), as head starts whose failures are forgotten;
//! [`super::write`] does the rest at the end.

use super::import::{Offer, blob};
use super::{CacheTo, Mode, ToPlace, local};
use crate::build::jobs::Pending;
use crate::build::push::Pushing;
use crate::build::request::BuildRequest;
use crate::build::stack::Stack;
use crate::build::stage::Builder;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::sandbox::Cancel;
use crate::net::{GivenUp, NetConfig, Patience, Registry};
use crate::oci::layout::Layout;
use crate::oci::{DiffId, Digest, blobs, media};
use crate::plan::step::{BuildPlan, CacheSharing, StageBase};
use crate::progress::Emitter;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Uploads at once while steps run.
const UPLOADS: usize = 2;

/// The caches of `--cache-to`, and what is to be in them.
#[derive(Debug)]
pub(in crate::build) struct Exports {
    pub(super) caches: Vec<CacheTo>,
    inline: bool,
    clients: Mutex<Clients>,
    net: NetConfig,
    pub(super) cancel: Arc<OnceLock<Arc<Cancel>>>,
    notes: Mutex<Notes>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// No stage is at work any more.
    pub(super) closed: Condvar,
}

/// Clients for registries; none where no cache needs one.
#[derive(Debug, Default)]
struct Clients {
    /// That of `--push` where there is one, so that nothing is sent twice.
    usual: Option<Arc<Registry>>,
    /// For caches whose errors are ignored: a registry that does not answer is soon given up.
    impatient: Option<Arc<Registry>>,
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) steps: BTreeMap<Digest, Noted>,
    /// Some of them perhaps twice.
    pub(super) selections: Vec<Selected>,
    pub(super) mounts: BTreeMap<String, UsedMount>,
}

/// A selection of this build.
#[derive(Clone, Debug)]
pub(super) struct Selected {
    /// The layers that it is out of, of all of which it is known what they unpack to.
    pub(super) stack: Stack,
    /// Stands for what was selected.
    pub(super) what: Digest,
    /// Of its content.
    pub(super) content: Digest,
}

/// A cache mount of a RUN of this build.
#[derive(Clone, Debug)]
pub(super) struct UsedMount {
    /// As the Dockerfile has it.
    pub(super) id: String,
    pub(super) sharing: CacheSharing,
}

/// A step of this build.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) stages: BTreeSet<usize>,
    pub(super) created: i64,
    pub(super) started: (i64, u32),
    /// The layers below its own.
    pub(super) stack: Stack,
    pub(super) layer: Arc<Pending>,
    /// Where its layer is when it was never fetched.
    pub(super) offer: Option<Offer>,
}

impl Noted {
    /// What its layer unpacks to, when that is known by now.
    pub(super) fn diff_id(&self) -> Option<DiffId> {
        let told = || self.offer.as_ref().and_then(|offer| offer.diff_id.clone());
        self.layer.get().map(|layer| layer.diff_id).or_else(told)
    }
}

/// Layers that wait for a head start.
#[derive(Debug, Default)]
pub(super) struct Queue {
    layers: VecDeque<(Digest, Arc<Pending>, usize)>,
    /// Stages that may still make some.
    pub(super) open: usize,
}

/// Says that a stage is at work, until it is dropped.
pub(in crate::build) struct Open<'a>(&'a Exports);

/// What is told of a step.
pub(in crate::build) struct Told<'a> {
    pub(in crate::build) stage: usize,
    pub(in crate::build) key: &'a Digest,
    pub(in crate::build) created: i64,
    pub(in crate::build) started: (i64, u32),
    pub(in crate::build) stack: &'a Stack,
    pub(in crate::build) layer: &'a Arc<Pending>,
    pub(in crate::build) offer: Option<Offer>,
}

impl Exports {
    /// The caches of a request. Fails when one cannot be written, or would replace an image.
    pub(in crate::build) fn of(
        request: &BuildRequest,
        pushing: Option<&Pushing>,
        emitter: &Emitter,
    ) -> Result<Self> {
        let mut all = Self {
            caches: Vec::new(),
            inline: request.shared.inline.is_some(),
            clients: Mutex::default(),
            net: request.net.clone(),
            cancel: Arc::default(),
            notes: Mutex::default(),
            queue: Mutex::default(),
            changed: Condvar::new(),
            closed: Condvar::new(),
        };
        let remote = |cache: &CacheTo| matches!(cache.place, ToPlace::Registry(_));
        if request.shared.to.iter().any(remote) {
            let usual = match pushing {
                Some(pushing) => Arc::clone(pushing.registry()),
                None => Arc::new(all.client(Patience::default())?),
            };
            let impatient = all.client(Patience::short())?.with_homes_of(&usual);
            usual.tell(emitter);
            impatient.tell(emitter);
            *all.clients() = Clients { usual: Some(usual), impatient: Some(Arc::new(impatient)) };
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
            ToPlace::Local { dir, tag } => return local::check(&Layout::create(dir)?, tag),
            ToPlace::Registry(reference) => reference,
        };
        let hint = "give the cache a tag of its own, for example `buildcache`";
        if request.tags.contains(reference) {
            return Err(Error::usage(format!("`{reference}` is the name of the image")).hint(hint));
        }
        let registry = self.registry(cache)?;
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

    /// A client whose uploads only a signal ends.
    fn client(&self, patience: Patience) -> Result<Registry> {
        self.client_of(&NetConfig { patience, ..self.net.clone() })
    }

    fn client_of(&self, net: &NetConfig) -> Result<Registry> {
        let mut registry = Registry::new(net)?;
        let cancel = Arc::clone(&self.cancel);
        registry.stop_uploads_when(move || cancel.get().is_some_and(|it| it.signal().is_some()));
        Ok(registry)
    }

    /// A client that says nothing and waits for nobody: others do not hear of what it finds.
    pub(super) fn silent_client(&self) -> Result<Registry> {
        let known = self.clients().usual.clone();
        let known = known.ok_or_else(|| Error::internal("no client for caches"))?;
        let (patience, given_up) = (Patience::short(), GivenUp::default());
        let net = NetConfig { patience, given_up, ..self.net.clone() };
        Ok(self.client_of(&net)?.with_homes_of(&known))
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a failed build that of `--push` sends nothing any more.
    pub(super) fn leave_push(&self) -> Result<()> {
        let mut clients = self.clients();
        if clients.usual.is_some() {
            clients.usual = Some(Arc::new(self.client(Patience::default())?));
        }
        Ok(())
    }

    pub(super) fn registry(&self, cache: &CacheTo) -> Result<Arc<Registry>> {
        let clients = self.clients();
        let client = if cache.ignore_error { &clients.impatient } else { &clients.usual };
        client.clone().ok_or_else(|| Error::internal("no client for caches"))
    }

    /// True when nobody wants to know of steps.
    pub(in crate::build) fn is_empty(&self) -> bool {
        self.caches.is_empty() && !self.inline
    }

    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
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
            stack: told.stack.clone(),
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

    /// Notes what a selection out of these layers is.
    pub(in crate::build) fn note_selection(&self, stack: Stack, what: Digest, content: &Digest) {
        if !self.is_empty() {
            self.notes().selections.push(Selected { stack, what, content: content.clone() });
        }
    }

    /// Notes a cache mount that a RUN has: under which name it is kept, its id, and how it is shared.
    pub(in crate::build) fn note_mount(&self, name: &str, id: &str, sharing: CacheSharing) {
        if self.caches.iter().any(|cache| cache.mounts.has(id)) {
            // Of several mounts the strictest counts, as for the RUN.
            let mut notes = self.notes();
            let fresh = || UsedMount { id: id.to_owned(), sharing };
            let used = notes.mounts.entry(name.to_owned()).or_insert_with(fresh);
            used.sharing = used.sharing.max(sharing);
        }
    }

    /// A stage goes to work.
    pub(in crate::build) fn open(&self) -> Open<'_> {
        self.queue().open += 1;
        Open(self)
    }

    /// Whether anything is to be written while the build goes on.
    pub(in crate::build) fn is_streamed(&self) -> bool {
        !self.caches.is_empty()
    }

    /// How many threads should [`Exports::follow`].
    pub(in crate::build) fn followers(&self) -> usize {
        if self.clients().usual.is_some() && !self.caches.is_empty() { UPLOADS } else { 0 }
    }

    /// Uploads end when a signal stops the build.
    pub(in crate::build) fn stop_with(&self, cancel: &Arc<Cancel>) {
        // A second attempt of a build has the same worker.
        let _same = self.cancel.set(Arc::clone(cancel));
    }

    pub(super) fn interrupted(&self) -> bool {
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
        let Ok(layer) = layer.wait() else { return };
        for cache in &self.caches {
            if let ToPlace::Registry(reference) = &cache.place
                && let Ok(registry) = self.registry(cache)
                && wants(cache, builder.plan, stage)
            {
                // The end does it again, and tells.
                let images = builder.store.images();
                let _head_start =
                    registry.push_blob(images, &blob(&layer), reference, builder.emitter);
            }
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.queue().open -= 1;
        self.0.changed.notify_all();
        self.0.closed.notify_all();
    }
}

/// Whether a cache is to have the layers of a stage.
pub(super) fn wants(cache: &CacheTo, plan: &BuildPlan, stage: usize) -> bool {
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

/// True for an image and for an index of images.
pub(super) fn is_image(found: &crate::oci::spec::Descriptor, bytes: &[u8]) -> bool {
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

pub(super) fn wrap(cache: &CacheTo, error: Error) -> Error {
    error.wrap(format!("cannot write the cache `{}`", cache.place))
}

pub(super) fn warn(emitter: &Emitter, cache: &CacheTo, error: &Error) {
    emitter.warn(format!("cannot write the cache `{}`: {}", cache.place, error.in_one_line()));
}
