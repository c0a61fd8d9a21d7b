//! Which blobs root entries lead to.
//!
//! What is missing or damaged leads nowhere: its image has to be made again in any case. What cannot be read for another
//! reason is an error, since nothing may be deleted by guess.

use super::lookup::harmless;
use crate::{
    error::Result,
    oci::{
        Digest,
        blobs::{self, Blobs, Parsed},
        layout::Layout,
        media::{self, Document},
        spec::{self, Descriptor},
    },
};
use std::collections::BTreeSet;

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Indexes and what they name.
    Indexes,
    /// Configs and layers, too.
    Blobs,
}

/// Everything that these roots need, and the roots themselves.
pub(super) fn digests<'a>(
    layout: &Layout,
    roots: impl IntoIterator<Item = &'a Descriptor>,
    depth: Depth,
) -> Result<BTreeSet<Digest>> {
    let (mut found, mut read) = (BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<Descriptor> = roots.into_iter().cloned().collect();
    while let Some(next) = open.pop() {
        let Ok(digest) = spec::digest_of(&next) else { continue };
        found.insert(digest.clone());
        let kind = media::kind_of(next.media_type().as_ref());
        let skip = kind == Some(Document::Manifest) && depth == Depth::Indexes;
        // Not `found`: an image may list another's manifest as its layer.
        if skip || !read.insert(digest) {
            continue;
        }
        let Some(Some(bytes)) = harmless(layout.document(&next))? else { continue };
        match harmless(blobs::parse(&next, &bytes))? {
            Some(Parsed::Index(index)) => open.extend(index.manifests().iter().cloned()),
            Some(Parsed::Manifest(manifest)) if depth == Depth::Blobs => {
                let blobs = manifest.layers().iter().chain([manifest.config()]);
                found.extend(blobs.filter_map(|blob| spec::digest_of(blob).ok()));
            }
            _ => {}
        }
    }
    Ok(found)
}
