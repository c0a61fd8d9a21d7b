//! The supervisor's end of a seccomp filter: hearing of calls, answering them, and reaching the caller's memory.
//!
//! In: the listener that [`super::seccomp::install_with_listener`] gave; out: [`Call`]s, one at a time, each of which waits
//! until it got its [`Reply`]. A caller may be killed at any moment: what is done for it then fails with `ENOENT` or
//! `ESRCH`, which is nothing to worry about. Nothing here trusts an address, a length or a number of a caller.

#![allow(unsafe_code, reason = "the ioctls of a listener take pointers to structures")]

mod memory;
mod stat;

pub use memory::{MAX_PATH, read_exact, read_string, write};
pub use stat::{Override, Shape, fill, fill_statx};

use super::{Named, SysResult};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A listener. When every process under the filter is gone, polling it says so.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// One call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which notification.
    pub id: u64,
    /// Thread that calls, in our pid namespace; 0 when it is not in it.
    pub tid: i32,
    /// `AUDIT_ARCH_*` of the call.
    pub audit: u32,
    /// Its number.
    pub number: i32,
    /// Its arguments as the registers have them.
    pub arguments: [u64; 6],
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It returns this.
    Value(i64),
    /// It fails.
    Fail(Errno),
    /// The kernel carries it out.
    Continue,
    /// It was answered already.
    Sent,
}

/// What polling a listener came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A call waits.
    Call,
    /// Nobody is left who could call.
    Over,
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const SAME_PROCESSOR: libc::c_ulong = 1;
const CONTINUE: u32 = 1;
/// Gives the descriptor and the answer in one; kernel 5.14.
const ADDFD_SEND: u32 = 2;

impl Listener {
    /// Takes a listener that another process made.
    pub fn new(fd: OwnedFd) -> Self {
        // Caller and supervisor work in turns: waking the other on the same processor takes a tenth of the time that
        // waking another processor takes. QUIRK(kernel 6.6): unknown before.
        // SAFETY: the argument is a number.
        let _slower = unsafe {
            libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SAME_PROCESSOR)
        };
        Self(fd)
    }

    /// Waits for a call.
    pub fn wait(&self) -> SysResult<Ready> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).named(|| "poll(seccomp listener)".to_owned()),
                Ok(_) if fds[0].revents().contains(PollFlags::IN) => return Ok(Ready::Call),
                Ok(_) => return Ok(Ready::Over),
            }
        }
    }

    /// The next call; `None` when its caller was killed meanwhile.
    pub fn receive(&self) -> SysResult<Option<Call>> {
        // SAFETY: all-zero is a valid value, and the one that the kernel asks for.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one such structure to where the pointer leads.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw)
        };
        if done < 0 {
            return match last_errno() {
                Errno::INTR | Errno::NOENT => Ok(None),
                errno => Err(errno).named(|| "ioctl(SECCOMP_IOCTL_NOTIF_RECV)".to_owned()),
            };
        }
        Ok(Some(Call {
            id: raw.id,
            tid: raw.pid as i32,
            audit: raw.data.arch,
            number: raw.data.nr,
            arguments: raw.data.args,
        }))
    }

    /// Answers a call. A caller that is gone does not matter.
    pub fn send(&self, id: u64, reply: Reply) {
        let (val, error, flags) = match reply {
            Reply::Value(value) => (value, 0, 0),
            Reply::Fail(errno) => (0, -errno.raw_os_error(), 0),
            Reply::Continue => (0, 0, CONTINUE),
            Reply::Sent => return,
        };
        let mut raw = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the kernel reads one such structure from where the pointer leads.
        let _caller_gone = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut raw)
        };
    }

    /// True while the caller waits; what was opened by its number before is then its own.
    pub fn is_waiting(&self, id: u64) -> bool {
        let mut id = id;
        // SAFETY: the kernel reads one number from where the pointer leads.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut id)
        };
        done == 0
    }

    /// Answers a call with a descriptor, which becomes one of the caller's own.
    pub fn send_fd(
        &self,
        id: u64,
        fd: BorrowedFd<'_>,
        close_on_exec: bool,
    ) -> Result<Reply, Errno> {
        match self.add_fd(id, fd, close_on_exec, ADDFD_SEND) {
            // QUIRK(kernel 5.14): before, in two steps.
            Err(Errno::INVAL) => {
                self.add_fd(id, fd, close_on_exec, 0).map(|number| Reply::Value(number.into()))
            }
            other => other.map(|_| Reply::Sent),
        }
    }

    fn add_fd(
        &self,
        id: u64,
        fd: BorrowedFd<'_>,
        close_on_exec: bool,
        flags: u32,
    ) -> Result<i32, Errno> {
        let mut raw = libc::seccomp_notif_addfd {
            id,
            flags,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        // SAFETY: the kernel reads one such structure from where the pointer leads.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut raw)
        };
        if done < 0 { Err(last_errno()) } else { Ok(done) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
