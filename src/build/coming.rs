//! One base image on its way: what it is wanted for, how it gets into the store, and what is said when it does not.
//!
//! In: documents that a registry gave; out: an image in the store. Its name is given apart, since that waits for the disk.
//! An error has the words and the place that it has when it comes while the build is planned.

use super::care;
use super::images::open;
use super::store::Store;
use crate::error::{Error, Result};
use crate::net::{Documents, NetError, News, Registry, Trouble};
use crate::oci::Reference;
use crate::oci::layout::{Origin, listed};
use crate::oci::spec::Descriptor;
use crate::plan::step::BaseRef;
use crate::progress::Emitter;
use crate::source::{SourceFile, Span};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where an image is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) place: Option<(Arc<SourceFile>, Span)>,
    /// What else may have been meant.
    pub(super) hint: Option<String>,
}

impl Asked {
    /// The error with its place.
    pub(super) fn placed(&self, error: Error) -> Error {
        let error = self.hint.iter().fold(error, Error::hint);
        match &self.place {
            Some((source, span)) => error.at(source, *span),
            None => error,
        }
    }
}

/// Why an image is pulled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    /// The store has none of this name.
    Missing,
    /// That of the store is not it: the registry has a newer one, or it is for another platform.
    Another,
    /// The lock file wants it.
    Pinned,
}

/// One image to be pulled.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) base: BaseRef,
    /// What it is to be called in the store.
    pub(super) name: Reference,
    reason: Reason,
    asked: Asked,
}

impl Errand {
    pub(super) fn new(base: &BaseRef, name: &Reference, reason: Reason, asked: &Asked) -> Self {
        Self { base: base.clone(), name: name.clone(), reason, asked: asked.clone() }
    }

    /// What is said when it fails.
    pub(super) fn explain(&self, store: &Store, failure: Unpulled) -> Error {
        match self.reason {
            Reason::Missing => explain_missing(store, &self.base, failure),
            Reason::Another => failure.into_error(),
            Reason::Pinned => in_use(&self.base, failure.into_error()),
        }
    }
}

/// An image that is pulled.
#[derive(Debug)]
pub(super) struct Coming {
    errand: Errand,
    pub(super) documents: Documents,
    /// What its name meant when it was looked for.
    before: Option<Descriptor>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    OnItsWay,
    /// In the store, where nothing leads to it yet.
    Here,
    Named,
}

impl Coming {
    /// `before` is what the name means now.
    pub(super) fn new(errand: Errand, documents: Documents, before: Option<Descriptor>) -> Self {
        Self { errand, documents, before, state: Mutex::new(State::OnItsWay) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it will be called.
    pub(super) fn name(&self) -> &Reference {
        &self.errand.name
    }

    /// True when nothing of it is missing any more.
    pub(super) fn is_here(&self) -> bool {
        *self.state() != State::OnItsWay
    }

    /// Brings it into the store. `heard` is told of its blobs.
    pub(super) fn fetch(
        &self,
        registry: &Registry,
        store: &Store,
        emitter: &Emitter,
        heard: &(dyn Fn(News<'_>) + Sync),
    ) -> Result<()> {
        let fetched = registry.fetch(&self.documents, store.images(), emitter, heard);
        // Before it has a name: what has none can go again.
        let room = || care::room::check_all(store, emitter).map_err(Unpulled::Here);
        let stored = fetched.map_err(Unpulled::from).and_then(|_| room());
        stored.map_err(|failure| self.errand.explain(store, failure))?;
        *self.state() = State::Here;
        Ok(())
    }

    /// Looks at it as the store has it: a registry need not have every layer.
    pub(super) fn check(&self, store: &Store) -> Result<()> {
        let base = &self.errand.base;
        let opened = open(store, self.documents.root(), &base.platform);
        opened.map(drop).map_err(|error| in_use(base, error))
    }

    /// Lets its name mean it, once it is here. What somebody else gave the name to meanwhile keeps it.
    pub(super) fn give_name(&self, store: &Store) -> Result<()> {
        let mut state = self.state();
        if *state == State::Here {
            let named = self.name_in(store);
            named.map_err(|error| self.errand.explain(store, Unpulled::Here(error)))?;
            *state = State::Named;
        }
        Ok(())
    }

    fn name_in(&self, store: &Store) -> Result<()> {
        let (images, name) = (store.images(), &self.errand.name);
        if images.find(name)?.map(|found| found.descriptor) != self.before {
            return Ok(());
        }
        images.set_name(name, self.documents.root(), Origin::Pulled)
    }

    /// An error of it, at its place.
    pub(super) fn placed(&self, error: Error) -> Error {
        self.errand.asked.placed(error)
    }
}

/// Why an image was not pulled.
#[derive(Debug)]
pub(super) enum Unpulled {
    /// The registry does not give it: another image of the store may have been meant.
    ByRegistry(Error),
    /// Settings, logins or the store are in the way, and what the store has is of no help.
    Here(Error),
}

impl Unpulled {
    fn into_error(self) -> Error {
        match self {
            Self::ByRegistry(error) | Self::Here(error) => error,
        }
    }
}

impl From<NetError> for Unpulled {
    fn from(error: NetError) -> Self {
        match error.trouble() {
            Trouble::Local => Self::Here(error.into()),
            _ => Self::ByRegistry(error.into()),
        }
    }
}

/// The error of an image that is there.
pub(super) fn in_use(base: &BaseRef, error: Error) -> Error {
    error.wrap(format!("cannot use the image `{}`", base.reference))
}

/// The error of an image that the store does not have, and that nobody is asked for.
pub(super) fn not_found(store: &Store, base: &BaseRef) -> Error {
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
