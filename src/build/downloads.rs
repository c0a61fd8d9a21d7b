//! The images of a build that are on their way, while it is planned and while its steps run.
//!
//! Planning needs manifests and configs, which are there at once. Layers come by [`Downloads::run`]: beside the stages, or
//! before the image is made where nothing runs. Each is given to all who wait for it when it is there, so that it is
//! unpacked while others still come. Images get their names when all have come.
//!
//! The first blob that does not come ends all others; its error is that of the build, and whoever waits is only stopped.

use super::coming::Coming;
use super::images::{BaseImage, open_in};
use super::jobs::Pending;
use super::stage::stopped;
use super::store::Store;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::sandbox::Cancel;
use crate::layers::Layer;
use crate::net::{NetConfig, News, Patience, Registry};
use crate::oci::blobs::Blobs;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Platform, Reference};
use crate::progress::Emitter;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Images fetched at once.
const IMAGES: usize = 4;

/// The images, and who waits for their layers.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    /// One client for all: what it learns while the build is planned is of use later, and it fetches no blob twice.
    registry: Option<Registry>,
    /// And one that waits for nobody.
    asking: Option<Registry>,
    images: Vec<Coming>,
    waiting: Vec<Waiting>,
    failed: AtomicBool,
}

/// A layer that comes.
#[derive(Debug)]
struct Waiting {
    layer: Layer,
    slot: Arc<Pending>,
}

impl Downloads {
    /// The client.
    pub(super) fn registry(&mut self, net: &NetConfig) -> Result<&Registry> {
        if self.registry.is_none() {
            self.registry = Some(Registry::new(net)?);
        }
        Ok(self.registry.as_ref().expect("it was just made"))
    }

    /// A client for what a build can do without: who does not answer holds it up once, and not for long.
    pub(super) fn asking(&mut self, net: &NetConfig) -> Result<&Registry> {
        if self.asking.is_none() {
            let net = NetConfig { patience: Patience::short(), ..net.clone() };
            self.asking = Some(Registry::new(&net)?);
        }
        Ok(self.asking.as_ref().expect("it was just made"))
    }

    /// One more that has to come.
    pub(super) fn add(&mut self, image: Coming) {
        self.images.push(image);
    }

    /// What the store will have.
    pub(super) fn expected<'a>(&'a self, store: &'a Store) -> Expected<'a> {
        Expected { images: store.images(), coming: &self.images }
    }

    /// What a name will mean, if an image of this name is pulled.
    pub(super) fn named(&self, name: &Reference) -> Option<&Descriptor> {
        let image = self.images.iter().rev().find(|image| image.name() == name)?;
        Some(image.documents.root())
    }

    /// Descriptor of the manifest or index of this digest, if that is what is pulled.
    pub(super) fn root(&self, digest: &Digest) -> Option<&Descriptor> {
        let mut roots = self.images.iter().map(|image| image.documents.root());
        roots.find(|root| root.digest().as_ref() == digest.as_str())
    }

    /// Reads manifest and config of one platform; layers that are on their way are given later.
    pub(super) fn open(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Result<BaseImage> {
        let image = open_in(&self.expected(store), descriptor, platform)?;
        if !image.layers.iter().any(|layer| self.is_coming(layer)) {
            return Ok(image);
        }
        let slots = image.layers.iter().map(|layer| self.slot(layer)).collect();
        Ok(image.coming(slots))
    }

    fn is_coming(&self, layer: &Layer) -> bool {
        let mut coming = self.images.iter().filter(|image| !image.is_here());
        coming.any(|image| image.documents.missing(&layer.digest).is_some())
    }

    fn slot(&mut self, layer: &Layer) -> Arc<Pending> {
        if !self.is_coming(layer) {
            return Pending::ready(layer.clone());
        }
        let slot = Arc::<Pending>::default();
        self.waiting.push(Waiting { layer: layer.clone(), slot: Arc::clone(&slot) });
        slot
    }

    /// True when nothing has to come any more.
    pub(super) fn are_over(&self) -> bool {
        self.images.iter().all(Coming::is_here)
    }

    /// Whether one failed: there is no use in another attempt then.
    pub(super) fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Brings everything and gives it its names.
    pub(super) fn finish(&self, store: &Store, emitter: &Emitter) -> Result<()> {
        let done = self.run(store, emitter, None);
        let named = self.give_names(store);
        done.and(named)
    }

    /// Lets names mean the images that are here, and have none yet. Each waits for the disk.
    pub(super) fn give_names(&self, store: &Store) -> Result<()> {
        let name = |image: &Coming| image.give_name(store).map_err(|error| image.placed(error));
        self.images.iter().try_for_each(name)
    }

    /// Brings everything; with `cancel` until that is cancelled. Nobody waits for a layer any more afterwards.
    pub(super) fn run(
        &self,
        store: &Store,
        emitter: &Emitter,
        cancel: Option<&Cancel>,
    ) -> Result<()> {
        let left: Vec<&Coming> = self.images.iter().filter(|image| !image.is_here()).collect();
        let Some(registry) = self.registry.as_ref().filter(|_| !left.is_empty()) else {
            return Ok(());
        };
        let fetch = || self.fetch((&left, cancel.is_some()), registry, store, emitter);
        let done = cancel.map_or_else(fetch, |cancel| self.heeding(registry, cancel, fetch));
        let cancelled = cancel.filter(|cancel| cancel.is_cancelled());
        let end = cancelled.map_or_else(stopped, Cancel::error);
        self.give_up(&end);
        match done {
            Ok(()) if registry.is_stopped() => Err(end),
            Ok(()) => Ok(()),
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Brings several images at a time, until one fails or the client is stopped; `beside` steps that work.
    fn fetch(
        &self,
        (left, beside): (&[&Coming], bool),
        registry: &Registry,
        store: &Store,
        emitter: &Emitter,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed = OnceLock::new();
        let work = || {
            while let Some(image) = left.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(error) = self.bring((image, beside), registry, store, emitter) {
                    let _only_one = failed.set(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..IMAGES.min(left.len()) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Brings one image. Gives its error when it was the first that failed, which stops the client at once, whatever else
    /// of it is on its way: what ends since then has done nothing wrong.
    fn bring(
        &self,
        (image, beside): (&Coming, bool),
        registry: &Registry,
        store: &Store,
        emitter: &Emitter,
    ) -> Option<Error> {
        let was_first = AtomicBool::new(false);
        let fail = || {
            if registry.stop() {
                was_first.store(true, Ordering::Relaxed);
            }
        };
        let heard = |news: News<'_>| match news {
            News::Here(digest) => self.give(digest),
            News::Lost => fail(),
        };
        let fetched = image.fetch(registry, store, emitter, &heard);
        let checked = fetched.and_then(|()| image.check(store));
        // Where nothing writes beside it.
        let named = checked.and_then(|()| if beside { Ok(()) } else { image.give_name(store) });
        let error = named.err()?;
        fail();
        was_first.load(Ordering::Relaxed).then(|| image.placed(error))
    }

    /// Does something with a client that is stopped when the build is.
    fn heeding(
        &self,
        registry: &Registry,
        cancel: &Cancel,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let cancelled = cancel.watch()?;
        let pipe = std::io::pipe();
        let (over, running) =
            pipe.or_error(ErrorKind::Environment, || "cannot make a pipe".to_owned())?;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if is_first(&cancelled, &over) {
                    registry.stop();
                    // What is being written ends later than they need to wait.
                    self.give_up(&cancel.error());
                }
            });
            let done = work();
            drop(running);
            done
        })
    }

    /// Lets nobody wait any more.
    fn give_up(&self, end: &Error) {
        for waiting in self.waiting.iter().filter(|waiting| waiting.slot.is_open()) {
            waiting.slot.set(Err(end.clone()));
        }
    }

    /// Gives a blob to all who wait for it.
    fn give(&self, digest: &Digest) {
        for waiting in self.waiting.iter().filter(|waiting| waiting.layer.digest == *digest) {
            waiting.slot.set(Ok(waiting.layer.clone()));
        }
    }
}

/// True once `cancelled` is; false when the other side of `over` is closed before.
fn is_first(cancelled: &OwnedFd, over: &PipeReader) -> bool {
    let mut ends = [PollFd::new(cancelled, PollFlags::IN), PollFd::new(over, PollFlags::IN)];
    // Without an answer everything goes on to its end.
    let _answer = retry_on_intr(|| poll(&mut ends, None));
    !ends[0].revents().is_empty()
}

/// The images of a store as they will be when everything has come.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    images: &'a Layout,
    coming: &'a [Coming],
}

impl Expected<'_> {
    fn document(&self, digest: &Digest) -> Option<&[u8]> {
        self.coming.iter().find_map(|image| image.documents.bytes(digest))
    }
}

impl Blobs for Expected<'_> {
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        let Some(bytes) = self.document(digest) else { return Blobs::open(self.images, digest) };
        let reader: Box<dyn Read + Send + '_> = Box::new(bytes);
        Ok(Some((reader, bytes.len() as u64)))
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let document = self.document(digest).map(|bytes| bytes.len() as u64);
        // One of another size is damaged, and is fetched anew.
        let missing = || self.coming.iter().find_map(|image| image.documents.missing(digest));
        match document.or_else(missing) {
            Some(size) => Ok(Some(size)),
            None => Blobs::size(self.images, digest),
        }
    }
}
