//! Digests: `sha256:…` of a blob, of an uncompressed layer, of a stack of layers.
//!
//! Three types so that they cannot be swapped: [`Digest`] names bytes as stored, [`DiffId`] names a layer's
//! uncompressed tar, [`ChainId`] names a stack of layers (image-spec config.md#layer-chainid).

mod fields;
mod streams;

pub use fields::FieldHasher;
pub use streams::{HashingReader, HashingWriter, Promise, VerifyingReader};

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_text_of_a_hash_is_that_of_its_digest() {
        let digest = Digest::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.as_str(), text);
        assert_eq!(Digest::text_of(&digest.bytes()), text.as_bytes());
    }
}
