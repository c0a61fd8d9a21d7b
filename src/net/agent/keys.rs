//! Private keys out of files, and signatures with them.
//!
//! In: the text of a key file (OpenSSH's own form, PKCS #8, or PKCS #1 for RSA), without a passphrase; out: a [`Key`].
//! The arithmetic is ring's.

use super::wire::{
    minus_one, put_number, put_string, remainder, take_string, take_u32, without_zeros,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use std::fmt;

/// RSA with SHA-256, and with SHA-512: flags of a request.
const SHA2_256: u32 = 2;
const SHA2_512: u32 = 4;
const MAGIC: &[u8] = b"openssh-key-v1\0";
const UNREADABLE: &str = "its form is damaged";

/// A private key.
pub(super) struct Key {
    public: Vec<u8>,
    comment: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    /// With the name of its curve.
    Ecdsa(EcdsaKeyPair, &'static str),
    Rsa(RsaKeyPair),
}

/// Why a file is no key; a lowercase fragment.
type Why = &'static str;

impl Key {
    /// The public key as ssh sends it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// A signature as ssh sends it; `None` when it cannot be made so.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                put_string(&mut out, b"ssh-ed25519");
                put_string(&mut out, pair.sign(data).as_ref());
            }
            Pair::Ecdsa(pair, curve) => {
                let signature = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let mut both = Vec::new();
                put_number(&mut both, r);
                put_number(&mut both, s);
                put_string(&mut out, format!("ecdsa-sha2-{curve}").as_bytes());
                put_string(&mut out, &both);
            }
            Pair::Rsa(pair) => {
                // The old form, with SHA-1, is not made any more.
                let (name, padding) = match flags {
                    flags if flags & SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut signature).ok()?;
                put_string(&mut out, name.as_bytes());
                put_string(&mut out, &signature);
            }
        }
        Some(out)
    }

    fn new(pair: Pair, comment: &[u8]) -> Self {
        let mut public = Vec::new();
        match &pair {
            Pair::Ed25519(pair) => {
                put_string(&mut public, b"ssh-ed25519");
                put_string(&mut public, pair.public_key().as_ref());
            }
            Pair::Ecdsa(pair, curve) => {
                put_string(&mut public, format!("ecdsa-sha2-{curve}").as_bytes());
                put_string(&mut public, curve.as_bytes());
                put_string(&mut public, pair.public_key().as_ref());
            }
            Pair::Rsa(pair) => {
                let key: PublicKeyComponents<Vec<u8>> = pair.public().into();
                put_string(&mut public, b"ssh-rsa");
                put_number(&mut public, &key.e);
                put_number(&mut public, &key.n);
            }
        }
        Self { public, comment: String::from_utf8_lossy(comment).into_owned(), pair }
    }
}

/// Without anything of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("comment", &self.comment).finish_non_exhaustive()
    }
}

/// Reads a key file.
pub(super) fn parse(text: &str) -> Result<Key, Why> {
    let (label, body) = pem(text).ok_or("it is no private key in PEM form")?;
    match label {
        "OPENSSH PRIVATE KEY" => openssh(&body),
        "RSA PRIVATE KEY" => {
            let pair = RsaKeyPair::from_der(&body).map_err(|_| UNREADABLE)?;
            Ok(Key::new(Pair::Rsa(pair), b""))
        }
        "PRIVATE KEY" => pkcs8(&body),
        "ENCRYPTED PRIVATE KEY" => Err("it has a passphrase"),
        _ => Err("keys of its kind are not known here"),
    }
}

fn pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    if body.contains("ENCRYPTED") {
        return Some(("ENCRYPTED PRIVATE KEY", Vec::new()));
    }
    let body: String = body.split_whitespace().collect();
    Some((label, BASE64_STANDARD.decode(body).ok()?))
}

fn pkcs8(body: &[u8]) -> Result<Key, Why> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(body) {
        return Ok(Key::new(Pair::Ed25519(pair), b""));
    }
    if let Ok(pair) = RsaKeyPair::from_pkcs8(body) {
        return Ok(Key::new(Pair::Rsa(pair), b""));
    }
    let random = SystemRandom::new();
    for (curve, algorithm) in CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, body, &random) {
            return Ok(Key::new(Pair::Ecdsa(pair, curve), b""));
        }
    }
    Err("keys of its kind are not known here")
}

const CURVES: [(&str, &EcdsaSigningAlgorithm); 2] = [
    ("nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING),
    ("nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING),
];

/// OpenSSH's own form (its PROTOCOL.key).
fn openssh(body: &[u8]) -> Result<Key, Why> {
    let mut reader = Reader(body.strip_prefix(MAGIC).ok_or(UNREADABLE)?);
    let cipher = reader.string()?;
    let (_derivation, _options) = (reader.string()?, reader.string()?);
    if cipher != b"none" {
        return Err("it has a passphrase");
    }
    if reader.number()? != 1 {
        return Err("it holds several keys");
    }
    let _public = reader.string()?;
    let mut reader = Reader(reader.string()?);
    if reader.number()? != reader.number()? {
        return Err(UNREADABLE);
    }
    let pair = match reader.string()? {
        b"ssh-ed25519" => reader.ed25519()?,
        b"ssh-rsa" => reader.rsa()?,
        kind if kind.starts_with(b"ecdsa-sha2-") => reader.ecdsa()?,
        _ => return Err("keys of its kind are not known here"),
    };
    Ok(Key::new(pair, reader.string()?))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn string(&mut self) -> Result<&'a [u8], Why> {
        let (string, rest) = take_string(self.0).ok_or(UNREADABLE)?;
        self.0 = rest;
        Ok(string)
    }

    fn number(&mut self) -> Result<u32, Why> {
        let (number, rest) = take_u32(self.0).ok_or(UNREADABLE)?;
        self.0 = rest;
        Ok(number)
    }

    fn ed25519(&mut self) -> Result<Pair, Why> {
        let public = self.string()?;
        let seed = self.string()?.get(..32).ok_or(UNREADABLE)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
        pair.map(Pair::Ed25519).map_err(|_| UNREADABLE)
    }

    fn ecdsa(&mut self) -> Result<Pair, Why> {
        let (curve, public) = (self.string()?, self.string()?);
        let secret = without_zeros(self.string()?);
        let known = CURVES.iter().find(|(name, _)| name.as_bytes() == curve);
        let (curve, algorithm) = known.ok_or("keys of its kind are not known here")?;
        // Numbers lose their zeros in front; ring wants all bytes of the curve.
        let width = public.len() / 2;
        let mut padded = vec![0; width.saturating_sub(secret.len())];
        padded.extend(secret);
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &padded, public, &random);
        pair.map(|pair| Pair::Ecdsa(pair, curve)).map_err(|_| UNREADABLE)
    }

    fn rsa(&mut self) -> Result<Pair, Why> {
        let mut number = || self.string().map(without_zeros);
        let public_key = PublicKeyComponents { n: number()?, e: number()? };
        let (secret, inverse) = (number()?, number()?);
        let (first, second) = (number()?, number()?);
        let exponent = |prime: &[u8]| remainder(secret, &minus_one(prime)).ok_or(UNREADABLE);
        let pair = RsaKeyPair::from_components(&KeyPairComponents {
            public_key,
            d: secret,
            p: first,
            q: second,
            dP: &exponent(first)?[..],
            dQ: &exponent(second)?[..],
            qInv: inverse,
        });
        pair.map(Pair::Rsa).map_err(|_| UNREADABLE)
    }
}
