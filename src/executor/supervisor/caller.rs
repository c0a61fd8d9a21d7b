//! The caller's view: its strings, its descriptors, and its paths, resolved in its own root.
//!
//! A path is resolved by the kernel with the caller's root as root (`RESOLVE_IN_ROOT`), so no link leads out; what is
//! opened gives no access (`O_PATH`), so nothing blocks and no device wakes up. Nobody but `chroot` can change a root in
//! a RUN, so one descriptor serves all until somebody calls that.

use super::Supervisor;
use crate::sys::notify::{Call, MAX_PATH, read_string};
use crate::sys::root;
use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `AT_FDCWD` as an argument.
pub(super) const CWD: i32 = libc::AT_FDCWD;

/// How often the kernel may ask to try again, because something was renamed, before we leave it to the kernel.
const TRIES: usize = 64;

/// A path argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// What a relative path starts at.
    pub(super) dir: i32,
    /// Empty means `dir` itself.
    pub(super) path: Vec<u8>,
    /// A last link is followed.
    pub(super) follow: bool,
}

impl Target {
    /// A descriptor.
    pub(super) fn of_fd(fd: u64) -> Self {
        Self { dir: fd as i32, path: Vec::new(), follow: true }
    }
}

/// Reads a path argument.
pub(super) fn path(call: &Call, argument: usize) -> Result<Vec<u8>, Errno> {
    read_string(call.tid, call.arguments[argument], MAX_PATH)
}

/// A directory of the caller and a name in it.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) dir: OwnedFd,
    pub(super) name: Vec<u8>,
}

fn open_path(at: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rfs::open(at, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn open2(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match rfs::openat2(dir, path, flags, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The descriptor that a name in /proc or /dev stands for; only its own process can look those up.
fn own_descriptor(path: &[u8]) -> Option<i32> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u16>().ok().map(i32::from);
    match path {
        b"/dev/stdin" => Some(0),
        b"/dev/stdout" => Some(1),
        b"/dev/stderr" => Some(2),
        path => ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"]
            .iter()
            .find_map(|prefix| number(path.strip_prefix(prefix.as_bytes())?)),
    }
}

impl Supervisor {
    /// The caller's root.
    pub(super) fn root(&mut self, call: &Call) -> Result<OwnedFd, Errno> {
        if let Some(root) = &self.root {
            return rustix::io::fcntl_dupfd_cloexec(root, 0);
        }
        let root = open_path(&format!("/proc/{}/root", call.tid), OFlags::DIRECTORY)?;
        if !self.chrooted {
            self.check(call)?;
            self.root = Some(rustix::io::fcntl_dupfd_cloexec(&root, 0)?);
        }
        Ok(root)
    }

    /// Fails when the caller is gone, so that its number may be somebody else's.
    pub(super) fn check(&self, call: &Call) -> Result<(), Errno> {
        if self.listener.is_waiting(call.id) { Ok(()) } else { Err(Errno::SRCH) }
    }

    /// What a descriptor of the caller leads to.
    fn descriptor(call: &Call, fd: i32) -> Result<OwnedFd, Errno> {
        match fd {
            CWD => open_path(&format!("/proc/{}/cwd", call.tid), OFlags::empty()),
            0.. => open_path(&format!("/proc/{}/fd/{fd}", call.tid), OFlags::empty())
                .map_err(|errno| if errno == Errno::NOENT { Errno::BADF } else { errno }),
            _ => Err(Errno::BADF),
        }
    }

    /// Opens what a path argument means, without access to it.
    pub(super) fn resolve(&mut self, call: &Call, target: &Target) -> Result<OwnedFd, Errno> {
        let found = self.find(call, target)?;
        self.check(call)?;
        Ok(found)
    }

    fn find(&mut self, call: &Call, target: &Target) -> Result<OwnedFd, Errno> {
        let path = &target.path[..];
        if path.is_empty() {
            return Self::descriptor(call, target.dir);
        }
        if target.follow
            && let Some(fd) = own_descriptor(path)
        {
            return Self::descriptor(call, fd);
        }
        let last = if target.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        if path.starts_with(b"/") {
            if let Some(root) = &self.root {
                return open2(root.as_fd(), path, last, ResolveFlags::IN_ROOT);
            }
            let root = self.root(call)?;
            return open2(root.as_fd(), path, last, ResolveFlags::IN_ROOT);
        }
        let base = Self::descriptor(call, target.dir)?;
        // Up from a base that is outside of a changed root: only a walk from that root knows where to stop.
        if !self.chrooted || !has_parent_step(path) {
            match open2(base.as_fd(), path, OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS) {
                Err(Errno::LOOP) => {}
                Ok(found) if target.follow && is_link(&found)? => {}
                other => return other,
            }
        }
        // A link on the way may be absolute, and then counts from the caller's root.
        let full = self.full_path(call, base.as_fd(), path)?;
        let root = self.root(call)?;
        open2(root.as_fd(), &full, last, ResolveFlags::IN_ROOT)
    }

    /// A relative path as one from the caller's root.
    fn full_path(
        &mut self,
        call: &Call,
        base: BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let name_of = |fd: BorrowedFd<'_>| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rfs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes)
        };
        let mut start = name_of(base)?;
        if self.chrooted {
            let root = self.root(call)?;
            let prefix = name_of(root.as_fd())?;
            if prefix != b"/" {
                start = start.strip_prefix(&prefix[..]).ok_or(Errno::NOENT)?.to_vec();
            }
        }
        Ok([&start[..], b"/", path].concat())
    }

    /// Splits a path argument into the directory, opened, and the last name. Fails for names that no new file can have.
    pub(super) fn spot(&mut self, call: &Call, dir: i32, path: &[u8]) -> Result<Spot, Errno> {
        let (parent, name) = root::split_last(path);
        let name = name.ok_or(Errno::EXIST)?.to_vec();
        let target = Target { dir, path: parent.to_vec(), follow: true };
        let dir = self.resolve(call, &target)?;
        Ok(Spot { dir, name })
    }

    /// Where a link that leads nowhere wants its target to be made.
    pub(super) fn behind_link(&mut self, call: &Call, spot: &Spot) -> Result<Spot, Errno> {
        let full = self.full_path(call, spot.dir.as_fd(), &spot.name)?;
        let root = self.root(call)?;
        let (path, _) = root::canonical(&root, &full).map_err(|error| error.errno)?;
        let (parent, name) = root::split_last(&path);
        let name = name.ok_or(Errno::EXIST)?.to_vec();
        let parent = if parent.is_empty() { b"." } else { parent };
        let dir = open2(root.as_fd(), parent, OFlags::DIRECTORY, ResolveFlags::IN_ROOT)?;
        self.check(call)?;
        Ok(Spot { dir, name })
    }
}

fn has_parent_step(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

fn is_link(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(rfs::FileType::from_raw_mode(rfs::fstat(file)?.st_mode) == rfs::FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_own_descriptors_are_understood() {
        assert_eq!(own_descriptor(b"/dev/stdout"), Some(1));
        assert_eq!(own_descriptor(b"/proc/self/fd/12"), Some(12));
        for other in ["/dev/fd/", "/dev/fd/x", "/proc/self/fd/1/x", "/dev/fd/-1", "/proc/1/fd/1"] {
            assert_eq!(own_descriptor(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn steps_up_are_seen() {
        assert!(has_parent_step(b"a/../b"));
        assert!(!has_parent_step(b"a/..b/c"));
    }
}
