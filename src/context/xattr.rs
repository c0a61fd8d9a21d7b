//! Which extended attributes belong to a file's content.
//!
//! One rule for the digest and for the copy, so that nothing is copied that the step key does not see: everything but
//! `security.*` (labels of this host) and `system.*` (access lists), where `security.capability` counts; never marks of
//! overlayfs; and from a build context never our own marks, with which a file could pose as a device node. Spec:
//! dockerfile §3.6.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::sys::{SysResult, fs, owners};

/// Names and values, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Prefix of the marks that this program keeps on files of a rootfs.
const OWN_PREFIX: &[u8] = b"user.nativebuild.";

/// The attributes of `name` (of a link itself) that count. `trusted` is false for files of a build context.
pub fn read(dir: impl AsFd, name: &[u8], trusted: bool) -> SysResult<Xattrs> {
    let dir = dir.as_fd();
    let mut found = Vec::new();
    for key in fs::xattr_names(dir, name)?.split(|b| *b == 0).filter(|key| counts(key, trusted)) {
        match fs::get_xattr(dir, name, key) {
            Ok(Some(value)) => found.push((key.to_vec(), value)),
            // Gone meanwhile, or a capability of another user namespace, which has no meaning in this one.
            Ok(None) => {}
            Err(error) if error.errno == Errno::OVERFLOW => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

fn counts(key: &[u8], trusted: bool) -> bool {
    let starts = |prefix: &[u8]| key.starts_with(prefix);
    if key.is_empty() || starts(b"user.overlay.") || starts(b"trusted.overlay.") {
        return false;
    }
    // An owner is no attribute, wherever it is kept.
    if key == owners::XATTR.as_bytes() {
        return false;
    }
    if starts(OWN_PREFIX) {
        return trusted;
    }
    key == b"security.capability" || !(starts(b"security.") || starts(b"system."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lists_and_marks_do_not_count() {
        for (key, in_context, in_rootfs) in [
            ("user.note", true, true),
            ("security.capability", true, true),
            ("security.selinux", false, false),
            ("system.posix_acl_access", false, false),
            ("trusted.note", true, true),
            ("trusted.overlay.opaque", false, false),
            ("user.overlay.opaque", false, false),
            ("user.nativebuild.node", false, true),
            (owners::XATTR, false, false),
        ] {
            assert_eq!(counts(key.as_bytes(), false), in_context, "{key}");
            assert_eq!(counts(key.as_bytes(), true), in_rootfs, "{key}");
        }
    }
}
