//! Which thread has which credentials.
//!
//! Credentials are inherited, and nobody tells us of a new thread: what is seen for the first time has what its process has,
//! else what its parent has. A number may be used again; an entry holds a descriptor of the thread's directory in /proc,
//! which does not lead to a later thread of the same number. Until somebody changes credentials, all have those that the
//! command started with, and nothing is looked up.

use super::credentials::Credentials;
use crate::sys::process;
use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// How far up parents are asked.
const MAX_DEPTH: usize = 32;
/// Entries that are kept without looking which are still needed.
const ROOM: usize = 256;
/// Most entries, each of which holds a descriptor. Of more living threads changes are not known.
const MAX_KNOWN: usize = 4096;
/// Entries of the dead that are kept for their orphans.
const MAX_GONE: usize = 65536;

/// A setuid program that was asked for; whether the kernel started it shows later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) program: (u64, u64),
    /// What the kernel told the program that asked: addresses, which are others for the next one.
    pub(super) auxiliary: Vec<u8>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug)]
struct Known {
    dir: OwnedFd,
    credentials: Credentials,
    pending: Option<Pending>,
}

/// What /proc says about a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    process: i32,
    parent: i32,
    group: i32,
    session: i32,
    pub(super) umask: u32,
    pub(super) euid: u32,
}

impl Status {
    pub(super) fn read(tid: i32) -> Result<Self, Errno> {
        let text = process::describe(tid, "status")?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    fn parse(text: &str) -> Self {
        let mut status = Self { umask: 0o22, ..Self::default() };
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let mut words = value.split_whitespace();
            let first = words.next().unwrap_or_default();
            let number = || first.parse().unwrap_or(0);
            match name {
                "Umask" => status.umask = u32::from_str_radix(first, 8).unwrap_or(0o22),
                "Tgid" => status.process = number(),
                "PPid" => status.parent = number(),
                "NSpgid" => status.group = number(),
                "NSsid" => status.session = number(),
                "Uid" => {
                    status.euid = words.next().and_then(|id| id.parse().ok()).unwrap_or(u32::MAX);
                }
                _ => {}
            }
        }
        status
    }
}

#[derive(Debug)]
pub(super) struct Threads {
    start: Credentials,
    /// Nobody changed anything yet.
    uniform: bool,
    known: HashMap<i32, Known>,
    /// What those had that are gone, when it was not what the command started with.
    gone: HashMap<i32, Credentials>,
    room: usize,
}

impl Threads {
    pub(super) fn new(start: Credentials) -> Self {
        let (known, gone) = (HashMap::new(), HashMap::new());
        Self { start, uniform: true, known, gone, room: ROOM }
    }

    /// Credentials of a thread.
    pub(super) fn get(&mut self, tid: i32) -> Credentials {
        if self.uniform {
            return self.start.clone();
        }
        self.find(tid, 0)
    }

    /// True when the thread is root and makes root's files. Costs nothing as long as nobody changed anything.
    pub(super) fn makes_roots_files(&mut self, tid: i32) -> bool {
        if self.uniform {
            return self.start.owner() == (0, 0);
        }
        self.find(tid, 0).owner() == (0, 0)
    }

    /// Changes the credentials of a thread.
    pub(super) fn put(&mut self, tid: i32, credentials: Credentials) {
        if self.uniform && credentials == self.start {
            return;
        }
        let _known_now = self.get_known(tid);
        if let Some(known) = self.known.get_mut(&tid) {
            known.credentials = credentials;
        }
    }

    /// Notes that a thread asked for a setuid program.
    pub(super) fn expect(&mut self, tid: i32, pending: Option<Pending>) {
        if self.uniform && pending.is_none() {
            return;
        }
        let _known_now = self.get_known(tid);
        if let Some(known) = self.known.get_mut(&tid) {
            known.pending = pending;
        }
    }

    fn get_known(&mut self, tid: i32) -> Credentials {
        self.uniform = false;
        self.find(tid, 0)
    }

    fn find(&mut self, tid: i32, depth: usize) -> Credentials {
        if let Some(known) = self.known.get_mut(&tid) {
            if let Some(pending) = known.pending.take()
                && was_started(tid, &known.dir, &pending)
            {
                known.credentials.execute(pending.uid, pending.gid);
            }
            if is_there(&known.dir) {
                return known.credentials.clone();
            }
            self.bury(tid);
        }
        self.meet(tid, depth)
    }

    /// First sight of a thread.
    fn meet(&mut self, tid: i32, depth: usize) -> Credentials {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rfs::open(format!("/proc/{tid}"), flags, Mode::empty());
        let (Ok(dir), Ok(status)) = (opened, Status::read(tid)) else { return self.start.clone() };
        let credentials = self.inherited(tid, &status, depth);
        if self.known.len() >= self.room {
            self.sweep();
        }
        if self.known.len() >= MAX_KNOWN {
            return credentials;
        }
        let known = Known { dir, credentials: credentials.clone(), pending: None };
        self.known.insert(tid, known);
        credentials
    }

    fn inherited(&mut self, tid: i32, status: &Status, depth: usize) -> Credentials {
        if status.process != tid && self.known.contains_key(&status.process) {
            return self.find(status.process, depth + 1);
        }
        // Parents that were not seen yet may have one that was. Above the RUN nobody is known.
        let mut above = status.parent;
        for _ in depth..MAX_DEPTH {
            if let Some(found) = self.remembered(above, depth) {
                return found;
            }
            match Status::read(above) {
                Ok(next) if next.parent > 1 => above = next.parent,
                _ => break,
            }
        }
        // An orphan has the RUN's first process as its parent; who leads its group or session may be remembered.
        for leader in [status.group, status.session] {
            if leader != tid
                && let Some(found) = self.remembered(leader, depth)
            {
                return found;
            }
        }
        self.start.clone()
    }

    fn remembered(&mut self, tid: i32, depth: usize) -> Option<Credentials> {
        if self.known.contains_key(&tid) {
            return Some(self.find(tid, depth + 1));
        }
        self.gone.get(&tid).cloned()
    }

    fn bury(&mut self, tid: i32) {
        let Some(known) = self.known.remove(&tid) else { return };
        if known.credentials != self.start && self.gone.len() < MAX_GONE {
            self.gone.insert(tid, known.credentials);
        } else {
            self.gone.remove(&tid);
        }
    }

    fn sweep(&mut self) {
        let dead: Vec<i32> = self
            .known
            .iter()
            .filter(|(_, known)| !is_there(&known.dir))
            .map(|(tid, _)| *tid)
            .collect();
        for tid in dead {
            self.bury(tid);
        }
        self.room = ROOM.max(2 * self.known.len());
    }
}

/// Whether the kernel started the program that was asked for. With an emulator it runs another one.
fn was_started(tid: i32, dir: &OwnedFd, pending: &Pending) -> bool {
    let program = rfs::statat(dir, "exe", AtFlags::empty());
    program.is_ok_and(|program| (program.st_dev, program.st_ino) == pending.program)
        || auxiliary(tid).is_some_and(|now| now != pending.auxiliary)
}

/// The auxiliary vector of a thread's program.
pub(super) fn auxiliary(tid: i32) -> Option<Vec<u8>> {
    process::describe(tid, "auxv").ok().filter(|vector| !vector.is_empty())
}

/// True while the thread lives whose directory this is.
fn is_there(dir: &OwnedFd) -> bool {
    rfs::accessat(dir, "comm", rfs::Access::EXISTS, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_status_is_read() {
        let text = "Name:\tsh\nUmask:\t0027\nTgid:\t7\nPid:\t8\nPPid:\t3\nUid:\t1\t2\t3\t4\nNSpgid:\t5\t1\nNSsid:\t6\n";
        let status = Status { process: 7, parent: 3, group: 5, session: 6, umask: 0o27, euid: 2 };
        assert_eq!(Status::parse(text), status);
        assert_eq!(Status::parse("\u{0}:\n:::"), Status { umask: 0o22, ..Status::default() });
    }

    #[test]
    fn children_inherit_and_numbers_of_the_dead_do_not_count() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut threads = Threads::new(Credentials::of(0, 0, &[]));
        let user = Credentials::of(5, 5, &[]);
        threads.put(own, user.clone());
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let tid = child.id() as i32;
        assert_eq!(threads.get(tid), user);
        threads.put(tid, Credentials::of(6, 6, &[]));
        assert_eq!(threads.get(tid).owner(), (6, 6));
        assert_eq!(threads.get(own), user);
        drop(child.stdin.take());
        child.wait().unwrap();
        // Nobody has the number now.
        assert_eq!(threads.get(tid).owner(), (0, 0));
        assert_eq!(threads.gone[&tid].owner(), (6, 6));
    }
}
