//! Looking at documents: from a descriptor to manifests, configs and platforms, without touching a layer.

use crate::error::{Error, Result};
use crate::oci::blobs::{self, Blobs, Parsed};
use crate::oci::media;
use crate::oci::platform::{self, Platform};
use crate::oci::spec::{self, Descriptor, ImageConfig, ImageManifest};
use serde_json::Value;

/// Indexes in indexes.
const MAX_DEPTH: usize = 8;
/// Manifests that one name may lead to.
pub const MAX_ENTRIES: usize = 10_000;

/// One manifest and what belongs to it.
#[derive(Clone, Debug)]
pub struct Image {
    /// As the index (or the caller) gives it.
    pub descriptor: Descriptor,
    /// Bytes of the manifest.
    pub bytes: Vec<u8>,
    /// Parsed manifest.
    pub manifest: ImageManifest,
    /// Bytes of the config.
    pub config_bytes: Vec<u8>,
    /// Parsed config; `None` when it is some other artifact's.
    pub config: Option<ImageConfig>,
}

impl Image {
    /// What it is made for, by its config, else by its descriptor.
    pub fn platform(&self) -> Option<Platform> {
        let stated = self.config.as_ref().map(Platform::of_config);
        let stated = stated.filter(|found| !found.os.is_empty() && !found.architecture.is_empty());
        stated.or_else(|| Platform::of_descriptor(&self.descriptor))
    }

    /// Bytes of manifest, config and layers as they are stored.
    pub fn size(&self) -> u64 {
        let layers = self.manifest.layers().iter().map(Descriptor::size);
        let own = self.bytes.len() as u64;
        layers.fold(own.saturating_add(self.manifest.config().size()), u64::saturating_add)
    }
}

/// The media type of a manifest or index that comes without one.
pub fn media_type_of(bytes: &[u8]) -> Result<String> {
    let value: Value = spec::from_json("the manifest", bytes)?;
    if let Some(stated) = value.get("mediaType").and_then(Value::as_str) {
        return Ok(stated.to_owned());
    }
    let is_index = value.get("manifests").is_some();
    Ok(if is_index { media::OCI_INDEX } else { media::OCI_MANIFEST }.to_owned())
}

/// Whether the document behind a descriptor is an index.
pub fn is_index(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<bool> {
    let bytes = blobs.required(descriptor)?;
    Ok(matches!(blobs::parse(descriptor, &bytes)?, Parsed::Index(_)))
}

/// Manifests behind a descriptor in the order of its indexes; a manifest is its own only one.
pub fn leaves(blobs: &dyn Blobs, root: &Descriptor) -> Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    walk(blobs, root, 0, &mut found)?;
    Ok(found)
}

fn walk(
    blobs: &dyn Blobs,
    descriptor: &Descriptor,
    depth: usize,
    found: &mut Vec<Descriptor>,
) -> Result<()> {
    let promised = media::kind_of(descriptor.media_type().as_ref());
    // Below an index only further indexes are read; whether a manifest is there is not asked.
    if depth > 0 && promised != Some(media::Document::Index) {
        if found.len() >= MAX_ENTRIES {
            return Err(Error::integrity(format!(
                "the index leads to more than {MAX_ENTRIES} manifests"
            )));
        }
        found.push(descriptor.clone());
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Err(Error::integrity(format!("indexes are nested deeper than {MAX_DEPTH}")));
    }
    let Some(bytes) = blobs.document(descriptor)? else {
        if depth == 0 {
            return Err(blobs::missing(descriptor));
        }
        return Ok(());
    };
    match blobs::parse(descriptor, &bytes)? {
        Parsed::Index(index) => {
            index.manifests().iter().try_for_each(|child| walk(blobs, child, depth + 1, found))
        }
        Parsed::Manifest(_) => {
            found.push(descriptor.clone());
            Ok(())
        }
    }
}

/// A manifest with its config.
pub fn image(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<Image> {
    let bytes = blobs.required(descriptor)?;
    let Parsed::Manifest(manifest) = blobs::parse(descriptor, &bytes)? else {
        return Err(Error::image(format!("{} is an index, not an image", descriptor.digest())));
    };
    let config_bytes = blobs.required(manifest.config())?;
    let config = if media::is_image_config(manifest.config().media_type()) {
        let what = format!("image config {}", manifest.config().digest());
        Some(spec::from_json(&what, &config_bytes)?)
    } else {
        None
    };
    Ok(Image { descriptor: descriptor.clone(), bytes, manifest, config_bytes, config })
}

/// The image for a platform; without one this machine's, and a manifest that is in no index as it is.
pub fn choose(blobs: &dyn Blobs, root: &Descriptor, wanted: Option<&Platform>) -> Result<Image> {
    if !is_index(blobs, root)? {
        let found = image(blobs, root)?;
        if let (Some(wanted), Some(own)) = (wanted, found.platform())
            && !wanted.matches(&own)
        {
            return Err(Error::image(format!("the image is not made for `{wanted}`"))
                .hint(format!("it is made for `{own}`")));
        }
        return Ok(found);
    }
    let mut all = Vec::new();
    for leaf in leaves(blobs, root)? {
        if media::is_attestation(&leaf) {
            continue;
        }
        let platform = match Platform::of_descriptor(&leaf) {
            Some(stated) => Some(stated),
            None => image(blobs, &leaf)?.platform(),
        };
        all.push((leaf, platform));
    }
    let host = Platform::host();
    let wanted = wanted.unwrap_or(&host);
    let candidates =
        all.iter().enumerate().filter_map(|(at, (_, found))| Some((at, found.clone()?)));
    let best = platform::best(wanted, candidates).ok_or_else(|| {
        let mut names: Vec<String> =
            all.iter().filter_map(|(_, found)| Some(found.as_ref()?.to_string())).collect();
        names.sort();
        names.dedup();
        let error = Error::image(format!("the image is not made for `{wanted}`"));
        match names[..] {
            [] => error.cause("there is no image in its index"),
            _ => error.hint(format!("there are: {}", names.join(", "))),
        }
    })?;
    image(blobs, &all[best].0)
}
