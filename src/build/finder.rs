//! Finding base images: in the store, else in a registry (design §10.1).
//!
//! In: names of a Dockerfile; out: images as far as planning needs them. What a registry has to give besides is left to
//! [`Downloads`].

use super::coming::{Asked, Coming, Errand, Reason, Unpulled, in_use, not_found};
use super::downloads::Downloads;
use super::images::{BaseImage, open};
use super::request::{BuildRequest, ImageSource, PullPolicy};
use super::store::Store;
use crate::error::{Error, Result};
use crate::net::{Documents, Trouble, Wanted};
use crate::oci::layout::Origin;
use crate::oci::spec::{Descriptor, digest_of};
use crate::oci::{Digest, Platform, Reference, platform, resolve};
use crate::plan::step::BaseRef;
use crate::progress::Emitter;
use std::collections::BTreeMap;

const HOW_TO_BRING: &str = "this is offline: `image load` or `image import` brings it in; `image prefetch` collects all that a build needs";

/// Finds the images of one build. A name means the same image for every platform: the registry is asked once.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    store: &'a Store,
    request: &'a BuildRequest,
    emitter: &'a Emitter,
    /// What names were found to be, and whether that came from a registry.
    known: BTreeMap<Reference, (Descriptor, bool)>,
    downloads: Downloads,
}

impl<'a> Finder<'a> {
    pub(super) fn new(store: &'a Store, request: &'a BuildRequest, emitter: &'a Emitter) -> Self {
        let downloads = Downloads::default();
        Self { store, request, emitter, known: BTreeMap::new(), downloads }
    }

    /// What of the images that were found is still to come.
    pub(super) fn into_downloads(self) -> Downloads {
        self.downloads
    }

    /// Finds an image and brings all of it.
    pub(super) fn find_whole(mut self, base: &BaseRef) -> Result<BaseImage> {
        let image = self.find(base, &Asked::default())?;
        self.downloads.finish(self.store, self.emitter)?;
        Ok(image)
    }

    /// Finds an image, pulling it when the policy says so; layers of such a one come later.
    pub(super) fn find(&mut self, base: &BaseRef, asked: &Asked) -> Result<BaseImage> {
        self.look_for(base, asked).map_err(|error| asked.placed(error))
    }

    fn look_for(&mut self, base: &BaseRef, asked: &Asked) -> Result<BaseImage> {
        let reference = Reference::parse(&base.reference)?;
        let pin = self.request.locks.image(&reference, &base.platform)?;
        if let Some(ImageSource(find)) = &self.request.images
            && let Some(descriptor) = find(&reference, &base.platform)?
            && pin.as_ref().is_none_or(|pin| descriptor.digest().as_ref() == pin.as_str())
        {
            self.note(&reference, base, &descriptor)?;
            return open(self.store, &descriptor, &base.platform);
        }
        if let Some(pin) = pin {
            return self.pinned(&reference.with_digest(pin), base, asked);
        }
        let (descriptor, pulled) = match self.known.get(&reference) {
            Some(known) => known.clone(),
            None => self.current(&reference, base, asked)?,
        };
        self.known.insert(reference.clone(), (descriptor.clone(), pulled));
        let mut opened = self.open(&descriptor, base);
        if pulled && opened.is_err() && self.lacks(&descriptor, &base.platform) {
            let errand = Errand::new(base, &reference, Reason::Another, asked);
            self.pull(errand, Some(&descriptor))?;
            opened = self.open(&descriptor, base);
        }
        let opened = opened.map_err(|error| in_use(base, self.offline_hint(error)))?;
        self.note(&reference, base, &descriptor)?;
        Ok(opened)
    }

    fn open(&mut self, descriptor: &Descriptor, base: &BaseRef) -> Result<BaseImage> {
        self.downloads.open(self.store, descriptor, &base.platform)
    }

    /// The image of a digest, which the store has under any name or none, or a registry has.
    fn pinned(&mut self, exact: &Reference, base: &BaseRef, asked: &Asked) -> Result<BaseImage> {
        let in_use = |error| in_use(base, error);
        let digest = exact.digest.clone().unwrap_or_else(|| Digest::of(b""));
        let known = match self.downloads.root(&digest) {
            Some(known) => Some(known.clone()),
            None => self.store.images().document_of(&digest).map_err(in_use)?,
        };
        if let Some(descriptor) = known
            && let Ok(image) = self.open(&descriptor, base)
        {
            return Ok(image);
        }
        if self.asks_nobody() {
            let message = format!("image `{exact}` is not in the store for {}", base.platform);
            let missing = Error::image(message).cause("the lock file pins it to this digest");
            return Err(in_use(self.offline_hint(missing)));
        }
        let descriptor = self.pull(Errand::new(base, exact, Reason::Pinned, asked), None)?;
        self.open(&descriptor, base).map_err(in_use)
    }

    fn note(&self, name: &Reference, base: &BaseRef, descriptor: &Descriptor) -> Result<()> {
        self.request.locks.note_image(name, &base.platform, descriptor)
    }

    fn offline_hint(&self, error: Error) -> Error {
        if self.request.net.offline { error.hint(HOW_TO_BRING) } else { error }
    }

    /// True when a pulled image has the platform by its index, and the build may fetch what is not here.
    fn lacks(&self, descriptor: &Descriptor, wanted: &Platform) -> bool {
        let expected = self.downloads.expected(self.store);
        let listed = resolve::platforms(&expected, descriptor).unwrap_or_default();
        let found = platform::best(wanted, listed.into_iter().enumerate());
        found.is_some() && !self.asks_nobody()
    }

    fn asks_nobody(&self) -> bool {
        self.request.pull == PullPolicy::Never || self.request.net.offline
    }

    /// The descriptor to use: what is stored, or what the registry has now; true when it came from a registry.
    fn current(
        &mut self,
        reference: &Reference,
        base: &BaseRef,
        asked: &Asked,
    ) -> Result<(Descriptor, bool)> {
        let policy = self.request.pull;
        let Some(stored) = self.store.images().find(reference)? else {
            if self.asks_nobody() {
                return Err(self.offline_hint(not_found(self.store, base)));
            }
            let errand = Errand::new(base, reference, Reason::Missing, asked);
            return Ok((self.pull(errand, None)?, true));
        };
        let pulled = stored.origin == Origin::Pulled;
        let ask = match policy {
            _ if self.request.net.offline => false,
            PullPolicy::Always => true,
            PullPolicy::Check => pulled && reference.digest.is_none(),
            PullPolicy::Missing | PullPolicy::Never => false,
        };
        if !ask {
            return Ok((stored.descriptor, pulled));
        }
        let registry = match policy {
            PullPolicy::Check => self.downloads.asking(&self.request.net)?,
            _ => self.downloads.registry(&self.request.net)?,
        };
        let head = registry.head(reference);
        match head {
            Ok(Some(digest)) if digest == digest_of(&stored.descriptor)? => {
                Ok((stored.descriptor, true))
            }
            Ok(_) => {
                let errand = Errand::new(base, reference, Reason::Another, asked);
                Ok((self.pull(errand, None)?, true))
            }
            // What is wrong on this side, or asked for and not there, is no reason to go on.
            Err(error) if policy == PullPolicy::Check && error.trouble() != Trouble::Local => {
                self.emitter.warn(format!(
                    "cannot ask for a newer `{}` ({}); the stored one is used",
                    base.reference,
                    error.error().in_one_line()
                ));
                Ok((stored.descriptor, true))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Pulls one platform of what a name means now, or of `known` when the name was looked up before; the layers later,
    /// if any are missing.
    fn pull(&mut self, errand: Errand, known: Option<&Descriptor>) -> Result<Descriptor> {
        let documents = self.documents(&errand, known);
        let documents = documents.map_err(|failure| errand.explain(self.store, failure))?;
        let root = documents.root().clone();
        let is_whole = documents.are_all();
        let before = self.store.images().find(&errand.name)?.map(|found| found.descriptor);
        let image = Coming::new(errand, documents, before);
        if is_whole {
            let registry = self.downloads.registry(&self.request.net)?;
            image.fetch(registry, self.store, self.emitter, &|_| ())?;
            image.give_name(self.store)?;
        } else {
            self.downloads.add(image);
        }
        Ok(root)
    }

    /// What says what is in the image.
    fn documents(
        &mut self,
        Errand { base, name, .. }: &Errand,
        known: Option<&Descriptor>,
    ) -> Result<Documents, Unpulled> {
        let of = if known.is_some() { format!(" for {}", base.platform) } else { String::new() };
        self.emitter.note(format!("pulling {name}{of}"));
        let mut exact = name.clone();
        if let Some(known) = known {
            exact.digest = Some(digest_of(known).map_err(Unpulled::Here)?);
        }
        let wanted = Wanted::One(base.platform.clone());
        let (images, emitter) = (self.store.images(), self.emitter);
        let registry = self.downloads.registry(&self.request.net).map_err(Unpulled::Here)?;
        let mut documents = registry.documents(&exact, &wanted, images, emitter)?;
        registry.fetch_configs(&mut documents, images, emitter)?;
        Ok(documents)
    }
}
