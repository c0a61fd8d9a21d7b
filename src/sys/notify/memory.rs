//! Reading and writing the memory of another process.
//!
//! By `process_vm_*`; where a filter around us forbids those, by the process's `mem` file.

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::io::Errno;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

/// Longest path with its final NUL, as for the kernel.
pub const MAX_PATH: usize = 4096;

/// Smallest page of all machines: reading up to its end never touches memory that is not there.
const PAGE: u64 = 4096;

/// Fills `buffer` from the memory of a thread's process.
pub fn read_exact(tid: i32, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    if buffer.is_empty() {
        return Ok(());
    }
    let base = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    let len = buffer.len();
    let remote = [RemoteIoVec { base, len }];
    let read = process_vm_readv(Pid::from_raw(tid), &mut [IoSliceMut::new(buffer)], &remote);
    match read {
        Ok(n) if n == len => Ok(()),
        Ok(_) | Err(nix::Error::EFAULT) => Err(Errno::FAULT),
        Err(nix::Error::ESRCH) => Err(Errno::SRCH),
        Err(_) => memory_file(tid, false)?.read_exact_at(buffer, address).map_err(|_| Errno::FAULT),
    }
}

/// A string that ends with NUL, at most `max` bytes with it.
pub fn read_string(tid: i32, address: u64, max: usize) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    let mut at = address;
    if address == 0 {
        return Err(Errno::FAULT);
    }
    while text.len() < max {
        // Most strings are short: little is read first.
        let wanted = if text.is_empty() { 256 } else { PAGE };
        let to_page_end = PAGE - at % PAGE;
        let want = wanted.min(to_page_end).min((max - text.len()) as u64) as usize;
        let start = text.len();
        text.resize(start + want, 0);
        read_exact(tid, at, &mut text[start..])?;
        if let Some(end) = memchr::memchr(0, &text[start..]) {
            text.truncate(start + end);
            return Ok(text);
        }
        at = at.checked_add(want as u64).ok_or(Errno::FAULT)?;
    }
    Err(Errno::NAMETOOLONG)
}

/// Writes into the memory of a thread's process.
pub fn write(tid: i32, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    if bytes.is_empty() {
        return Ok(());
    }
    let base = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    let remote = [RemoteIoVec { base, len: bytes.len() }];
    let written = process_vm_writev(Pid::from_raw(tid), &[IoSlice::new(bytes)], &remote);
    match written {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) | Err(nix::Error::EFAULT) => Err(Errno::FAULT),
        Err(nix::Error::ESRCH) => Err(Errno::SRCH),
        Err(_) => memory_file(tid, true)?.write_all_at(bytes, address).map_err(|_| Errno::FAULT),
    }
}

fn memory_file(tid: i32, write: bool) -> Result<File, Errno> {
    let opened = File::options().read(!write).write(write).open(format!("/proc/{tid}/mem"));
    opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    #[test]
    fn strings_end_at_their_nul_and_long_ones_are_refused() {
        let text = [&b"/etc/passwd\0"[..], &[b'x'; 5000], b"\0"].concat();
        let at = text.as_ptr() as u64;
        assert_eq!(read_string(own(), at, MAX_PATH).unwrap(), b"/etc/passwd");
        assert_eq!(read_string(own(), at + 12, MAX_PATH), Err(Errno::NAMETOOLONG));
        assert_eq!(read_string(own(), at + 12, 6000).unwrap().len(), 5000);
    }

    #[test]
    fn bad_addresses_are_errors() {
        for address in [0, 1, 4095, u64::MAX, u64::MAX - 10, 1 << 47] {
            assert!(read_string(own(), address, MAX_PATH).is_err(), "{address:#x}");
            assert_eq!(read_exact(own(), address, &mut [0; 8]), Err(Errno::FAULT), "{address:#x}");
            assert_eq!(write(own(), address, b"12345678"), Err(Errno::FAULT), "{address:#x}");
        }
        assert_eq!(read_exact(i32::MAX, 4096, &mut [0; 8]), Err(Errno::SRCH));
    }
}
