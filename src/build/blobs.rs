//! Blobs of the store as a whole: which are damaged.

use super::store::Store;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use crate::oci::digest::HashingReader;
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
