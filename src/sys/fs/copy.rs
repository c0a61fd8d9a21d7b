//! Copying the bytes of files.

use crate::sys::{Named, SysError, SysResult};
use rustix::fs as rfs;
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};

/// Copies `length` bytes from the current offsets, by reflink or in the kernel where it can. Returns the number of
/// bytes copied, which is less when the source ended early.
pub fn copy_data(from: &File, to: &File, length: u64) -> SysResult<u64> {
    let mut done = 0_u64;
    if length <= SMALL_COPY {
        // Two calls, where the kernel's ways take as many and often refuse first (another file system).
        return copy_by_buffer(from, to, length);
    }
    while done < length {
        let want = usize::try_from(length - done).unwrap_or(usize::MAX).min(1 << 30);
        match rfs::copy_file_range(from, None, to, None, want) {
            Ok(0) => break,
            Ok(n) => done += n as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_buffer(from, to, length - done).map(|n| done + n);
            }
            Err(errno) => return Err(errno).named(|| "copy_file_range".to_owned()),
        }
    }
    Ok(done)
}

/// Files up to this size are copied through a buffer.
pub const SMALL_COPY: u64 = 128 * 1024;

fn copy_by_buffer(mut from: &File, mut to: &File, length: u64) -> SysResult<u64> {
    let mut buffer = vec![0_u8; length.clamp(1, 1 << 20) as usize];
    let mut done = 0;
    while done < length {
        let want = buffer.len().min((length - done) as usize);
        let copied = match from.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(n) => to.write_all(&buffer[..n]).map(|()| n),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        done += copied.map_err(|error| SysError {
            call: "read and write".to_owned(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })? as u64;
    }
    Ok(done)
}
