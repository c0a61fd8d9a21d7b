//! Links and FIFOs of the layers below: their owners are recorded by inode, and overlayfs gives the copies that it makes
//! of them other inodes in the upper directory than it shows.
//!
//! So before the kernel makes such a copy, because something is renamed, linked or gets another time, a new one is put in
//! its place here, with its record.

use super::Supervisor;
use super::caller::{self, CWD, Target};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::notify::{Call, Reply};
use crate::sys::{owners, root};
use rustix::fs as rfs;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

impl Supervisor {
    /// Before a call that makes overlayfs copy what it names. The kernel carries it out.
    pub(super) fn before_copy(&mut self, call: &Call, name: &str) -> Reply {
        if owners::has_table() {
            // What cannot be found or made again the kernel can refuse.
            let _as_it_is = self.bring_up(call, name);
        }
        Reply::Continue
    }

    fn bring_up(&mut self, call: &Call, name: &str) -> Result<(), Errno> {
        let at =
            usize::from(name.ends_with("at") || name == "renameat2" || name == "utimensat_time64");
        let nofollow = libc::AT_SYMLINK_NOFOLLOW as u64;
        if name.starts_with("utime") && call.arguments[3] & nofollow == 0 {
            return Ok(());
        }
        let dir = if at == 1 { call.arguments[0] as i32 } else { CWD };
        let target = Target { dir, path: caller::path(call, at)?, follow: false };
        let file = self.resolve(call, &target)?;
        let stat = fs::fstat(&file).map_err(|error| error.errno)?;
        let Some(id) = identity(&file, stat.kind).filter(|id| !self.made.contains(id)) else {
            return Ok(());
        };
        if let Some(owner) = self.recorded(&file, &stat) {
            match self.make_again(call, &file, &stat) {
                Some(new) => self.record(&new, &stat, owner)?,
                // Not again for nothing.
                None => drop(self.made.insert(id)),
            }
        }
        Ok(())
    }

    /// Puts a new link or FIFO in the place of one that overlayfs copied up; `None` where that cannot be done.
    pub(super) fn make_again(
        &mut self,
        call: &Call,
        file: &OwnedFd,
        stat: &Stat,
    ) -> Option<OwnedFd> {
        if stat.nlink != 1 {
            return None;
        }
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let path = rfs::readlink(link, Vec::new()).ok()?.into_bytes();
        let top = self.outermost(call).ok()?;
        let (parent, name) = root::split_last(&path);
        let (dir, name) = (root::open_dir(&top, parent).ok()?, name?);
        let found = fs::lstat(&dir, name).ok()?;
        if (found.dev, found.ino) != (stat.dev, stat.ino) {
            return None;
        }
        let times = fs::fstat(&dir).ok()?.mtime;
        let temporary = format!(".nativebuild-{}", call.id);
        let temporary = temporary.as_bytes();
        match stat.kind {
            Kind::Symlink => {
                let target = fs::readlink(&dir, name).ok()?;
                fs::symlink(&target, &dir, temporary).ok()?;
            }
            Kind::Fifo => {
                fs::mknod(&dir, temporary, Kind::Fifo, 0o600, (0, 0)).ok()?;
                let made = root::open_path_nofollow(&dir, temporary).ok()?;
                fs::chmod_opened(&made, stat.mode).ok()?;
            }
            _ => return None,
        }
        let placed = fs::set_mtime(&dir, temporary, stat.mtime)
            .and_then(|()| fs::rename(&dir, temporary, &dir, name));
        let _as_it_was = fs::set_mtime(&dir, b".", times);
        if placed.is_err() {
            let _left = fs::unlink(&dir, temporary);
            return None;
        }
        root::open_path_nofollow(&dir, name).ok()
    }

    /// The root of the RUN's mount namespace, where paths that the kernel shows count from.
    fn outermost(&mut self, call: &Call) -> Result<OwnedFd, Errno> {
        if self.chrooted { Err(Errno::XDEV) } else { self.root(call) }
    }
}

/// What tells a link or FIFO from its copy in an upper directory.
pub(super) fn identity(file: &OwnedFd, kind: Kind) -> Option<owners::Identity> {
    if matches!(kind, Kind::File | Kind::Directory) {
        return None;
    }
    owners::identity_of(file).ok().flatten()
}
