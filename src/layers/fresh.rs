//! The layer of files that a step just made: the disk takes them while they are packed.
//!
//! A build ends when all of it is on the disk. Without this the disk would have nothing to do until the kernel thinks
//! that it is time, which is mostly at that end, when nothing else is left to do.

use super::Changes;
use super::tar_write::{self, TimePolicy, open_body, whole_body, write_stream};
use crate::error::Result;
use crate::sys::writeback::{self, PART};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

/// Smaller files are left to the kernel: of usual packages they have a fifth of all bytes and nineteen of twenty names.
pub(super) const WORTH_IT: u64 = 64 << 10;

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
    let begin = |at, length| writeback::begin(&file, at, length);
    whole_body(&file, &stat, path, &mut Ahead { begin, size, out, at: 0, begun: 0 })
}

/// Has each part of a file begun before its first byte is passed on.
struct Ahead<'a, B> {
    begin: B,
    /// Bytes of the file.
    size: u64,
    out: &'a mut dyn Write,
    /// How many of them passed, holes too.
    at: u64,
    /// How many are on their way to the disk.
    begun: u64,
}

impl<B: FnMut(u64, u64)> Write for Ahead<'_, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.size.min(self.at + bytes.len() as u64);
        while self.begun < end {
            let length = PART.min(self.size - self.begun);
            (self.begin)(self.begun, length);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Fails when bytes come that nobody has begun to write.
    struct Passed<'a> {
        begun: &'a Cell<u64>,
        bytes: u64,
    }

    impl Write for Passed<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes += bytes.len() as u64;
            assert!(self.bytes <= self.begun.get(), "{} of {}", self.bytes, self.begun.get());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_part_is_begun_once_and_before_it_passes() {
        for size in [WORTH_IT, PART, PART + 1, 3 * PART - 5] {
            let (mut parts, begun) = (Vec::new(), Cell::new(0));
            let begin = |at: u64, length: u64| {
                begun.set(at + length);
                parts.push((at, length));
            };
            let mut passed = Passed { begun: &begun, bytes: 0 };
            let mut ahead = Ahead { begin, size, out: &mut passed, at: 0, begun: 0 };
            let mut left = size as usize;
            while left > 0 {
                let now = left.min(250_000);
                ahead.write_all(&vec![7; now]).unwrap();
                left -= now;
            }
            assert_eq!(passed.bytes, size);
            let starts = (0..size).step_by(PART as usize);
            let expected: Vec<_> = starts.map(|at| (at, PART.min(size - at))).collect();
            assert_eq!(parts, expected);
        }
    }
}
