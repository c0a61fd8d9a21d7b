//! Where documents and blobs of an image are read, and which entry of a layout is meant.

use super::dir::DirImage;
use crate::error::{Error, Result};
use crate::net::Registry;
use crate::oci::archive::OciArchive;
use crate::oci::blobs::Blobs;
use crate::oci::layout::Layout;
use crate::oci::media;
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Reference};
use std::io::Read;
use std::sync::Arc;
use tempfile::TempDir;

/// The entry of a layout that `name` means: a tag or any other value of its name annotation, a full name, or a digest;
/// without a name the only one.
pub(super) fn entry(layout: &Layout, name: Option<&str>) -> Result<Descriptor> {
    let all = layout.entries()?;
    let full = name.and_then(|name| Reference::parse(name).ok());
    let found: Vec<_> = all
        .iter()
        .filter(|entry| {
            let Some(name) = name else { return true };
            entry.ref_name() == Some(name)
                || entry.descriptor.digest().as_ref() == name.trim_start_matches('@')
                || (entry.reference().is_some() && entry.reference() == full)
        })
        .map(|entry| &entry.descriptor)
        .collect();
    let mut distinct: Vec<&Descriptor> = Vec::new();
    for one in found {
        if !distinct.iter().any(|other| other.digest() == one.digest()) {
            distinct.push(one);
        }
    }
    if let [one] = distinct[..] {
        return Ok(one.clone());
    }
    let names: Vec<String> = all
        .iter()
        .take(20)
        .map(|entry| entry.ref_name().map_or(entry.descriptor.digest().to_string(), str::to_owned))
        .collect();
    let error = match (name, distinct.len()) {
        (Some(name), 0) => Error::image(format!("there is no image `{name}` in it")),
        (Some(name), _) => Error::image(format!("`{name}` means several images in it")),
        (None, 0) => return Err(Error::image("there is no image in it")),
        (None, count) => Error::usage(format!("there are {count} images in it")),
    };
    Err(error.hint(format!("choose one with `oci:PATH:NAME`; there are: {}", names.join(", "))))
}

/// Where documents and blobs are read.
#[derive(Debug)]
pub(super) enum Source {
    Layout(Layout, Option<TempDir>),
    Archive(Box<OciArchive>),
    Dir(DirImage),
    Registry(RegistryImage),
}

impl Blobs for Source {
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        match self {
            Self::Layout(layout, _) => layout.open(digest),
            Self::Archive(archive) => Blobs::open(&**archive, digest),
            Self::Dir(image) => image.open(digest),
            Self::Registry(_) => Err(Error::internal("a registry is asked for whole blobs only")),
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Layout(layout, _) => layout.document(descriptor),
            Self::Archive(archive) => archive.document(descriptor),
            Self::Dir(image) => image.document(descriptor),
            Self::Registry(image) => image.document(descriptor),
        }
    }
}

/// The documents of an image in a registry.
#[derive(Debug)]
pub(super) struct RegistryImage {
    pub(super) registry: Arc<Registry>,
    pub(super) name: Reference,
    /// What the name leads to.
    pub(super) top: (Digest, Vec<u8>),
}

impl RegistryImage {
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let digest = spec::digest_of(descriptor)?;
        if digest == self.top.0 {
            return Ok(Some(self.top.1.clone()));
        }
        let is_document = media::kind_of(descriptor.media_type().as_ref()).is_some();
        let bytes = if is_document {
            self.registry.part(&self.name, descriptor)
        } else {
            self.registry.small_blob(&self.name, descriptor)
        };
        bytes.map_err(|error| Error::from(error).wrap(format!("cannot read {digest}")))
    }
}
