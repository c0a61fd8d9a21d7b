//! The root file system of an image as a tar, straight out of its layers: `export`, and the layer that `diff` writes.
//!
//! In: an image in a layout. Out: the same bytes that a build writes with `type=tar`, whoever runs it: nothing is unpacked
//! into files, so that no privilege and no isolation is needed. Bodies wait in a file without a name until their turn.

use super::read::Image;
use super::{Access, file};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::compress::guarded;
use crate::layers::flat::{FlatTree, Spool};
use crate::layers::tar_read::Limits;
use crate::layers::tar_write::{TimePolicy, write_stream};
use crate::layers::{Change, ChangeKind};
use crate::oci::Digest;
use crate::oci::digest::HashingReader;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use std::io::{self, BufReader};
use std::path::Path;

/// What is written instead of what files have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewrite {
    /// Time of everything, in seconds since 1970.
    pub mtime: Option<i64>,
    /// Owner and group of everything.
    pub owner: Option<(u32, u32)>,
}

/// A file for the bodies of an image's files; gone with the value.
pub fn spool(access: &Access<'_>) -> Result<Spool> {
    let file = tempfile::tempfile_in(access.tmp());
    let file = file.or_error(ErrorKind::Environment, || {
        format!("cannot make a temporary file in `{}`", access.tmp().display())
    })?;
    Ok(Spool::new(file))
}

/// The files of an image; each layer is checked against the config.
pub fn read(layout: &Layout, image: &Image, spool: Option<Spool>) -> Result<FlatTree> {
    let config = image.config.as_ref().ok_or_else(|| Error::image("it is no container image"))?;
    let (layers, diff_ids) = (image.manifest.layers(), &config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        return Err(Error::integrity(format!(
            "its manifest has {} layers, its config {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let mut tree = FlatTree::new(spool);
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        add(layout, layer, Some(&diff_id.0), &mut tree)
            .map_err(|error| error.wrap(format!("cannot read layer {}", layer.digest())))?;
    }
    Ok(tree)
}

/// Puts a layer on top; it must be the one that is expected.
pub(super) fn add(
    layout: &Layout,
    layer: &Descriptor,
    expected: Option<&Digest>,
    tree: &mut FlatTree,
) -> Result<()> {
    let limits = Limits::default();
    let blob = BufReader::with_capacity(256 << 10, layout.open_blob(layer)?);
    let mut plain = HashingReader::new(guarded(blob, limits.ratio)?);
    tree.apply(&mut plain, &limits)?;
    io::copy(&mut plain, &mut io::sink())
        .or_error(ErrorKind::Integrity, || "its end cannot be read".to_owned())?;
    let found = plain.finish();
    match expected.filter(|expected| **expected != found) {
        None => Ok(()),
        Some(expected) => Err(Error::integrity(format!(
            "its content has the wrong digest: expected {expected}, found {found}"
        ))),
    }
}

/// Writes a whole tree as a tar in the order of its paths; `-` is standard output.
pub fn write(
    access: &Access<'_>,
    tree: &FlatTree,
    rewrite: Rewrite,
    path: &Path,
) -> Result<Digest> {
    let mut changes = tree.changes();
    for change in &mut changes {
        let ChangeKind::Present(entry) = &mut change.kind else { continue };
        if let Some(mtime) = rewrite.mtime {
            entry.mtime = (mtime, 0);
        }
        if let Some((uid, gid)) = rewrite.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
    }
    write_changes(access, tree, &changes, path)
}

/// Writes changes of a tree as a layer.
pub fn write_changes(
    access: &Access<'_>,
    tree: &FlatTree,
    changes: &[Change],
    path: &Path,
) -> Result<Digest> {
    let times = TimePolicy { epoch: None, started: (i64::MAX, 0) };
    file::write(path, None, access.tmp(), |out| {
        write_stream(changes, &mut |path, size, out| tree.body(path, size, out), &times, out)
    })
}
