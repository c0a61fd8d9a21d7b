//! One place that a cache is read from: its records, and single blobs.

use super::artifact::{self, Found};
use super::inline;
use super::record::Document;
use super::{CacheFrom, FromPlace, Pick};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{NetError, Registry, Trouble};
use crate::oci::layout::Layout;
use crate::oci::spec::{Descriptor, digest_of};
use std::sync::Arc;

/// Platforms of one image.
const MAX_IMAGES: usize = 64;

/// A place, and the way to it.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) from: &'a CacheFrom,
    /// Of all registries.
    pub(super) registry: Option<&'a Arc<Registry>>,
}

/// Why a blob did not come.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) error: Error,
    pub(super) extent: Extent,
}

/// What else need not be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nothing: other blobs may come.
    Blob,
    /// Anything of this cache.
    Cache,
    /// Anything of its registry, which does not answer.
    Registry,
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Self { error, extent: Extent::Blob }
    }
}

impl From<NetError> for Lost {
    fn from(error: NetError) -> Self {
        let extent = match error.trouble() {
            Trouble::Unreachable | Trouble::Offline => Extent::Registry,
            Trouble::Refused => Extent::Cache,
            Trouble::NotFound | Trouble::Broken | Trouble::Local => Extent::Blob,
        };
        Self { error: error.into(), extent }
    }
}

impl Source<'_> {
    /// The records, and how many of them have lost their layers.
    pub(super) fn records(&self) -> std::result::Result<(Document, usize), Lost> {
        let (found, bytes) = self.top()?;
        self.records_of(artifact::find(&found, &bytes)?, true)
    }

    fn records_of(
        &self,
        found: Found,
        is_top: bool,
    ) -> std::result::Result<(Document, usize), Lost> {
        let key = self.from.key.as_ref();
        match found {
            Found::Cache(manifest) => {
                Ok(artifact::records(&manifest, &self.small(manifest.config())?, key)?)
            }
            Found::Image(manifest) => {
                Ok(inline::records(&manifest, &self.small(manifest.config())?, key)?)
            }
            Found::Index(images) if is_top && !images.is_empty() && images.len() <= MAX_IMAGES => {
                let mut all: Option<(Document, usize)> = None;
                for image in &images {
                    let (document, lost) =
                        self.records_of(artifact::find(image, &self.entry(image)?)?, false)?;
                    all = Some(match all {
                        None => (document, lost),
                        Some((known, before)) => (known.and_older(document), before + lost),
                    });
                }
                Ok(all.unwrap_or_default())
            }
            Found::Index(_) => {
                Err(Error::image("it is an index without images, or with too many").into())
            }
        }
    }

    /// A manifest that an index names.
    fn entry(&self, image: &Descriptor) -> std::result::Result<Vec<u8>, Lost> {
        match &self.from.place {
            FromPlace::Registry(reference) => {
                Ok(self.registry()?.look_up_entry(reference, image)?)
            }
            FromPlace::Local { dir, .. } => Ok(Layout::open(dir)?.read_blob_small(image)?),
        }
    }

    fn top(&self) -> std::result::Result<(Descriptor, Vec<u8>), Lost> {
        match &self.from.place {
            FromPlace::Registry(reference) => Ok(self.registry()?.look_up(reference)?),
            FromPlace::Local { dir, pick } => {
                let layout = Layout::open(dir)?;
                let found = match pick {
                    Pick::Digest(digest) => layout.document_of(digest)?,
                    Pick::Tag(tag) => {
                        let entries = layout.entries()?.into_iter();
                        let mut named = entries.filter(|entry| entry.ref_name() == Some(tag));
                        named.next_back().map(|entry| entry.descriptor)
                    }
                };
                let found = found.ok_or_else(|| {
                    Error::image(format!("{} has nothing of that name", dir.display()))
                })?;
                let bytes = layout.read_blob_small(&found)?;
                Ok((found, bytes))
            }
        }
    }

    fn small(&self, blob: &Descriptor) -> std::result::Result<Vec<u8>, Lost> {
        match &self.from.place {
            FromPlace::Registry(reference) => Ok(self.registry()?.config(reference, blob)?),
            FromPlace::Local { dir, .. } => Ok(Layout::open(dir)?.read_blob_small(blob)?),
        }
    }

    /// Brings a blob into a layout, verified.
    pub(super) fn bring(
        &self,
        blob: &Descriptor,
        layout: &Layout,
    ) -> std::result::Result<(), Lost> {
        match &self.from.place {
            FromPlace::Registry(reference) => {
                Ok(self.registry()?.fetch_blob(reference, blob, layout)?)
            }
            FromPlace::Local { dir, .. } => Ok(copy_blob(&Layout::open(dir)?, layout, blob)?),
        }
    }

    fn registry(&self) -> Result<&Registry> {
        self.registry.map(|registry| &**registry).ok_or_else(|| Error::internal("no client"))
    }
}

/// Copies a blob from one layout into another; never a second name of the same file.
pub(super) fn copy_blob(from: &Layout, to: &Layout, blob: &Descriptor) -> Result<()> {
    let mut writer = to.blob_writer()?.trusted();
    std::io::copy(&mut from.open_blob(blob)?, &mut writer)
        .or_error(ErrorKind::Integrity, || format!("cannot copy blob {}", blob.digest()))?;
    writer.commit(&digest_of(blob)?)
}
