//! The content hash of a dirty package: SHA-256 over the bytes of its files and nothing else.
//!
//! In go a directory and the two listings of git. What the listings name is looked up as it is printed, so a name that
//! git puts into quotes is usually found missing and skipped; tags have always been made so, and stay so.

use crate::error::{ErrorKind, Result, ResultExt};
use crate::linuxkit::git::Listing;
use crate::oci::digest::HashingWriter;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// 64 hex digits over the files of `dir`: tracked ones in the order of the index, then the others.
pub(super) fn content_hash(dir: &Path, listing: &Listing) -> Result<String> {
    let mut hash = HashingWriter::new(io::sink());
    let all = [listing.tracked.as_slice(), &listing.others].join(&b'\n');
    for name in trimmed(&all).split(|byte| *byte == b'\n') {
        let path = dir.join(OsStr::from_bytes(name));
        // The empty line between the listings is the directory itself. What is no file (a link, a submodule, a
        // pipe in the place of a tracked file) has no bytes to hash.
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            continue;
        }
        let Ok(mut file) = File::open(&path) else { continue };
        io::copy(&mut file, &mut hash)
            .or_error(ErrorKind::Context, || format!("cannot read {}", path.display()))?;
    }
    let (_, digest, _) = hash.finish();
    Ok(digest.hex().to_owned())
}

/// White space at both ends of the whole listing is no part of a name, even where it is.
fn trimmed(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}
