//! `chown` and its relatives: what the kernel does beside it is done, the owner is recorded.

use super::caller::{self, CWD, Target};
use super::identity::id;
use super::links::identity;
use super::{Answer, Seen, Supervisor, plain_name};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::notify::{Call, Override, Reply};
use crate::sys::owners::{self, Owner};
use crate::sys::seccomp::Subject;
use rustix::fs::{self as rfs, AtFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Most inodes whose owner nothing but memory keeps.
const MAX_LOOSE: usize = 10_000;
/// Most inodes that are remembered.
const MAX_SEEN: usize = 200_000;

impl Supervisor {
    /// The recorded owner of an open file.
    pub(super) fn recorded(&mut self, file: &OwnedFd, stat: &Stat) -> Option<Owner> {
        if !self.loose.is_empty()
            && let Some(owner) = self.loose.get(&(stat.dev, stat.ino))
        {
            return Some(*owner);
        }
        // Whatever cannot be read has no record.
        owners::of_file(file, stat.kind).ok().flatten()
    }

    /// How a file was shown before, if it is the same still. Recording changes the change time, and so does the copy that
    /// overlayfs makes of a file; what was changed within the clock's last tick is not remembered.
    pub(super) fn shown_before(&self, stat: &Stat) -> Option<Seen> {
        let seen = self.seen.get(&(stat.dev, stat.ino)).filter(|_| self.loose.is_empty())?;
        (seen.changed == stat.ctime).then_some(*seen)
    }

    /// Remembers how a file was shown.
    pub(super) fn remember(&mut self, stat: &Stat, shown: Option<Override>) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let settled = (now.tv_sec, now.tv_nsec as u32) > stat.ctime;
        // Links have their record elsewhere, which changes no time.
        if settled && matches!(stat.kind, Kind::File | Kind::Directory) {
            if self.seen.len() >= MAX_SEEN {
                self.seen.clear();
            }
            self.seen.insert((stat.dev, stat.ino), Seen { changed: stat.ctime, shown });
        }
    }

    /// Records an owner, wherever the file is.
    pub(super) fn record(
        &mut self,
        file: &OwnedFd,
        stat: &Stat,
        owner: Owner,
    ) -> Result<(), Errno> {
        self.seen.remove(&(stat.dev, stat.ino));
        self.made.extend(identity(file, stat.kind));
        match owners::record(file, stat.kind, owner).map_err(|error| error.errno) {
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ROFS) => {
                if self.loose.len() >= MAX_LOOSE {
                    self.loose.clear();
                }
                self.loose.insert((stat.dev, stat.ino), owner);
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn chown(&mut self, call: &Call, subject: Subject) -> Answer {
        let name = plain_name(subject);
        let by_path = |follow| Ok(Target { dir: CWD, path: caller::path(call, 0)?, follow });
        let (target, at) = match name {
            "chown" => (by_path(true)?, 1),
            "lchown" => (by_path(false)?, 1),
            "fchown" => (Target::of_fd(call.arguments[0]), 1),
            _ => {
                let flags = call.arguments[4] as i32;
                let path = caller::path(call, 1)?;
                if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
                    return Err(Errno::NOENT);
                }
                let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
                (Target { dir: call.arguments[0] as i32, path, follow }, 2)
            }
        };
        let wanted = [at, at + 1].map(|at| id(call.arguments[at], subject.short_ids));
        // What we cannot find the kernel can refuse.
        let Ok(file) = self.resolve(call, &target) else { return Ok(Reply::Continue) };
        self.give(call, &file, wanted)
    }

    fn give(&mut self, call: &Call, file: &OwnedFd, [uid, gid]: [Option<u32>; 2]) -> Answer {
        let stat = fs::fstat(file).map_err(|error| error.errno)?;
        let old = self.recorded(file, &stat).unwrap_or((stat.uid, stat.gid));
        let who = self.threads.get(call.tid);
        if !who.is_root() {
            let own = who.owner().0 == old.0;
            let same_user = uid.is_none_or(|uid| own && uid == old.0);
            let own_group = gid.is_none_or(|gid| own && (gid == old.1 || who.is_member(gid)));
            if !same_user || !own_group {
                return Err(Errno::PERM);
            }
        }
        // Takes setuid bits and capabilities away, brings the file up in an overlay, and tells whether this may be done.
        let before = identity(file, stat.kind);
        let [user, group] = [uid.map(|_| 0), gid.map(|_| 0)];
        rfs::chownat(
            file,
            "",
            user.map(rfs::Uid::from_raw),
            group.map(rfs::Gid::from_raw),
            AtFlags::EMPTY_PATH,
        )?;
        let owner = (uid.unwrap_or(old.0), gid.unwrap_or(old.1));
        if owner == old {
            return Ok(Reply::Value(0));
        }
        if before.is_some() && before != identity(file, stat.kind) {
            // It came from a layer below: what overlayfs made of it has another number in the upper directory than here.
            if let Some(new) = self.make_again(call, file, &stat) {
                self.record(&new, &stat, owner)?;
                return Ok(Reply::Value(0));
            }
        }
        self.record(file, &stat, owner)?;
        Ok(Reply::Value(0))
    }
}
