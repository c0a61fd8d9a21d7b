//! Undoing whatever compression a file has, recognised by its first bytes and never by its name.
//!
//! All members or frames of a file are read; what follows them must be nothing. Memory is bounded: zstd windows and xz
//! dictionaries beyond 128 MiB are refused.

use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use std::io::{self, BufRead, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory for one xz stream, in KiB.
const XZ_MEMORY: u32 = 160 * 1024;
/// What may come out before the ratio is looked at.
const RATIO_FLOOR: u64 = 4 << 30;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Not at all, or not in a way that we know.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// The .xz format.
    Xz,
}

impl Detected {
    /// Looks at the first bytes (six are enough).
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first.
            [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// The bytes behind the compression of `reader`.
pub fn decompressor(mut reader: impl BufRead + Send + 'static) -> Result<Box<dyn Read + Send>> {
    let mut start = Vec::with_capacity(6);
    reader
        .by_ref()
        .take(6)
        .read_to_end(&mut start)
        .or_error(ErrorKind::Integrity, || "cannot read the archive".to_owned())?;
    let detected = Detected::of(&start);
    let whole = Cursor::new(start).chain(reader);
    Ok(match detected {
        Detected::Plain => Box::new(whole),
        Detected::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Detected::Zstd => Box::new(
            zstd::stream::read::Decoder::with_buffer(whole)
                .or_error(ErrorKind::Environment, || "cannot start zstd".to_owned())?,
        ),
        Detected::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Detected::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
    })
}

/// Like [`decompressor`], and fails when more than `ratio` bytes come out for each byte that goes in (once 4 GiB are
/// passed): bombs end before the disk is full.
pub fn guarded(reader: impl BufRead + Send + 'static, ratio: u64) -> Result<Box<dyn Read + Send>> {
    let consumed = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: reader, consumed: Arc::clone(&consumed) };
    let inner = decompressor(counted)?;
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
