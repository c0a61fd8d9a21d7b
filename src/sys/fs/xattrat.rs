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

/// The kernel does not have them, or a filter of system calls says so.
static MISSING: AtomicBool = AtomicBool::new(false);

/// Argument of `getxattrat`.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Names of the attributes of a name (of a link itself), each ended by NUL; gives their length in bytes.
pub(super) fn list(dir: BorrowedFd<'_>, name: &[u8], names: &mut [u8]) -> Result<usize, Errno> {
    match list_by_call(dir, name, names) {
        Some(result) => result,
        None => rfs::llistxattr(&proc_path(dir, name)[..], names),
    }
}

/// Value of an attribute of a name (of a link itself); gives its length in bytes.
pub(in crate::sys) fn get(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &mut [u8],
) -> Result<usize, Errno> {
    match get_by_call(dir, name, key, value) {
        Some(result) => result,
        None => rfs::lgetxattr(&proc_path(dir, name)[..], key, value),
    }
}

fn list_by_call(
    dir: BorrowedFd<'_>,
    name: &[u8],
    names: &mut [u8],
) -> Option<Result<usize, Errno>> {
    let name = name_for_call(name)?;
    // SAFETY: a descriptor, a string that ends, and a buffer with its length.
    let result = unsafe {
        libc::syscall(
            LISTXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            names.as_mut_ptr(),
            names.len(),
        )
    };
    answer(result)
}

fn get_by_call(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &mut [u8],
) -> Option<Result<usize, Errno>> {
    let (name, key) = (name_for_call(name)?, CString::new(key).ok()?);
    let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let args = XattrArgs { value: value.as_mut_ptr() as u64, size, flags: 0 };
    // SAFETY: a descriptor, strings that end, and a structure with its size that holds a buffer and its length.
    let result = unsafe {
        libc::syscall(
            GETXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            key.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    };
    answer(result)
}

/// A name that means the same to the calls as behind the path of a directory; `None` when /proc is to be asked.
fn name_for_call(name: &[u8]) -> Option<CString> {
    if MISSING.load(Ordering::Relaxed) || name.is_empty() || name.starts_with(b"/") {
        return None;
    }
    CString::new(name).ok()
}

/// What a call gave; `None` when it cannot be made.
fn answer(result: libc::c_long) -> Option<Result<usize, Errno>> {
    if let Ok(length) = usize::try_from(result) {
        return Some(Ok(length));
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO) {
        // QUIRK(kernel 6.13): unknown before.
        Errno::NOSYS => {
            MISSING.store(true, Ordering::Relaxed);
            None
        }
        // A filter of system calls may refuse them with this. Whether it was the filter, the way through /proc tells.
        Errno::PERM => None,
        errno => Some(Err(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{get_xattr, list_xattrs, set_xattr, xattr_names};
    use super::*;
    use std::os::fd::AsFd;

    /// More names than the first list has room for, and a value longer than the first buffer; ext4 has 4 KiB for all.
    fn some() -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut some: Vec<(Vec<u8>, Vec<u8>)> = (0..20)
            .map(|at| (format!("user.some-longer-name-{at:02}").into_bytes(), vec![b'v'; at]))
            .collect();
        some.push((b"user.empty".to_vec(), Vec::new()));
        some.push((b"user.long".to_vec(), vec![b'v'; 1000]));
        some.sort();
        some
    }

    /// A directory with a file that has them, one that has none, and a link to the first.
    fn files() -> Option<(tempfile::TempDir, std::fs::File)> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::fs::write(dir.path().join("none"), "").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        for (key, value) in some() {
            match set_xattr(&root, b"file", &key, &value) {
                Err(error) if error.errno == Errno::OPNOTSUPP => {
                    eprintln!("SKIPPED: the file system of {:?} has no attributes", dir.path());
                    return None;
                }
                result => result.unwrap(),
            }
        }
        Some((dir, root))
    }

    #[test]
    fn attributes_are_read_as_they_were_set() {
        let Some((dir, root)) = files() else { return };
        let public = |name: &[u8]| {
            let mut found = list_xattrs(&root, name).unwrap();
            found.retain(|(key, _)| key.starts_with(b"user."));
            found
        };
        assert_eq!(public(b"file"), some());
        assert_eq!((public(b"none"), public(b"link"), public(b".")), Default::default());
        let value = |name: &[u8], key: &[u8]| get_xattr(&root, name, key).unwrap();
        assert_eq!(value(b"file", b"user.empty"), Some(Vec::new()));
        assert_eq!(value(b"none", b"user.empty"), None);
        assert_eq!(value(b"link", b"user.empty"), None);
        // An absolute name is one below the directory all the same.
        let absolute = [b"/", dir.path().as_os_str().as_encoded_bytes(), b"/file"].concat();
        for name in [&b"gone"[..], &absolute] {
            assert_eq!(xattr_names(&root, name).unwrap_err().errno, Errno::NOENT);
            assert_eq!(get_xattr(&root, name, b"user.long").unwrap_err().errno, Errno::NOENT);
        }
        let gone = xattr_names(&root, b"gone").unwrap_err();
        assert_eq!(gone.to_string(), "llistxattr(\"gone\"): no such file or directory");
        let gone = get_xattr(&root, b"gone", b"user.k").unwrap_err();
        assert_eq!(gone.to_string(), "lgetxattr(\"gone\", \"user.k\"): no such file or directory");
    }

    /// The calls give what the lookup through /proc gives, errors too.
    #[test]
    fn both_ways_give_the_same() {
        let Some((_dir, root)) = files() else { return };
        let root = root.as_fd();
        let mut buffer = [0; 2000];
        if list_by_call(root, b"none", &mut buffer).is_none() {
            let version = crate::sys::probe::kernel_version();
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let filtered = !status.lines().any(|line| line == "Seccomp:\t0");
            assert!(filtered || version < Some((6, 13)), "Linux {version:?} should have the calls");
            eprintln!("SKIPPED: Linux {version:?} has no listxattrat");
            return;
        }
        for (name, room) in [
            ("file", 2000),
            ("file", 100),
            ("none", 9),
            ("link", 9),
            (".", 9),
            ("gone", 9),
            ("none/", 9),
        ] {
            let name = name.as_bytes();
            let (mut ours, mut procs) = (vec![0; room], vec![0; room]);
            let by_call = list_by_call(root, name, &mut ours).unwrap();
            assert_eq!(by_call, rfs::llistxattr(&proc_path(root, name)[..], &mut procs[..]));
            assert_eq!(ours, procs, "{name:?}");
            for key in ["user.empty", "user.long", "user.none", "trusted.none", "none"] {
                let by_call = get_by_call(root, name, key.as_bytes(), &mut ours).unwrap();
                let by_proc = rfs::lgetxattr(&proc_path(root, name)[..], key, &mut procs[..]);
                assert_eq!((by_call, &ours), (by_proc, &procs), "{name:?} {key}");
            }
        }
    }
}
