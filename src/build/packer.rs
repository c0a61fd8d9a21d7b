//! The tar of a root file system → a layer blob of ours, for `image import`.

use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::compress::{Compression, Workers, compress_layer};
use crate::oci::archive::{LayerPacker, PackedLayer};
use crate::oci::layout::Layout;
use std::io::Read;

/// Packs with gzip, as a build does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packer;

impl LayerPacker for Packer {
    fn pack(&self, tar: &mut (dyn Read + Send), layout: &Layout) -> Result<PackedLayer> {
        let workers = Workers::new(std::thread::available_parallelism().map_or(1, usize::from));
        let blob = layout.blob_writer()?.trusted();
        let (blob, layer) = compress_layer(Compression::default(), &workers, blob, |mut out| {
            std::io::copy(tar, &mut out)
                .or_error(ErrorKind::Integrity, || "cannot read the tar".to_owned())
                .map(drop)
        })?;
        blob.commit(&layer.digest)?;
        Ok(PackedLayer {
            digest: layer.digest,
            size: layer.size,
            diff_id: layer.diff_id,
            media_type: layer.media_type,
        })
    }
}
