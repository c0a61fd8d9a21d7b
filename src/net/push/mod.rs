//! Pushing an image out of a layout: layers, then configs, then manifests with the children first, then the names.
//!
//! In: a descriptor whose image is in a [`Layout`], and the names that it gets; out: one [`Pushed`] a name
//! (distribution-spec, "Pushing blobs", "Pushing manifests"). What a repository has already is not sent; what another
//! repository of the same registry is known to have is mounted. Several names in one repository share everything but
//! their last request. Nobody sees a part of an image: a name is given when everything below it is there.

mod kept;
mod manifests;
mod plan;
mod session;
mod upload;

use super::failure::{NetError, NetResult};
use super::registry::Registry;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use plan::Plan;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Uploads at a time, of one image.
const UPLOADS: usize = 4;

/// A name that an image got.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// The name, with its tag or its digest.
    pub name: Reference,
    /// What it means now.
    pub descriptor: Descriptor,
}

impl Pushed {
    /// The line that `docker push` ends with: `TAG: digest: sha256:… size: N`; scripts read it.
    pub fn line(&self) -> String {
        let (digest, size) = (self.descriptor.digest(), self.descriptor.size());
        let tag = self.name.tag.clone().unwrap_or_else(|| digest.to_string());
        format!("{tag}: digest: {digest} size: {size}")
    }
}

/// Registry and repository.
type Home = (String, String);

/// Where blobs are known to be, and whether we brought them there.
#[derive(Debug, Default)]
pub(super) struct Homes {
    known: Mutex<HashMap<Digest, HashMap<Home, bool>>>,
    /// Blobs of which a registry said first that it has them and then that it misses them.
    doubted: Mutex<HashSet<(Home, Digest)>>,
    /// What is being sent now.
    sending: Mutex<HashSet<(Home, Digest)>>,
    sent: Condvar,
}

/// The right to send one blob to one repository, until it is dropped.
pub(super) struct Turn<'a> {
    homes: &'a Homes,
    what: (Home, Digest),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut sending = self.homes.sending.lock().unwrap_or_else(PoisonError::into_inner);
        sending.remove(&self.what);
        self.homes.sent.notify_all();
    }
}

impl Homes {
    /// Waits while another thread sends the same blob to the same repository.
    fn turn(&self, reference: &Reference, digest: &Digest) -> Turn<'_> {
        let home = (reference.registry.clone(), reference.repository.clone());
        let what = (home, digest.clone());
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        while sending.contains(&what) {
            sending = self.sent.wait(sending).unwrap_or_else(PoisonError::into_inner);
        }
        sending.insert(what.clone());
        Turn { homes: self, what }
    }

    fn add(&self, reference: &Reference, digest: &Digest, brought: bool) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let home = (reference.registry.clone(), reference.repository.clone());
        all.entry(digest.clone()).or_default().insert(home.clone(), brought);
        drop(all);
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.remove(&(home, digest.clone()));
    }

    /// Whether a registry's word for a blob is worth nothing.
    fn doubts(&self, reference: &Reference, digest: &Digest) -> bool {
        let home = (reference.registry.clone(), reference.repository.clone());
        let doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.contains(&(home, digest.clone()))
    }

    /// Forgets what is known of a repository, and believes no more that it has these blobs.
    fn doubt(&self, reference: &Reference, digests: &[Digest]) {
        let home = (reference.registry.clone(), reference.repository.clone());
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for homes in all.values_mut() {
            homes.remove(&home);
        }
        drop(all);
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.extend(digests.iter().map(|digest| (home.clone(), digest.clone())));
    }

    fn forget(&self, reference: &Reference, digest: &Digest) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(homes) = all.get_mut(digest) {
            homes.remove(&(reference.registry.clone(), reference.repository.clone()));
        }
    }

    /// Whether the repository has the blob: by us, or from before.
    fn has(&self, reference: &Reference, digest: &Digest) -> Option<bool> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let home = (reference.registry.clone(), reference.repository.clone());
        all.get(digest)?.get(&home).copied()
    }

    /// Another repository of this registry that has the blob, the first by name.
    fn elsewhere(&self, reference: &Reference, digest: &Digest) -> Option<String> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let homes = all.get(digest)?.keys();
        let others = homes
            .filter(|(registry, repository)| {
                *registry == reference.registry && *repository != reference.repository
            })
            .map(|(_, repository)| repository.clone());
        others.min()
    }
}

impl Registry {
    pub(super) fn is_online(&self, targets: &[Reference]) -> NetResult<()> {
        match targets {
            [target, ..] if self.http.is_offline() => Err(NetError::offline_push(target)),
            _ => Ok(()),
        }
    }

    /// Uploads everything below `root` and gives it its names, in their order. Names of the same repository share
    /// their blobs. Fails at the first thing that cannot be sent; no name is given then that was not given before.
    pub fn push(
        &self,
        source: &Layout,
        root: &Descriptor,
        targets: &[Reference],
        emitter: &Emitter,
    ) -> NetResult<Vec<Pushed>> {
        self.may_push()?;
        self.is_online(targets)?;
        self.tell(emitter);
        let plan = Plan::of(source, root)?;
        let mut pushed = Vec::new();
        let mut filled: Vec<&Reference> = Vec::new();
        for target in targets {
            let same = |known: &&Reference| {
                (&known.registry, &known.repository) == (&target.registry, &target.repository)
            };
            let done = if filled.iter().any(same) {
                Ok(())
            } else {
                filled.push(target);
                self.fill(source, &plan, target, emitter)
            };
            let done = done.and_then(|()| self.put_root(&plan, target));
            for text in self.take_warnings() {
                emitter.warn(text);
            }
            done.map_err(|error| error.wrap(format!("cannot push `{target}`")))?;
            if targets.len() > 1 {
                // Where a later one fails, it is known which names are given.
                emitter.note(format!("pushed {target}"));
            }
            pushed.push(Pushed { name: target.clone(), descriptor: plan.root.clone() });
        }
        Ok(pushed)
    }

    /// Uploads one blob that an image will need, before the image is there. A later [`Registry::push`] by the same
    /// value knows of it.
    pub fn push_blob(
        &self,
        source: &Layout,
        blob: &Descriptor,
        target: &Reference,
        emitter: &Emitter,
    ) -> NetResult<()> {
        let blob = plan::Blob::of(blob)?;
        self.ensure(source, &blob, target, emitter).map(drop)
    }

    /// Uploads blobs, a few at a time; how many of them were not there.
    pub fn push_blobs(
        &self,
        source: &Layout,
        blobs: &[Descriptor],
        target: &Reference,
        emitter: &Emitter,
    ) -> NetResult<usize> {
        let blobs = blobs.iter().map(plan::Blob::of).collect::<NetResult<Vec<_>>>()?;
        self.send_blobs(source, &blobs, target, emitter)
    }

    /// Whether the repository has a blob already; nothing is sent.
    pub fn has_blob(&self, blob: &Descriptor, target: &Reference) -> NetResult<bool> {
        let blob = plan::Blob::of(blob)?;
        if self.homes().has(target, &blob.digest).is_some() {
            return Ok(true);
        }
        let there = !self.homes().doubts(target, &blob.digest) && self.is_there(&blob, target)?;
        if there {
            self.homes().add(target, &blob.digest, false);
        }
        Ok(there)
    }

    /// Forgets which blobs the repository has. These it misses, whatever it says of them: they are sent once more.
    pub fn doubt(&self, target: &Reference, missing: &[Digest]) {
        self.homes().doubt(target, missing);
    }

    /// Remembers that the repository of `reference` has a blob, so that others of the same registry can take it from
    /// there.
    pub fn note_home(&self, reference: &Reference, digest: &Digest) {
        self.homes().add(reference, digest, false);
    }

    /// Everything but the manifest at the top and its names.
    fn fill(
        &self,
        source: &Layout,
        plan: &Plan,
        target: &Reference,
        emitter: &Emitter,
    ) -> NetResult<()> {
        let sent = self.send_blobs(source, &plan.layers, target, emitter)?;
        let sent = sent + self.send_blobs(source, &plan.configs, target, emitter)?;
        let count = plan.layers.len() + plan.configs.len();
        let repository = format!("{}/{}", target.registry, target.repository);
        emitter.note(format!("pushing to {repository}: {sent} of {count} blobs were not there"));
        for document in &plan.documents {
            let name = target.with_digest(document.digest.clone());
            self.put_manifest(&name, &document.media_type, &document.bytes)?;
        }
        Ok(())
    }

    /// How many of the blobs were not there before we came. A few at a time; the first failure in their order is reported.
    fn send_blobs(
        &self,
        source: &Layout,
        blobs: &[plan::Blob],
        target: &Reference,
        emitter: &Emitter,
    ) -> NetResult<usize> {
        let (next, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed: Mutex<Option<(usize, NetError)>> = Mutex::new(None);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(blob) = blobs.get(at) else { return };
                match self.ensure(source, blob, target, emitter) {
                    Ok(new) => {
                        sent.fetch_add(usize::from(new), Ordering::Relaxed);
                    }
                    Err(error) => {
                        // No more uploads begin.
                        next.store(blobs.len(), Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                            *failed = Some((at, error));
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..UPLOADS.min(blobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(sent.into_inner()), |(_, error)| Err(error))
    }
}
