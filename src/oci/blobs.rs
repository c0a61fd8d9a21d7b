//! Where content-addressed bytes come from, and which of them an image needs.
//!
//! [`Blobs`] is anything that finds blobs by digest: a layout directory, an archive. [`reachable`] walks from a
//! descriptor through nested indexes and manifests to configs and layers, verifying each document on the way.
//! Parts may be missing: tools write indexes with the content of one platform only. What is there must be right.

use super::{
    digest::{Digest, VerifyingReader},
    media::{self, Document},
    platform::Platform,
    spec::{self, Descriptor, ImageConfig, ImageIndex, ImageManifest},
};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use serde_json::Value;
use std::{collections::HashSet, io::Read};

/// Largest document (manifest, index, config) that is read into memory.
pub const DOCUMENT_LIMIT: u64 = 32 << 20;
/// Deepest nesting of indexes.
const MAX_DEPTH: usize = 8;
/// Most documents behind one descriptor.
const MAX_DOCUMENTS: usize = 10_000;

/// A place that finds blobs by digest.
pub trait Blobs {
    /// A blob's bytes from the start, not verified, and its size; `None` when it is not here.
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>>;

    /// The size of a blob, `None` when it is not here.
    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.open(digest)?.map(|(_, size)| size))
    }

    /// Verified bytes of a small blob; `None` when it is not here.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let digest = spec::digest_of(descriptor)?;
        if descriptor.size() > DOCUMENT_LIMIT {
            return Err(Error::integrity(format!(
                "document {digest} claims {} bytes, more than the {} that are allowed",
                descriptor.size(),
                DOCUMENT_LIMIT
            )));
        }
        let Some((reader, _)) = self.open(&digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        VerifyingReader::new(reader, digest.clone(), descriptor.size())
            .read_to_end(&mut bytes)
            .or_error(ErrorKind::Integrity, || format!("cannot read blob {digest}"))?;
        Ok(Some(bytes))
    }

    /// Verified bytes of a small blob that must be here.
    fn required(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.document(descriptor)?.ok_or_else(|| missing(descriptor))
    }
}

/// The error for a blob that is not there.
pub fn missing(descriptor: &Descriptor) -> Error {
    Error::integrity(format!(
        "blob {} (`{}`, {} bytes) is missing",
        descriptor.digest(),
        descriptor.media_type(),
        descriptor.size()
    ))
}

/// A parsed manifest or index.
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once")]
#[derive(Clone, Debug)]
pub enum Parsed {
    /// Names other documents.
    Index(ImageIndex),
    /// Names a config and layers.
    Manifest(ImageManifest),
}

/// Parses a manifest or index; `null` lists are read as empty (dockerfile.md §2.2).
pub fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Parsed> {
    let what = format!("document {}", descriptor.digest());
    let mut value: Value = spec::from_json(&what, bytes)?;
    for key in ["layers", "manifests"] {
        if value.get(key).is_some_and(Value::is_null) {
            value[key] = Value::Array(Vec::new());
        }
    }
    let wrong = |kind: &str, error: serde_json::Error| {
        Error::integrity(format!("{what} is not a valid {kind}")).cause(error)
    };
    match media::document(descriptor, &value)? {
        Document::Index => serde_json::from_value(value)
            .map(Parsed::Index)
            .map_err(|error| wrong("image index", error)),
        Document::Manifest => {
            if value.get("layers").is_none() {
                value["layers"] = Value::Array(Vec::new());
            }
            serde_json::from_value(value)
                .map(Parsed::Manifest)
                .map_err(|error| wrong("image manifest", error))
        }
    }
}

/// One manifest behind a descriptor.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its descriptor, as the index (or the caller) gives it.
    pub descriptor: Descriptor,
    /// From the descriptor, else from the config; `None` when neither can be read.
    pub platform: Option<Platform>,
    /// False for attestations and other artifacts.
    pub is_image: bool,
    /// Blobs that it needs and that are not here; its own when the manifest itself is not.
    pub missing: Vec<Descriptor>,
}

/// Everything behind a descriptor.
#[derive(Clone, Debug, Default)]
pub struct Reachable {
    /// Blobs that are here, each once; a document comes after what it names.
    pub blobs: Vec<Descriptor>,
    /// Manifests in index order.
    pub leaves: Vec<Leaf>,
}

impl Reachable {
    /// Fails unless one image is complete; where there is no image, unless one artifact is.
    pub fn require_one_complete(&self) -> Result<()> {
        let any_image = self.leaves.iter().any(|leaf| leaf.is_image);
        let mut wanted = self.leaves.iter().filter(|leaf| leaf.is_image == any_image).peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        let mut first_missing = None;
        for leaf in wanted {
            let Some(blob) = leaf.missing.first() else { return Ok(()) };
            first_missing = first_missing.or(Some(blob));
        }
        first_missing.map_or(Ok(()), |blob| Err(missing(blob)))
    }

    /// Platforms whose content is not all here.
    pub fn incomplete(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter().filter(|leaf| leaf.is_image && !leaf.missing.is_empty())
    }
}

/// Walks everything behind `descriptor`.
pub fn reachable(blobs: &(impl Blobs + ?Sized), descriptor: &Descriptor) -> Result<Reachable> {
    let mut walk = Walk { blobs, found: Reachable::default(), seen: HashSet::new(), documents: 0 };
    walk.document(descriptor, 0)?;
    Ok(walk.found)
}

struct Walk<'a, B: ?Sized> {
    blobs: &'a B,
    found: Reachable,
    seen: HashSet<Digest>,
    documents: usize,
}

impl<B: Blobs + ?Sized> Walk<'_, B> {
    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        self.documents += 1;
        if depth > MAX_DEPTH || self.documents > MAX_DOCUMENTS {
            return Err(Error::integrity(format!(
                "index {} nests too deep or names too many documents",
                descriptor.digest()
            )));
        }
        let Some(bytes) = self.blobs.document(descriptor)? else {
            if depth == 0 {
                return Err(missing(descriptor));
            }
            self.found.leaves.push(Leaf {
                descriptor: descriptor.clone(),
                platform: Platform::of_descriptor(descriptor),
                is_image: !media::is_attestation(descriptor),
                missing: vec![descriptor.clone()],
            });
            return Ok(());
        };
        match parse(descriptor, &bytes)? {
            Parsed::Index(index) => {
                for child in index.manifests() {
                    self.document(child, depth + 1)?;
                }
            }
            Parsed::Manifest(manifest) => self.manifest(descriptor, &manifest)?,
        }
        self.add(descriptor)
    }

    fn manifest(&mut self, descriptor: &Descriptor, manifest: &ImageManifest) -> Result<()> {
        let is_image = media::is_image_config(manifest.config().media_type())
            && !media::is_attestation(descriptor);
        let mut missing = Vec::new();
        for blob in std::iter::once(manifest.config()).chain(manifest.layers()) {
            match self.blobs.size(&spec::digest_of(blob)?)? {
                Some(size) if size != blob.size() => {
                    return Err(Error::integrity(format!(
                        "blob {} has the wrong size: expected {} bytes, found {size}",
                        blob.digest(),
                        blob.size()
                    )));
                }
                Some(_) => self.add(blob)?,
                None if media::is_foreign(blob) => {}
                None => missing.push(blob.clone()),
            }
        }
        let mut platform = Platform::of_descriptor(descriptor);
        if is_image
            && platform.is_none()
            && let Some(bytes) = self.blobs.document(manifest.config())?
        {
            let config: ImageConfig = spec::from_json("image config", &bytes)?;
            platform = Some(Platform::of_config(&config));
        }
        self.found.leaves.push(Leaf {
            descriptor: descriptor.clone(),
            platform,
            is_image,
            missing,
        });
        Ok(())
    }

    fn add(&mut self, descriptor: &Descriptor) -> Result<()> {
        if self.seen.insert(spec::digest_of(descriptor)?) {
            self.found.blobs.push(descriptor.clone());
        }
        Ok(())
    }
}
