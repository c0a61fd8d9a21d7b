//! The layer of files that a step just made: the disk takes them while they are packed.
//!
//! A build ends when all of it is on the disk. Without this the disk would have nothing to do until the kernel thinks
//! that it is time, which is mostly at that end, when nothing else is left to do.

use super::Changes;
use super::tar_write::{self, TimePolicy, open_body, whole_body, write_stream};
use crate::error::Result;
use crate::sys::writeback;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

/// Smaller files are left to the kernel: of usual packages they have a fifth of all bytes and nineteen of twenty names.
const WORTH_IT: u64 = 64 << 10;
/// Bytes that are begun at once.
const CHUNK: u64 = 8 << 20;

/// Writes the layer of `changes` as [`tar_write::write_layer`] does; bodies are read below `root`, no link followed.
pub fn write_fresh_layer(
    changes: &Changes,
    root: BorrowedFd<'_>,
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    write_stream(changes, &mut |path, size, out| body(root, path, size, out), times, out)
}

fn body(root: BorrowedFd<'_>, path: &[u8], size: u64, out: &mut dyn Write) -> Result<()> {
    if size < WORTH_IT {
        return tar_write::body(root, path, size, out);
    }
    let (file, stat) = open_body(root, path, path, size)?;
    whole_body(&file, &stat, path, &mut Ahead { file: &file, size, out, at: 0, begun: 0 })
}

/// Begins to write each part of a file before its first byte is read.
struct Ahead<'a> {
    file: &'a File,
    size: u64,
    out: &'a mut dyn Write,
    /// Bytes of the file that passed, holes too.
    at: u64,
    begun: u64,
}

impl Write for Ahead<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.begun <= self.at && self.begun < self.size {
            let length = CHUNK.min(self.size - self.begun);
            writeback::begin(self.file, self.begun, length);
            self.begun += length;
        }
        let written = self.out.write(bytes)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
