//! Indexes over images of several platforms: made by a build, or joined out of two (`image import --add`).

use super::blobs::Blobs;
use super::layout::Layout;
use super::layout::index::{IMAGE_NAME, ORIGIN, REF_NAME};
use super::media;
use super::platform::Platform;
use super::spec::{Descriptor, ImageIndex, MediaType, descriptor, to_json};
use super::{blobs, resolve};
use crate::error::{Error, Result};
use oci_spec::image::ImageIndexBuilder;
use std::collections::{HashMap, HashSet};

/// Annotation of an attestation: the digest of the image that it is about.
const SUBJECT: &str = "vnd.docker.reference.digest";

/// An index with the images of `old` and `new`; where both have a platform, `new` wins. Annotations stay, and so do
/// attestations of images that do.
pub fn platforms(layout: &Layout, old: &Descriptor, new: &Descriptor) -> Result<Descriptor> {
    let mut list = leaves(layout, new)?;
    for leaf in leaves(layout, old)? {
        let same = |other: &Descriptor| {
            let one_platform = platform(other) == platform(&leaf) && !media::is_attestation(&leaf);
            one_platform || other.digest() == leaf.digest()
        };
        if !list.iter().any(same) {
            list.push(leaf);
        }
    }
    let images: HashSet<String> = list.iter().map(|image| image.digest().to_string()).collect();
    list.retain(|image| {
        let annotations = image.annotations().as_ref();
        annotations.and_then(|all| all.get(SUBJECT)).is_none_or(|of| images.contains(of))
    });
    let mut annotations = index_annotations(layout, old)?;
    annotations.extend(index_annotations(layout, new)?);
    write_index(layout, list, (!annotations.is_empty()).then_some(annotations))
}

/// What is noted on an index; nothing for a manifest.
fn index_annotations(layout: &Layout, of: &Descriptor) -> Result<HashMap<String, String>> {
    let bytes = layout.required(of)?;
    Ok(match blobs::parse(of, &bytes)? {
        blobs::Parsed::Index(index) => index.annotations().clone().unwrap_or_default(),
        blobs::Parsed::Manifest(_) => HashMap::new(),
    })
}

/// Writes an index over these images, in the order of their platforms, so that the order in which they came does not
/// matter.
fn write_index(
    layout: &Layout,
    images: Vec<Descriptor>,
    annotations: Option<HashMap<String, String>>,
) -> Result<Descriptor> {
    write_index_as(layout, images, annotations, MediaType::ImageIndex)
}

/// The same in OCI's words or in Docker's.
#[expect(clippy::implicit_hasher, reason = "oci-spec keeps annotations in this type")]
pub fn write_index_as(
    layout: &Layout,
    mut images: Vec<Descriptor>,
    annotations: Option<HashMap<String, String>>,
    media_type: MediaType,
) -> Result<Descriptor> {
    images.sort_by_key(platform);
    let mut index: ImageIndex = ImageIndexBuilder::default()
        .schema_version(oci_spec::image::SCHEMA_VERSION)
        .media_type(media_type.clone())
        .manifests(images)
        .build()
        .map_err(|error| Error::internal("cannot make an index").cause(error))?;
    index.set_annotations(annotations);
    let bytes = to_json(&index)?;
    let digest = layout.put_blob(&bytes)?;
    Ok(descriptor(media_type, &digest, bytes.len() as u64))
}

fn platform(descriptor: &Descriptor) -> Option<Platform> {
    Platform::of_descriptor(descriptor)
}

/// The images behind a descriptor, each with its platform.
fn leaves(layout: &Layout, of: &Descriptor) -> Result<Vec<Descriptor>> {
    let mut list = Vec::new();
    for leaf in blobs::reachable(layout, of)?.leaves {
        let mut found = leaf.descriptor;
        if found.platform().is_none() {
            let known = match leaf.platform {
                Some(known) => known,
                None => resolve::resolve_single(layout, &found)?.platform,
            };
            found.set_platform(Some(known.to_oci()));
        }
        // What a store notes about a name is not the image's.
        let mut annotations = found.annotations().clone().unwrap_or_default();
        annotations.retain(|key, _| ![IMAGE_NAME, REF_NAME, ORIGIN].contains(&key.as_str()));
        found.set_annotations((!annotations.is_empty()).then_some(annotations));
        list.push(found);
    }
    Ok(list)
}
