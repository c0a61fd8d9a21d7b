//! The spawner's own process: takes requests, clones, reaps, and never outlives the builder.

use super::loopback::Loopback;
use super::{instance, strays};
use crate::executor::isolation::Kind;
use crate::executor::network::{self, Connector, Network};
use crate::executor::program::{Outcome, Program};
use crate::executor::refusal::Refusal;
use crate::executor::{Bequest, Net, Report, RunSpec, init};
use crate::sys::process::{self, Cloned};
use crate::sys::{Named, fs, root, userns};
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{self as rnet, RecvAncillaryBuffer};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;

/// Serves requests until the builder closes the socket; everything that was started is dead afterwards.
pub(super) fn serve(requests: OwnedFd) {
    let (running, loopbacks, wills) = (Vec::new(), Vec::new(), Vec::new());
    Server { requests, running, loopbacks, network: None, wills }.serve();
}

struct Running {
    pid: i32,
    pidfd: OwnedFd,
    channel: Option<OwnedFd>,
    /// In a process namespace, in which nothing outlives process 1.
    alone: bool,
    /// Who wants to know how it ended, when it does not say so itself.
    report: Option<std::io::PipeWriter>,
    /// Its network, when another RUN may have that after it.
    loopback: Option<Loopback>,
}

/// What is left to do in a tree should the builder not live to do it.
struct Will {
    /// Closed without a word when the builder died.
    channel: OwnedFd,
    tree: OwnedFd,
    list: Vec<Bequest>,
}

struct Server {
    requests: OwnedFd,
    running: Vec<Running>,
    /// Networks of RUNs that are over.
    loopbacks: Vec<Loopback>,
    network: Option<Network>,
    wills: Vec<Will>,
}

impl Server {
    fn serve(&mut self) {
        // Keyboard signals go to the builder alone; it decides what happens to us.
        let _own_session = rustix::process::setsid();
        let _best_effort = process::become_subreaper();
        // No signal when the builder dies: the closed socket tells it, and then there is something to do.
        process::hide_arguments();
        while self.turn() {}
        for running in &self.running {
            process::kill(running.pid, libc::SIGKILL);
        }
        // Orphans come to us; go on until none is left.
        strays::end(&[]);
        self.wills.iter().for_each(carry_out);
    }

    /// Handles what is ready; false when the builder is gone.
    fn turn(&mut self) -> bool {
        let mut fds = vec![PollFd::new(&self.requests, PollFlags::IN)];
        for running in &self.running {
            fds.push(PollFd::new(&running.pidfd, PollFlags::IN));
            let channel = running.channel.as_ref().unwrap_or(&running.pidfd);
            fds.push(PollFd::new(channel, PollFlags::IN));
        }
        fds.extend(self.wills.iter().map(|will| PollFd::new(&will.channel, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        let running = self.running.len();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for (index, running) in self.running.iter_mut().enumerate() {
            if ready[2 + 2 * index] {
                take_signals(running);
            }
        }
        let mut ended = Vec::new();
        for index in (0..self.running.len()).rev() {
            if !ready[1 + 2 * index] {
                continue;
            }
            if let Ok(Some((_, how))) = process::wait(self.running[index].pid, false) {
                let mut running = self.running.remove(index);
                if let Some(report) = &mut running.report {
                    tell(report, &Outcome::Ended(how));
                }
                ended.push(running);
            }
        }
        if ended.iter().any(|running| !running.alone) {
            let mut known: Vec<i32> = self.running.iter().map(|running| running.pid).collect();
            known.extend(
                self.network.iter().flat_map(|network| [network.holder, network.connector]),
            );
            strays::end(&known);
        }
        ended.iter().for_each(say_dead);
        let networks = ended.into_iter().filter_map(|running| running.loopback);
        self.loopbacks.extend(networks.filter_map(Loopback::if_untouched));
        let settled = &ready[1 + 2 * running..];
        let mut at = 0;
        self.wills.retain(|will| {
            at += 1;
            !settled[at - 1] || !is_over(will)
        });
        !ready[0] || self.accept()
    }

    fn accept(&mut self) -> bool {
        match receive(&self.requests) {
            None => return false,
            Some((b'e', fds)) => self.emulate(fds),
            Some((b'n', fds)) => self.connect(fds),
            Some((b'w', fds)) => self.inherit(fds),
            Some((b'p', fds)) => self.program(fds),
            Some((_, fds)) => self.run(fds),
        }
        true
    }

    fn run(&mut self, mut fds: Vec<OwnedFd>) {
        if fds.len() < 6 {
            return;
        }
        let given = fds.split_off(6);
        let mut fds = fds.into_iter();
        let mut next = || fds.next().expect("six descriptors were counted");
        let (memory, channel, report, stdout, stderr, rootfs) =
            (next(), next(), next(), next(), next(), next());
        let Some(spec) = read_memory::<RunSpec>(memory) else { return };
        let mut namespaces = namespaces(&spec);
        // With all capabilities it could leave anything in there.
        let pooled = namespaces.contains(CloneFlags::CLONE_NEWNET) && !spec.insecure;
        let idle = if pooled { self.loopbacks.pop() } else { None };
        if idle.is_some() {
            namespaces.remove(CloneFlags::CLONE_NEWNET);
        }
        let alone = spec.kind == Kind::Namespaces;
        let report = std::io::PipeWriter::from(report);
        if !spec.insecure {
            // Compiled here it is there for all later ones.
            init::filter(&spec);
        }
        match process::clone_into(namespaces) {
            Ok(Cloned::Child) => {
                drop(channel);
                let loopback = idle.map(Loopback::into_namespace);
                init::run(&spec, init::InitFds { report, stdout, stderr, rootfs, given, loopback })
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let channel = Some(channel);
                let loopback = idle.or_else(|| if pooled { Loopback::of(pid) } else { None });
                self.running.push(Running { pid, pidfd, channel, alone, report: None, loopback });
            }
            Err(error) => {
                let said = Report::SetUp {
                    doing: "making namespaces".to_owned(),
                    error: error.to_string(),
                };
                let mut report = report;
                let _reader_gone = report.write_all(&serde_json::to_vec(&said).unwrap_or_default());
            }
        }
    }

    /// Starts a program of this machine.
    fn program(&mut self, fds: Vec<OwnedFd>) {
        let Ok([memory, channel, report]) = <[OwnedFd; 3]>::try_from(fds) else { return };
        let Some(program) = read_memory::<Program>(memory) else { return };
        let mut report = std::io::PipeWriter::from(report);
        let mut namespaces = CloneFlags::empty();
        namespaces.set(CloneFlags::CLONE_NEWNS, program.own_mounts);
        match process::clone_into(namespaces) {
            Ok(Cloned::Child) => {
                drop(channel);
                let why = program.exec();
                tell(&mut report, &Outcome::NotStarted(why));
                process::exit_now(127)
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let (channel, report) = (Some(channel), Some(report));
                let alone = false;
                self.running.push(Running { pid, pidfd, channel, alone, report, loopback: None });
            }
            Err(error) => tell(&mut report, &Outcome::NotStarted(error.to_string())),
        }
    }

    /// Takes over what the builder may not live to do.
    fn inherit(&mut self, fds: Vec<OwnedFd>) {
        let Ok([memory, channel, tree]) = <[OwnedFd; 3]>::try_from(fds) else { return };
        let Some(list) = read_memory::<Vec<Bequest>>(memory) else { return };
        self.wills.push(Will { channel, tree, list });
    }

    /// Makes the network of this spawner, and says which process holds it.
    fn connect(&mut self, fds: Vec<OwnedFd>) {
        let Ok([memory, report]) = <[OwnedFd; 2]>::try_from(fds) else { return };
        let Some(connector) = read_memory::<Connector>(memory) else { return };
        let made = network::start(&connector);
        let said = made.as_ref().map(|network| network.holder).map_err(Clone::clone);
        self.network = made.ok();
        let mut report = std::io::PipeWriter::from(report);
        let _reader_gone = report.write_all(&serde_json::to_vec(&said).unwrap_or_default());
    }

    /// Clones a spawner into a user namespace of its own; it serves its socket until the builder closes that.
    fn emulate(&mut self, mut fds: Vec<OwnedFd>) {
        if fds.len() < 3 {
            return;
        }
        let interpreters = fds.split_off(3);
        let mut fds = fds.into_iter();
        let mut next = || fds.next().expect("three descriptors were counted");
        let (memory, report, requests) = (next(), next(), next());
        let mut report = std::io::PipeWriter::from(report);
        let names: Vec<String> = read_memory(memory).unwrap_or_default();
        let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let cloned = std::io::pipe()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .named(|| "pipe()".to_owned())
            .and_then(|pipe| Ok((pipe, process::clone_into(namespaces)?)));
        let error = match cloned {
            Ok(((go, writer), Cloned::Child)) => {
                drop(writer);
                // What belongs to the other spawner and its RUNs must not stay open here.
                self.running.clear();
                self.loopbacks.clear();
                self.network = None;
                self.wills.clear();
                self.requests = requests;
                let made = instance::make(go, &names, &interpreters);
                answer(&mut report, made.as_ref().map(drop).map_err(Clone::clone));
                drop((report, interpreters));
                if let Ok(_kept_open) = made {
                    self.serve();
                }
                process::exit_now(0)
            }
            Ok(((_, mut go), Cloned::Parent { pid, .. })) => match userns::hand_down_ids(pid) {
                Ok(()) => {
                    let _it_died = go.write_all(b"g");
                    return;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        answer(&mut report, Err(Refusal::new("making a user namespace", &error)));
    }
}

fn tell(report: &mut std::io::PipeWriter, outcome: &Outcome) {
    let _reader_gone = report.write_all(&serde_json::to_vec(outcome).unwrap_or_default());
}

fn answer(report: &mut std::io::PipeWriter, said: Result<(), Refusal>) {
    let _reader_gone = report.write_all(&serde_json::to_vec(&said).unwrap_or_default());
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

/// Carries out a will whose channel closed without a word; true for one that is settled either way.
fn is_over(will: &Will) -> bool {
    let mut byte = [0_u8; 1];
    match rnet::recv(&will.channel, &mut byte, rnet::RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => return false,
        Ok((_, 1)) => {}
        _ => carry_out(will),
    }
    true
}

/// The builder is gone: its secrets do not stay in the tree, nor do its caches.
fn carry_out(will: &Will) {
    for Bequest { path, home } in &will.list {
        let (dir, name) = root::split_last(path.as_bytes());
        let Some(name) = name else { continue };
        let Ok(dir) = root::open_dir(&will.tree, dir) else { continue };
        // A link would lead out of the tree from where it goes.
        let is_dir = matches!(fs::lstat_opt(&dir, name), Ok(Some(stat)) if stat.is_dir());
        let _as_far_as_possible = match home {
            Some(home) if is_dir => fs::rename_to_path(&dir, name, home),
            Some(_) => Ok(()),
            None => fs::unlink(&dir, name),
        };
    }
}

/// Process 1 of a RUN was reaped, and nothing that it left behind is alive.
fn say_dead(running: &Running) {
    if let Some(channel) = &running.channel {
        let _builder_gone = rnet::send(channel, b"d", rnet::SendFlags::NOSIGNAL);
    }
}

fn namespaces(spec: &RunSpec) -> CloneFlags {
    if spec.kind == Kind::Chroot {
        return CloneFlags::empty();
    }
    let mut namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if spec.kind == Kind::Namespaces {
        namespaces |= CloneFlags::CLONE_NEWPID;
    }
    if spec.network == Net::None {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    namespaces
}

fn read_memory<T: DeserializeOwned>(memory: OwnedFd) -> Option<T> {
    let mut text = Vec::new();
    File::from(memory).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The kind of the next request and its descriptors; `None` when the builder is gone.
fn receive(socket: &OwnedFd) -> Option<(u8, Vec<OwnedFd>)> {
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
        Ok(_) => Some((
            byte[0],
            control
                .drain()
                .filter_map(|message| match message {
                    rnet::RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect(),
        )),
        Err(Errno::INTR) => Some((0, Vec::new())),
        Err(_) => None,
    }
}
