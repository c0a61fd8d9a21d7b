//! Which blobs may be damaged: those that were opened and not read whole. Whoever meets an error about content looks at
//! them, and at no others.
//!
//! A [`BlobReader`] that fails, or that nobody reads to its end (what unpacks it fails first), notes its blob. That is no
//! more than a suspicion: the blob may be whole, and gone by now.

use super::Layout;
use crate::oci::digest::{Digest, VerifyingReader};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The noted blobs of a layout; all clones of a layout share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts(Arc<Mutex<BTreeSet<Digest>>>);

impl Doubts {
    fn note(&self, digest: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
    }
}

/// A blob as a stream that fails at its end when the content is not what its descriptor says.
#[derive(Debug)]
pub struct BlobReader {
    inner: VerifyingReader<File>,
    digest: Digest,
    is_whole: bool,
    doubts: Doubts,
}

impl io::Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf);
        match read {
            Ok(0) if !buf.is_empty() => self.is_whole = true,
            Ok(_) => {}
            // Now, since a second look at the end would find nothing wrong.
            Err(_) => self.doubts.note(&self.digest),
        }
        read
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        if !self.is_whole {
            self.doubts.note(&self.digest);
        }
    }
}

impl Layout {
    /// Notes that a blob may be damaged.
    pub fn doubt(&self, digest: &Digest) {
        self.doubts.note(digest);
    }

    /// The blobs that were noted, each once; they are forgotten.
    pub fn take_doubts(&self) -> BTreeSet<Digest> {
        std::mem::take(&mut *self.doubts.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads a file as the blob that it has to be; `size` in bytes.
    pub(super) fn reader(&self, file: File, digest: &Digest, size: u64) -> BlobReader {
        BlobReader {
            inner: VerifyingReader::new(file, digest.clone(), size),
            digest: digest.clone(),
            is_whole: false,
            doubts: self.doubts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;

    #[test]
    fn what_was_not_read_whole_is_doubted() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("l")).unwrap();
        let other = Layout::create(dir.path().join("other")).unwrap();
        let whole = layout.put_document("a/b", b"whole").unwrap();
        let damaged = layout.put_document("a/b", b"damaged").unwrap();
        let left = layout.put_document("a/b", b"left").unwrap();
        let [of_damaged, of_left] = [&b"damaged"[..], b"left"].map(Digest::of);
        fs::write(layout.blob_path(&of_damaged), "DAMAGED").unwrap();
        let mut bytes = Vec::new();
        layout.open_blob(&whole).unwrap().read_to_end(&mut bytes).unwrap();
        other.copy_blobs(&layout, [&whole].into_iter()).unwrap();
        assert_eq!(layout.take_doubts(), BTreeSet::new());

        layout.open_blob(&damaged).unwrap().read_to_end(&mut bytes).unwrap_err();
        drop(layout.open_blob(&left).unwrap());
        let both = BTreeSet::from([of_damaged.clone(), of_left]);
        assert_eq!(layout.clone().take_doubts(), both);
        assert_eq!(layout.take_doubts(), BTreeSet::new());

        // The end is looked at once; what was wrong then is not forgotten.
        let mut reader = layout.open_blob(&damaged).unwrap();
        reader.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        drop(reader);
        assert_eq!(layout.take_doubts(), BTreeSet::from([of_damaged.clone()]));
        other.copy_blobs(&layout, [&damaged].into_iter()).unwrap_err();
        assert_eq!(layout.take_doubts(), BTreeSet::from([of_damaged]));
    }
}
