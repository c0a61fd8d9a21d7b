//! Blobs of the store: which there are, and which are damaged.

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
        if !holds(file, &digest) {
            found.push(digest);
        }
    }
    Ok(found)
}

/// True for a blob that is here and is not what its name says. What cannot be opened is told by whoever needs it.
pub(super) fn is_damaged(store: &Store, digest: &Digest) -> bool {
    let Ok(Some(file)) = store.images().open_plain(digest) else { return false };
    !holds(file, digest)
}

/// Removes a blob if it is damaged; true when it was and is gone.
pub(super) fn remove_damaged(store: &Store, digest: &Digest) -> bool {
    is_damaged(store, digest) && store.images().remove_blob(digest).is_ok()
}

fn holds(file: File, digest: &Digest) -> bool {
    let mut reader = HashingReader::new(file);
    copy(&mut reader, &mut sink()).is_ok() && reader.finish() == *digest
}
