//! Starting to write file data to the disk while more of it is still coming.
#![allow(unsafe_code, reason = "sync_file_range has no wrapper in rustix")]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Bytes that are worth a call: many enough for the disk, and few enough that nobody waits long for them.
pub const PART: u64 = 8 << 20;

/// Has the kernel begin to write this range of a file, and does not wait for it: whoever syncs the file later waits less.
/// No promise of any kind; where the file system cannot do it nothing happens.
pub fn begin(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: a descriptor and numbers.
    let _best_effort = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
    };
}
