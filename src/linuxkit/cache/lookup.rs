//! From a root entry to the image of one platform, if all of it is here.
//!
//! Other platforms, attestations and damage in them do not matter. Only what hinders reading at all is an error.

use crate::{
    error::{ErrorKind, Result},
    oci::{
        Platform,
        blobs::{self, Blobs, Parsed},
        layout::Layout,
        media,
        resolve::{self, ResolvedImage},
        spec::Descriptor,
    },
};

/// Deepest nesting of indexes, and most manifests behind one name.
const LIMITS: (usize, usize) = (4, 1000);

/// The image for a platform, compared by operating system and architecture; an equal variant is tried first.
pub(super) fn complete(
    layout: &Layout,
    root: &Descriptor,
    platform: &Platform,
) -> Result<Option<ResolvedImage>> {
    let mut manifests = Vec::new();
    if harmless(collect(layout, root, 0, &mut manifests))?.is_none() {
        return Ok(None);
    }
    let stated = |manifest: &Descriptor| Platform::of_descriptor(manifest);
    manifests.sort_by_key(|manifest| stated(manifest).as_ref() != Some(platform));
    for manifest in manifests {
        if stated(&manifest).is_some_and(|stated| !same(&stated, platform)) {
            continue;
        }
        let Some(image) = harmless(resolve::resolve(layout, &manifest, platform))? else {
            continue;
        };
        let here = |layer: &Descriptor| layout.has(layer) || media::is_foreign(layer);
        let fits = stated(&manifest).is_some() || same(&image.platform, platform);
        if fits && image.layers.iter().all(here) {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

fn same(a: &Platform, b: &Platform) -> bool {
    (&a.os, &a.architecture) == (&b.os, &b.architecture)
}

/// Manifests of images in the order of the index; what cannot be read counts as empty below the root.
fn collect(
    layout: &Layout,
    at: &Descriptor,
    depth: usize,
    found: &mut Vec<Descriptor>,
) -> Result<()> {
    if depth > LIMITS.0 || found.len() >= LIMITS.1 || media::is_attestation(at) {
        return Ok(());
    }
    // Whether a manifest can be read is seen when it is needed.
    if depth > 0 && media::kind_of(at.media_type().as_ref()) == Some(media::Document::Manifest) {
        found.push(at.clone());
        return Ok(());
    }
    match blobs::parse(at, &layout.required(at)?)? {
        Parsed::Manifest(_) => found.push(at.clone()),
        Parsed::Index(index) => {
            for child in index.manifests() {
                harmless(collect(layout, child, depth + 1, found))?;
            }
        }
    }
    Ok(())
}

/// Turns damage into absence; a machine that fails stays an error.
pub(super) fn harmless<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Image) => Ok(None),
        Err(error) => Err(error),
    }
}
