//! Answers system calls of a RUN in the builder's place: owners and credentials where there is one user id for all, and
//! device nodes where none can be made.
//!
//! In: the listener of the RUN's filter, which its command sends over a socket before anything else runs; out: nothing
//! but the RUN's own files and memory. One thread for one RUN; it ends when the RUN has no process left. Owners are kept by
//! [`crate::sys::owners`]. Everything that comes from the RUN is hostile: paths are resolved inside its root, addresses are
//! only touched by calls that check them, and whatever cannot be read or found is left to the kernel, which then says what
//! is wrong (isolation §2.4). The supervisor has no more rights than the RUN: what a race can bring about, the RUN could do
//! itself.
//!
//! Not imitated: permission checks for users other than root, and what `/proc` says about ids.

mod attributes;
mod caller;
mod chown;
mod create;
mod credentials;
mod execute;
mod identity;
mod links;
mod node;
mod signals;
mod stat;
mod threads;

pub use credentials::Credentials;

use crate::sys::notify::{Call, Listener, Override, Ready, Reply};
use crate::sys::owners::Identity;
use crate::sys::seccomp::{self, Subject, Supervise};
use crate::sys::{Named, SysResult};
use rustix::io::Errno;
use rustix::net::{self as rnet, RecvAncillaryBuffer};
use std::collections::{HashMap, HashSet};
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use threads::Threads;

/// What a supervisor is to do.
#[derive(Clone, Debug)]
pub struct Duty {
    /// Which calls it answers.
    pub supervise: Supervise,
    /// What the command starts with.
    pub credentials: Credentials,
    /// Extended attribute in which a file records the device node that it stands for.
    pub placeholder: String,
    /// The command may change its root in ways that are not told.
    pub insecure: bool,
    /// Process 1 of the RUN, when signals are to stay below it. Set when its command calls.
    pub first: Option<i32>,
}

/// Starts a supervisor. `socket` brings the listener; when its other side is closed before, there is nothing to do.
pub fn start(socket: OwnedFd, duty: Duty) -> SysResult<JoinHandle<()>> {
    let serve = move || {
        if let Some((listener, first)) = receive(&socket) {
            drop(socket);
            let duty = Duty { first: duty.first.and(Some(first)), ..duty };
            Supervisor::new(Listener::new(listener), duty).serve();
        }
    };
    std::thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(serve)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
        .named(|| "clone(thread)".to_owned())
}

/// Sends the listener; in the command's process, under its filter.
pub(super) fn hand_over(socket: &OwnedFd, listener: &OwnedFd) -> SysResult<()> {
    use rnet::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::os::fd::AsFd;
    let fds = [listener.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    // Without a pid namespace the number of our parent, process 1 of the RUN, is its number for all.
    let parent = crate::sys::process::parent_id().to_ne_bytes();
    rnet::sendmsg(socket, &[std::io::IoSlice::new(&parent)], &mut control, SendFlags::NOSIGNAL)
        .named(|| "sendmsg(listener)".to_owned())
        .map(drop)
}

/// The listener, and the number of process 1 of the RUN as its command knows it.
fn receive(socket: &OwnedFd) -> Option<(OwnedFd, i32)> {
    loop {
        let mut byte = [0_u8; 4];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = rnet::RecvFlags::CMSG_CLOEXEC;
        let slices = &mut [IoSliceMut::new(&mut byte)];
        match rnet::recvmsg(socket, slices, &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(_) => return None,
            Ok(_) => {
                let listener = control.drain().find_map(|message| match message {
                    rnet::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                return listener.map(|listener| (listener, i32::from_ne_bytes(byte)));
            }
        }
    }
}

/// The answer to a call, or the error that it fails with.
type Answer = Result<Reply, Errno>;

/// A file that was looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    changed: (i64, u32),
    /// None for one that the kernel shows as it is.
    shown: Option<Override>,
}

struct Supervisor {
    listener: Listener,
    duty: Duty,
    threads: Threads,
    /// The RUN's root, as long as it is everybody's.
    root: Option<OwnedFd>,
    /// Roots may differ.
    chrooted: bool,
    /// What inodes were shown as, with the change time that they had: whoever records something changes that.
    seen: HashMap<(u64, u64), Seen>,
    /// Links and FIFOs that were recorded during the RUN, which need no second look.
    made: HashSet<Identity>,
    /// Owners of what can have no record: pipes, terminals, files of /proc.
    loose: HashMap<(u64, u64), (u32, u32)>,
}

impl Supervisor {
    fn new(listener: Listener, duty: Duty) -> Self {
        let threads = Threads::new(duty.credentials.clone());
        let (seen, made, loose) = (HashMap::new(), HashSet::new(), HashMap::new());
        // Of a change of root only a filter for ids tells, and what may make namespaces has more ways to one.
        let chrooted = duty.supervise != Supervise::Ids || duty.insecure;
        Self { listener, duty, threads, root: None, chrooted, seen, made, loose }
    }

    /// True when there is one id for all.
    fn keeps_ids(&self) -> bool {
        self.duty.supervise == Supervise::Ids
    }

    fn serve(&mut self) {
        while let Ok(Ready::Call) = self.listener.wait() {
            match self.listener.receive() {
                Ok(Some(call)) => {
                    let reply = self.answer(&call).unwrap_or_else(Reply::Fail);
                    self.listener.send(call.id, reply);
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let Some(subject) = seccomp::subject(call.audit, call.number) else {
            return Err(Errno::NOSYS);
        };
        if call.tid <= 0 {
            // Not in our pid namespace: nothing can be known about it.
            return Ok(Reply::Continue);
        }
        let name = subject.name;
        match name.strip_suffix("32").unwrap_or(name) {
            "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "stat64" | "lstat64"
            | "fstat64" | "fstatat64" => self.stat(call, subject),
            "open" | "openat" | "openat2" | "creat" => self.open(call, name),
            "mkdir" | "mkdirat" => self.mkdir(call, name),
            "symlink" | "symlinkat" => self.symlink(call, name),
            "mknod" | "mknodat" => self.mknod(call, name),
            "chown" | "lchown" | "fchown" | "fchownat" => self.chown(call, subject),
            "chmod" | "fchmod" | "fchmodat" | "fchmodat2" => self.chmod(call, name),
            "rename" | "renameat" | "renameat2" | "link" | "linkat" | "utimensat"
            | "utimensat_time64" => Ok(self.before_copy(call, name)),
            "execve" | "execveat" => Ok(self.execute(call, name)),
            "chroot" => {
                self.chrooted = true;
                self.root = None;
                Ok(Reply::Continue)
            }
            "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo"
            | "pidfd_send_signal" => self.signal(call, name),
            name if name.contains("xattr") => self.attributes(call, name),
            name if name.starts_with("get") => self.get_ids(call, subject),
            name if name.starts_with("set") => self.set_ids(call, subject),
            _ => Ok(Reply::Continue),
        }
    }
}

/// The name that all variants of a call for ids share: `setresuid` for `setresuid32`.
fn plain_name(subject: Subject) -> &'static str {
    subject.name.strip_suffix("32").unwrap_or(subject.name)
}
