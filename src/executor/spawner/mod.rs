//! The spawner: a small single-threaded process that clones every RUN and kills everything when the builder dies.
//!
//! Forked before the builder has threads. Requests come over a seqpacket socket: one byte, and the descriptors
//! `[spec in a memfd, channel, report, stdout, stderr, rootfs, given…]`. The channel is a socket pair for one RUN: the
//! builder writes one byte for each signal it wants sent; the spawner writes one byte when process 1 is
//! reaped (everything in the RUN is dead by then). When the builder closes a channel the RUN is killed; when it closes the
//! request socket, all are.
//!
//! A second kind of request, [`Spawner::emulating`], makes another spawner in a user namespace of its own, whose RUNs
//! find interpreters for foreign programs. Descriptors: `[names in a memfd, report, request socket, interpreter…]`.
//! A third kind starts a program of this machine ([`super::program`]). Descriptors: `[program in a memfd, channel, report]`.
//! A fourth has something done by a process that is a copy of the spawner, until the builder closes the channel
//! ([`Errands`]). Descriptors: `[order in a memfd, channel, given…]`.
//!
//! While a RUN goes on that will be followed by another like it, the spawner has a process wait for that ([`spare`]). Over
//! a socket pair of its own that says one byte when it is ready, and is sent the request of its RUN without the channel.

mod errands;
mod instance;
mod loopback;
mod running;
mod server;
mod spare;
mod strays;
mod wills;
mod wire;

pub use errands::{Errand, Errands};
pub use wire::read_memory as read_order;

use super::network::Connector;
use super::program::Program;
use super::refusal::Refusal;
use super::{Bequest, RunSpec};
use crate::sys::{Named, SysError, SysResult, fork, process};
use rustix::io::Errno;
use rustix::net as rnet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use wire::memory_file;

/// The builder's handle to its spawner.
#[derive(Debug)]
pub struct Spawner {
    /// None for one that another spawner made and waits for.
    pid: Option<i32>,
    /// Taken away only when the spawner is to end.
    requests: Mutex<Option<OwnedFd>>,
    network: OnceLock<Result<OwnedFd, Refusal>>,
}

/// What the spawner does when this process dies before the value is dropped.
#[derive(Debug)]
pub struct Will(OwnedFd);

impl Drop for Will {
    fn drop(&mut self) {
        let _spawner_gone = rnet::send(&self.0, b"d", rnet::SendFlags::NOSIGNAL);
    }
}

/// What the builder sends with a spec.
#[derive(Debug)]
pub struct RunFds {
    /// Write end for the report.
    pub report: OwnedFd,
    /// Write end for standard output.
    pub stdout: OwnedFd,
    /// Write end for standard error.
    pub stderr: OwnedFd,
    /// Detached rootfs.
    pub rootfs: OwnedFd,
    /// Detached mounts for `MountOp::Given`.
    pub given: Vec<OwnedFd>,
}

impl Spawner {
    /// Forks the spawner, which will do this errand when it is asked to. The caller must be single-threaded and in its
    /// final namespaces.
    pub fn start(errand: Errand) -> SysResult<Self> {
        let (ours, theirs) = socket_pair(rnet::SocketType::SEQPACKET)?;
        let Some(pid) = fork::fork()? else {
            drop(ours);
            server::serve(theirs, errand);
            process::exit_now(0);
        };
        Ok(Self { pid: Some(pid), requests: Mutex::new(Some(ours)), network: OnceLock::new() })
    }

    /// Makes a spawner in a new user namespace with the same ids and a binfmt_misc of its own, in which programs of these
    /// architectures are run by these interpreters. On failure says what was being done.
    pub fn emulating(&self, interpreters: &[(&'static str, OwnedFd)]) -> Result<Self, Refusal> {
        let failed = |error: SysError| Refusal::new("asking the spawner", &error);
        let names: Vec<&str> = interpreters.iter().map(|(name, _)| *name).collect();
        let memory = memory_file(&names).map_err(failed)?;
        let (ours, theirs) = socket_pair(rnet::SocketType::SEQPACKET).map_err(failed)?;
        let (reader, writer) = std::io::pipe()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .named(|| "pipe()".to_owned())
            .map_err(failed)?;
        let mut list = vec![memory.as_fd(), writer.as_fd(), theirs.as_fd()];
        list.extend(interpreters.iter().map(|(_, fd)| fd.as_fd()));
        self.send(b'e', &list).map_err(failed)?;
        drop(list);
        drop((writer, theirs));
        let said: Result<Result<(), Refusal>, _> = serde_json::from_reader(reader);
        let silent = SysError { call: "no answer".to_owned(), errno: Errno::IO };
        said.unwrap_or_else(|_| Err(failed(silent)))?;
        Ok(Self { pid: None, requests: Mutex::new(Some(ours)), network: OnceLock::new() })
    }

    /// A way to ask for errands. The spawner does not end before the value is dropped.
    pub fn errands(&self) -> SysResult<Errands> {
        let socket = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let socket = socket.as_ref().ok_or(Errno::BADF);
        let again = socket.and_then(|socket| rustix::io::fcntl_dupfd_cloexec(socket, 0));
        again.map(Errands::new).named(|| "fcntl(spawner, F_DUPFD_CLOEXEC)".to_owned())
    }

    /// The network that all RUNs of this spawner may share; made by the first who asks.
    pub fn network(&self, connector: &Connector) -> Result<BorrowedFd<'_>, Refusal> {
        let made = self.network.get_or_init(|| self.make_network(connector));
        made.as_ref().map(AsFd::as_fd).map_err(Clone::clone)
    }

    fn make_network(&self, connector: &Connector) -> Result<OwnedFd, Refusal> {
        let failed = |error: SysError| Refusal::new("asking the spawner", &error);
        let memory = memory_file(connector).map_err(failed)?;
        let (reader, writer) = std::io::pipe()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .named(|| "pipe()".to_owned())
            .map_err(failed)?;
        self.send(b'n', &[memory.as_fd(), writer.as_fd()]).map_err(failed)?;
        drop(writer);
        let silent = SysError { call: "no answer".to_owned(), errno: Errno::IO };
        let said: Result<Result<i32, Refusal>, _> = serde_json::from_reader(reader);
        let holder = said.unwrap_or_else(|_| Err(failed(silent)))?;
        // Open, it lives on whatever becomes of that process.
        let path = format!("/proc/{holder}/ns/net");
        crate::sys::fs::open_read_path(Path::new(&path)).map(OwnedFd::from).map_err(failed)
    }

    /// Has something done in a tree should this process be killed before the value is dropped.
    pub fn bequeath(&self, tree: BorrowedFd<'_>, list: &[Bequest]) -> SysResult<Will> {
        let memory = memory_file(&list)?;
        let (ours, theirs) = socket_pair(rnet::SocketType::STREAM)?;
        self.send(b'w', &[memory.as_fd(), theirs.as_fd(), tree])?;
        Ok(Will(ours))
    }

    /// Starts a RUN; returns the builder's end of its channel.
    pub fn run(&self, spec: &RunSpec, fds: &RunFds) -> SysResult<OwnedFd> {
        let memory = memory_file(spec)?;
        let (ours, theirs) = socket_pair(rnet::SocketType::STREAM)?;
        let mut list: Vec<BorrowedFd<'_>> = vec![
            memory.as_fd(),
            theirs.as_fd(),
            fds.report.as_fd(),
            fds.stdout.as_fd(),
            fds.stderr.as_fd(),
            fds.rootfs.as_fd(),
        ];
        list.extend(fds.given.iter().map(AsFd::as_fd));
        self.send(b'r', &list)?;
        Ok(ours)
    }

    /// Starts a program of this machine with our standard streams; returns our end of its channel.
    pub(super) fn program(&self, program: &Program, report: OwnedFd) -> SysResult<OwnedFd> {
        let memory = memory_file(program)?;
        let (ours, theirs) = socket_pair(rnet::SocketType::STREAM)?;
        self.send(b'p', &[memory.as_fd(), theirs.as_fd(), report.as_fd()])?;
        Ok(ours)
    }

    fn send(&self, kind: u8, list: &[BorrowedFd<'_>]) -> SysResult<()> {
        let socket = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let socket = socket.as_ref().ok_or(Errno::BADF).named(|| "sendmsg(spawner)".to_owned())?;
        wire::send(socket, kind, list)
    }
}

pub(super) fn socket_pair(kind: rnet::SocketType) -> SysResult<(OwnedFd, OwnedFd)> {
    rnet::socketpair(rnet::AddressFamily::UNIX, kind, rnet::SocketFlags::CLOEXEC, None)
        .named(|| "socketpair()".to_owned())
}

impl Drop for Spawner {
    /// Ends the spawner and waits for it, so that nothing runs any more and its time counts as ours.
    fn drop(&mut self) {
        let socket = self.requests.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(socket.take());
        if let Some(pid) = self.pid {
            let _gone_already = process::wait(pid, true);
        }
    }
}
