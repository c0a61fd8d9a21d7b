//! Digests: `sha256:…` of a blob, of an uncompressed layer, of a stack of layers.
//!
//! Three types so that they cannot be swapped: [`Digest`] names bytes as stored, [`DiffId`] names a layer's
//! uncompressed tar, [`ChainId`] names a stack of layers (image-spec config.md#layer-chainid).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, io, str::FromStr};

/// `sha256:` and 64 lowercase hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&Sha256::digest(bytes))
    }

    /// From a finished SHA-256 of 32 bytes.
    pub fn from_hash(hash: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(hash)))
    }

    /// What [`Self::as_str`] of a digest with these bytes gives, without the digest.
    pub fn text_of(hash: &[u8; 32]) -> [u8; 71] {
        let mut text = [0; 71];
        let (prefix, digits) = text.split_at_mut("sha256:".len());
        prefix.copy_from_slice(b"sha256:");
        for (two, byte) in digits.chunks_exact_mut(2).zip(hash) {
            two.copy_from_slice(&hex_digits(*byte));
        }
        text
    }

    /// Checks form: only sha256, lowercase, full length.
    pub fn parse(text: &str) -> Result<Self> {
        let fits = text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        if !fits {
            return Err(Error::integrity(format!("`{text}` is no sha256 digest")));
        }
        Ok(Self(text.to_owned()))
    }

    /// With the algorithm: `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> [u8; 32] {
        let hex = self.hex().as_bytes();
        let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        std::array::from_fn(|at| digit(hex[2 * at]) << 4 | digit(hex[2 * at + 1]))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digest of a layer's uncompressed tar.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a stack of layers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// Chain id of `diff_id` on top of `parent`.
    pub fn next(parent: Option<&ChainId>, diff_id: &DiffId) -> Self {
        match parent {
            None => Self(diff_id.0.clone()),
            Some(parent) => Self(Digest::of(format!("{} {}", parent.0, diff_id.0).as_bytes())),
        }
    }

    /// Chain id of a whole stack, bottom first; `None` for no layers.
    pub fn of(diff_ids: &[DiffId]) -> Option<Self> {
        diff_ids.iter().fold(None, |parent, id| Some(Self::next(parent.as_ref(), id)))
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.extend(hex_digits(*byte).map(char::from));
    }
    out
}

fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// SHA-256 over length-prefixed fields: the canonical encoding of every cache key, so that no two different
/// inputs can give the same bytes.
#[derive(Clone, Debug)]
pub struct FieldHasher {
    hash: Sha256,
    /// What is not hashed yet, and how much of it there may be.
    buffer: Vec<u8>,
    collected: usize,
}

impl FieldHasher {
    /// `version` is the key's version, for example `nb-step-1`.
    pub fn new(version: &str) -> Self {
        Self::collecting(version, 0)
    }

    /// The same, for a great many small fields: so many bytes of them are hashed at once.
    pub fn collecting(version: &str, collected: usize) -> Self {
        let mut hasher = Self { hash: Sha256::new(), buffer: Vec::new(), collected };
        hasher.field(version.as_bytes());
        hasher
    }

    /// Adds one field: its length as 8 bytes, then its bytes.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        let length = (bytes.len() as u64).to_le_bytes();
        if self.buffer.len() + length.len() + bytes.len() > self.collected {
            self.flush();
            self.hash.update(length);
            self.hash.update(bytes);
        } else {
            self.buffer.extend_from_slice(&length);
            self.buffer.extend_from_slice(bytes);
        }
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.field(&number.to_le_bytes())
    }

    /// Adds a list: its length, then each element.
    pub fn list<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>) -> &mut Self {
        let items: Vec<T> = items.into_iter().collect();
        self.number(items.len() as u64);
        for item in items {
            self.field(item.as_ref());
        }
        self
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        Digest::from_hash(&self.finish_bytes())
    }

    /// The 32 bytes of the digest.
    pub fn finish_bytes(mut self) -> [u8; 32] {
        self.flush();
        self.hash.finalize().into()
    }

    fn flush(&mut self) {
        self.hash.update(&self.buffer);
        self.buffer.clear();
    }
}

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
    fn digest_form_is_checked() {
        assert!(Digest::parse(&format!("sha256:{}", "a".repeat(64))).is_ok());
        for bad in
            ["", "sha256:", "sha512:aa", &format!("sha256:{}", "A".repeat(64)), &"a".repeat(71)]
        {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        let of = |fields: &[&str]| {
            let mut hasher = FieldHasher::new("v");
            hasher.list(fields);
            hasher.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
    }

    #[test]
    fn collecting_fields_changes_nothing() {
        let of = |mut hasher: FieldHasher| {
            for length in [0, 1, 5, 30, 31, 32, 33, 100, 2, 24, 7] {
                hasher.field(&vec![length; length.into()]).number(length.into());
            }
            hasher.finish()
        };
        let expected = of(FieldHasher::new("v"));
        for collected in [1, 8, 40, 41, 64, 4096] {
            assert_eq!(of(FieldHasher::collecting("v", collected)), expected, "{collected}");
        }
    }

    #[test]
    fn the_text_of_a_hash_is_that_of_its_digest() {
        let digest = Digest::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.as_str(), text);
        assert_eq!(Digest::text_of(&digest.bytes()), text.as_bytes());
    }

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
