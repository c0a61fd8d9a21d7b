//! Files that a process makes who is not root, or in a directory that gives its group to what is made in it.
//!
//! Root's own files need no record, so as long as nobody dropped root the kernel makes them. Else the new file is made here,
//! with the caller's umask, gets its record, and the caller its descriptor. What exists already is opened by the kernel.

use super::caller::{self, CWD, Spot, Target};
use super::threads::Status;
use super::{Answer, Supervisor};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::notify::{Call, Reply, read_exact};
use crate::sys::owners::{self, Owner};
use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const SETGID: u32 = 0o2000;
/// The bit that `O_TMPFILE` has beside `O_DIRECTORY`.
const TMPFILE: u32 = 0o20_000_000;

/// What an open call asks for.
struct Opening {
    dir: i32,
    path: Vec<u8>,
    flags: u32,
    mode: u32,
}

fn opening(call: &Call, name: &str) -> Result<Option<Opening>, Errno> {
    let [first, second, third, fourth, ..] = call.arguments;
    let opening = match name {
        "creat" => {
            let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32;
            Opening { dir: CWD, path: caller::path(call, 0)?, flags, mode: second as u32 }
        }
        "open" => Opening {
            dir: CWD,
            path: caller::path(call, 0)?,
            flags: second as u32,
            mode: third as u32,
        },
        "openat" => Opening {
            dir: first as i32,
            path: caller::path(call, 1)?,
            flags: third as u32,
            mode: fourth as u32,
        },
        _ => {
            let mut how = [0_u8; 24];
            if fourth < 24 {
                return Ok(None);
            }
            read_exact(call.tid, third, &mut how)?;
            let word = |at: usize| {
                let bytes: [u8; 8] = how[at..at + 8].try_into().unwrap_or_default();
                u64::from_ne_bytes(bytes)
            };
            // Restrictions on the way are beyond us.
            if word(16) != 0 {
                return Ok(None);
            }
            let path = caller::path(call, 1)?;
            Opening { dir: first as i32, path, flags: word(0) as u32, mode: word(8) as u32 }
        }
    };
    let flag = |flag: i32| opening.flags & flag as u32 != 0;
    let makes = flag(libc::O_CREAT) && !flag(libc::O_PATH | libc::O_DIRECTORY);
    let unnamed = opening.flags & TMPFILE != 0 && !flag(libc::O_PATH);
    Ok(Some(opening).filter(|_| makes || unnamed))
}

impl Supervisor {
    /// The owner of what the caller makes in a directory; `None` for root's own, which need no record.
    fn new_owner(&mut self, call: &Call, dir: &OwnedFd) -> Result<Option<Owner>, Errno> {
        let stat = fs::fstat(dir).map_err(|error| error.errno)?;
        if stat.mode & SETGID == 0 && self.threads.makes_roots_files(call.tid) {
            return Ok(None);
        }
        let (uid, mut gid) = self.threads.get(call.tid).owner();
        if stat.mode & SETGID != 0 {
            gid = self.recorded(dir, &stat).map_or(stat.gid, |owner| owner.1);
        }
        Ok(Some((uid, gid)).filter(|owner| *owner != (0, 0)))
    }

    /// Gives what was just made in a directory to its maker.
    pub(super) fn own_new(
        &mut self,
        call: &Call,
        dir: &OwnedFd,
        file: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        if !self.keeps_ids() {
            return Ok(());
        }
        match self.new_owner(call, dir)? {
            Some(owner) => mark(file, owner),
            None => Ok(()),
        }
    }

    pub(super) fn open(&mut self, call: &Call, name: &str) -> Answer {
        let Ok(Some(opening)) = opening(call, name) else { return Ok(Reply::Continue) };
        if opening.flags & TMPFILE != 0 {
            return self.open_unnamed(call, &opening);
        }
        let Ok(mut spot) = self.spot(call, opening.dir, &opening.path) else {
            return Ok(Reply::Continue);
        };
        if opening.path.ends_with(b"/") {
            return Ok(Reply::Continue);
        }
        // Root's common case first: nothing else is looked at.
        let Some(mut owner) = self.new_owner(call, &spot.dir)? else { return Ok(Reply::Continue) };
        if let Some(found) = there(&spot)? {
            let exclusive = opening.flags & (libc::O_EXCL | libc::O_NOFOLLOW) as u32 != 0;
            let target = Target { dir: opening.dir, path: opening.path.clone(), follow: true };
            let leads_nowhere = found.kind == Kind::Symlink
                && !exclusive
                && self.resolve(call, &target).is_err_and(|errno| errno == Errno::NOENT);
            if !leads_nowhere {
                return Ok(Reply::Continue);
            }
            spot = self.behind_link(call, &spot)?;
            match self.new_owner(call, &spot.dir)? {
                Some(behind) => owner = behind,
                None => return Ok(Reply::Continue),
            }
        }
        let status = Status::read(call.tid)?;
        let flags =
            OFlags::from_bits_retain(opening.flags | (libc::O_EXCL | libc::O_CLOEXEC) as u32);
        // For its maker a new file can be opened whatever its mode says.
        let made = rfs::openat(&spot.dir, &spot.name[..], flags, Mode::from_raw_mode(0o600));
        let file = match made {
            Err(Errno::EXIST) => return Ok(Reply::Continue),
            other => other?,
        };
        self.finish_open(call, &file, owner, &opening, &status)
    }

    fn open_unnamed(&mut self, call: &Call, opening: &Opening) -> Answer {
        let target = Target { dir: opening.dir, path: opening.path.clone(), follow: true };
        let Ok(dir) = self.resolve(call, &target) else { return Ok(Reply::Continue) };
        let Some(owner) = self.new_owner(call, &dir)? else { return Ok(Reply::Continue) };
        let status = Status::read(call.tid)?;
        let flags = OFlags::from_bits_retain(opening.flags | libc::O_CLOEXEC as u32);
        let file = rfs::openat(&dir, ".", flags, Mode::from_raw_mode(0o600))?;
        self.finish_open(call, &file, owner, opening, &status)
    }

    fn finish_open(
        &mut self,
        call: &Call,
        file: &OwnedFd,
        owner: Owner,
        opening: &Opening,
        status: &Status,
    ) -> Answer {
        mark(file.as_fd(), owner)?;
        fs::fchmod(file, opening.mode & 0o7777 & !status.umask).map_err(|error| error.errno)?;
        let close_on_exec = opening.flags & libc::O_CLOEXEC as u32 != 0;
        self.listener.send_fd(call.id, file.as_fd(), close_on_exec)
    }

    pub(super) fn mkdir(&mut self, call: &Call, name: &str) -> Answer {
        let at = usize::from(name == "mkdirat");
        let dir = if at == 1 { call.arguments[0] as i32 } else { CWD };
        let Some((spot, owner)) = self.new_spot(call, dir, at)? else { return Ok(Reply::Continue) };
        let status = Status::read(call.tid)?;
        fs::mkdir(&spot.dir, &spot.name, 0o700).map_err(|error| error.errno)?;
        let made = fs::open_dir(&spot.dir, &spot.name).map_err(|error| error.errno)?;
        let stat = fs::fstat(&made).map_err(|error| error.errno)?;
        let mode = call.arguments[at + 1] as u32 & 0o1777 & !status.umask;
        // The kernel hands the bit down.
        fs::fchmod(&made, mode | stat.mode & SETGID).map_err(|error| error.errno)?;
        mark(made.as_fd(), owner)?;
        Ok(Reply::Value(0))
    }

    pub(super) fn symlink(&mut self, call: &Call, name: &str) -> Answer {
        let at = usize::from(name == "symlinkat");
        let dir = if at == 1 { call.arguments[1] as i32 } else { CWD };
        let target = caller::path(call, 0)?;
        let Some((spot, owner)) = self.new_spot(call, dir, at + 1)? else {
            return Ok(Reply::Continue);
        };
        fs::symlink(&target, &spot.dir, &spot.name).map_err(|error| error.errno)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rfs::openat(&spot.dir, &spot.name[..], flags, Mode::empty())?;
        mark(made.as_fd(), owner)?;
        Ok(Reply::Value(0))
    }

    /// `mknod` of what is no device: a FIFO, a socket or a file.
    pub(super) fn make_node(&mut self, call: &Call, dir: i32, at: usize, mode: u32) -> Answer {
        if !self.keeps_ids() {
            return Ok(Reply::Continue);
        }
        let Some((spot, owner)) = self.new_spot(call, dir, at)? else { return Ok(Reply::Continue) };
        let status = Status::read(call.tid)?;
        let kind = rfs::FileType::from_raw_mode(mode & 0o170_000);
        let kind = if mode & 0o170_000 == 0 { rfs::FileType::RegularFile } else { kind };
        rfs::mknodat(&spot.dir, &spot.name[..], kind, Mode::from_raw_mode(0o600), 0)?;
        // By descriptor: the RUN may put a link in its place, which would lead elsewhere from here.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rfs::openat(&spot.dir, &spot.name[..], flags, Mode::empty())?;
        fs::chmod_opened(&made, mode & 0o7777 & !status.umask).map_err(|error| error.errno)?;
        mark(made.as_fd(), owner)?;
        Ok(Reply::Value(0))
    }

    /// Where to make something that is not there yet, and for whom; `None` leaves it to the kernel.
    fn new_spot(
        &mut self,
        call: &Call,
        dir: i32,
        argument: usize,
    ) -> Result<Option<(Spot, Owner)>, Errno> {
        let path = caller::path(call, argument)?;
        let Ok(spot) = self.spot(call, dir, &path) else { return Ok(None) };
        let Some(owner) = self.new_owner(call, &spot.dir)? else { return Ok(None) };
        if there(&spot)?.is_some() {
            return Ok(None);
        }
        Ok(Some((spot, owner)))
    }
}

fn there(spot: &Spot) -> Result<Option<Stat>, Errno> {
    fs::lstat_opt(&spot.dir, &spot.name).map_err(|error| error.errno)
}

/// Records the owner of something new. A file system that keeps no records is not part of a layer.
fn mark(file: BorrowedFd<'_>, owner: Owner) -> Result<(), Errno> {
    let stat = rfs::statat(file, "", AtFlags::EMPTY_PATH)?;
    let kind = match rfs::FileType::from_raw_mode(stat.st_mode) {
        rfs::FileType::Directory => Kind::Directory,
        rfs::FileType::RegularFile => Kind::File,
        _ => Kind::Fifo,
    };
    match owners::record(file, kind, owner).map_err(|error| error.errno) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => other,
    }
}
