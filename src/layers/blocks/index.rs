//! The file beside a blob: one line that says whose it is, and 44 bytes for each block.
//!
//! A record has the digest of the content, length and checksum of the packed bytes (they follow each other in the blob), and
//! a checksum of its own. The digest of a block that nobody looks for is zeros. A reader stops at the first record that is
//! not whole. The checksums are for damage: who can write into the store can write blobs and records anyway.

use super::Hash;
use crate::layers::compress::Compression;

/// Start of the names of indexes that are being written; others are named after their blob.
pub const LIVE: &str = "live-";

/// Start of the names of those that nobody is to read yet.
pub(super) const HIDDEN: &str = "live-.";

/// Bytes of a record.
pub(super) const RECORD: usize = 44;

/// Most bytes of the line.
pub(super) const LINE: usize = 256;

/// Packed bytes that no block exceeds.
const MOST: u32 = 2 << 20;

const BEFORE_SUM: usize = RECORD - 4;

/// The line of the index of a blob in this file, with this level.
pub(super) fn line(level: u8, data: &str) -> String {
    let format = Compression::Gzip { level }.layer_format();
    format!("nativebuild-blocks 1 {format} {level} {data}\n")
}

/// The file that an index is about, and the length of the line; `None` when it is of another level, or no index.
pub(super) fn read_line(bytes: &[u8], level: u8) -> Option<(String, usize)> {
    let end = bytes.iter().take(LINE).position(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let data = text.strip_prefix(line(level, "").trim_end_matches('\n'))?;
    let is_name = !data.is_empty() && !data.contains('/') && data != "..";
    is_name.then(|| (data.to_owned(), end + 1))
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Digest of the content.
    pub(super) content: Hash,
    /// Packed bytes.
    pub(super) length: u32,
    /// Their CRC-32.
    pub(super) sum: u32,
}

impl Record {
    pub(super) fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..32].copy_from_slice(&self.content);
        bytes[32..36].copy_from_slice(&self.length.to_le_bytes());
        bytes[36..BEFORE_SUM].copy_from_slice(&self.sum.to_le_bytes());
        let sum = libdeflater::crc32(&bytes[..BEFORE_SUM]);
        bytes[BEFORE_SUM..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` for what is not whole.
    pub(super) fn read(bytes: &[u8; RECORD]) -> Option<Self> {
        let sum = libdeflater::crc32(&bytes[..BEFORE_SUM]).to_le_bytes();
        if bytes[BEFORE_SUM..] != sum {
            return None;
        }
        let length = u32::from_le_bytes(bytes[32..36].try_into().ok()?);
        if length > MOST {
            return None;
        }
        Some(Self {
            content: bytes[..32].try_into().ok()?,
            length,
            sum: u32::from_le_bytes(bytes[36..BEFORE_SUM].try_into().ok()?),
        })
    }

    /// Whether anybody looks for it.
    pub(super) fn is_named(&self) -> bool {
        self.content != [0; 32]
    }
}
