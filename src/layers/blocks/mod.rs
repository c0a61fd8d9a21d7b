//! Blocks of layers that were packed before: nothing that a store knows packed is packed again.
//!
//! In: a block as [`super::cuts`] cuts them; out: its packed bytes, the same ones [`super::gzip`] would give. Beside each
//! layer of more than 1 MiB of tar there is an index ([`index`]): for each block the digest of its content, and where its packed
//! bytes are in the blob. While a blob is being written, its index grows with it, so that builds side by side
//! find each other's blocks too. An index is a hint: what it points at counts only if its checksums are right, and
//! what cannot be read is packed anew. Levels of compression have nothing in common.

mod index;
mod journal;
mod reader;
mod spill;
mod table;

#[cfg(test)]
mod tests;

pub use index::LIVE;
pub use journal::Journal;
pub use spill::{Loan, Room, Spill};

use super::gzip;
use crate::sys::{SysResult, fs};
use reader::Reader;
use sha2::{Digest as _, Sha256};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::Table;

/// SHA-256.
type Hash = [u8; 32];

/// Blocks with fewer bytes are packed sooner than looked for.
const WORTH: usize = 16 << 10;

/// What a store knows of packed blocks.
#[derive(Debug)]
pub struct Blocks {
    /// Where the indexes are.
    dir: OwnedFd,
    /// Where the blobs are.
    blobs: OwnedFd,
    /// The path of the first, by which a handler of signals removes files.
    path: PathBuf,
    level: u8,
    table: Mutex<Table>,
    /// Never locked while the table is.
    reader: Mutex<Reader>,
    /// Blocks that were found.
    found: AtomicU64,
}

/// A packed block.
#[derive(Debug)]
pub struct Packed {
    pub(super) bytes: Vec<u8>,
    /// Digest of the content; `None` where packing is cheaper than looking.
    content: Option<Hash>,
    /// CRC-32 of the packed bytes, where there is a digest.
    sum: u32,
    is_new: bool,
}

impl Packed {
    /// The packed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it was worth looking for, and nobody knew it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

impl Blocks {
    /// Reads nothing yet. The directories are those of indexes and blobs; `level` is that of gzip.
    pub fn open(dir: &Path, blobs: &Path, level: u8) -> SysResult<Arc<Self>> {
        let (path, opened) = (dir.to_owned(), fs::open_dir_path(dir)?);
        Ok(Arc::new(Self::new((opened, path), fs::open_dir_path(blobs)?, level)))
    }

    fn new((dir, path): (OwnedFd, PathBuf), blobs: OwnedFd, level: u8) -> Self {
        let (table, reader, found) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Self { dir, blobs, path, level, table, reader, found }
    }

    /// For a blob that is about to be written into the file of this name, in the directory of the blobs.
    pub fn journal(self: &Arc<Self>, data: &str) -> Journal {
        Journal::new(Arc::clone(self), data)
    }

    /// The directories of indexes and blobs, and the level, for a process in which nothing is written.
    pub fn parts(&self) -> ([BorrowedFd<'_>; 2], u8) {
        ([self.dir.as_fd(), self.blobs.as_fd()], self.level)
    }

    /// The same in such a process.
    pub fn of(dir: OwnedFd, blobs: OwnedFd, level: u8) -> Arc<Self> {
        Arc::new(Self::new((dir, PathBuf::new()), blobs, level))
    }

    /// Packs a block unless it is known by now; no index is read.
    pub fn pack_quietly(&self, block: &[u8]) -> io::Result<Packed> {
        pack_or_find(block, self.level, |content| self.found(content, block))
    }

    /// Reads what others have packed.
    pub fn refresh(&self) {
        self.reader().refresh(self);
    }

    /// Free bytes where the blobs are.
    pub fn room(&self) -> u64 {
        let free = rustix::fs::fstatvfs(&self.blobs);
        free.map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// How many blocks were found so far.
    pub fn count(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packed bytes and their checksum; what is not known is looked for.
    fn find(&self, content: &Hash, block: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.found(content, block).or_else(|| {
            self.refresh();
            self.found(content, block)
        })
    }

    /// Packed bytes and their checksum, if they are known.
    fn found(&self, content: &Hash, block: &[u8]) -> Option<(Vec<u8>, u32)> {
        let place = self.table().place(content)?;
        let bytes = place.read(&self.blobs).filter(|bytes| ends(bytes, block));
        if bytes.is_some() {
            self.found.fetch_add(1, Ordering::Relaxed);
        } else {
            self.table().forget(content, &place);
        }
        Some((bytes?, place.sum()))
    }
}

/// Packs a block, or takes what is known of it.
pub(super) fn pack(block: &[u8], level: u8, known: Option<&Blocks>) -> io::Result<Packed> {
    match known {
        Some(known) => pack_or_find(block, level, |content| known.find(content, block)),
        None => Ok(plain(gzip::pack(block, level)?)),
    }
}

fn pack_or_find(
    block: &[u8],
    level: u8,
    find: impl FnOnce(&Hash) -> Option<(Vec<u8>, u32)>,
) -> io::Result<Packed> {
    if !is_worth_looking(block) {
        return Ok(plain(gzip::pack(block, level)?));
    }
    let content = hash(block);
    if let Some((bytes, sum)) = find(&content) {
        return Ok(Packed { bytes, content: Some(content), sum, is_new: false });
    }
    let bytes = gzip::pack(block, level)?;
    let sum = libdeflater::crc32(&bytes);
    Ok(Packed { bytes, content: Some(content), sum, is_new: true })
}

/// Whether a block is not packed sooner than looked for.
pub(super) fn is_worth_looking(block: &[u8]) -> bool {
    block.len() >= WORTH && !gzip::is_noise(block)
}

/// One that nobody looks for.
fn plain(bytes: Vec<u8>) -> Packed {
    Packed { bytes, content: None, sum: 0, is_new: false }
}

fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Whether packed bytes end as those of this block must: with length and checksum of the last member.
fn ends(packed: &[u8], block: &[u8]) -> bool {
    let Some((_, [a, b, c, d, rest @ ..])) = packed.split_last_chunk::<8>() else { return false };
    let length = u32::from_le_bytes(*rest) as usize;
    let sum = u32::from_le_bytes([*a, *b, *c, *d]);
    let start = block.len().checked_sub(length);
    start.is_some_and(|start| libdeflater::crc32(&block[start..]) == sum)
}
