//! The spawner: a small single-threaded process that clones every RUN and kills everything when the builder dies.
//!
//! Forked before the builder has threads. Requests come over a seqpacket socket: one byte, and the descriptors
//! `[spec in a memfd, channel, report, stdout, stderr, rootfs, given…]`. The channel is a socket pair for one RUN: the
//! builder writes one byte for each signal it wants sent; the spawner writes one byte when process 1 is
//! reaped (everything in the RUN is dead by then). When the builder closes a channel the RUN is killed; when it closes the
//! request socket, all are.

use super::{RunSpec, init};
use crate::sys::process::{self, Cloned};
use crate::sys::{Named, SysResult};
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{self as rnet, RecvAncillaryBuffer, SendAncillaryBuffer};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

/// Most descriptors in one request (the kernel's SCM_MAX_FD is 253).
const MAX_FDS: usize = 250;

/// The builder's handle to its spawner.
#[derive(Debug)]
pub struct Spawner {
    pid: i32,
    /// Taken away only when the spawner is to end.
    requests: Mutex<Option<OwnedFd>>,
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
    /// Forks the spawner. The caller must be single-threaded and in its final namespaces.
    pub fn start() -> SysResult<Self> {
        let (ours, theirs) = rnet::socketpair(
            rnet::AddressFamily::UNIX,
            rnet::SocketType::SEQPACKET,
            rnet::SocketFlags::CLOEXEC,
            None,
        )
        .named(|| "socketpair()".to_owned())?;
        let Some(pid) = process::fork()? else {
            drop(ours);
            Server { requests: theirs, running: Vec::new() }.serve();
            process::exit_now(0);
        };
        Ok(Self { pid, requests: Mutex::new(Some(ours)) })
    }

    /// Starts a RUN; returns the builder's end of its channel.
    pub fn run(&self, spec: &RunSpec, fds: &RunFds) -> SysResult<OwnedFd> {
        let memory = memory_file(spec)?;
        let (ours, theirs) = rnet::socketpair(
            rnet::AddressFamily::UNIX,
            rnet::SocketType::STREAM,
            rnet::SocketFlags::CLOEXEC,
            None,
        )
        .named(|| "socketpair()".to_owned())?;
        let mut list: Vec<BorrowedFd<'_>> = vec![
            memory.as_fd(),
            theirs.as_fd(),
            fds.report.as_fd(),
            fds.stdout.as_fd(),
            fds.stderr.as_fd(),
            fds.rootfs.as_fd(),
        ];
        list.extend(fds.given.iter().map(AsFd::as_fd));
        if list.len() > MAX_FDS {
            return Err(Errno::TOOBIG).named(|| format!("sendmsg({} descriptors)", list.len()));
        }
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(rnet::SendAncillaryMessage::ScmRights(&list));
        let socket = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let socket = socket.as_ref().ok_or(Errno::BADF).named(|| "sendmsg(spawner)".to_owned())?;
        rnet::sendmsg(socket, &[IoSlice::new(b"r")], &mut control, rnet::SendFlags::NOSIGNAL)
            .named(|| "sendmsg(spawner)".to_owned())?;
        Ok(ours)
    }
}

impl Drop for Spawner {
    /// Ends the spawner and waits for it, so that nothing runs any more and its time counts as ours.
    fn drop(&mut self) {
        let socket = self.requests.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(socket.take());
        let _gone_already = process::wait(self.pid, true);
    }
}

fn memory_file(spec: &RunSpec) -> SysResult<File> {
    let fd = rustix::fs::memfd_create("run-spec", rustix::fs::MemfdFlags::CLOEXEC)
        .named(|| "memfd_create()".to_owned())?;
    let mut file = File::from(fd);
    let text = serde_json::to_vec(spec).unwrap_or_default();
    file.write_all(&text)
        .and_then(|()| file.rewind())
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .named(|| "write(memfd)".to_owned())?;
    Ok(file)
}

struct Running {
    pid: i32,
    pidfd: OwnedFd,
    channel: Option<OwnedFd>,
}

struct Server {
    requests: OwnedFd,
    running: Vec<Running>,
}

impl Server {
    fn serve(&mut self) {
        // Keyboard signals go to the builder alone; it decides what happens to us.
        let _own_session = rustix::process::setsid();
        let _best_effort = process::become_subreaper();
        let _best_effort = process::die_with_parent();
        process::hide_arguments();
        init::filter();
        while self.turn() {}
        for running in &self.running {
            process::kill(running.pid, libc::SIGKILL);
        }
        // Orphans come to us; go on until none is left.
        while let Ok(Some(_)) = process::wait(-1, true) {}
    }

    /// Handles what is ready; false when the builder is gone.
    fn turn(&mut self) -> bool {
        let mut fds = vec![PollFd::new(&self.requests, PollFlags::IN)];
        for running in &self.running {
            fds.push(PollFd::new(&running.pidfd, PollFlags::IN));
            let channel = running.channel.as_ref().unwrap_or(&running.pidfd);
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for (index, running) in self.running.iter_mut().enumerate() {
            if ready[2 + 2 * index] {
                take_signals(running);
            }
        }
        let mut index = 0;
        self.running.retain(|running| {
            let ended = ready[1 + 2 * index];
            index += 1;
            !ended || !reaped(running)
        });
        !ready[0] || self.accept()
    }

    fn accept(&mut self) -> bool {
        let Some(mut fds) = receive(&self.requests) else { return false };
        if fds.len() < 6 {
            return true;
        }
        let given = fds.split_off(6);
        let mut fds = fds.into_iter();
        let mut next = || fds.next().expect("six descriptors were counted");
        let (memory, channel, report, stdout, stderr, rootfs) =
            (next(), next(), next(), next(), next(), next());
        let mut text = Vec::new();
        let read = File::from(memory).read_to_end(&mut text);
        let Some(spec) = read.ok().and_then(|_| serde_json::from_slice::<RunSpec>(&text).ok())
        else {
            return true;
        };
        let mut namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        if spec.private_network {
            namespaces |= CloneFlags::CLONE_NEWNET;
        }
        let report = std::io::PipeWriter::from(report);
        match process::clone_into(namespaces) {
            Ok(Cloned::Child) => {
                drop(channel);
                init::run(&spec, init::InitFds { report, stdout, stderr, rootfs, given })
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                self.running.push(Running { pid, pidfd, channel: Some(channel) });
            }
            Err(error) => {
                let said = super::Report::SetUp {
                    doing: "making namespaces".to_owned(),
                    error: error.to_string(),
                };
                let mut report = report;
                let _reader_gone = report.write_all(&serde_json::to_vec(&said).unwrap_or_default());
            }
        }
        true
    }
}

/// Passes on signals that the builder asked for; a closed channel means: kill.
fn take_signals(running: &mut Running) {
    let Some(channel) = &running.channel else { return };
    let mut byte = [0_u8; 1];
    match rnet::recv(channel, &mut byte, rnet::RecvFlags::DONTWAIT) {
        Ok((_, 1)) => process::kill(running.pid, byte[0].into()),
        Err(Errno::AGAIN | Errno::INTR) => {}
        _ => {
            process::kill(running.pid, libc::SIGKILL);
            running.channel = None;
        }
    }
}

/// Reaps process 1 of a RUN and says so.
fn reaped(running: &Running) -> bool {
    if !matches!(process::wait(running.pid, false), Ok(Some(_))) {
        return false;
    }
    if let Some(channel) = &running.channel {
        let _builder_gone = rnet::send(channel, b"d", rnet::SendFlags::NOSIGNAL);
    }
    true
}

fn receive(socket: &OwnedFd) -> Option<Vec<OwnedFd>> {
    let mut byte = [0_u8; 1];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rnet::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        rnet::RecvFlags::CMSG_CLOEXEC,
    );
    match got {
        Ok(message) if message.bytes == 0 => None,
        Ok(_) => Some(
            control
                .drain()
                .filter_map(|message| match message {
                    rnet::RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect(),
        ),
        Err(Errno::INTR) => Some(Vec::new()),
        Err(_) => None,
    }
}
