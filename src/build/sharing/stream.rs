//! Shared caches while the build goes on: the steps that are done by now, beside what the cache had, so that a build that is
//! killed leaves them.
//!
//! All of it is a head start: what fails is forgotten, since the end does it again and tells.

use super::artifact::{self, Artifact};
use super::export::{Exports, Queue, wants};
use super::import::{Offer, blob};
use super::{CacheTo, ToPlace, local};
use crate::build::stage::Builder;
use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::progress::Emitter;
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
    /// Writes the caches whenever steps got done, until no stage is at work any more.
    pub(in crate::build) fn stream(&self, builder: &Builder<'_>) {
        let (mut written, mut due) = (0, Instant::now() + FIRST);
        while self.waits() {
            let done = self.done();
            if done <= written || due > Instant::now() {
                continue;
            }
            let began = Instant::now();
            for cache in &self.caches {
                let _head_start = self.write_so_far(cache, builder);
            }
            (written, due) = (done, Instant::now() + REST.max(began.elapsed() * RESTS));
        }
    }

    /// Waits for a while; false when there is nothing to wait for.
    fn waits(&self) -> bool {
        let is_open = |queue: &mut Queue| queue.open > 0 && !self.interrupted();
        let waited = self.closed.wait_timeout_while(self.queue(), LOOK, |queue| is_open(queue));
        is_open(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// How many steps have their layers.
    fn done(&self) -> usize {
        self.notes().steps.values().filter(|noted| noted.layer.get().is_some()).count()
    }

    fn write_so_far(&self, cache: &CacheTo, builder: &Builder<'_>) -> Result<()> {
        let ToPlace::Local { dir, tag } = &cache.place else {
            let artifact = self.so_far(cache, builder)?;
            let to = (&**builder.store, &Emitter::silent());
            return self.put(cache, to, &artifact, true).map(drop);
        };
        let layout = Layout::create(dir)?;
        // While others write there: another time.
        let Some(_alone) = layout.try_writing_alone()? else { return Ok(()) };
        local::check(&layout, tag)?;
        let artifact = self.so_far(cache, builder)?;
        // The commands may have much on its way to the disk, for which nobody waits here.
        local::write(builder.store.images(), (&layout, tag), &artifact, false)
    }

    /// What the cache is to say now.
    fn so_far(&self, cache: &CacheTo, builder: &Builder<'_>) -> Result<Artifact> {
        let mut elsewhere = |_: &Digest, offer: &Offer| {
            let there = |layer: &_| self.has(cache, &blob(layer)).unwrap_or(false);
            offer.layer.clone().filter(there)
        };
        let wanted = |stage| wants(cache, builder.plan, stage);
        let mut document = self.document(&builder.variant, &|_| true, &wanted, &mut elsewhere);
        if let Some(mut earlier) = self.earlier(cache) {
            let mounts = std::mem::take(&mut earlier.mounts);
            document = document.and_older(earlier).with_mounts(mounts);
        }
        let images = builder.store.images();
        let mut has = |blob: &Descriptor| Ok(images.has(blob) || self.has(cache, blob)?);
        let (document, _) = artifact::standing_on::<Error>(document, &mut has)?;
        Artifact::new(&document, cache.key.as_ref())
    }
}
