//! The bytes of an archive: whole blocks, and the body of one entry.
//!
//! An input that ends too early is an error wherever that happens.

use super::header::BLOCK;
use super::sparse::Pieces;
use crate::error::Error;
use std::io::{self, BufReader, Read};

/// An archive as blocks.
pub(super) struct Blocks<R> {
    pub(super) inner: BufReader<R>,
    /// Bytes read so far.
    pub(super) consumed: u64,
}

impl<R: Read> Blocks<R> {
    /// The next block, or `None` at the end of the input.
    pub(super) fn next_block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0_u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_short()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.consumed += BLOCK as u64;
        Ok(Some(block))
    }

    pub(super) fn expect(&mut self) -> io::Result<[u8; BLOCK]> {
        self.next_block()?.ok_or_else(cut_short)
    }

    /// Reads `size` bytes and their padding.
    pub(super) fn take(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.inner).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(cut_short());
        }
        self.consumed += size;
        self.skip_padding(size)?;
        Ok(bytes)
    }

    pub(super) fn skip_padding(&mut self, size: u64) -> io::Result<()> {
        let mut padding = [0_u8; BLOCK];
        let count = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        self.inner.read_exact(&mut padding[..count]).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_short(),
            _ => error,
        })?;
        self.consumed += count as u64;
        Ok(())
    }
}

fn cut_short() -> io::Error {
    Error::integrity("the archive is cut short").into()
}

/// A file's bytes, holes filled with zeros.
pub(super) struct Body<'a, R> {
    blocks: &'a mut Blocks<R>,
    pieces: Pieces,
    /// Index of the first piece that is not finished.
    next: usize,
    at: u64,
    size: u64,
}

impl<'a, R> Body<'a, R> {
    /// `pieces` were checked to fit into `size`.
    pub(super) fn new(blocks: &'a mut Blocks<R>, pieces: Pieces, size: u64) -> Self {
        Self { blocks, pieces, next: 0, at: 0, size }
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pieces.get(self.next).is_some_and(|(start, len)| self.at >= start + len) {
            self.next += 1;
        }
        let (start, end) = match self.pieces.get(self.next) {
            Some((start, len)) => (*start, start + len),
            None => (self.size, self.size),
        };
        let until = if self.at < start { start } else { end };
        let want = (until - self.at).min(buffer.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let n = if self.at < start {
            buffer[..want].fill(0);
            want
        } else {
            let n = self.blocks.inner.read(&mut buffer[..want])?;
            if n == 0 {
                return Err(cut_short());
            }
            self.blocks.consumed += n as u64;
            n
        };
        self.at += n as u64;
        Ok(n)
    }
}
