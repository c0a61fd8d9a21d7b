//! From a name's descriptor to one image: through (nested) indexes to the manifest of a platform, its config and
//! its layers, all verified.

use super::{
    blobs::{self, Blobs, Leaf, Parsed},
    digest::DiffId,
    layout::Layout,
    platform::{self, Platform},
    spec::{self, Descriptor, ImageConfig, ImageManifest},
};
use crate::error::{Error, Result};

/// One image of one platform.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// As the index (or the caller) gives it.
    pub manifest_descriptor: Descriptor,
    /// Parsed manifest.
    pub manifest: ImageManifest,
    /// Its bytes, from which its digest is made.
    pub manifest_bytes: Vec<u8>,
    /// Bytes of the config blob.
    pub config_bytes: Vec<u8>,
    /// Parsed config.
    pub config: ImageConfig,
    /// Layers, bottom first; as many as `config.rootfs.diff_ids`.
    pub layers: Vec<Descriptor>,
    /// Of the config; of the descriptor where the config says nothing.
    pub platform: Platform,
}

impl ResolvedImage {
    /// Layers with the digests of their uncompressed tars, bottom first.
    pub fn layers_with_diff_ids(&self) -> impl Iterator<Item = (&Descriptor, &DiffId)> {
        self.layers.iter().zip(&self.config.rootfs.diff_ids)
    }
}

/// The image for `platform` behind `descriptor`. A manifest that is not in an index is taken as it is, whatever
/// its platform (dockerfile.md §1.10): the caller compares.
pub fn resolve(
    place: &(impl Blobs + ?Sized),
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<ResolvedImage> {
    let bytes = place.required(descriptor)?;
    if let Parsed::Manifest(manifest) = blobs::parse(descriptor, &bytes)? {
        return open(place, descriptor.clone(), manifest, bytes);
    }
    let chosen = choose(place, descriptor, platform)?;
    let bytes = place.document(&chosen.descriptor)?.ok_or_else(|| {
        Error::image(format!(
            "the image has an entry for `{platform}`, but its content is not stored here"
        ))
        .cause(format!("manifest {} is missing", chosen.descriptor.digest()))
    })?;
    match blobs::parse(&chosen.descriptor, &bytes)? {
        Parsed::Manifest(manifest) => open(place, chosen.descriptor, manifest, bytes),
        Parsed::Index(_) => Err(Error::internal("a leaf of an index is an index")),
    }
}

/// The same for a platform that the user named: a manifest that is not in an index must be made for it, too.
pub fn resolve_exactly(
    layout: &Layout,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<ResolvedImage> {
    let image = resolve(layout, descriptor, platform)?;
    if !platform.matches(&image.platform) {
        return Err(Error::image(format!("the image is not made for `{platform}`"))
            .hint(format!("it is made for `{}`", image.platform)));
    }
    Ok(image)
}

/// The only image behind `descriptor`; an error that lists the platforms when there are several.
pub fn resolve_single(layout: &Layout, descriptor: &Descriptor) -> Result<ResolvedImage> {
    let found = blobs::reachable(layout, descriptor)?;
    let complete: Vec<&Leaf> =
        found.leaves.iter().filter(|leaf| leaf.is_image && leaf.missing.is_empty()).collect();
    match complete[..] {
        [one] => resolve(layout, &one.descriptor, &Platform::host()),
        [] => Err(Error::image(format!("there is no image behind {}", descriptor.digest()))),
        _ => Err(Error::image("the image has several platforms, and only one can be used here")
            .hint(format!("choose one with `--platform`: {}", shown(&complete)))),
    }
}

/// Platforms of the images behind a descriptor, as far as they are known.
pub fn platforms(place: &(impl Blobs + ?Sized), descriptor: &Descriptor) -> Result<Vec<Platform>> {
    let found = blobs::reachable(place, descriptor)?;
    Ok(found.leaves.into_iter().filter(|leaf| leaf.is_image).filter_map(|l| l.platform).collect())
}

fn choose(
    place: &(impl Blobs + ?Sized),
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<Leaf> {
    let found = blobs::reachable(place, descriptor)?;
    let images: Vec<&Leaf> = found.leaves.iter().filter(|leaf| leaf.is_image).collect();
    let candidates =
        images.iter().enumerate().filter_map(|(at, leaf)| Some((at, leaf.platform.clone()?)));
    platform::best(platform, candidates).map(|at| images[at].clone()).ok_or_else(|| {
        let error = Error::image(format!("the image is not made for `{platform}`"));
        if images.is_empty() {
            return error.cause("there is no image in its index");
        }
        error.hint(format!("there are: {}", shown(&images)))
    })
}

fn open(
    place: &(impl Blobs + ?Sized),
    manifest_descriptor: Descriptor,
    manifest: ImageManifest,
    manifest_bytes: Vec<u8>,
) -> Result<ResolvedImage> {
    if !super::media::is_image_config(manifest.config().media_type()) {
        return Err(Error::image(format!(
            "{} is not a container image: its config is `{}`",
            manifest_descriptor.digest(),
            manifest.config().media_type()
        )));
    }
    let config_bytes = place.required(manifest.config())?;
    let config: ImageConfig =
        spec::from_json(&format!("image config {}", manifest.config().digest()), &config_bytes)?;
    let (layers, diff_ids) = (manifest.layers().len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(Error::integrity(format!(
            "manifest {} and its config do not fit: {layers} layers, {diff_ids} diff_ids",
            manifest_descriptor.digest()
        )));
    }
    let mut platform = Platform::of_config(&config);
    if platform.os.is_empty() || platform.architecture.is_empty() {
        platform = Platform::of_descriptor(&manifest_descriptor).unwrap_or(platform);
    }
    let layers = manifest.layers().clone();
    Ok(ResolvedImage {
        manifest_descriptor,
        manifest,
        manifest_bytes,
        config_bytes,
        config,
        layers,
        platform,
    })
}

fn shown(leaves: &[&Leaf]) -> String {
    let mut all: Vec<String> = leaves
        .iter()
        .map(|leaf| {
            leaf.platform.as_ref().map_or_else(|| "unknown".to_owned(), Platform::to_string)
        })
        .collect();
    all.sort();
    all.dedup();
    all.join(", ")
}
