//! Makes an image of one layer from the tar of a root file system.
//!
//! How a tar becomes a layer blob is the layers room's business: the caller hands it in as a [`LayerPacker`].

use super::{Container, ImportedImage, read_docker::put_manifest};
use crate::{
    error::{Error, Result},
    oci::{
        Platform,
        digest::{DiffId, Digest},
        layout::Layout,
        spec::{self, History, ImageConfig, RootFs as ConfigRootFs},
    },
};
use std::{fmt, io::Read};

/// A stored layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedLayer {
    /// Of the blob.
    pub digest: Digest,
    /// Of the blob.
    pub size: u64,
    /// Of the uncompressed tar.
    pub diff_id: DiffId,
    /// Of the blob.
    pub media_type: String,
}

/// Turns a tar into a layer blob.
pub trait LayerPacker {
    /// Reads an uncompressed tar to its end and stores a layer with its content in `layout`.
    fn pack(&self, tar: &mut (dyn Read + Send), layout: &Layout) -> Result<PackedLayer>;
}

/// How to make an image of a root file system.
pub struct RootFs<'a> {
    /// What it is made for; a tar does not say.
    pub platform: Platform,
    /// RFC 3339 time of the image; none is written without one.
    pub created: Option<String>,
    /// Makes the layer.
    pub packer: &'a dyn LayerPacker,
}

impl fmt::Debug for RootFs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootFs({})", self.platform)
    }
}

/// Takes the whole tar as one layer.
pub(super) fn read(
    container: &Container,
    rootfs: &RootFs<'_>,
    layout: &Layout,
) -> Result<ImportedImage> {
    let mut tar = container.whole().ok_or_else(|| {
        Error::image("a directory is no image; only a tar of a root file system can become one")
    })?;
    let layer = rootfs.packer.pack(&mut tar, layout)?;
    let Platform { os, architecture, variant, .. } = rootfs.platform.clone();
    let config = ImageConfig {
        architecture,
        os,
        variant: (!variant.is_empty()).then_some(variant),
        created: rootfs.created.clone(),
        history: vec![History {
            created: rootfs.created.clone(),
            comment: Some("imported root file system".to_owned()),
            ..History::default()
        }],
        rootfs: ConfigRootFs { diff_ids: vec![layer.diff_id], ..ConfigRootFs::default() },
        ..ImageConfig::default()
    };
    let blob = spec::descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size);
    let descriptor = put_manifest(layout, &spec::to_json(&config)?, vec![blob])?;
    Ok(ImportedImage { descriptor, names: Vec::new(), tag: None, incomplete: Vec::new() })
}
