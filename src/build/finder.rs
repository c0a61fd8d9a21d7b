//! Finding base images: from the store, else from a registry (design §10.1).

use super::care;
use super::images::{BaseImage, open};
use super::request::{BuildRequest, ImageSource, PullPolicy};
use super::store::Store;
use crate::error::{Error, Result};
use crate::net::{Registry, Trouble, Wanted};
use crate::oci::layout::{Origin, listed};
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
}

impl<'a> Finder<'a> {
    pub(super) fn new(store: &'a Store, request: &'a BuildRequest, emitter: &'a Emitter) -> Self {
        Self { store, request, emitter, known: BTreeMap::new() }
    }

    /// Finds an image, pulling it when the policy says so.
    pub(super) fn find(&mut self, base: &BaseRef) -> Result<BaseImage> {
        let reference = Reference::parse(&base.reference)?;
        let pin = self.request.locks.image(&reference, &base.platform)?;
        if let Some(ImageSource(find)) = &self.request.images
            && let Some(descriptor) = find(&reference, &base.platform)?
            && pin.as_ref().is_none_or(|pin| descriptor.digest().as_ref() == pin.as_str())
        {
            self.note(&reference, base, &descriptor)?;
            return open(self.store, &descriptor, &base.platform);
        }
        let in_use =
            |error: Error| error.wrap(format!("cannot use the image `{}`", base.reference));
        if let Some(pin) = pin {
            return self.pinned(&reference.with_digest(pin), base).map_err(in_use);
        }
        let (descriptor, pulled) = match self.known.get(&reference) {
            Some(known) => known.clone(),
            None => self.current(&reference, base)?,
        };
        self.known.insert(reference.clone(), (descriptor.clone(), pulled));
        let mut opened = open(self.store, &descriptor, &base.platform);
        if pulled && opened.is_err() && self.lacks(&descriptor, &base.platform) {
            self.pull(&reference, base, Some(&descriptor))?;
            opened = open(self.store, &descriptor, &base.platform);
        }
        let opened = opened.map_err(|error| in_use(self.offline_hint(error)))?;
        self.note(&reference, base, &descriptor)?;
        Ok(opened)
    }

    /// The image of a digest, which the store has under any name or none, or a registry has.
    fn pinned(&self, exact: &Reference, base: &BaseRef) -> Result<BaseImage> {
        let digest = exact.digest.clone().unwrap_or_else(|| Digest::of(b""));
        if let Some(descriptor) = self.store.images().document_of(&digest)?
            && let Ok(image) = open(self.store, &descriptor, &base.platform)
        {
            return Ok(image);
        }
        if self.request.net.offline || self.request.pull == PullPolicy::Never {
            return Err(self.offline_hint(
                Error::image(format!("image `{exact}` is not in the store for {}", base.platform))
                    .cause("the lock file pins it to this digest"),
            ));
        }
        let descriptor = self.pull(exact, base, None)?;
        open(self.store, &descriptor, &base.platform)
    }

    fn note(&self, name: &Reference, base: &BaseRef, descriptor: &Descriptor) -> Result<()> {
        self.request.locks.note_image(name, &base.platform, descriptor)
    }

    fn offline_hint(&self, error: Error) -> Error {
        if self.request.net.offline { error.hint(HOW_TO_BRING) } else { error }
    }

    /// True when a pulled image has the platform by its index, and the build may fetch what is not here.
    fn lacks(&self, descriptor: &Descriptor, wanted: &Platform) -> bool {
        let listed = resolve::platforms(self.store.images(), descriptor).unwrap_or_default();
        let found = platform::best(wanted, listed.into_iter().enumerate());
        found.is_some() && !self.asks_nobody()
    }

    fn asks_nobody(&self) -> bool {
        self.request.pull == PullPolicy::Never || self.request.net.offline
    }

    /// The descriptor to use: what is stored, or what the registry has now; true when it came from a registry.
    fn current(&self, reference: &Reference, base: &BaseRef) -> Result<(Descriptor, bool)> {
        let policy = self.request.pull;
        let Some(stored) = self.store.images().find(reference)? else {
            if self.asks_nobody() {
                return Err(self.offline_hint(not_found(self.store, base)));
            }
            return self
                .try_pull(reference, base, None)
                .map(|descriptor| (descriptor, true))
                .map_err(|failure| explain_missing(self.store, base, failure));
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
        match Registry::new(&self.request.net)?.head(reference) {
            Ok(Some(digest)) if digest == digest_of(&stored.descriptor)? => {
                Ok((stored.descriptor, true))
            }
            Ok(_) => Ok((self.pull(reference, base, None)?, true)),
            // What is wrong on this side, or asked for and not there, is no reason to go on.
            Err(error) if policy == PullPolicy::Check && error.trouble() != Trouble::Local => {
                self.emitter.warn(format!(
                    "cannot ask for a newer `{}` ({}); the stored one is used",
                    base.reference,
                    error.error().message()
                ));
                Ok((stored.descriptor, true))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches one platform of what a name means now, or of `known` when the name was looked up before.
    fn pull(
        &self,
        reference: &Reference,
        base: &BaseRef,
        known: Option<&Descriptor>,
    ) -> Result<Descriptor> {
        self.try_pull(reference, base, known).map_err(|failure| match failure {
            Unpulled::ByRegistry(error) | Unpulled::Here(error) => error,
        })
    }

    fn try_pull(
        &self,
        reference: &Reference,
        base: &BaseRef,
        known: Option<&Descriptor>,
    ) -> Result<Descriptor, Unpulled> {
        let of = if known.is_some() { format!(" for {}", base.platform) } else { String::new() };
        self.emitter.note(format!("pulling {reference}{of}"));
        let wanted = Wanted::One(base.platform.clone());
        let registry = Registry::new(&self.request.net).map_err(Unpulled::Here)?;
        let mut exact = reference.clone();
        if let Some(known) = known {
            exact.digest = Some(digest_of(known).map_err(Unpulled::Here)?);
        }
        let pulled = registry.pull(&exact, &wanted, self.store.images(), self.emitter);
        let descriptor = pulled.map_err(|error| match error.trouble() {
            Trouble::Local => Unpulled::Here(error.into()),
            _ => Unpulled::ByRegistry(error.into()),
        })?;
        let descriptor = descriptor.root;
        // Before it has a name: what has none can go again.
        care::room::check(self.store, self.emitter).map_err(Unpulled::Here)?;
        let named = self.store.images().set_name(reference, &descriptor, Origin::Pulled);
        named.map_err(Unpulled::Here)?;
        Ok(descriptor)
    }
}

/// Why an image was not pulled.
enum Unpulled {
    /// The registry does not give it: another image of the store may have been meant.
    ByRegistry(Error),
    /// Settings, logins or the store are in the way, and what the store has is of no help.
    Here(Error),
}

fn not_found(store: &Store, base: &BaseRef) -> Error {
    let error = Error::image(format!("image `{}` is not in the store", base.reference));
    with_names(store, error)
}

fn explain_missing(store: &Store, base: &BaseRef, failure: Unpulled) -> Error {
    let message = format!("image `{}` is not in the store and cannot be pulled", base.reference);
    match failure {
        Unpulled::ByRegistry(error) => with_names(store, error.wrap(message)),
        Unpulled::Here(error) => error.wrap(message),
    }
}

fn with_names(store: &Store, error: Error) -> Error {
    let names = store.images().names().unwrap_or_default();
    if names.is_empty() {
        return error
            .hint("the store is empty; `nativebuild image import NAME SOURCE` brings an image in");
    }
    error.hint(format!("the store has {}", listed(&names)))
}
