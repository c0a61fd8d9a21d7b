//! Signing a cache: whoever has the key may write it, whoever can only write to the registry cannot.
//!
//! The signature is an HMAC-SHA-256 over the bytes of the records, which name every blob by its digest.

use crate::error::{Error, Result};
use crate::oci::digest::hex;
use ring::hmac;
use std::fmt;
use std::sync::Arc;

/// What is signed begins with this, so that a signature for something else is none for a cache.
const DOMAIN: &[u8] = b"nb-cache-mac-1\0";
/// Bytes; less could be guessed.
const SHORTEST: usize = 16;

/// A key that machines share. It is in no message.
#[derive(Clone)]
pub struct CacheKey(Arc<hmac::Key>);

impl CacheKey {
    /// The key of a file's content; an end of line behind it does not count.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let text = content.strip_suffix(b"\n").unwrap_or(content);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() < SHORTEST {
            return Err(Error::usage(format!("the key has less than {SHORTEST} bytes"))
                .hint("make one by `head -c 32 /dev/urandom | base64 > FILE`"));
        }
        Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, text))))
    }

    /// The signature of these records, in hex.
    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(DOMAIN);
        context.update(bytes);
        hex(context.sign().as_ref())
    }

    /// Fails unless this is their signature.
    pub(super) fn check(&self, bytes: &[u8], signature: Option<&str>) -> Result<()> {
        match signature {
            Some(signature) if self.verify(bytes, signature) => Ok(()),
            Some(_) => Err(Error::integrity("its records are signed with another key")),
            None => Err(Error::integrity("its records are not signed")),
        }
    }

    /// Whether this is their signature; takes as long for a wrong one.
    fn verify(&self, bytes: &[u8], signature: &str) -> bool {
        let signed = [DOMAIN, bytes].concat();
        unhex(signature).is_some_and(|tag| hmac::verify(&self.0, &signed, &tag).is_ok())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_under_the_same_key_verify() {
        let key = |text: &[u8]| CacheKey::parse(text).unwrap();
        let (one, two) = (key(b"0123456789abcdef"), key(b"0123456789abcdeg"));
        let signed = one.sign(b"records");
        assert!(key(b"0123456789abcdef\r\n").verify(b"records", &signed));
        assert!(!one.verify(b"record", &signed) && !two.verify(b"records", &signed));
        for wrong in ["", "0", &signed[1..], &format!("{signed}00"), &"g".repeat(64)] {
            assert!(!one.verify(b"records", wrong), "{wrong}");
        }
        let error = CacheKey::parse(b"0123456789abcde\n").unwrap_err();
        assert_eq!(error.to_string(), "the key has less than 16 bytes");
    }
}
