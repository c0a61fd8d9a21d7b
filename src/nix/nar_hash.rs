//! The ways in which Nix writes the SHA-256 of an archive, all read into a [`Digest`].
//!
//! `sha256:` with hex digits or base 32, the same without the prefix where the format allows no other hash, `sha256-`
//! with base 64 (SRI). Other algorithms are refused: an archive has a SHA-256.

use super::{base32, shown};
use crate::error::{Error, Result};
use crate::oci::Digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const SIZE: usize = 32;

/// Reads any of the forms.
pub(super) fn parse(text: &str) -> Result<Digest> {
    let read = match text.split_once([':', '-']) {
        Some(("sha256", digits)) => hash(digits),
        Some(_) => None,
        None => hash(text),
    };
    read.map(|hash| Digest::from_hash(&hash))
        .ok_or_else(|| Error::integrity(format!("{} is no sha256 hash", shown(text.as_bytes()))))
}

fn hash(digits: &str) -> Option<Vec<u8>> {
    match digits.len() {
        64 => from_hex(digits.as_bytes()),
        52 => base32::decode(digits.as_bytes(), SIZE),
        44 => BASE64_STANDARD.decode(digits).ok().filter(|hash| hash.len() == SIZE),
        _ => None,
    }
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
    let pair = |pair: &[u8]| Some((value(pair[0])? << 4 | value(pair[1])?) as u8);
    digits.chunks_exact(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_the_same_digest() {
        let digest = Digest::of(b"hello");
        for text in [
            digest.as_str(),
            digest.hex(),
            "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
            "094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
            "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
        ] {
            assert_eq!(parse(text).unwrap(), digest, "{text}");
        }
        assert_eq!(Digest::from_hash(&digest.bytes()), digest);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "sha256:", "sha512-AAAA", "md5:00", &"A".repeat(64), &"é".repeat(32)] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.message(), format!("{} is no sha256 hash", shown(text.as_bytes())));
        }
    }
}
