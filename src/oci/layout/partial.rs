//! Blobs that come piece by piece and outlive the program that fetches them: who comes next goes on where it stopped.

use super::{BlobWriter, Layout, UNFINISHED};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;
use tempfile::{NamedTempFile, TempPath};

impl Layout {
    /// A writer that goes on after what an earlier one left of a blob; its content is not looked at, and is still there
    /// when this one is dropped. `None` while somebody else is writing the same blob, or where files cannot be locked.
    pub fn partial_writer(&self, digest: &Digest) -> Result<Option<BlobWriter>> {
        let dir = self.blob_dir();
        let path = dir.join(format!("{UNFINISHED}part-{}", digest.hex()));
        let what = || format!("cannot write into the image layout `{}`", self.root().display());
        let mut options = File::options();
        options.create(true).read(true).append(true).mode(0o644);
        let file = options
            .open(&path)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(&dir)?;
                    options.open(&path)
                }
                _ => Err(error),
            })
            .or_error(ErrorKind::Environment, what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return Ok(None),
        }
        // Whoever removes what nobody uses sees it, or has taken it away by now. Without the stamp it may go too early.
        let _best_effort = file.set_modified(SystemTime::now());
        // Whoever had the lock may have put the file into its place: then it is a blob, and not to be written to.
        let size = file.metadata().or_error(ErrorKind::Environment, what)?.size();
        if !is_at(&file, &path) {
            return Ok(None);
        }
        let path = TempPath::try_from_path(path).or_error(ErrorKind::Environment, what)?;
        let mut file = NamedTempFile::from_parts(file, path);
        file.disable_cleanup(true);
        Ok(Some(BlobWriter { file, hash: None, size, dir, written: self.written.clone() }))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(named)) => identity(open) == identity(named),
        _ => false,
    }
}

impl BlobWriter {
    /// What was written so far, from its beginning.
    pub fn written(&self) -> Result<File> {
        File::open(self.file.path())
            .or_error(ErrorKind::Environment, || "cannot read an unfinished blob".to_owned())
    }

    /// Nothing of it is to be kept, not even for who comes next.
    pub fn discard(mut self) {
        self.file.disable_cleanup(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_part_is_found_again_and_written_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let digest = Digest::of(b"0123456789");
        let mut first = layout.partial_writer(&digest).unwrap().unwrap();
        first.write_all(b"0123").unwrap();
        assert!(layout.partial_writer(&digest).unwrap().is_none());
        drop(first);
        assert!(!layout.has_blob(&digest));
        let mut second = layout.partial_writer(&digest).unwrap().unwrap();
        assert_eq!(second.size(), 4);
        second.write_all(b"456789").unwrap();
        let mut text = String::new();
        second.written().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((second.size(), text.as_str()), (10, "0123456789"));
        second.commit(&digest).unwrap();
        assert_eq!(std::fs::read(layout.blob_path(&digest)).unwrap(), b"0123456789");
        // The next one begins anew, and leaves the blob alone.
        let mut third = layout.partial_writer(&digest).unwrap().unwrap();
        third.write_all(b"x").unwrap();
        third.discard();
        assert_eq!(std::fs::read(layout.blob_path(&digest)).unwrap(), b"0123456789");
        assert_eq!(std::fs::read_dir(layout.blob_dir()).unwrap().count(), 1);
    }
}
