//! The times of files, links and directories.

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives a path, of a link the link itself, this time of its last access and of its last change.
pub fn set_times(path: &Path, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    let time = Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
