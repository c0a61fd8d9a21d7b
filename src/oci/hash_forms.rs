//! SHA-256 as people write it: `sha256:HEX`, HEX alone, `sha256-BASE64` (SRI), and Nix's base32.
//!
//! All mean the same 32 bytes, and become a [`Digest`].

use super::{Digest, base32};
use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const BYTES: usize = 32;
/// Digits that 32 bytes have.
const LENGTH: usize = 52;

/// Reads any of the forms.
pub fn parse(text: &str) -> Result<Digest> {
    let rest = text.strip_prefix("sha256:").unwrap_or(text);
    let found = match text.strip_prefix("sha256-") {
        Some(base64) => BASE64_STANDARD.decode(base64).ok().filter(|hash| hash.len() == BYTES),
        None if rest.len() == LENGTH => base32::decode(rest.as_bytes(), BYTES),
        None => return Digest::parse(&format!("sha256:{rest}")).map_err(|_| bad(text)),
    };
    found.map(|hash| Digest::from_hash(&hash)).ok_or_else(|| bad(text))
}

fn bad(text: &str) -> Error {
    Error::usage(format!("`{text}` is no SHA-256"))
        .hint("it is `sha256:HEX`, `sha256-BASE64` or Nix's 52 digits")
}

/// `sha256-BASE64`, the form of Subresource Integrity.
pub fn sri(digest: &Digest) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(digest.bytes()))
}

/// Nix's base32.
pub fn nix(digest: &Digest) -> String {
    base32::encode(&digest.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the three bytes `abc`, as `nix-hash --flat --type sha256` prints them with `--base32` and `--sri`.
    const HEX: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const NIX: &str = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
    const SRI: &str = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";

    #[test]
    fn every_form_is_read_and_written() {
        let digest = Digest::of(b"abc");
        assert_eq!((digest.as_str(), &nix(&digest)[..], &sri(&digest)[..]), (HEX, NIX, SRI));
        for text in [HEX, &HEX[7..], NIX, &format!("sha256:{NIX}"), SRI] {
            assert_eq!(parse(text).unwrap(), digest, "{text}");
        }
        for seed in 0..200_u32 {
            let digest = Digest::of(&seed.to_be_bytes());
            assert_eq!(parse(&nix(&digest)).unwrap(), digest);
            assert_eq!(parse(&sri(&digest)).unwrap(), digest);
        }
    }

    #[test]
    fn what_is_no_sha256_is_refused() {
        let too_much = format!("z{}", &NIX[1..]);
        let texts =
            ["", "sha256:", "sha256-", "sha256-AAAA", "sha512-x", &HEX[..70], &too_much, &NIX[1..]];
        for text in texts.into_iter().chain([NIX.replace('b', "e").as_str()]) {
            let error = parse(text).unwrap_err();
            assert_eq!(error.message(), format!("`{text}` is no SHA-256"));
        }
    }
}
