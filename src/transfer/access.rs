//! The way to every kind of location: [`Access::open`] to look, [`Access::fetch`] to have everything.

use super::dir::DirImage;
use super::source::{RegistryImage, Source, entry};
use super::{Location, read};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{NetConfig, Registry, Wanted};
use crate::oci::archive::{self, Expect, Import, Input, OciArchive, Select};
use crate::oci::blobs::{Blobs, missing, reachable};
use crate::oci::digest::VerifyingReader;
use crate::oci::layout::{Layout, NamedImage, listed};
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Platform, Reference, resolve};
use crate::progress::Emitter;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

const BUFFER: usize = 128 << 10;

/// The store, registries, and a directory for temporary files.
#[derive(Debug)]
pub struct Access<'a> {
    store: &'a Layout,
    tmp: PathBuf,
    net: NetConfig,
    emitter: Emitter,
    /// Made when it is needed first.
    client: OnceLock<Arc<Registry>>,
}

/// Which images behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All that it leads to.
    Whole,
    /// Of an index the image for this machine.
    Here,
    /// The image for a platform.
    One(Platform),
}

/// An image that can be looked at.
#[derive(Debug)]
pub struct Opened {
    source: Source,
    /// Manifest or index.
    pub root: Descriptor,
}

impl Opened {
    /// Its documents.
    pub fn blobs(&self) -> &dyn Blobs {
        &self.source
    }
}

/// An image whose content is in a layout.
#[derive(Debug)]
pub struct Fetched {
    /// Where: a layout of the user's, the store, or a temporary one.
    pub layout: Layout,
    /// Manifest or index.
    pub root: Descriptor,
    /// What the location leads to: the same, or the index that it was chosen from.
    pub whole: Descriptor,
    /// True when it is one image out of an index.
    pub chosen: bool,
    _keep: Option<TempDir>,
}

impl<'a> Access<'a> {
    /// Connects to nothing yet. `tmp` is best on the store's disk.
    pub fn new(store: &'a Layout, tmp: PathBuf, net: NetConfig, emitter: Emitter) -> Self {
        Self { store, tmp, net, emitter, client: OnceLock::new() }
    }

    /// The images of the store.
    pub fn store(&self) -> &Layout {
        self.store
    }

    /// Where what happens is told.
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// For temporary files.
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// The client for registries; fails only on settings that cannot be used.
    pub fn registry(&self) -> Result<&Arc<Registry>> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Arc::new(Registry::new(&self.net)?);
        Ok(self.client.get_or_init(|| client))
    }

    /// An image of the store by name.
    pub fn stored(&self, wanted: &Reference) -> Result<NamedImage> {
        if let Some(image) = self.store.find(wanted)? {
            return Ok(image);
        }
        let shown = wanted.familiar();
        let error = Error::image(format!("image `{shown}` is not in the store"));
        let names = self.store.names()?;
        if names.is_empty() {
            return Err(error.hint(
                "the store is empty; `nativebuild image import NAME SOURCE` brings an image in",
            ));
        }
        Err(error
            .hint(format!("the store has {}", listed(&names)))
            .hint("an image in a registry is written `docker://NAME`"))
    }

    /// Whether there is an image; only what is not there is `false`, anything else that goes wrong is an error.
    pub fn exists(&self, location: &Location) -> Result<bool> {
        match location {
            Location::Store(name) => Ok(self.store.find(name)?.is_some()),
            Location::Registry(name) => Ok(self.registry()?.head(name)?.is_some()),
            Location::Layout(path, name) => {
                if !path.exists() {
                    return Ok(false);
                }
                let layout = Layout::open(path)?;
                let names = layout.entries()?;
                Ok(name.is_none() || names.iter().any(|entry| entry.ref_name() == name.as_deref()))
            }
            Location::Dir(path)
            | Location::LayoutArchive(path, _)
            | Location::DockerArchive(path, _) => Ok(path.exists()),
        }
    }

    /// A layout that goes away with the second value.
    pub fn temporary(&self) -> Result<(Layout, TempDir)> {
        let dir = tempfile::tempdir_in(&self.tmp).or_error(ErrorKind::Environment, || {
            format!("cannot make a temporary directory in `{}`", self.tmp.display())
        })?;
        Ok((Layout::create(dir.path().join("layout"))?, dir))
    }

    /// Opens an image to look at it. From a registry only documents are fetched; a docker-archive is unpacked.
    pub fn open(&self, location: &Location) -> Result<Opened> {
        let (source, root) = match location {
            Location::Store(name) => {
                (Source::Layout(self.store.clone(), None), self.stored(name)?.descriptor)
            }
            Location::Layout(path, name) => {
                let layout = Layout::open(path)?;
                let root = entry(&layout, name.as_deref())
                    .map_err(|error| error.wrap(format!("cannot use `{location}`")))?;
                (Source::Layout(layout, None), root)
            }
            Location::LayoutArchive(path, name) => {
                let select = name.clone().map_or(Select::Only, Select::Named);
                let (archive, root) = OciArchive::open(input(path)?, &select, &self.tmp)?;
                (Source::Archive(Box::new(archive)), root)
            }
            Location::DockerArchive(..) => {
                let (layout, dir) = self.temporary()?;
                let root = self.import(location, &layout)?;
                (Source::Layout(layout, Some(dir)), root)
            }
            Location::Dir(path) => {
                let (image, root) = DirImage::open(path)?;
                (Source::Dir(image), root)
            }
            Location::Registry(name) => {
                let registry = Arc::clone(self.registry()?);
                let (root, bytes) = registry.document(name).map_err(|error| {
                    Error::from(error).wrap(format!("cannot read `{location}`"))
                })?;
                let name = name.clone();
                let top = (digest(&root)?, bytes);
                (Source::Registry(RegistryImage { registry, name, top }), root)
            }
        };
        Ok(Opened { source, root: plain(&root) })
    }

    /// Brings an image into a layout, verified: into `into` when there is one.
    pub fn fetch(
        &self,
        location: &Location,
        choice: &Choice,
        into: Option<&Layout>,
    ) -> Result<Fetched> {
        match location {
            Location::Registry(name) => self.pull(name, choice, into),
            Location::DockerArchive(..) => {
                let (layout, keep) = self.place(into)?;
                let whole = self.import(location, &layout)?;
                let root = chosen(&layout, &whole, choice)?;
                let chosen = root.digest() != whole.digest();
                Ok(Fetched { layout, root, whole, chosen, _keep: keep })
            }
            _ => {
                let Opened { source, root: whole } = self.open(location)?;
                let root = chosen(&source, &whole, choice)?;
                let chosen = root.digest() != whole.digest();
                let source = match (source, into) {
                    (Source::Layout(layout, keep), None) => {
                        return Ok(Fetched { layout, root, whole, chosen, _keep: keep });
                    }
                    (source, _) => source,
                };
                let (layout, keep) = self.place(into)?;
                copy_blobs(&source, &root, &layout)?;
                Ok(Fetched { layout, root, whole, chosen, _keep: keep })
            }
        }
    }

    fn place(&self, into: Option<&Layout>) -> Result<(Layout, Option<TempDir>)> {
        if let Some(layout) = into {
            return Ok((layout.clone(), None));
        }
        let (layout, dir) = self.temporary()?;
        Ok((layout, Some(dir)))
    }

    fn pull(&self, name: &Reference, choice: &Choice, into: Option<&Layout>) -> Result<Fetched> {
        let wanted = match choice {
            Choice::Whole => Wanted::All,
            Choice::Here => Wanted::One(Platform::host()),
            Choice::One(platform) => Wanted::One(platform.clone()),
        };
        let (layout, keep) = self.place(into)?;
        let pulled = self.registry()?.pull(name, &wanted, &layout, &self.emitter)?;
        if let Choice::One(platform) = choice {
            resolve::resolve_exactly(&layout, &pulled.image, platform)?;
        }
        let chosen = pulled.image.digest() != pulled.root.digest();
        let (root, whole) = (plain(&pulled.image), plain(&pulled.root));
        Ok(Fetched { layout, root, whole, chosen, _keep: keep })
    }

    /// Takes a docker-archive in: it has no manifest, so one is made.
    fn import(&self, location: &Location, layout: &Layout) -> Result<Descriptor> {
        let Location::DockerArchive(path, name) = location else {
            return Err(Error::internal("not a docker-archive"));
        };
        let select = name.clone().map_or(Select::Only, Select::Named);
        let (input, expect) = (input(path)?, Expect::Docker);
        let request = Import { input, expect, select, tmp: &self.tmp, rootfs: None };
        let imported = archive::import(request, layout)?;
        let first = imported.images.into_iter().next();
        first.map(|image| image.descriptor).ok_or_else(|| Error::image("there is no image in it"))
    }
}

/// An archive; `-` is standard input.
fn input(path: &Path) -> Result<Input> {
    if path == Path::new("-") {
        return Ok(Input::Stream(Box::new(io::stdin())));
    }
    if path.is_dir() {
        return Err(Error::image(format!("`{}` is a directory, no archive", path.display()))
            .hint("the transport for a layout in a directory is `oci:`"));
    }
    Ok(Input::Path(path.to_owned()))
}

/// The root of what is chosen.
fn chosen(blobs: &dyn Blobs, root: &Descriptor, choice: &Choice) -> Result<Descriptor> {
    match choice {
        Choice::Whole => Ok(root.clone()),
        Choice::Here => Ok(plain(&read::choose(blobs, root, None)?.descriptor)),
        Choice::One(platform) => Ok(plain(&read::choose(blobs, root, Some(platform))?.descriptor)),
    }
}

/// Copies everything behind a descriptor that is there, verified; a document after what it names.
pub(super) fn copy_blobs(from: &dyn Blobs, root: &Descriptor, to: &Layout) -> Result<()> {
    let found = reachable(from, root)?;
    found.require_one_complete()?;
    for blob in found.blobs.iter().filter(|blob| !to.has(blob)) {
        let digest = digest(blob)?;
        let (reader, _) = from.open(&digest)?.ok_or_else(|| missing(blob))?;
        let reader = VerifyingReader::new(reader, digest.clone(), blob.size());
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        let mut writer = to.blob_writer()?.trusted();
        io::copy(&mut reader, &mut writer)
            .or_error(ErrorKind::Integrity, || format!("cannot copy blob {digest}"))?;
        writer.commit(&digest)?;
    }
    Ok(())
}

fn digest(descriptor: &Descriptor) -> Result<Digest> {
    spec::digest_of(descriptor)
}

/// A descriptor without what a layout or an index notes about it.
fn plain(descriptor: &Descriptor) -> Descriptor {
    let mut plain = Descriptor::new(
        descriptor.media_type().clone(),
        descriptor.size(),
        descriptor.digest().clone(),
    );
    plain.set_platform(descriptor.platform().clone());
    plain
}
