//! Media types: what a descriptor promises, in OCI's and in Docker's words.
//!
//! Docker's image manifest v2 schema 2 differs from the image specification in its media types only
//! (image-spec media-types.md#compatibility-matrix), so both are read by the same code; the bytes stay as they are.

use super::spec::{Descriptor, MediaType};
use crate::error::{Error, Result};
use serde_json::Value;

/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// OCI's config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI's manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI's layer, uncompressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI's layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI's layer, Zstandard.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// Names manifests and further indexes.
    Index,
    /// Names a config and layers.
    Manifest,
}

/// How a layer's blob is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Tar,
    /// gzip, one or more members.
    Gzip,
    /// Zstandard.
    Zstd,
    /// As Docker once allowed: look at the bytes.
    Any,
}

/// True for a config that describes an image, not some other artifact.
pub fn is_image_config(media_type: &MediaType) -> bool {
    matches!(media_type.as_ref(), OCI_CONFIG | DOCKER_CONFIG)
}

/// How a layer of this media type is packed; `None` when it is no layer of files.
pub fn layer_packing(media_type: &MediaType) -> Option<Packing> {
    match media_type.as_ref() {
        OCI_LAYER
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Some(Packing::Tar),
        OCI_LAYER_GZIP | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => {
            Some(Packing::Gzip)
        }
        // QUIRK(docker): the legacy graph driver writes uncompressed layers under its gzip type, too.
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Packing::Any),
        OCI_LAYER_ZSTD
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Packing::Zstd),
        _ => None,
    }
}

/// True for layers that may be missing, since their licence forbids copying (Windows base layers).
pub fn is_foreign(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().as_ref();
    descriptor.urls().is_some()
        || media_type.contains(".nondistributable.")
        || media_type.contains(".foreign.")
}

/// True for the manifest of an attestation, which is no image (dockerfile.md §2.4).
pub fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotated = descriptor
        .annotations()
        .as_ref()
        .is_some_and(|all| all.contains_key("vnd.docker.reference.type"));
    annotated || descriptor.platform().as_ref().is_some_and(|p| p.os().to_string() == "unknown")
}

/// Index or manifest by the promised media type, or by content where that says nothing.
///
/// A document that could be read as both is refused, and so is one whose own `mediaType` contradicts its
/// descriptor (image-spec manifest.md: confusion between the two was CVE-2021-41190).
pub fn document(descriptor: &Descriptor, value: &Value) -> Result<Document> {
    let digest = descriptor.digest();
    let inner = value.get("mediaType").and_then(Value::as_str);
    let has = |key: &str| value.get(key).is_some();
    if has("manifests") && (has("layers") || has("config")) {
        return Err(Error::integrity(format!(
            "{digest} is a manifest and an index at the same time"
        )));
    }
    if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(Error::image(format!(
            "{digest} is a Docker schema 1 manifest, which is not supported"
        ))
        .hint("copy the image with a tool that converts it, for example by pulling and pushing it again"));
    }
    let promised = kind_of(descriptor.media_type().as_ref());
    let stated = inner.and_then(kind_of);
    if let (Some(promised), Some(stated)) = (promised, stated)
        && promised != stated
    {
        let (promised, stated) = (descriptor.media_type(), inner.unwrap_or_default());
        return Err(Error::integrity(format!(
            "{digest} is not what its descriptor says: expected `{promised}`, found `{stated}`"
        )));
    }
    let seen = if has("manifests") { Document::Index } else { Document::Manifest };
    let kind = promised.or(stated).unwrap_or(seen);
    if kind != seen || (seen == Document::Manifest && !has("config")) {
        return Err(Error::integrity(format!(
            "{digest} is neither an image manifest nor an index"
        )));
    }
    Ok(kind)
}

/// What a media type promises, for the four that we know.
pub fn kind_of(media_type: &str) -> Option<Document> {
    match media_type {
        OCI_INDEX | DOCKER_LIST => Some(Document::Index),
        OCI_MANIFEST | DOCKER_MANIFEST => Some(Document::Manifest),
        _ => None,
    }
}

/// Docker's names of layers with OCI's.
const LAYERS: [(&str, MediaType); 3] = [
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", MediaType::ImageLayerGzip),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", MediaType::ImageLayerZstd),
    ("application/vnd.docker.image.rootfs.diff.tar", MediaType::ImageLayer),
];

fn layer(name: &str) -> Option<&'static (&'static str, MediaType)> {
    LAYERS.iter().find(|(docker, oci)| *docker == name || oci.to_string() == name)
}

/// A layer's type in OCI's words: one manifest speaks one language, and the bytes are the same.
pub fn oci_layer(name: &str) -> MediaType {
    layer(name).map_or_else(|| MediaType::from(name), |(_, oci)| oci.clone())
}

/// A layer's type in Docker's words.
pub fn docker_layer(name: &str) -> MediaType {
    MediaType::from(layer(name).map_or(name, |(docker, _)| docker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, spec};

    fn check(media_type: &str, json: &str) -> Result<Document, String> {
        let value: Value = serde_json::from_str(json).unwrap();
        let descriptor =
            spec::descriptor(media_type.into(), &Digest::of(json.as_bytes()), json.len() as u64);
        document(&descriptor, &value).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn documents_are_what_type_and_content_agree_on() {
        assert_eq!(check(OCI_MANIFEST, r#"{"config":{},"layers":[]}"#), Ok(Document::Manifest));
        assert_eq!(check("x/y", r#"{"config":{},"layers":[]}"#), Ok(Document::Manifest));
        assert_eq!(check("x/y", r#"{"manifests":[]}"#), Ok(Document::Index));
        assert_eq!(check(DOCKER_LIST, r#"{"manifests":[]}"#), Ok(Document::Index));
    }

    #[test]
    fn contradictions_are_refused() {
        let table = [
            (OCI_MANIFEST, r#"{"config":{},"layers":[],"manifests":[]}"#, "at the same time"),
            (OCI_MANIFEST, r#"{"manifests":[]}"#, "neither an image manifest nor an index"),
            (OCI_INDEX, r#"{"config":{}}"#, "neither an image manifest nor an index"),
            ("x/y", "{}", "neither an image manifest nor an index"),
            ("x/y", r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (
                OCI_MANIFEST,
                r#"{"config":{},"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
                "not what its descriptor says",
            ),
        ];
        for (media_type, json, why) in table {
            let error = check(media_type, json).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
