//! The `stat` family: files with a record are shown as it says, all others are the kernel's business.

use super::caller::{self, CWD, Target};
use super::{Answer, Supervisor};
use crate::sys::fs;
use crate::sys::notify::{self, Call, Override, Reply, Shape};
use crate::sys::seccomp::Subject;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// How a call wants its answer.
struct Wanted {
    target: Target,
    /// Address of the structure.
    to: u64,
    /// Flags and mask of `statx`.
    extended: Option<(u32, u32)>,
}

fn wanted(call: &Call, name: &str) -> Result<Option<Wanted>, Errno> {
    let [first, second, third, fourth, fifth, _] = call.arguments;
    let by_path = |follow| {
        let target = Target { dir: CWD, path: caller::path(call, 0)?, follow };
        Ok(Some(Wanted { target, to: second, extended: None }))
    };
    let at = |flags: u64, to: u64, extended| {
        let flags = flags as i32;
        // Newer kernels take no path at all for an empty one.
        let path = if second == 0 { Vec::new() } else { caller::path(call, 1)? };
        if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
            return Ok(None);
        }
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        Ok(Some(Wanted { target: Target { dir: first as i32, path, follow }, to, extended }))
    };
    match name {
        "stat" | "stat64" => by_path(true),
        "lstat" | "lstat64" => by_path(false),
        "fstat" | "fstat64" => {
            Ok(Some(Wanted { target: Target::of_fd(first), to: second, extended: None }))
        }
        "statx" => at(third, fifth, Some((third as u32, fourth as u32))),
        _ => at(fourth, third, None),
    }
}

impl Supervisor {
    pub(super) fn stat(&mut self, call: &Call, subject: Subject) -> Answer {
        let Ok(Some(wanted)) = wanted(call, subject.name) else { return Ok(Reply::Continue) };
        let Ok(file) = self.resolve(call, &wanted.target) else { return Ok(Reply::Continue) };
        let Some(over) = self.shown(&file)? else { return Ok(Reply::Continue) };
        let bytes = match wanted.extended {
            Some((flags, mask)) => notify::fill_statx(&file, flags, mask, &over)?,
            None => notify::fill(&file, shape(subject), &over)?,
        };
        notify::write(call.tid, wanted.to, &bytes)?;
        Ok(Reply::Value(0))
    }

    /// What a file is to be shown as, when that is not what the kernel says.
    fn shown(&mut self, file: &OwnedFd) -> Result<Option<Override>, Errno> {
        let stat = fs::fstat(file).map_err(|error| error.errno)?;
        if let Some(seen) = self.shown_before(&stat) {
            return Ok(seen.shown);
        }
        let node = self.device(file, &stat).map(super::node::Device::shown);
        let owner = if self.keeps_ids() { self.recorded(file, &stat) } else { None };
        let (uid, gid) = owner.unwrap_or((stat.uid, stat.gid));
        let differs = owner.is_some() || node.is_some();
        let shown = differs.then_some(Override { uid, gid, node });
        self.remember(&stat, shown);
        Ok(shown)
    }
}

fn shape(subject: Subject) -> Shape {
    match (subject.compat, subject.name) {
        (false, _) => Shape::Native,
        (true, "stat" | "lstat" | "fstat") => Shape::CompatOld,
        (true, _) => Shape::Compat64,
    }
}
