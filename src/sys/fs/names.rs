//! What is in a directory.

use crate::sys::{Named, SysResult};
use rustix::fs::{self as rfs, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Names in a directory, sorted by bytes, without `.` and `..`.
pub fn list(dir: impl AsFd) -> SysResult<Vec<Vec<u8>>> {
    let dir = dir.as_fd();
    // A fresh description: the offset of the caller's one must not matter.
    let own =
        rfs::openat(dir, ".", OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty())
            .named(|| format!("getdents64({})", dir.as_raw_fd()))?;
    let names = list_opened(own)?;
    Ok((0..names.len()).map(|index| names.get(index).to_vec()).collect())
}

/// Names in a directory, in one piece of memory.
#[derive(Clone, Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends.
    ranges: Vec<(usize, usize)>,
}

impl Names {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// One of them.
    pub fn get(&self, index: usize) -> &[u8] {
        let (start, end) = self.ranges[index];
        &self.bytes[start..end]
    }
}

/// [`list`] of a directory just opened, of which nobody read anything yet.
pub fn list_opened(dir: impl AsFd) -> SysResult<Names> {
    let dir = dir.as_fd();
    let mut names = Names::default();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = rfs::RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.named(|| format!("getdents64({})", dir.as_raw_fd()))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let start = names.bytes.len();
            names.bytes.extend_from_slice(name);
            names.ranges.push((start, names.bytes.len()));
        }
    }
    let Names { bytes, ranges } = &mut names;
    ranges.sort_unstable_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
    // One may come twice while others change the directory.
    ranges.dedup_by(|a, b| bytes[a.0..a.1] == bytes[b.0..b.1]);
    Ok(names)
}

/// True when an open directory has no name any more. Then nothing can be made in it, and through an overlay, which
/// would have to copy it first, nothing about it can be changed either (EIO).
pub fn is_removed(dir: impl AsFd) -> bool {
    list(dir).is_err_and(|error| error.errno == Errno::NOENT)
}

/// Directories that [`count_below`] has open at once; of more the rest is not looked into.
const OPEN: usize = 256;

/// How many names there are below a directory, links not followed, other mounts included; it stops at `most`. What cannot
/// be read counts as empty.
pub fn count_below(dir: impl AsFd, most: usize) -> usize {
    let opened = |dir: BorrowedFd<'_>, name: &CStr| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        rfs::openat(dir, name, flags, Mode::empty()).ok()
    };
    let mut waiting: Vec<OwnedFd> = opened(dir.as_fd(), c".").into_iter().collect();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut count = 0;
    while let Some(dir) = waiting.pop() {
        let mut entries = rfs::RawDir::new(&dir, buffer.spare_capacity_mut());
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            count += 1;
            if count >= most {
                return count;
            }
            if entry.file_type() == rfs::FileType::Directory && waiting.len() < OPEN {
                waiting.extend(opened(dir.as_fd(), name));
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_directory_without_a_name_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::create_dir_all(&path).unwrap();
        let opened = crate::sys::fs::open_dir_path(&path).unwrap();
        assert!(!is_removed(&opened));
        std::fs::rename(&path, dir.path().join("b")).unwrap();
        assert!(!is_removed(&opened));
        std::fs::remove_dir(dir.path().join("b")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(is_removed(&opened));
        assert!(!is_removed(crate::sys::fs::open_dir_path(&path).unwrap()));
    }

    #[test]
    fn names_below_are_counted_until_there_are_enough() {
        let dir = tempfile::tempdir().unwrap();
        let opened = crate::sys::fs::open_dir_path(dir.path()).unwrap();
        assert_eq!(count_below(&opened, 10), 0);
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["a/1", "a/b/2", "3"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        symlink("a", dir.path().join("link")).unwrap();
        for _twice in 0..2 {
            assert_eq!([1, 5, 6, 7, 100].map(|most| count_below(&opened, most)), [1, 5, 6, 6, 6]);
        }
    }
}
