//! Blobs that are being written.

use super::copies::Written;
use super::syncing::sync_data;
use super::{Layout, UNFINISHED};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// An unfinished blob; dropped without a commit, it is gone.
#[derive(Debug)]
pub struct BlobWriter {
    pub(super) file: tempfile::NamedTempFile,
    pub(super) hash: Option<Sha256>,
    pub(super) size: u64,
    pub(super) dir: PathBuf,
    pub(super) written: Written,
}

impl Layout {
    /// A new blob whose digest is known when it is finished.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let dir = self.blob_dir();
        let make = || {
            tempfile::Builder::new()
                .prefix(UNFINISHED)
                .permissions(fs::Permissions::from_mode(0o644))
                .tempfile_in(&dir)
        };
        let file = make()
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => fs::create_dir_all(&dir).and_then(|()| make()),
                _ => Err(error),
            })
            .or_error(ErrorKind::Environment, || {
                format!("cannot write into the image layout `{}`", self.root.display())
            })?;
        let written = self.written.clone();
        Ok(BlobWriter { file, hash: Some(Sha256::new()), size: 0, dir, written })
    }
}

impl BlobWriter {
    /// Does not hash: the caller does, and gives the digest to [`BlobWriter::commit`].
    pub fn trusted(mut self) -> Self {
        self.hash = None;
        self
    }

    /// The file in which it grows.
    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Name of that file among the blobs, until it has that of its digest.
    pub fn name(&self) -> String {
        let name = self.file.path().file_name();
        name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts the blob into place under the digest that it must have; checked unless [`BlobWriter::trusted`].
    pub fn commit(mut self, digest: &Digest) -> Result<()> {
        if let Some(hash) = self.hash.take() {
            let found = Digest::from_hash(&hash.finalize());
            if found != *digest {
                return Err(Error::integrity(format!(
                    "blob has the wrong content: expected {digest}, found {found}"
                )));
            }
        }
        self.place(digest)
    }

    /// Puts the blob into place under the digest that it has; gives digest and size.
    pub fn commit_hashed(mut self) -> Result<(Digest, u64)> {
        let hash = self
            .hash
            .take()
            .ok_or_else(|| Error::internal("a blob writer that does not hash has no digest"))?;
        let (digest, size) = (Digest::from_hash(&hash.finalize()), self.size);
        self.place(&digest)?;
        Ok((digest, size))
    }

    /// The same for a blob that a record names at once: its bytes are on the disk before it has its name, so that no loss
    /// of power makes an empty file of it.
    pub fn commit_durably(self) -> Result<Digest> {
        sync_data(self.as_file())
            .or_error(ErrorKind::Environment, || "cannot make a blob durable".to_owned())?;
        Ok(self.commit_hashed()?.0)
    }

    /// Renames over a blob that is there already: it may be damaged.
    fn place(self, digest: &Digest) -> Result<()> {
        let renamed = self.file.persist(self.dir.join(digest.hex())).map_err(|error| error.error);
        renamed.or_error(ErrorKind::Environment, || format!("cannot store blob {digest}"))?;
        self.written.note(digest);
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buf)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buf[..count]);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
