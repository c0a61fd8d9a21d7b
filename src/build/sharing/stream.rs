//! Shared caches while the build goes on: the steps that it has made by now, beside what the cache had, so that a build that
//! is killed leaves them.
//!
//! All of it is a head start: what fails is forgotten, since the end does it again and tells. So nothing is written where it
//! could do harm: over what cannot be read, under a tag that a registry does not have yet (it may not allow to set it
//! twice), or into a directory that is a context.

use super::artifact::{self, Artifact, Found};
use super::export::{Exports, Queue, wants};
use super::import::{Offer, blob};
use super::record::Document;
use super::source::{Source, copy_blob};
use super::write::push_documents;
use super::{CacheFrom, CacheTo, FromPlace, Pick, ToPlace, local};
use crate::build::request::{BuildRequest, ContextSource};
use crate::build::stage::Builder;
use crate::error::Result;
use crate::net::Registry;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Reference, media};
use crate::progress::Emitter;
use crate::sys::fs;
use crate::timings::Phase;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A build that takes no longer writes its caches once.
const FIRST: Duration = Duration::from_secs(2);

/// Between two times there is at least this, and several times what one takes.
const REST: Duration = Duration::from_secs(10);
const RESTS: u32 = 10;

/// Between two looks at which layers are done.
const LOOK: Duration = Duration::from_millis(500);

impl Exports {
    /// Writes the caches whenever steps were made, until no stage is at work any more.
    pub(in crate::build) fn stream(&self, builder: &Builder<'_>) {
        let caches = self.caches.iter().filter(|cache| !may_be_copied(cache, builder.request));
        // What was there before is no reason to write.
        let mut caches: Vec<(&CacheTo, usize)> = caches.map(|cache| (cache, self.done())).collect();
        let client = self.silent_client().ok();
        let mut due = Instant::now() + FIRST;
        while self.waits() {
            let done = self.done();
            if due > Instant::now() || caches.iter().all(|(_, written)| *written >= done) {
                continue;
            }
            let began = Instant::now();
            for (cache, written) in caches.iter_mut().filter(|(_, written)| *written < done) {
                if self.write_so_far(cache, builder, client.as_ref()).is_ok_and(|is_so| is_so) {
                    *written = done;
                }
            }
            due = Instant::now() + REST.max(began.elapsed() * RESTS);
        }
    }

    fn goes_on(&self, queue: &Queue) -> bool {
        queue.open > 0 && !self.interrupted()
    }

    /// Waits for a while; false when there is nothing to wait for.
    fn waits(&self) -> bool {
        let waited =
            self.closed.wait_timeout_while(self.queue(), LOOK, |queue| self.goes_on(queue));
        self.goes_on(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// How many steps have their layers.
    fn done(&self) -> usize {
        self.notes().steps.values().filter(|noted| noted.layer.get().is_some()).count()
    }

    /// False where it was not written this time.
    fn write_so_far(
        &self,
        cache: &CacheTo,
        builder: &Builder<'_>,
        client: Option<&Registry>,
    ) -> Result<bool> {
        let mut span = builder.emitter.span(Phase::CacheTo);
        span.about(&cache.place);
        match (&cache.place, client) {
            (ToPlace::Local { dir, tag }, _) => self.write_here(cache, (dir, tag), builder),
            (ToPlace::Registry(reference), Some(client)) => {
                self.send_so_far(cache, reference, builder, client)
            }
            (ToPlace::Registry(_), None) => Ok(false),
        }
    }

    fn write_here(
        &self,
        cache: &CacheTo,
        (dir, tag): (&Path, &str),
        builder: &Builder<'_>,
    ) -> Result<bool> {
        let layout = Layout::create(dir)?;
        // While others write there: another time.
        let Some(_alone) = layout.try_writing_alone()? else { return Ok(false) };
        local::check(&layout, tag)?;
        let pick = Pick::Tag(tag.to_owned());
        let place = FromPlace::Local { dir: dir.to_owned(), pick };
        let from = CacheFrom { place, key: cache.key.clone() };
        let is_there = local::has_name(&layout, tag)?;
        let read = || Source { from: &from, registry: None }.records().map_err(|lost| lost.error);
        let earlier = is_there.then(read).transpose()?.map(|(document, _)| document);
        let mut has = |blob: &Descriptor| layout.has(blob);
        let own = self.own(cache, builder, &mut has);
        for blob in own.layers.iter().filter(|blob| !layout.has(blob)) {
            if !self.goes_on(&self.queue()) {
                return Ok(false);
            }
            copy_blob(builder.store.images(), &layout, blob)?;
        }
        let artifact = merged(own.document, earlier, cache)?;
        local::write(builder.store.images(), (&layout, tag), &artifact, local::Durable::Blobs)?;
        Ok(true)
    }

    fn send_so_far(
        &self,
        cache: &CacheTo,
        reference: &Reference,
        builder: &Builder<'_>,
        client: &Registry,
    ) -> Result<bool> {
        let (store, silent) = (builder.store, &Emitter::silent());
        if client.current(reference)?.is_none() {
            return Ok(false);
        }
        let mut has = |blob: &Descriptor| client.has_blob(blob, reference).unwrap_or(false);
        let own = self.own(cache, builder, &mut has);
        client.push_blobs(store.images(), &own.layers, reference, silent)?;
        // Only now: others may have written meanwhile.
        let Some((found, bytes)) = client.current(reference)? else { return Ok(false) };
        let Found::Cache(manifest) = artifact::find(&found, &bytes)? else { return Ok(false) };
        let config = client.config(reference, manifest.config())?;
        let (earlier, _) = artifact::records(&manifest, &config, cache.key.as_ref())?;
        let artifact = merged(own.document, Some(earlier), cache)?;
        if !self.goes_on(&self.queue()) {
            return Ok(false);
        }
        push_documents(client, reference, (store, silent), &artifact)?;
        client.put_manifest(reference, media::OCI_MANIFEST, &artifact.manifest)?;
        Ok(true)
    }

    /// The steps of this build whose layers are here or there.
    fn own(
        &self,
        cache: &CacheTo,
        builder: &Builder<'_>,
        there: &mut dyn FnMut(&Descriptor) -> bool,
    ) -> Own {
        let images = builder.store.images();
        let wanted = |stage| wants(cache, builder.plan, stage);
        let mut elsewhere =
            |_: &Digest, offer: &Offer| offer.layer.clone().filter(|layer| there(&blob(layer)));
        let document = self.document(&builder.variant, &|_| true, &wanted, &mut elsewhere);
        let layers = document.steps.iter().flat_map(|entry| &entry.layers);
        let layers = layers.map(|entry| blob(&entry.layer)).filter(|blob| images.has(blob));
        let layers = layers.collect();
        Own { document, layers }
    }
}

/// What this build adds.
struct Own {
    document: Document,
    /// Layers that are here.
    layers: Vec<Descriptor>,
}

/// Cache mounts stay as they were.
fn merged(own: Document, earlier: Option<Document>, cache: &CacheTo) -> Result<Artifact> {
    let document = match earlier {
        Some(mut earlier) => {
            let mounts = std::mem::take(&mut earlier.mounts);
            own.and_older(earlier).with_mounts(mounts)
        }
        None => own,
    };
    Artifact::new(&document, cache.key.as_ref())
}

/// Whether a cache is the very directory out of which a COPY may read, which is not to change meanwhile. One that lies in it
/// is hidden.
fn may_be_copied(cache: &CacheTo, request: &BuildRequest) -> bool {
    let ToPlace::Local { dir, .. } = &cache.place else { return false };
    let files = request.contexts.values().filter_map(|context| match context {
        ContextSource::Files(files) => Some(files),
        ContextSource::Image(_) => None,
    });
    let inode = |stat: fs::Stat| (stat.dev, stat.ino);
    let mut roots = files.chain([&request.context]).map(|files| fs::fstat(files.root()).map(inode));
    // What cannot be looked at may be anywhere.
    let Ok(own) = fs::open_dir_path(dir).and_then(fs::fstat).map(inode) else { return true };
    roots.any(|root| root.is_ok_and(|root| root == own))
}
