//! How what a pull wants arrives: its documents into memory, its blobs into a layout, and then the documents behind them.
//!
//! In: a name, or [`Documents`]; out: blobs in a layout, each told of as soon as it is there. Documents in a layout mean
//! that what they name is there, so they come last, children first. The first blob that does not come ends the others of
//! its image, of which stays what came. Images that are fetched at the same time by one client fetch no blob twice. Which
//! documents and blobs an image needs is for [`super::pull`] to say.

use super::blob::Source;
use super::failure::{NetError, NetResult, Trouble};
use super::manifest::{Document, Kind};
use super::pull::{Pull, Pulled, Wanted, digest_of, local};
use super::registry::Registry;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use crate::timings::Phase;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Blobs of one image that are fetched at once.
const DOWNLOADS: usize = 4;

/// The documents of an image, in memory, and which of its blobs are missing.
#[derive(Debug)]
pub struct Documents {
    pub(super) reference: Reference,
    pub(super) pulled: Pulled,
    /// Children first.
    pub(super) list: Vec<Document>,
    pub(super) missing: Vec<Blob>,
}

/// A blob to be fetched.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// The registry may lack it: a layer whose licence forbids copying.
    pub(super) foreign: bool,
}

/// What is heard of the blobs of an image while they come.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// One is there.
    Here(&'a Digest),
    /// One does not come. Nobody begins to fetch another one, and those that come end with what is read next; whoever has
    /// no use for the client any more may stop that, which ends those too that wait for a server.
    Lost,
}

impl Documents {
    /// What the name led to.
    pub fn root(&self) -> &Descriptor {
        &self.pulled.root
    }

    /// The bytes of a document.
    pub fn bytes(&self, digest: &Digest) -> Option<&[u8]> {
        let found = self.list.iter().find(|document| document.digest == *digest);
        found.map(|document| document.bytes.as_slice())
    }

    /// The size that a missing blob has to have; none for one that is not missing.
    pub fn missing(&self, digest: &Digest) -> Option<u64> {
        self.missing.iter().find(|blob| blob.digest == *digest).map(|blob| blob.size)
    }

    /// True when no blob is missing.
    pub fn are_all(&self) -> bool {
        self.missing.is_empty()
    }

    /// Takes the configs out of what is missing.
    fn take_configs(&mut self) -> Vec<Blob> {
        let config = |document: &Document| match &document.kind {
            Kind::Manifest(blobs) => digest_of(blobs.first()?).ok(),
            Kind::Index(_) => None,
        };
        let configs: HashSet<Digest> = self.list.iter().filter_map(config).collect();
        let missing = std::mem::take(&mut self.missing);
        let (configs, rest) = missing.into_iter().partition(|blob| configs.contains(&blob.digest));
        self.missing = rest;
        configs
    }
}

impl Registry {
    /// Fetches the documents of what `wanted` asks for. They are not in `layout` before what they name is: that is for
    /// [`Registry::fetch`].
    pub fn documents(
        &self,
        reference: &Reference,
        wanted: &Wanted,
        layout: &Layout,
        emitter: &Emitter,
    ) -> NetResult<Documents> {
        self.may_pull(reference)?;
        self.pulling(reference, emitter, || {
            let found = Pull { registry: self, reference, layout }.documents(wanted)?;
            if !found.are_all() {
                let total: u128 = found.missing.iter().map(|blob| u128::from(blob.size)).sum();
                let count = found.missing.len();
                emitter.note(format!("pulling {reference}: {count} blobs, {total} bytes"));
            }
            Ok(found)
        })
    }

    /// Brings the configs, which say what is in an image, before its layers.
    pub fn fetch_configs(
        &self,
        documents: &mut Documents,
        layout: &Layout,
        emitter: &Emitter,
    ) -> NetResult<()> {
        let configs = documents.take_configs();
        let reference = &documents.reference;
        self.pulling(reference, emitter, || {
            Arrival { registry: self, reference, layout, emitter, heard: &|_| () }.all(&configs)
        })
    }

    /// Brings the missing blobs in a few threads, then the documents. `heard` is told of each blob when it is there, and of
    /// the first one that does not come.
    pub fn fetch(
        &self,
        documents: &Documents,
        layout: &Layout,
        emitter: &Emitter,
        heard: &(dyn Fn(News<'_>) + Sync),
    ) -> NetResult<Pulled> {
        let reference = &documents.reference;
        self.pulling(reference, emitter, || {
            let arrival = Arrival { registry: self, reference, layout, emitter, heard };
            arrival.all(&documents.missing)?;
            for document in &documents.list {
                layout.put_blob(&document.bytes).map_err(local)?;
            }
            Ok(documents.pulled.clone())
        })
    }

    /// Does a part of a pull: what servers want users to hear is told, and a failure says what it is about.
    fn pulling<T>(
        &self,
        reference: &Reference,
        emitter: &Emitter,
        part: impl FnOnce() -> NetResult<T>,
    ) -> NetResult<T> {
        self.tell(emitter);
        let done = part();
        for text in self.take_warnings() {
            emitter.warn(text);
        }
        done.map_err(|error| error.wrap(format!("cannot pull `{reference}`")))
    }
}

/// Blobs on their way into a layout.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    layout: &'a Layout,
    emitter: &'a Emitter,
    heard: &'a (dyn Fn(News<'_>) + Sync),
}

impl Arrival<'_> {
    /// Downloads in a few threads. The first blob that does not come ends all, and its error is the one that is reported.
    fn all(self, blobs: &[Blob]) -> NetResult<()> {
        let next = AtomicUsize::new(0);
        let over = AtomicBool::new(false);
        let failed: OnceLock<NetError> = OnceLock::new();
        let work = || {
            while !over.load(Ordering::Relaxed) {
                let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let Err(error) = self.one(blob, &over) else { continue };
                // What ends later does so since this one did.
                if failed.set(error).is_ok() {
                    over.store(true, Ordering::Relaxed);
                    self.registry.underway.wake();
                    (self.heard)(News::Lost);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..DOWNLOADS.min(blobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Downloads one, unless it is over before.
    fn one(self, blob: &Blob, over: &AtomicBool) -> NetResult<()> {
        let Self { registry, reference, layout, emitter, heard } = self;
        let mine = registry.underway.take(&blob.digest, over);
        let _mine = mine.ok_or_else(NetError::stopped)?;
        if layout.blob_size(&blob.digest) == Some(blob.size) {
            // With another image, meanwhile.
            heard(News::Here(&blob.digest));
            return Ok(());
        }
        registry.http.check()?;
        let mut span = emitter.span(Phase::Download);
        span.about(&blob.digest);
        let source = Source { registry, reference, digest: &blob.digest, size: blob.size, over };
        match source.store(layout) {
            Ok(()) => {
                span.took(blob.size);
                drop(span);
                heard(News::Here(&blob.digest));
                Ok(())
            }
            Err(error) if blob.foreign && error.trouble() == Trouble::NotFound => {
                let digest = &blob.digest;
                emitter.note(format!("{digest} is not in the registry, as its licence has it"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Blobs that a client fetches just now.
#[derive(Debug, Default)]
pub(super) struct Underway {
    blobs: Mutex<HashSet<Digest>>,
    changed: Condvar,
}

/// The right to fetch a blob, until it is dropped.
struct Mine<'a> {
    underway: &'a Underway,
    digest: &'a Digest,
}

impl Underway {
    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while somebody else fetches the blob; `None` when it is over before.
    fn take<'a>(&'a self, digest: &'a Digest, over: &AtomicBool) -> Option<Mine<'a>> {
        let mut blobs = self.lock();
        while !over.load(Ordering::Relaxed) {
            if blobs.insert(digest.clone()) {
                return Some(Mine { underway: self, digest });
            }
            blobs = self.changed.wait(blobs).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Lets all who wait see whether it is over.
    fn wake(&self) {
        let _nobody_between_look_and_sleep = self.lock();
        self.changed.notify_all();
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.underway.lock().remove(self.digest);
        self.underway.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_blob_when_it_is_over() {
        let (underway, over) = (Underway::default(), AtomicBool::new(false));
        let digest = Digest::of(b"1");
        let mine = underway.take(&digest, &over).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| underway.take(&digest, &over).is_none());
            over.store(true, Ordering::Relaxed);
            underway.wake();
            assert!(other.join().unwrap());
        });
        drop(mine);
        assert!(underway.take(&digest, &AtomicBool::new(false)).is_some());
    }
}
