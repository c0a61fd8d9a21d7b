//! Indexes over images of several platforms: made by a build, or joined out of two (`image import --add`).

use super::layout::Layout;
use super::platform::Platform;
use super::spec::{Descriptor, ImageIndex, MediaType, descriptor, to_json};
use super::{blobs, resolve};
use crate::error::{Error, Result};
use oci_spec::image::ImageIndexBuilder;
use std::collections::HashMap;

/// An index with the images of `old` and `new`; where both have a platform, `new` wins.
pub fn platforms(layout: &Layout, old: &Descriptor, new: &Descriptor) -> Result<Descriptor> {
    let mut list = leaves(layout, new)?;
    for leaf in leaves(layout, old)? {
        let same = |other: &Descriptor| platform(other) == platform(&leaf);
        if !list.iter().any(same) {
            list.push(leaf);
        }
    }
    write_index(layout, list, None)
}

/// Writes an index over these images, in the order of their platforms, so that the order in which they came does not
/// matter.
#[expect(clippy::implicit_hasher, reason = "oci-spec keeps annotations in this type")]
pub fn write_index(
    layout: &Layout,
    mut images: Vec<Descriptor>,
    annotations: Option<HashMap<String, String>>,
) -> Result<Descriptor> {
    images.sort_by_key(platform);
    let mut index: ImageIndex = ImageIndexBuilder::default()
        .schema_version(oci_spec::image::SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(images)
        .build()
        .map_err(|error| Error::internal("cannot make an index").cause(error))?;
    index.set_annotations(annotations);
    let bytes = to_json(&index)?;
    let digest = layout.put_blob(&bytes)?;
    Ok(descriptor(MediaType::ImageIndex, &digest, bytes.len() as u64))
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
        found.set_annotations(None);
        list.push(found);
    }
    Ok(list)
}
