//! The mount API by descriptors (`fsopen`, `fsmount`, `open_tree`, `move_mount`, `mount_setattr`).
//!
//! Overlays are made here and only with the new API: `mount(2)` cuts its options at one page and still succeeds
//! (docs/run-sandbox.md). Everything is a detached mount until [`attach`] puts it somewhere, so that nothing is left
//! mounted when the process dies.
#![allow(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use super::{Named, SysError, SysResult};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    self as rmount, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Attributes of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub struct MountFlags {
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

impl MountFlags {
    /// Read-only, no set-uid, no devices, no programs.
    pub const LOCKED: Self = Self { read_only: true, nosuid: true, nodev: true, noexec: true };

    fn attr(self) -> MountAttrFlags {
        let mut attr = MountAttrFlags::empty();
        attr.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        attr.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.nosuid);
        attr.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.nodev);
        attr.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.noexec);
        attr
    }
}

/// Makes a detached mount of a file system type with string options (an empty value is a flag).
pub fn new_mount(kind: &str, options: &[(&str, &str)], flags: MountFlags) -> SysResult<OwnedFd> {
    let context =
        rmount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).named(|| format!("fsopen({kind:?})"))?;
    for (key, value) in options {
        let set = if value.is_empty() {
            rmount::fsconfig_set_flag(context.as_fd(), *key)
        } else {
            rmount::fsconfig_set_string(context.as_fd(), *key, *value)
        };
        set.map_err(|errno| {
            explained(&context, errno, &format!("fsconfig({kind}, {key}={value})"))
        })?;
    }
    rmount::fsconfig_create(context.as_fd())
        .map_err(|errno| explained(&context, errno, &format!("fsconfig({kind}, create)")))?;
    rmount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags.attr())
        .named(|| format!("fsmount({kind})"))
}

/// Adds what the file system itself said about the failure; it can be read from the context.
fn explained(context: &OwnedFd, errno: Errno, call: &str) -> SysError {
    let mut buffer = [0_u8; 512];
    let said = match rustix::io::read(context, &mut buffer) {
        Ok(n) if n > 2 => String::from_utf8_lossy(&buffer[2..n]).trim().to_owned(),
        _ => String::new(),
    };
    let call = if said.is_empty() { call.to_owned() } else { format!("{call} ({said})") };
    SysError { call, errno }
}

/// What an overlay is made of.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Directories from the topmost to the bottom; at least one (two without an upper).
    pub lowers: Vec<BorrowedFd<'a>>,
    /// Upper and work directory; none for a read-only view.
    pub upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// True in a user namespace: private attributes are `user.overlay.*`.
    pub userxattr: bool,
}

/// Makes a detached overlay, without device nodes, `volatile` when it can be written.
pub fn overlay(parts: &Overlay<'_>) -> SysResult<OwnedFd> {
    match overlay_by_one(parts) {
        // QUIRK(kernel 6.7): before it there was no `lowerdir+`.
        Err(error) if error.errno == Errno::INVAL && error.call.contains("lowerdir+") => {
            overlay_at_once(parts)
        }
        other => other,
    }
}

fn overlay_by_one(parts: &Overlay<'_>) -> SysResult<OwnedFd> {
    // Descriptors by their /proc names: values of options are limited to 255 bytes, paths are not.
    let name = |fd: BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lowers = parts.lowers.iter().map(|lower| ("lowerdir+", name(*lower)));
    let mut lowers: Vec<(&str, String)> = lowers.collect();
    // QUIRK(kernel 6.7): since then each mount gives its upper a number, and has to write it down.
    lowers.push(("uuid", "null".to_owned()));
    overlay_with(parts, lowers, name)
}

/// All lowers in one value of at most 255 bytes: their numbers, seen from /proc/self/fd. The working directory belongs to
/// all threads unless one leaves that bond, so this is done in a thread of its own.
fn overlay_at_once(parts: &Overlay<'_>) -> SysResult<OwnedFd> {
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().to_string();
    let lowers: Vec<String> = parts.lowers.iter().map(|lower| number(*lower)).collect();
    let lowers = lowers.join(":");
    if lowers.len() > 255 {
        return Err(Errno::TOOBIG)
            .named(|| format!("{} layers on a kernel before 6.7", parts.lowers.len()));
    }
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .named(|| "unshare(CLONE_FS)".to_owned())?;
        rustix::process::chdir("/proc/self/fd").named(|| "chdir(\"/proc/self/fd\")".to_owned())?;
        overlay_with(parts, vec![("lowerdir", lowers)], number)
    };
    std::thread::scope(|scope| {
        scope.spawn(make).join().unwrap_or_else(|_| Err(Errno::IO).named(|| "thread".to_owned()))
    })
}

fn overlay_with(
    parts: &Overlay<'_>,
    lowers: Vec<(&str, String)>,
    name: impl Fn(BorrowedFd<'_>) -> String,
) -> SysResult<OwnedFd> {
    let mut options: Vec<(&str, String)> = vec![("source", "overlay".to_owned())];
    options.extend(lowers);
    if let Some((upper, work)) = &parts.upper {
        options.push(("upperdir", name(*upper)));
        options.push(("workdir", name(*work)));
        options.push(("volatile", String::new()));
    }
    if parts.userxattr {
        options.push(("userxattr", String::new()));
    } else {
        // A change set that refers to other places could not be written as a layer.
        options.push(("redirect_dir", "off".to_owned()));
        options.push(("metacopy", "off".to_owned()));
        options.push(("index", "off".to_owned()));
    }
    let borrowed: Vec<(&str, &str)> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let flags =
        MountFlags { read_only: parts.upper.is_none(), nodev: true, ..MountFlags::default() };
    new_mount("overlay", &borrowed, flags)
}

/// A detached copy of the mount at `path` below `dir` (of the whole subtree of mounts when `recursive`).
/// Links are not followed in the last component.
pub fn clone_tree(dir: impl AsFd, path: &[u8], recursive: bool) -> SysResult<OwnedFd> {
    let dir = dir.as_fd();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    rmount::open_tree(dir, path, flags)
        .named(|| format!("open_tree({}, {:?})", dir.as_raw_fd(), String::from_utf8_lossy(path)))
}

/// The same by a path of this process.
pub fn clone_tree_path(path: impl AsRef<Path>, recursive: bool) -> SysResult<OwnedFd> {
    clone_tree(CWD, path.as_ref().as_os_str().as_bytes(), recursive)
}

/// Sets attributes of a detached mount (of all below it when `recursive`); never clears any.
pub fn set_flags(mount: impl AsFd, flags: MountFlags, recursive: bool) -> SysResult<()> {
    let mount = mount.as_fd();
    let attr = libc::mount_attr {
        attr_set: u64::from(flags.attr().bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant and `attr` outlives the call, with its true size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(last_errno()).named(|| format!("mount_setattr({}, {flags:?})", mount.as_raw_fd()))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Attaches a detached mount at `path` below `dir`; a last link is not followed; an empty path is `dir` itself.
pub fn attach(mount: impl AsFd, dir: impl AsFd, path: &[u8]) -> SysResult<()> {
    let (mount, dir) = (mount.as_fd(), dir.as_fd());
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    flags.set(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH, path.is_empty());
    rmount::move_mount(mount, c"", dir, path, flags).named(|| {
        format!(
            "move_mount({}, {}, {:?})",
            mount.as_raw_fd(),
            dir.as_raw_fd(),
            String::from_utf8_lossy(path)
        )
    })
}

/// Takes away the mount at `path`; what still uses it keeps it. A path that is no mount stays as it is.
pub fn detach(path: &Path) {
    let _gone = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
}

/// Makes every mount of this namespace private, so that nothing we do is seen outside.
pub fn make_private() -> SysResult<()> {
    rmount::mount_change(
        "/",
        rmount::MountPropagationFlags::PRIVATE | rmount::MountPropagationFlags::REC,
    )
    .named(|| "mount(\"/\", MS_PRIVATE|MS_REC)".to_owned())
}

/// Makes the current directory (a mount point) the root of this mount namespace and drops the old one.
pub fn pivot_here() -> SysResult<()> {
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => rmount::unmount(".", rmount::UnmountFlags::DETACH)
            .named(|| "umount2(\".\", MNT_DETACH)".to_owned())?,
        // Docker's profile has no pivot_root even with SYS_ADMIN.
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) => {
            rmount::mount_move(".", "/").named(|| "mount(\".\", \"/\", MS_MOVE)".to_owned())?;
            rustix::process::chroot(".").named(|| "chroot(\".\")".to_owned())?;
        }
        Err(errno) => return Err(errno).named(|| "pivot_root(\".\", \".\")".to_owned()),
    }
    rustix::process::chdir("/").named(|| "chdir(\"/\")".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;

    #[test]
    fn both_ways_of_naming_lowers_give_the_same_tree() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b", "upper", "work"];
        let open = |name: &&str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            fs::open_dir_path(&dir.path().join(name)).unwrap()
        };
        let [a, b, upper, work]: [OwnedFd; 4] =
            names.iter().map(open).collect::<Vec<_>>().try_into().unwrap();
        std::fs::write(dir.path().join("a/x"), "top").unwrap();
        std::fs::write(dir.path().join("b/x"), "bottom").unwrap();
        std::fs::write(dir.path().join("b/y"), "only").unwrap();
        for make in [overlay_by_one, overlay_at_once] {
            let parts = Overlay {
                lowers: vec![a.as_fd(), b.as_fd()],
                upper: Some((upper.as_fd(), work.as_fd())),
                userxattr: false,
            };
            let tree = fs::reopen_dir(make(&parts).unwrap()).unwrap();
            assert_eq!(fs::list(&tree).unwrap(), [b"x".to_vec(), b"y".to_vec()]);
            let text = crate::sys::root::read_small(&tree, b"x", 10).unwrap().unwrap();
            assert_eq!(text, b"top");
            drop(tree);
            fs::remove_tree(&work, b"work").unwrap();
        }
    }
}
