//! The bytes of files, holes as zeros; a file that is not as long as its entry says is an error.

use super::{BLOCK, written};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::layers::beneath::{self, shown};
use crate::sys::SysResultExt as _;
use crate::sys::fs;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::BorrowedFd;

pub(in crate::layers) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Opens a file that must have so many bytes; `path` is its name in messages.
pub(in crate::layers) fn open_body(
    root: BorrowedFd<'_>,
    at: &[u8],
    path: &[u8],
    size: u64,
) -> Result<(File, fs::Stat)> {
    let read = || format!("cannot read {}", shown(path));
    let file = beneath::open_file(root, at).or_error(ErrorKind::Environment, read)?;
    let stat = fs::fstat(&file).or_error(ErrorKind::Environment, read)?;
    if stat.kind != fs::Kind::File || stat.size != size {
        return Err(changed(path));
    }
    Ok((file, stat))
}

/// The bytes of a file, without padding.
pub(in crate::layers) fn body(
    root: BorrowedFd<'_>,
    path: &[u8],
    size: u64,
    out: &mut dyn Write,
) -> Result<()> {
    let (file, stat) = open_body(root, path, path, size)?;
    whole_body(&file, &stat, path, out)
}

/// The bytes of an open file, at its start, which must still have as many as `stat` says afterwards.
pub(in crate::layers) fn whole_body(
    file: &File,
    stat: &fs::Stat,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<()> {
    file_body(file, stat, path, out)?;
    let read = || format!("cannot read {}", shown(path));
    if fs::fstat(file).or_error(ErrorKind::Environment, read)?.size != stat.size {
        return Err(changed(path));
    }
    Ok(())
}

/// The bytes of an open file, at its start, that has as many as `stat` says. Whether they changed meanwhile is the
/// caller's to see; `path` is for messages.
pub fn file_body(file: &File, stat: &fs::Stat, path: &[u8], out: &mut dyn Write) -> Result<()> {
    let size = stat.size;
    let read = || format!("cannot read {}", shown(path));
    let mut at = 0;
    let sparse = stat.blocks.saturating_mul(512) < size;
    while at < size {
        let (start, end) = if sparse {
            data_range(file, at, size).or_error(ErrorKind::Environment, read)?
        } else {
            (0, size)
        };
        written(zeros(start - at, out))?;
        copy(file, path, end - start, out)?;
        at = end;
    }
    Ok(())
}

/// Zeros behind a body, up to the next block.
pub(in crate::layers) fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The next run of data at or after `at`, with the file's offset at its start; `(size, size)` when only a hole is left.
fn data_range(file: &File, at: u64, size: u64) -> std::io::Result<(u64, u64)> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => return Ok((size, size)),
        Err(errno) => return Err(errno.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?.clamp(start, size);
    let mut file = file;
    file.seek(std::io::SeekFrom::Start(start))?;
    Ok((start, if end == start { size } else { end }))
}

/// So many zeros.
pub(in crate::layers) fn zeros(mut count: u64, out: &mut dyn Write) -> std::io::Result<()> {
    while count > 0 {
        let part = count.min(ZEROS.len() as u64) as usize;
        out.write_all(&ZEROS[..part])?;
        count -= part as u64;
    }
    Ok(())
}

/// So many bytes of an open file, from where it stands.
pub(in crate::layers) fn copy(
    mut file: &File,
    path: &[u8],
    mut left: u64,
    out: &mut dyn Write,
) -> Result<()> {
    let mut buffer = vec![0_u8; left.min(256 * 1024) as usize];
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        let n = file
            .read(&mut buffer[..want])
            .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(path)))?;
        if n == 0 {
            return Err(changed(path));
        }
        written(out.write_all(&buffer[..n]))?;
        left -= n as u64;
    }
    Ok(())
}

fn changed(path: &[u8]) -> Error {
    Error::environment(format!("{} changed while it was read", shown(path)))
        .hint("something outside the build writes to its files; build again when it has stopped")
}
