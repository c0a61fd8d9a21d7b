//! Deletions, spelled: `.wh.` names in layers, character device 0:0 and `overlay.opaque` in overlay uppers.
//!
//! The only file that knows either spelling, and the law of which extended attributes may enter or leave a layer.
//! Names are hostile input: a whiteout that names nothing, `.` or `..` is an error, never ignored.
//! image-spec layer.md#whiteouts; overlayfs.rst of the kernel.

use crate::error::{Error, Result};
use crate::sys::SysResult;
use crate::sys::fs::{self, Kind, Stat};
use std::os::fd::BorrowedFd;

/// What every whiteout's name starts with.
pub const PREFIX: &[u8] = b".wh.";

/// Name that hides everything the layers below have in its directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Start of aufs's own records; kept in some old layers, mean nothing.
const RESERVED: &[u8] = b".wh..wh.";

/// Why no file may have such a name, for messages.
pub const RESERVED_NAMES: &str = "names that start with `.wh.` mark deletions in image layers";

/// Which private attributes overlayfs uses for its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XattrFlavour {
    /// `user.overlay.*`: mounted with `userxattr`, in a user namespace.
    User,
    /// `trusted.overlay.*`: mounted by real root.
    Trusted,
}

impl XattrFlavour {
    fn key(self, mark: &str) -> Vec<u8> {
        match self {
            Self::User => format!("user.overlay.{mark}").into_bytes(),
            Self::Trusted => format!("trusted.overlay.{mark}").into_bytes(),
        }
    }
}

/// Meaning of a `.wh.` name in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// The layers below lose this name in the same directory.
    Remove(Vec<u8>),
    /// The layers below lose everything in the same directory.
    Opaque,
    /// A record of aufs (`.wh..wh.plnk`, …): to be skipped, as every reader does.
    Reserved,
}

/// Meaning of a single name; `None` for an ordinary one.
pub fn parse(name: &[u8]) -> Result<Option<Whiteout>> {
    let Some(hidden) = name.strip_prefix(PREFIX) else { return Ok(None) };
    if name == OPAQUE {
        return Ok(Some(Whiteout::Opaque));
    }
    if name.len() > RESERVED.len() && name.starts_with(RESERVED) {
        return Ok(Some(Whiteout::Reserved));
    }
    if matches!(hidden, b"" | b"." | b"..") || hidden.contains(&b'/') || hidden.starts_with(PREFIX)
    {
        let shown = String::from_utf8_lossy(name);
        return Err(Error::integrity(format!("whiteout `{shown}` names no file")));
    }
    Ok(Some(Whiteout::Remove(hidden.to_vec())))
}

/// True for a name that a layer cannot hold as an ordinary file.
pub fn is_reserved_name(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// Path of the whiteout that deletes `path`.
pub fn emit(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    [&path[..name], PREFIX, &path[name..]].concat()
}

/// True for an extended attribute that must not cross the border of a layer, in either direction.
///
/// Kept: `user.*`, `security.capability`, `system.posix_acl_access` and `system.posix_acl_default` (an ACL is part of
/// who may read a file; Docker loses them). Dropped: overlayfs's marks and our own placeholders (a layer that brought
/// them could redirect a directory or forge a device), labels of the building host (`security.selinux`, `security.ima`,
/// …), and `trusted.*`, which a user namespace cannot see, so that root and an ordinary user write the same layer.
pub fn is_private_xattr(name: &[u8]) -> bool {
    let ours = name.starts_with(b"user.overlay.") || name.starts_with(b"user.nativebuild.");
    let kept = name.starts_with(b"user.")
        || name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default";
    ours || !kept
}

/// True for an extended attribute of ours.
pub(super) fn is_our_mark(name: &[u8]) -> bool {
    name.starts_with(b"user.nativebuild.")
}

/// True for overlayfs's deletion mark. All whiteouts of an upper may share one inode (`nlink > 1`).
pub fn is_whiteout_node(stat: &Stat) -> bool {
    stat.kind == Kind::CharDevice && stat.rdev == (0, 0)
}

/// True when the attributes of a directory in an upper say that it hides the one below.
pub fn is_opaque(xattrs: &[(Vec<u8>, Vec<u8>)], flavour: XattrFlavour) -> bool {
    let key = flavour.key("opaque");
    xattrs.iter().any(|(name, value)| *name == key && value == b"y")
}

/// True when an upper entry is not what it seems: overlayfs took its content or its place from elsewhere. Our mounts
/// switch both features off.
pub fn is_indirect(xattrs: &[(Vec<u8>, Vec<u8>)], flavour: XattrFlavour) -> bool {
    let keys = [flavour.key("redirect"), flavour.key("metacopy")];
    xattrs.iter().any(|(name, _)| keys.contains(name))
}

/// Makes overlayfs's deletion mark in a directory that will be a lower or an upper.
pub fn make_whiteout_node(dir: BorrowedFd<'_>, name: &[u8]) -> SysResult<()> {
    fs::mknod(dir, name, Kind::CharDevice, 0, (0, 0))
}

/// Marks a directory that will be a lower or an upper as hiding the one below.
pub fn make_opaque(dir: BorrowedFd<'_>, name: &[u8], flavour: XattrFlavour) -> SysResult<()> {
    fs::set_xattr(dir, name, &flavour.key("opaque"), b"y")
}

/// Marks a directory that will be a lower as one that may hold deletion marks. Overlayfs looks for them only where it
/// shows several directories as one, and in those that it copied up once, which have this attribute; elsewhere it would
/// list the marks as files. Empty, it says that nobody knows what was copied.
pub(super) fn make_copied_up(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flavour: XattrFlavour,
) -> SysResult<()> {
    fs::set_xattr(dir, name, &flavour.key("origin"), b"")
}

/// True for what overlayfs notes about the place of a directory among others, and what is wrong in another place.
pub(super) fn is_note_of_overlay(name: &[u8], flavour: XattrFlavour) -> bool {
    ["opaque", "origin", "impure", "nlink", "uuid", "upper"]
        .iter()
        .any(|mark| name == flavour.key(mark))
}

/// A device node as a placeholder records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Block device rather than character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits (07777).
    pub mode: u32,
}

impl DeviceNode {
    /// Value of [`super::PLACEHOLDER_XATTR`].
    pub fn to_value(self) -> Vec<u8> {
        let kind = if self.block { 'b' } else { 'c' };
        format!("{kind}:{}:{}:{:o}", self.major, self.minor, self.mode).into_bytes()
    }

    /// Reads a value of [`super::PLACEHOLDER_XATTR`]; `None` for anything that we would not have written.
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(':');
        let block = match parts.next()? {
            "b" => true,
            "c" => false,
            _ => return None,
        };
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
        let node = Self { block, major, minor, mode };
        (mode <= 0o7777 && node.to_value() == value).then_some(node)
    }
}

/// The device that a regular file stands for, by its attributes.
pub fn placeholder(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Option<DeviceNode> {
    let key = super::PLACEHOLDER_XATTR.as_bytes();
    let (_, value) = xattrs.iter().find(|(name, _)| name == key)?;
    DeviceNode::from_value(value)
}

/// Makes a placeholder for a device node; the caller sets its owner. Its owner can read it: an attribute of a file
/// without permissions would be out of reach for a build without privileges.
pub fn make_placeholder(dir: BorrowedFd<'_>, name: &[u8], node: DeviceNode) -> SysResult<()> {
    let file = fs::create_new(dir, name, 0o600)?;
    fs::fchmod(&file, 0o600)?;
    fs::set_xattr(dir, name, super::PLACEHOLDER_XATTR.as_bytes(), &node.to_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteout_names_are_read_and_hostile_ones_refused() {
        let check = |name: &str, expect: Option<Whiteout>| {
            assert_eq!(parse(name.as_bytes()).unwrap(), expect, "{name}");
        };
        check("a", None);
        check(".wh", None);
        check(".whx", None);
        check(".wh.a", Some(Whiteout::Remove(b"a".to_vec())));
        check(".wh....", Some(Whiteout::Remove(b"...".to_vec())));
        check(".wh..a", Some(Whiteout::Remove(b".a".to_vec())));
        check(".wh..wh..opq", Some(Whiteout::Opaque));
        check(".wh..wh.x", Some(Whiteout::Reserved));
        check(".wh..wh.plnk", Some(Whiteout::Reserved));
        for hostile in [".wh.", ".wh..", ".wh...", ".wh.a/b", ".wh..wh."] {
            let error = parse(hostile.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("whiteout `{hostile}` names no file"));
        }
    }

    #[test]
    fn whiteouts_stand_beside_what_they_delete() {
        assert_eq!(emit(b"a"), b".wh.a");
        assert_eq!(emit(b"d/e/f"), b"d/e/.wh.f");
    }

    #[test]
    fn only_portable_attributes_cross_the_border() {
        for kept in [
            "user.x",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
            "user.overlayx",
        ] {
            assert!(!is_private_xattr(kept.as_bytes()), "{kept}");
        }
        for dropped in [
            "user.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.x",
            "security.selinux",
            "security.ima",
            "system.nfs4_acl",
            "btrfs.compression",
            crate::layers::PLACEHOLDER_XATTR,
            "",
        ] {
            assert!(is_private_xattr(dropped.as_bytes()), "{dropped}");
        }
    }

    #[test]
    fn placeholder_values_read_back_and_forgeries_do_not() {
        let node = DeviceNode { block: false, major: 1, minor: 3, mode: 0o666 };
        assert_eq!(node.to_value(), b"c:1:3:666");
        assert_eq!(DeviceNode::from_value(b"c:1:3:666"), Some(node));
        for bad in ["", "c", "x:1:3:666", "c:1:3:0666", "c:1:3:77777", "c:1:3:666:", "c:+1:3:6"] {
            assert_eq!(DeviceNode::from_value(bad.as_bytes()), None, "{bad}");
        }
    }
}
