//! The artifact of a cache: an ordinary image manifest, so that registries keep its blobs and any tool can copy it.
//!
//! The layers' blobs are its `layers`, the [`Document`] is its config, and an annotation has the signature. Reading
//! believes only records whose layer is among the `layers`, with the same digest and size.

use super::key::CacheKey;
use super::record::{Document, MAX_BYTES};
use crate::error::{Error, Result};
use crate::oci::blobs::{self, Parsed};
use crate::oci::spec::{self, Descriptor, ImageManifest, MediaType, descriptor};
use crate::oci::{Digest, media};
use oci_spec::image::ImageManifestBuilder;
use std::collections::{BTreeMap, HashMap};

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

/// The layers of all records, each once, in the order of their digests.
fn layers(document: &Document) -> Vec<Descriptor> {
    let all = document.steps.iter().flat_map(|entry| &entry.layers).map(|entry| &entry.layer);
    let by_digest: BTreeMap<&Digest, _> = all.map(|layer| (&layer.digest, layer)).collect();
    let blob = |(digest, layer): (&Digest, &crate::layers::Layer)| {
        descriptor(layer.media_type.as_str().into(), digest, layer.size)
    };
    by_digest.into_iter().map(blob).collect()
}

/// The manifest of a cache of ours; an error that says what else is there.
pub(super) fn manifest(found: &Descriptor, bytes: &[u8]) -> Result<ImageManifest> {
    let other = |what: &str| Err(Error::image(format!("it is {what}, not a cache of nativebuild")));
    match blobs::parse(found, bytes)? {
        Parsed::Index(index) => {
            let types = index.manifests().iter().map(Descriptor::media_type);
            let buildkit = types.map(AsRef::as_ref).any(|name| name == BUILDKIT);
            other(if buildkit { "a cache in BuildKit's form" } else { "an index of images" })
        }
        Parsed::Manifest(manifest) => match manifest.config().media_type().as_ref() {
            CONFIG if manifest.config().size() > MAX_BYTES => {
                Err(Error::integrity("its records have more than 8 MiB"))
            }
            CONFIG => Ok(manifest),
            BUILDKIT => other("a cache in BuildKit's form"),
            _ if media::is_image_config(manifest.config().media_type()) => other("an image"),
            _ => other("something else"),
        },
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
        match annotations.and_then(|all| all.get(SIGNATURE)) {
            None => return Err(Error::integrity("its records are not signed")),
            Some(signature) if !key.verify(config, signature) => {
                return Err(Error::integrity("its records are signed with another key"));
            }
            Some(_) => {}
        }
    }
    let document = Document::parse(config)?;
    Ok(among(document, manifest.layers()))
}

/// Leaves out layers that are not listed.
fn among(mut document: Document, listed: &[Descriptor]) -> (Document, usize) {
    let sizes: HashMap<String, u64> =
        listed.iter().map(|blob| (blob.digest().to_string(), blob.size())).collect();
    let mut lost = 0;
    for entry in &mut document.steps {
        entry.layers.retain(|entry| {
            let there = sizes.get(entry.layer.digest.as_str()) == Some(&entry.layer.size);
            lost += usize::from(!there);
            there
        });
    }
    (document, lost)
}
