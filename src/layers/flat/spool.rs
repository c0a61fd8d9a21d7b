//! Bodies of files that wait until they are written.

use crate::error::{ErrorKind, Result, ResultExt as _};
use crate::layers::body::fill;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

const CHUNK: usize = 64 * 1024;

/// Where bodies wait until they are written: one file, in which long runs of zeros are holes.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: u64,
}

impl Spool {
    /// An empty file that nobody else writes to.
    pub fn new(file: File) -> Self {
        Self { file, end: 0 }
    }

    /// Keeps a body; gives where it begins.
    pub(super) fn add(&mut self, body: &mut dyn Read, hash: &mut dyn Write) -> io::Result<u64> {
        let start = self.end;
        let mut buffer = vec![0_u8; CHUNK];
        loop {
            let filled = fill(body, &mut buffer)?;
            let chunk = &buffer[..filled];
            hash.write_all(chunk)?;
            if filled == 0 {
                break;
            }
            if chunk.iter().any(|b| *b != 0) {
                self.file.write_all_at(chunk, self.end)?;
            }
            self.end += filled as u64;
        }
        Ok(start)
    }

    /// Writes the body that begins there.
    pub(super) fn write(&self, start: u64, size: u64, out: &mut dyn Write) -> Result<()> {
        let mut buffer = vec![0_u8; CHUNK];
        let (mut at, end) = (start, start + size);
        while at < end {
            let part = &mut buffer[..(end - at).min(CHUNK as u64) as usize];
            let read = self.file.read_at(part, at);
            let n = read.or_error(ErrorKind::Environment, || "cannot read a file".to_owned())?;
            // A hole at the very end.
            let n = if n == 0 {
                part.fill(0);
                part.len()
            } else {
                n
            };
            out.write_all(&part[..n])
                .or_error(ErrorKind::Environment, || "cannot write a file".to_owned())?;
            at += n as u64;
        }
        Ok(())
    }
}
