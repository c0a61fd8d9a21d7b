//! Blobs of the store: whether one is what its name says.

use super::store::Store;
use crate::oci::Digest;
use crate::oci::digest::HashingReader;
use std::fs::File;
use std::io::{copy, sink};

/// True for a blob that is here and is what its name says.
pub(super) fn is_whole(store: &Store, digest: &Digest) -> bool {
    let Ok(Some(file)) = store.images().open_plain(digest) else { return false };
    holds(file, digest)
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
