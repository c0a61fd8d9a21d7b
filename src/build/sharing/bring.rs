//! What shared caches have comes into the store, and is believed when it is what its record says.

use super::import::{Imports, Offer, Passed, blob};
use super::need;
use super::source::Lost;
use super::unpack::unpack;
use crate::build::cache::{self, StepRecord};
use crate::build::care;
use crate::build::stage::Builder;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::Layer;
use crate::layers::compress::guarded;
use crate::layers::tar_read::{Limits, for_each};
use crate::oci::Digest;
use crate::oci::decompress::{Detected, detect};
use crate::oci::digest::HashingReader;
use crate::progress::Emitter;
use crate::timings::Phase;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Layers fetched at once.
const DOWNLOADS: usize = 4;

/// One layer to be fetched.
struct Wanted {
    key: Digest,
    passed: Passed,
}

impl Imports {
    /// Brings what is needed of the layers that were gone past; false when some cannot be had, so that the pass has to
    /// begin anew. Called while there is one thread; there is one thread again when it returns.
    pub(in crate::build) fn settle(&self, builder: &Builder<'_>, complete: bool) -> Result<bool> {
        let (passed, selected) = self.take_passed();
        if passed.is_empty() && selected.is_empty() {
            return Ok(true);
        }
        let needed = need::needed(builder, complete);
        let (wanted, rest): (Vec<_>, Vec<_>) = passed
            .into_iter()
            .map(|(key, passed)| Wanted { key, passed })
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
                self.ban(offer, &wanted.key);
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
        if self.is_dead(offer.cache) {
            return None;
        }
        let mut span = self.emitter.span(Phase::CacheFrom);
        span.about(&layer.digest);
        let Err(Lost { error, extent }) = self.try_bring(store, offer.cache, layer) else {
            span.took(layer.size);
            return Some(layer.clone());
        };
        self.ban(offer, key);
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
        let (cache, entry) = self.mount(id)?;
        let mut span = self.emitter.span(Phase::CacheFrom);
        span.about(&id);
        let Err(Lost { error, extent }) = unpack(&entry, &self.source(cache), root, worker, store)
        else {
            return Some(true);
        };
        self.bury(cache, extent);
        self.warn(cache, &error.wrap("a cache mount stays empty"));
        Some(false)
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
