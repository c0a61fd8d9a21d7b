//! Reading extended attributes by directory and name in one call, as Linux 6.13 and later can.
//!
//! Before that a name has to be looked up through /proc, which takes several times as long as the attributes themselves.
#![allow(unsafe_code, reason = "neither libc nor rustix has these calls")]

use super::proc_path;
use rustix::fs as rfs;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers of the calls: the same on all architectures that we build for.
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;

/// The kernel does not have them, or a filter of system calls does not let us.
static MISSING: AtomicBool = AtomicBool::new(false);

/// Argument of `getxattrat`.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Names of the attributes of a name (of a link itself), each ended by NUL; gives their length in bytes.
pub(super) fn list(dir: BorrowedFd<'_>, name: &[u8], list: &mut [u8]) -> Result<usize, Errno> {
    let call = |name: &CString| {
        // SAFETY: a descriptor, a string that ends, and a buffer with its length.
        unsafe {
            libc::syscall(
                LISTXATTRAT,
                dir.as_raw_fd(),
                name.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                list.as_mut_ptr(),
                list.len(),
            )
        }
    };
    match at(name, call) {
        Some(result) => result,
        None => rfs::llistxattr(&proc_path(dir, name)[..], list),
    }
}

/// Value of an attribute of a name (of a link itself); gives its length in bytes.
pub(super) fn get(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &mut [u8],
) -> Result<usize, Errno> {
    let Ok(attribute) = CString::new(key) else { return Err(Errno::INVAL) };
    let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let call = |name: &CString| {
        let args = XattrArgs { value: value.as_mut_ptr() as u64, size, flags: 0 };
        // SAFETY: a descriptor, strings that end, and a structure with its size that holds a buffer and its length.
        unsafe {
            libc::syscall(
                GETXATTRAT,
                dir.as_raw_fd(),
                name.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                attribute.as_ptr(),
                &raw const args,
                size_of::<XattrArgs>(),
            )
        }
    };
    match at(name, call) {
        Some(result) => result,
        None => rfs::lgetxattr(&proc_path(dir, name)[..], key, value),
    }
}

/// Makes a call, unless it is known not to be there; `None` says that.
fn at(name: &[u8], call: impl FnOnce(&CString) -> libc::c_long) -> Option<Result<usize, Errno>> {
    if MISSING.load(Ordering::Relaxed) {
        return None;
    }
    let Ok(name) = CString::new(name) else { return Some(Err(Errno::INVAL)) };
    let result = call(&name);
    if let Ok(length) = usize::try_from(result) {
        return Some(Ok(length));
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    // Old filters refuse what they do not know with EPERM, which these calls do not give by themselves.
    if matches!(errno, Errno::NOSYS | Errno::PERM) {
        MISSING.store(true, Ordering::Relaxed);
        return None;
    }
    Some(Err(errno))
}

#[cfg(test)]
mod tests {
    use super::super::{get_xattr, list_xattrs, set_xattr, xattr_names};
    use super::*;
    use std::os::fd::AsFd;

    /// The calls give what the lookup through /proc gives; the last is what a kernel without them does.
    #[test]
    fn both_ways_give_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::fs::write(dir.path().join("none"), "").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        // More names than the first list has room for, and a value longer than the first buffer; ext4 has 4 KiB for all.
        let mut expected: Vec<(Vec<u8>, Vec<u8>)> = (0..20)
            .map(|at| (format!("user.some-longer-name-{at:02}").into_bytes(), vec![b'v'; at]))
            .collect();
        expected.push((b"user.empty".to_vec(), Vec::new()));
        expected.push((b"user.long".to_vec(), vec![b'v'; 1000]));
        expected.sort();
        for (key, value) in &expected {
            match set_xattr(&root, b"file", key, value) {
                Err(error) if error.errno == Errno::OPNOTSUPP => {
                    eprintln!("SKIPPED: the file system of {:?} has no attributes", dir.path());
                    return;
                }
                result => result.unwrap(),
            }
        }
        let public = |name: &[u8]| {
            let mut found = list_xattrs(&root, name).unwrap();
            found.retain(|(key, _)| key.starts_with(b"user."));
            found
        };
        let was = MISSING.load(Ordering::Relaxed);
        for missing in [was, true] {
            MISSING.store(missing, Ordering::Relaxed);
            assert_eq!(public(b"file"), expected);
            assert_eq!((public(b"none"), public(b"link"), public(b".")), Default::default());
            let value = |name: &[u8], key: &[u8]| get_xattr(&root, name, key).unwrap();
            assert_eq!(value(b"file", b"user.empty"), Some(Vec::new()));
            assert_eq!(value(b"none", b"user.empty"), None);
            assert_eq!(value(b"link", b"user.empty"), None);
            let gone = xattr_names(&root, b"gone").unwrap_err();
            assert_eq!(gone.to_string(), "llistxattr(\"gone\"): no such file or directory");
            let gone = get_xattr(root.as_fd(), b"gone", b"user.k").unwrap_err();
            assert_eq!(
                gone.to_string(),
                "lgetxattr(\"gone\", \"user.k\"): no such file or directory"
            );
        }
        MISSING.store(was, Ordering::Relaxed);
    }
}
