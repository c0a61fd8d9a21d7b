//! Bytes that are hashed while they pass, and held to what was promised of them.

use super::Digest;
use crate::error::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::io;

/// Counts and hashes what passes to `inner`.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: io::Write> HashingWriter<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// The inner writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::from_hash(&self.hash.finalize()), self.size)
    }
}

impl<W: io::Write> io::Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what is read from `inner`.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hash: Sha256,
}

impl<R: io::Read> HashingReader<R> {
    /// Wraps a reader.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Digest of all that was read.
    pub fn finish(self) -> Digest {
        Digest::from_hash(&self.hash.finalize())
    }
}

impl<R: io::Read> io::Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

/// What a blob must be, and the errors when it is not.
#[derive(Clone, Debug)]
pub struct Promise {
    digest: Digest,
    size: u64,
}

impl Promise {
    /// `size` in bytes.
    pub fn new(digest: Digest, size: u64) -> Self {
        Self { digest, size }
    }

    /// Fails when more came than may come.
    pub fn check_so_far(&self, seen: u64) -> Result<()> {
        if seen > self.size {
            return Err(Error::integrity(format!(
                "blob {} is longer than its {} bytes",
                self.digest, self.size
            )));
        }
        Ok(())
    }

    /// Fails unless all came and nothing else.
    pub fn check_end(&self, seen: u64, found: impl FnOnce() -> Digest) -> Result<()> {
        if seen != self.size {
            return Err(Error::integrity(format!(
                "blob {} is cut short: expected {} bytes, found {seen}",
                self.digest, self.size
            )));
        }
        let found = found();
        if found != self.digest {
            return Err(Error::integrity(format!(
                "blob has the wrong content: expected {}, found {found}",
                self.digest
            )));
        }
        Ok(())
    }
}

/// Reads `inner` and fails at its end (or as soon as it is too long) unless size and digest are as promised.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hash: Option<Sha256>,
    promise: Promise,
    seen: u64,
}

impl<R: io::Read> VerifyingReader<R> {
    /// `size` in bytes.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self { inner, hash: Some(Sha256::new()), promise: Promise::new(digest, size), seen: 0 }
    }

    fn check_end(&mut self) -> Result<()> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        self.promise.check_end(self.seen, || Digest::from_hash(&hash.finalize()))
    }
}

impl<R: io::Read> io::Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buf)?;
        if n == 0 {
            self.check_end()?;
            return Ok(0);
        }
        self.seen += n as u64;
        self.promise.check_so_far(self.seen)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buf[..n]);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn verifying_reader_refuses_short_long_and_wrong() {
        let check = |bytes: &[u8], digest: &Digest, size| {
            let mut out = Vec::new();
            VerifyingReader::new(bytes, digest.clone(), size).read_to_end(&mut out).is_ok()
        };
        let digest = Digest::of(b"abc");
        assert!(check(b"abc", &digest, 3));
        assert!(!check(b"ab", &digest, 3));
        assert!(!check(b"abcd", &digest, 3));
        assert!(!check(b"abd", &digest, 3));
    }
}
