//! Writing a cache into an OCI image layout.
//!
//! The layout may hold other things; only the entry of the cache's name is replaced, and only when it is a cache of
//! ours. Blobs that its earlier artifact had and that nothing in the layout names any more go, so that the directory of a
//! CI job does not grow for ever. Meanwhile nobody else writes into the layout ([`Layout::writing_alone`]): a blob that one
//! found or put there, and is about to name, another would remove with its earlier cache.

use super::artifact::{self, Artifact};
use super::export::is_image;
use super::source::copy_blob;
use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::oci::blobs::reachable;
use crate::oci::layout::{IndexEntry, Layout, LockedIndex};
use crate::oci::spec::{Descriptor, descriptor, digest_of};
use std::collections::HashSet;

/// Fails where the name is that of something else.
pub(super) fn check(layout: &Layout, tag: &str) -> Result<()> {
    refuse_others(layout, tag, &of_name(layout.entries()?, tag))
}

fn refuse_others(layout: &Layout, tag: &str, found: &[Descriptor]) -> Result<()> {
    for entry in found {
        // What cannot be read is of no use to anybody.
        let Ok(bytes) = layout.read_blob_small(entry) else { continue };
        if artifact::is_ours(entry, &bytes) {
            continue;
        }
        let what = if is_image(entry, &bytes) { "an image" } else { "something else" };
        let place = layout.root().display();
        let message = format!("`{place}:{tag}` is {what}, which the cache would replace");
        let hint = "give the cache a name of its own, for example `tag=buildcache`";
        return Err(Error::image(message).hint(hint));
    }
    Ok(())
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// All that is on its way there.
    All,
    /// The blobs of the artifact: commands may have much on its way, for which nobody is to wait.
    Blobs,
}

/// Whether something has the name.
pub(super) fn has_name(layout: &Layout, tag: &str) -> Result<bool> {
    Ok(!of_name(layout.entries()?, tag).is_empty())
}

/// Puts the artifact under a name, its blobs out of the store.
pub(super) fn write(
    store: &Layout,
    (to, tag): (&Layout, &str),
    artifact: &Artifact,
    durable: Durable,
) -> Result<()> {
    for blob in &artifact.layers {
        if !to.has(blob) {
            copy_blob(store, to, blob)?;
        }
    }
    to.put_blob(&artifact.config)?;
    if let Some(bytes) = artifact.empty {
        to.put_blob(bytes)?;
    }
    to.put_blob(&artifact.manifest)?;
    match durable {
        Durable::All => drop(to.sync()?),
        Durable::Blobs => {
            let config = descriptor(artifact::CONFIG.into(), &Digest::of(&artifact.config), 0);
            let all = artifact.layers.iter().chain([&config]);
            for blob in all.chain([&artifact.descriptor()]) {
                to.sync_blob(&digest_of(blob)?)?;
            }
        }
    }
    let mut index = to.lock_index()?;
    let earlier = of_name(index.entries()?, tag);
    // Another program may have given the name away meanwhile.
    refuse_others(to, tag, &earlier)?;
    index.set(tag, &artifact.descriptor())?;
    index.store()?;
    // What stays behind costs space and nothing else.
    let _best_effort = drop_unnamed(to, &index, &earlier);
    Ok(())
}

fn of_name(entries: Vec<IndexEntry>, tag: &str) -> Vec<Descriptor> {
    let named = entries.into_iter().filter(|entry| entry.ref_name() == Some(tag));
    named.map(|entry| entry.descriptor).collect()
}

/// Removes the blobs of earlier artifacts of ours that no entry of the layout reaches.
fn drop_unnamed(layout: &Layout, index: &LockedIndex<'_>, earlier: &[Descriptor]) -> Result<()> {
    let mut kept = HashSet::new();
    for entry in index.entries()? {
        for blob in reachable(layout, &entry.descriptor)?.blobs {
            kept.insert(digest_of(&blob)?);
        }
    }
    for top in earlier {
        let bytes = layout.read_blob_small(top)?;
        let Some(manifest) = artifact::manifest(top, &bytes) else { continue };
        for blob in manifest.layers().iter().chain([manifest.config(), top]) {
            let digest = digest_of(blob)?;
            if !kept.contains(&digest) {
                layout.remove_blob(&digest)?;
            }
        }
    }
    Ok(())
}
