//! One digest of several fields: what every cache key is made with.

use super::Digest;
use sha2::{Digest as _, Sha256};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
