//! What registries have of packages, and the way of it into the cache (linuxkit.md §4.1, §5.4).
//!
//! In: full names; out: whether an image is there, or the image in the cache. A registry that cannot be asked counts as
//! one that does not have it: it is told once, and not asked again.

use super::cache::PkgCache;
use crate::build::store::Store;
use crate::error::Result;
use crate::net::{NetConfig, NetError, Pushed, Registry, Trouble, Wanted};
use crate::oci::layout::Layout;
use crate::oci::spec::{Descriptor, digest_of};
use crate::oci::{Digest, Platform, Reference, resolve};
use crate::progress::Emitter;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Registries, seen from a cache.
#[derive(Debug)]
pub struct Remote {
    store: Arc<Store>,
    cache: Arc<PkgCache>,
    net: NetConfig,
    emitter: Emitter,
    /// Made when it is needed first.
    client: OnceLock<Registry>,
    /// Registries that could not be asked.
    silent: Mutex<BTreeSet<String>>,
    /// Registries of which was told that they count as empty.
    told: Mutex<BTreeSet<String>>,
}

impl Remote {
    /// Connects to nothing yet.
    pub fn new(store: Arc<Store>, cache: Arc<PkgCache>, net: NetConfig, emitter: Emitter) -> Self {
        let net = NetConfig { uploads: Some(store.uploads()), ..net };
        let (silent, told) = Default::default();
        Self { store, cache, net, emitter, client: OnceLock::new(), silent, told }
    }

    /// Fails only on settings that cannot be used.
    pub(super) fn client(&self) -> Result<&Registry> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Registry::new(&self.net)?;
        Ok(self.client.get_or_init(|| client))
    }

    fn layout(&self) -> &Layout {
        self.store.images()
    }

    /// Whether the registry has the platform under this name.
    pub fn has(&self, name: &str, platform: &Platform) -> Result<bool> {
        let reference = Reference::parse(name)?;
        if self.is_silent(&reference) {
            return Ok(false);
        }
        let offered = self.client()?.offers(&reference, platform, self.layout());
        offered.or_else(|error| self.absent(&reference, error))
    }

    /// Brings a platform of a name into the cache; false when the registry does not have it.
    pub fn bring(&self, name: &str, platform: &Platform) -> Result<bool> {
        let reference = Reference::parse(name)?;
        if self.is_silent(&reference) {
            return Ok(false);
        }
        let wanted = Wanted::One(platform.clone());
        let pulled = self.client()?.pull(&reference, &wanted, self.layout(), &self.emitter);
        let pulled = match pulled {
            Ok(pulled) => pulled,
            Err(error) => return self.absent(&reference, error),
        };
        // A lone manifest is given whatever it is made for.
        if resolve::resolve_exactly(self.layout(), &pulled.image, platform).is_err() {
            return Ok(false);
        }
        let writer = self.cache.writer()?;
        writer.adopt(self.layout(), &pulled.image)?;
        writer.write(name, &[(platform.clone(), pulled.image)])?;
        Ok(true)
    }

    /// Brings all that a name leads to into the cache, for a user who asked for it: here a failure is an error. Gives the
    /// digest.
    pub fn bring_all(&self, name: &str) -> Result<Digest> {
        let reference = Reference::parse(name)?;
        let layout = self.layout();
        let pulled = self.client()?.pull(&reference, &Wanted::All, layout, &self.emitter)?;
        let writer = self.cache.writer()?;
        writer.adopt(layout, &pulled.root)?;
        writer.set(&[(name.to_owned(), pulled.root.clone())])?;
        for (platform, image) in images(layout, &pulled.root)? {
            writer.set(&[(format!("{name}-{}", platform.architecture), image)])?;
        }
        digest_of(&pulled.root)
    }

    /// Copies everything behind a name of one repository into another, by way of the store.
    pub(super) fn copy(&self, from: &Reference, to: &Reference) -> Result<Vec<Pushed>> {
        let (client, layout) = (self.client()?, self.layout());
        let pulled = client.pull(from, &Wanted::All, layout, &self.emitter)?;
        Ok(client.push(layout, &pulled.root, std::slice::from_ref(to), &self.emitter)?)
    }

    /// What the registry has under a name, with its size.
    pub fn descriptor(&self, name: &str) -> Result<Option<Descriptor>> {
        let reference = Reference::parse(name)?;
        if self.is_silent(&reference) {
            return Ok(None);
        }
        match self.client()?.current(&reference) {
            Ok(found) => Ok(found.map(|(descriptor, _)| descriptor)),
            Err(error) => self.absent(&reference, error).map(|_| None),
        }
    }

    /// Digest that the registry has under a name.
    pub fn digest(&self, name: &str) -> Result<Option<Digest>> {
        let reference = Reference::parse(name)?;
        if self.is_silent(&reference) {
            return Ok(None);
        }
        let found = self.client()?.head(&reference);
        found.or_else(|error| self.absent(&reference, error).map(|_| None))
    }

    /// Nobody is asked.
    pub(super) fn is_offline(&self) -> bool {
        self.net.offline
    }

    /// Offline nobody is asked, and nothing is told of it.
    fn is_silent(&self, reference: &Reference) -> bool {
        if self.net.offline {
            return true;
        }
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.contains(&reference.registry)
    }

    /// False: it is not there. What is wrong here is an error.
    fn absent(&self, reference: &Reference, error: NetError) -> Result<bool> {
        match error.trouble() {
            Trouble::NotFound | Trouble::Offline => return Ok(false),
            Trouble::Local => return Err(error.into()),
            Trouble::Unreachable => {
                let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
                silent.insert(reference.registry.clone());
            }
            Trouble::Refused | Trouble::Broken => {}
        }
        let registry = &reference.registry;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(registry.clone()) {
            let why = reason(error.error().causes());
            let text = format!("registry `{registry}` counts as one that has nothing: {why}");
            self.emitter.note(text);
        }
        Ok(false)
    }
}

/// What was sent where and what came: the cause with a status and what stands behind it, else the last one.
fn reason(causes: &[String]) -> String {
    let status = causes.iter().rposition(|cause| cause.contains(": status "));
    let from = status.unwrap_or(causes.len().saturating_sub(1));
    causes[from..].join("; ")
}

/// The images of an index with their platforms; a lone image, too.
fn images(layout: &Layout, root: &Descriptor) -> Result<Vec<(Platform, Descriptor)>> {
    let read = || -> Result<Vec<(Platform, Descriptor)>> {
        let all = resolve::platforms(layout, root)?;
        if all.is_empty() {
            let image = resolve::resolve_single(layout, root)?;
            return Ok(vec![(image.platform, image.manifest_descriptor)]);
        }
        let find = |platform: Platform| {
            let image = resolve::resolve_exactly(layout, root, &platform)?;
            Ok((platform, image.manifest_descriptor))
        };
        all.into_iter().map(find).collect()
    };
    read().map_err(|error| error.wrap("what was pulled cannot be read"))
}
