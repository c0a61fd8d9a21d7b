//! The files of an image as plain data, out of its layers' tars: nothing is unpacked and no privilege is needed.
//!
//! [`FlatTree`] applies the layers; here are its files by path, each with the digest of its bytes.

use super::rootfs;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::compress::guarded;
use crate::layers::flat::FlatTree;
use crate::layers::tar_read::{Limits, for_each};
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::oci::{DiffId, Digest};
use std::collections::BTreeMap;
use std::io::{BufReader, Read};

/// One path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Type and metadata; a further name of a file has the file's own.
    pub entry: Entry,
    /// Of a regular file's bytes.
    pub content: Option<Digest>,
}

/// All paths of an image, without the root itself.
pub type Files = BTreeMap<ImagePath, File>;

/// The files of these layers, bottom first. With diff_ids every layer is checked against its own.
pub fn files(layout: &Layout, layers: &[Descriptor], diff_ids: Option<&[DiffId]>) -> Result<Files> {
    let mut tree = FlatTree::new(None);
    for (at, layer) in layers.iter().enumerate() {
        let expected = diff_ids.and_then(|all| all.get(at)).map(|id| &id.0);
        rootfs::add(layout, layer, expected, &mut tree)
            .map_err(|error| error.wrap(format!("cannot read layer {}", layer.digest())))?;
    }
    let file = |(path, entry, content)| (path, File { entry, content });
    Ok(tree.files().into_iter().map(file).collect())
}

/// The bytes of a regular file, by the topmost layer that has it under exactly this path.
pub fn read(
    layout: &Layout,
    layers: &[Descriptor],
    path: &[u8],
    limit: u64,
) -> Result<Option<Vec<u8>>> {
    for layer in layers.iter().rev() {
        let limits = Limits::default();
        let blob = BufReader::with_capacity(256 << 10, layout.open_blob(layer)?);
        let mut found = None;
        for_each(guarded(blob, limits.ratio)?, &limits, |entry, body| {
            if entry.path == path && matches!(entry.entry.kind, EntryKind::File { .. }) {
                let mut bytes = Vec::new();
                body.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .or_error(ErrorKind::Integrity, || "a file cannot be read".to_owned())?;
                found = Some(bytes);
            }
            Ok(())
        })
        .map_err(|error| error.wrap(format!("cannot read layer {}", layer.digest())))?;
        if let Some(bytes) = found {
            if bytes.len() as u64 > limit {
                return Err(Error::integrity(format!(
                    "`/{}` of the image is too large",
                    String::from_utf8_lossy(path)
                )));
            }
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
