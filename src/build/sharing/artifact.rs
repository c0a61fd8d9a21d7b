//! The artifact of a cache: an ordinary image manifest, so that registries keep its blobs and any tool can copy it.
//!
//! The layers' blobs are its `layers`, the [`Document`] is its config, and an annotation has the signature. Reading
//! believes only records whose layer is among the `layers`, with the same digest and size.

use super::key::CacheKey;
use super::pack::CHUNK;
use super::record::{Document, MAX_BYTES};
use crate::error::{Error, Result};
use crate::oci::blobs::{self, Parsed};
use crate::oci::spec::{self, Descriptor, ImageManifest, MediaType, descriptor};
use crate::oci::{Digest, media};
use oci_spec::image::ImageManifestBuilder;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

/// Type of the config.
pub(super) const CONFIG: &str = "application/vnd.nativebuild.cache.config.v1+json";
/// Type of the whole.
const ARTIFACT: &str = "application/vnd.nativebuild.cache.v1+json";
/// Annotation with the signature.
const SIGNATURE: &str = "io.nativebuild.cache.hmac-sha256";
/// BuildKit's config, of its own form.
const BUILDKIT: &str = "application/vnd.buildkit.cacheconfig.v0";
/// What stands for no layers where registries want some (image-spec manifest.md#guidance-for-an-empty-descriptor).
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EMPTY_BYTES: &[u8] = b"{}";

/// An artifact as bytes, and the blobs that it stands on.
pub(super) struct Artifact {
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    /// Blobs that are to be there before the manifest, besides the config.
    pub(super) layers: Vec<Descriptor>,
    /// The blob of two bytes that stands for no layers, when there are none.
    pub(super) empty: Option<&'static [u8]>,
}

impl Artifact {
    /// The artifact of these records.
    pub(super) fn new(document: &Document, key: Option<&CacheKey>) -> Result<Self> {
        let config = document.to_bytes()?;
        let layers = layers(document);
        let mut listed = layers.clone();
        let empty = layers.is_empty().then_some(EMPTY_BYTES);
        if let Some(bytes) = empty {
            listed.push(descriptor(EMPTY.into(), &Digest::of(bytes), bytes.len() as u64));
        }
        let about = descriptor(CONFIG.into(), &Digest::of(&config), config.len() as u64);
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(oci_spec::image::SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .artifact_type(MediaType::from(ARTIFACT))
            .config(about)
            .layers(listed)
            .build()
            .map_err(|error| Error::internal("cannot make the manifest of a cache").cause(error))?;
        let signed = key.map(|key| HashMap::from([(SIGNATURE.to_owned(), key.sign(&config))]));
        manifest.set_annotations(signed);
        Ok(Self { config, manifest: spec::to_json(&manifest)?, layers, empty })
    }

    /// Of the manifest.
    pub(super) fn descriptor(&self) -> Descriptor {
        let bytes = &self.manifest;
        descriptor(media::OCI_MANIFEST.into(), &Digest::of(bytes), bytes.len() as u64)
    }
}

/// The layers of all records and the chunks of all mounts, each once, in the order of their digests.
fn layers(document: &Document) -> Vec<Descriptor> {
    let layers = document.steps.iter().flat_map(|entry| &entry.layers).map(|entry| &entry.layer);
    let layers = layers.map(|layer| (&layer.digest, (&*layer.media_type, layer.size)));
    let chunks = document.mounts.iter().flat_map(|entry| &entry.chunks);
    let chunks = chunks.map(|chunk| (&chunk.digest, (CHUNK, chunk.size)));
    let by_digest: BTreeMap<&Digest, _> = chunks.chain(layers).collect();
    let blob =
        |(digest, (kind, size)): (&Digest, (&str, u64))| descriptor(kind.into(), digest, size);
    by_digest.into_iter().map(blob).collect()
}

/// What a name led to.
pub(super) enum Found {
    /// A cache of ours.
    Cache(ImageManifest),
    /// An image, which may have a cache in its config.
    Image(ImageManifest),
    /// Images.
    Index(Vec<Descriptor>),
}

/// What a document is; an error that says so when it has no cache of ours.
pub(super) fn find(found: &Descriptor, bytes: &[u8]) -> Result<Found> {
    let other = |what: &str| Err(Error::image(format!("it is {what}, not a cache of nativebuild")));
    match blobs::parse(found, bytes)? {
        Parsed::Index(index) => {
            let types = index.manifests().iter().map(Descriptor::media_type);
            if types.map(AsRef::as_ref).any(|name| name == BUILDKIT) {
                return other("a cache in BuildKit's form");
            }
            let images = index.manifests().iter().filter(|entry| !media::is_attestation(entry));
            Ok(Found::Index(images.cloned().collect()))
        }
        Parsed::Manifest(manifest) => match manifest.config().media_type().as_ref() {
            _ if manifest.config().size() > MAX_BYTES => {
                Err(Error::integrity("its records have more than 8 MiB"))
            }
            CONFIG => Ok(Found::Cache(manifest)),
            BUILDKIT => other("a cache in BuildKit's form"),
            _ if media::is_image_config(manifest.config().media_type()) => {
                Ok(Found::Image(manifest))
            }
            _ => other("something else"),
        },
    }
}

/// True for a cache of ours, whether or not it is of use.
pub(super) fn is_ours(found: &Descriptor, bytes: &[u8]) -> bool {
    match blobs::parse(found, bytes) {
        Ok(Parsed::Manifest(it)) => *it.config().media_type() == MediaType::from(CONFIG),
        _ => false,
    }
}

/// The manifest of a cache of ours, when it is one.
pub(super) fn manifest(found: &Descriptor, bytes: &[u8]) -> Option<ImageManifest> {
    match find(found, bytes) {
        Ok(Found::Cache(manifest)) => Some(manifest),
        _ => None,
    }
}

/// The records of a manifest's config, without layers that the manifest does not have; how many these were.
pub(super) fn records(
    manifest: &ImageManifest,
    config: &[u8],
    key: Option<&CacheKey>,
) -> Result<(Document, usize)> {
    if let Some(key) = key {
        let annotations = manifest.annotations().as_ref();
        let signature = annotations.and_then(|all| all.get(SIGNATURE));
        key.check(config, signature.map(String::as_str))?;
    }
    let document = Document::parse(config)?;
    Ok(among(document, manifest.layers()))
}

/// Leaves out layers that are not listed.
pub(super) fn among(document: Document, listed: &[Descriptor]) -> (Document, usize) {
    let sizes: HashMap<String, u64> =
        listed.iter().map(|blob| (blob.digest().to_string(), blob.size())).collect();
    let has = &mut |blob: &Descriptor| -> Result<bool, Infallible> {
        Ok(sizes.get(&blob.digest().to_string()) == Some(&blob.size()))
    };
    let Ok(found) = standing_on(document, has);
    found
}

/// Leaves out layers and directories of cache mounts that stand on blobs which are not there; how many these were.
pub(super) fn standing_on<E>(
    mut document: Document,
    has: &mut dyn FnMut(&Descriptor) -> Result<bool, E>,
) -> Result<(Document, usize), E> {
    let (mut lost, mut failed) = (0, None);
    let mut there = |blob: Descriptor| match &failed {
        Some(_) => true,
        None => has(&blob).unwrap_or_else(|error| {
            failed = Some(error);
            true
        }),
    };
    for entry in &mut document.steps {
        lost += entry.keep_those(&mut |layer| {
            let kind = layer.media_type.as_str().into();
            there(descriptor(kind, &layer.digest, layer.size))
        });
    }
    document.mounts.retain(|entry| {
        let mut chunks = entry.chunks.iter();
        let whole = chunks.all(|it| there(descriptor(CHUNK.into(), &it.digest, it.size)));
        lost += usize::from(!whole);
        whole
    });
    failed.map_or(Ok((document, lost)), Err)
}
