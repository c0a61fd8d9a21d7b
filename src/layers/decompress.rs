//! Undoing whatever compression a layer or archive has, by [`crate::oci::decompress`], and ending bombs by their ratio.

use crate::error::{Error, Result};
use crate::oci::decompress;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What may come out before the ratio is looked at.
const RATIO_FLOOR: u64 = 4 << 30;

/// The bytes behind the compression of `reader`.
pub fn decompressor(reader: impl BufRead + Send + 'static) -> Result<Box<dyn Read + Send>> {
    within(reader, decompress::MEMORY_LIMIT)
}

fn within(reader: impl BufRead + Send + 'static, memory: u32) -> Result<Box<dyn Read + Send>> {
    decompress::decompressor_within(reader, memory).map(|(_, plain)| plain)
}

/// Like [`decompressor`], and fails when more than `ratio` bytes come out for each byte that goes in (once 4 GiB are
/// passed): bombs end before the disk is full.
pub fn guarded(reader: impl BufRead + Send + 'static, ratio: u64) -> Result<Box<dyn Read + Send>> {
    guarded_within(reader, ratio, decompress::MEMORY_LIMIT)
}

/// The same with windows and dictionaries of at most `memory` bytes, a power of two.
pub fn guarded_within(
    reader: impl BufRead + Send + 'static,
    ratio: u64,
    memory: u32,
) -> Result<Box<dyn Read + Send>> {
    let consumed = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: reader, consumed: Arc::clone(&consumed) };
    let inner = within(counted, memory)?;
    Ok(Box::new(Guard { inner, consumed, ratio, floor: RATIO_FLOOR, produced: 0 }))
}

struct Counted<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        self.inner.consume(n);
    }
}

struct Guard {
    inner: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
    ratio: u64,
    floor: u64,
    produced: u64,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.produced += n as u64;
        let consumed = self.consumed.load(Ordering::Relaxed);
        if self.produced > self.floor.max(consumed.saturating_mul(self.ratio)) {
            return Err(Error::integrity(format!(
                "the archive expands to more than {} times its size",
                self.ratio
            ))
            .into());
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_stopped_by_its_ratio() {
        let consumed = Arc::new(AtomicU64::new(10));
        let inner: Box<dyn Read + Send> = Box::new(io::repeat(0));
        let mut guard = Guard { inner, consumed, ratio: 5, floor: 40, produced: 0 };
        let mut buffer = [0_u8; 50];
        assert_eq!(guard.read(&mut buffer).unwrap(), 50);
        let error = guard.read(&mut buffer[..1]).unwrap_err();
        assert_eq!(error.to_string(), "the archive expands to more than 5 times its size");
    }
}
