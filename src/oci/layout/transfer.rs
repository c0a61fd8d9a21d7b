//! Blobs of one layout for another: by hard link where that is safe, else by a verified copy.

use super::{Layout, UNFINISHED};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        blobs::missing,
        digest::Digest,
        spec::{self, Descriptor},
    },
};
use std::{
    fs::{self, File},
    io::{self, BufReader},
    os::unix::fs::MetadataExt,
};

/// Of every copy: the default of 8 KiB is slow for layers.
const BUFFER: usize = 128 << 10;

/// How much of a blob is checked before it is linked. A copy is always checked in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Its size: it comes from a place that only we write.
    Size,
    /// Size and digest.
    Content,
}

impl Layout {
    /// Brings a blob over from another layout; costs nothing when one of the right size is here.
    pub fn take_blob(&self, from: &Layout, blob: &Descriptor, check: Check) -> Result<()> {
        if self.has(blob) {
            return Ok(());
        }
        let digest = spec::digest_of(blob)?;
        match from.blob_size(&digest) {
            None => return Err(missing(blob)),
            Some(size) if size != blob.size() => {
                return Err(Error::integrity(format!(
                    "blob {digest} has the wrong size: expected {} bytes, found {size}",
                    blob.size()
                )));
            }
            Some(_) => {}
        }
        if check == Check::Content {
            copy(from, blob, &digest, &mut io::sink())?;
        }
        if self.link(from, &digest).unwrap_or(false) && self.has(blob) {
            return Ok(());
        }
        let mut writer = self.blob_writer()?.trusted();
        copy(from, blob, &digest, &mut writer)?;
        writer.commit(&digest)
    }

    /// Stores a small document and makes it durable at once, without waiting for everything else on the disk.
    pub fn put_blob_durably(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = self.put_blob(bytes)?;
        let synced = File::open(self.blob_path(&digest))
            .and_then(|file| file.sync_all())
            .and_then(|()| File::open(self.blob_dir())?.sync_all());
        synced.or_error(ErrorKind::Environment, || format!("cannot make blob {digest} durable"))?;
        Ok(digest)
    }

    /// False where a link is refused, impossible (another file system) or not safe.
    fn link(&self, from: &Layout, digest: &Digest) -> io::Result<bool> {
        let (source, target) = (from.blob_path(digest), self.blob_path(digest));
        let metadata = fs::symlink_metadata(&source)?;
        // Somebody else's file could be changed later, through the name that it has there.
        let ours = metadata.uid() == fs::metadata(self.blob_dir())?.uid();
        if !metadata.is_file() || !ours || metadata.mode() & 0o022 != 0 {
            return Ok(false);
        }
        match fs::hard_link(&source, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked.map(|()| true),
        }
        // What is there is damaged. A rename between two names of one file would do nothing and leave the first,
        // so the temporary name is removed in any case.
        let temporary = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .make_in(self.blob_dir(), |path| fs::hard_link(&source, path))?;
        fs::rename(temporary.path(), &target)?;
        Ok(true)
    }
}

fn copy(
    from: &Layout,
    blob: &Descriptor,
    digest: &Digest,
    to: &mut (impl io::Write + ?Sized),
) -> Result<()> {
    let mut reader = BufReader::with_capacity(BUFFER, from.open_blob(blob)?);
    io::copy(&mut reader, to)
        .map(drop)
        .or_error(ErrorKind::Integrity, || format!("cannot copy blob {digest}"))
}
