//! Blobs of the store as a whole: which are damaged, which nobody needs.

use super::store::Store;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::oci::digest::HashingReader;
use crate::oci::layout::UNFINISHED;
use crate::oci::spec::digest_of;
use crate::oci::{Digest, blobs};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{copy, sink};

/// Every blob of the store and its size in bytes.
pub fn all(store: &Store) -> Result<Vec<(Digest, u64)>> {
    let dir = store.sub("images").join("blobs/sha256");
    let what = || format!("cannot list {}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).or_error(ErrorKind::Environment, what)? {
        let entry = entry.or_error(ErrorKind::Environment, what)?;
        let name = format!("sha256:{}", entry.file_name().to_string_lossy());
        // Unfinished files have other names.
        if let Ok(digest) = Digest::parse(&name) {
            let size = entry.metadata().or_error(ErrorKind::Environment, what)?.len();
            found.push((digest, size));
        }
    }
    Ok(found)
}

/// Blobs whose content is not what their name says.
pub fn damaged(store: &Store) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    for (digest, _) in all(store)? {
        let path = store.images().blob_path(&digest);
        let what = || format!("cannot read {}", path.display());
        let file = File::open(&path).or_error(ErrorKind::Environment, what)?;
        let mut reader = HashingReader::new(file);
        let read = copy(&mut reader, &mut sink());
        if read.is_err() || reader.finish() != digest {
            found.push(digest);
        }
    }
    Ok(found)
}

/// Removes blobs that no named image leads to; returns how many bytes that were.
pub fn remove_unreferenced(store: &Store) -> Result<u64> {
    let mut needed = BTreeSet::new();
    for entry in store.images().entries()? {
        for blob in blobs::reachable(store.images(), &entry.descriptor)?.blobs {
            needed.insert(digest_of(&blob)?);
        }
    }
    let mut freed = 0;
    for (digest, size) in all(store)? {
        if !needed.contains(&digest) {
            store.images().remove_blob(&digest)?;
            freed += size;
        }
    }
    Ok(freed)
}

/// Removes what killed builds left half-written; returns how many bytes that were. Only while nobody else builds.
pub fn remove_unfinished(store: &Store) -> Result<u64> {
    let dir = store.sub("images").join("blobs/sha256");
    let what = || format!("cannot clean {}", dir.display());
    let mut freed = 0;
    for entry in std::fs::read_dir(&dir).or_error(ErrorKind::Environment, what)? {
        let entry = entry.or_error(ErrorKind::Environment, what)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            freed += entry.metadata().map_or(0, |metadata| metadata.len());
            std::fs::remove_file(entry.path()).or_error(ErrorKind::Environment, what)?;
        }
    }
    Ok(freed)
}
