//! Writing a cache into an OCI image layout.
//!
//! The layout may hold other things; only the entry of the cache's name is replaced. Blobs that its earlier artifact
//! had and that nothing in the layout names any more go, so that the directory of a CI job does not grow for ever. Of
//! several builds that write into one layout only one does so at a time ([`alone`]).

use super::artifact::{self, Artifact};
use super::source::copy_blob;
use crate::error::Result;
use crate::oci::blobs::reachable;
use crate::oci::layout::index::REF_NAME;
use crate::oci::layout::{FileLock, Layout, LockKind};
use crate::oci::spec::{Descriptor, digest_of};
use crate::progress::Emitter;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What is locked while a cache is made. Whoever has it may lock the index, too, and never the other way round.
const LOCK: &str = ".cache.lock";

/// Waits until no other build writes a cache into a layout, and lets others wait until the value is dropped: a blob that
/// one found there, another would remove with its earlier cache. `go_on` fails when the waiting is to end.
pub(super) fn alone(
    to: &Layout,
    emitter: &Emitter,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<FileLock> {
    let mut is_told = false;
    loop {
        if let Some(lock) = to.try_lock_file(LOCK, LockKind::Exclusive)? {
            return Ok(lock);
        }
        if !is_told {
            let dir = to.root().display();
            emitter.note(format!("waiting for another build to write its cache into {dir}"));
            is_told = true;
        }
        // No call that blocks: Ctrl-C must end the waiting.
        go_on()?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Puts the artifact under a name, its blobs out of the store.
pub(super) fn write(store: &Layout, to: &Layout, tag: &str, artifact: &Artifact) -> Result<()> {
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
    to.sync()?;
    let mut named = artifact.descriptor();
    named.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), tag.to_owned())])));
    let earlier = of_name(to, tag)?;
    let of_tag = |entry: &Value| {
        entry.get("annotations").and_then(|all| all.get(REF_NAME)).and_then(Value::as_str)
            == Some(tag)
    };
    to.set_entries(vec![named], of_tag)?;
    // What stays behind costs space and nothing else.
    let _best_effort = drop_unnamed(to, &earlier);
    Ok(())
}

fn of_name(layout: &Layout, tag: &str) -> Result<Vec<Descriptor>> {
    let entries = layout.entries()?.into_iter();
    let named = entries.filter(|entry| entry.ref_name() == Some(tag));
    Ok(named.map(|entry| entry.descriptor).collect())
}

/// Removes the blobs of earlier artifacts of ours that no entry of the layout reaches.
fn drop_unnamed(layout: &Layout, earlier: &[Descriptor]) -> Result<()> {
    let mut index = layout.lock_index()?;
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
    index.store()
}
