//! Programs with the setuid or setgid bit: whose they are, the process becomes.
//!
//! The kernel starts the program; it knows nothing of the recorded owner. Whether it did shows at the process's next call,
//! when its program is the one that was asked for.

use super::Supervisor;
use super::caller::{self, CWD, Target};
use super::threads::{Pending, auxiliary};
use crate::sys::fs::{self, Kind};
use crate::sys::notify::{Call, Reply};
use std::os::fd::OwnedFd;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const ANYBODY_EXECUTES: u32 = 0o111;
const GROUP_EXECUTES: u32 = 0o010;

impl Supervisor {
    pub(super) fn execute(&mut self, call: &Call, name: &str) -> Reply {
        let pending = self.pending(call, name);
        self.threads.expect(call.tid, pending);
        Reply::Continue
    }

    fn pending(&mut self, call: &Call, name: &str) -> Option<Pending> {
        let target = if name == "execve" {
            Target { dir: CWD, path: caller::path(call, 0).ok()?, follow: true }
        } else {
            let follow = call.arguments[4] as i32 & libc::AT_SYMLINK_NOFOLLOW == 0;
            let path = caller::path(call, 1).ok()?;
            Target { dir: call.arguments[0] as i32, path, follow }
        };
        let file = self.resolve(call, &target).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let executable = stat.kind == Kind::File && stat.mode & ANYBODY_EXECUTES != 0;
        if !executable || stat.mode & (SETUID | SETGID) == 0 || !is_program(&file) {
            return None;
        }
        let (uid, gid) = self.recorded(&file, &stat).unwrap_or((stat.uid, stat.gid));
        // Without the group's permission the bit once meant something else.
        let both = SETGID | GROUP_EXECUTES;
        let pending = Pending {
            program: (stat.dev, stat.ino),
            auxiliary: auxiliary(call.tid)?,
            uid: (stat.mode & SETUID != 0).then_some(uid),
            gid: (stat.mode & both == both).then_some(gid),
        };
        let mut after = self.threads.get(call.tid);
        let before = after.clone();
        after.execute(pending.uid, pending.gid);
        (after != before).then_some(pending)
    }
}

/// True for what the kernel starts itself: the bits of a script do not count.
fn is_program(file: &OwnedFd) -> bool {
    fs::start_of(file).is_ok_and(|start| start == *b"\x7fELF")
}
