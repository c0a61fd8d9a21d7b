//! The spawner's own process: takes requests, clones, reaps, and never outlives the builder.

use super::errands::{self, Errand};
use super::loopback::Loopback;
use super::running::Running;
use super::spare::{self, Readiness, Spare, Wanted};
use super::wills::{Will, carry_out, is_over};
use super::wire::{read_memory, receive};
use super::{instance, socket_pair, strays};
use crate::executor::isolation::Kind;
use crate::executor::network::{self, Connector, Network};
use crate::executor::program::{Outcome, Program};
use crate::executor::refusal::Refusal;
use crate::executor::{Bequest, Net, Report, RunSpec, init};
use crate::sys::fork::{self, Cloned};
use crate::sys::{Named, process, userns};
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net as rnet;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Serves requests until the builder closes the socket; everything that was started is dead afterwards.
pub(super) fn serve(requests: OwnedFd, errand: Errand) {
    let (running, loopbacks, wills) = (Vec::new(), Vec::new(), Vec::new());
    let readiness = Readiness::Nobody;
    Server { requests, running, loopbacks, network: None, wills, readiness, errand }.serve();
}

struct Server {
    requests: OwnedFd,
    running: Vec<Running>,
    /// Networks of RUNs that are over.
    loopbacks: Vec<Loopback>,
    network: Option<Network>,
    wills: Vec<Will>,
    readiness: Readiness,
    errand: Errand,
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
        // One that gets next to no time takes some until it is gone.
        let errands = self.running.iter().filter(|running| running.is_errand);
        let errands: Vec<i32> = errands.map(|running| running.pid).collect();
        // Orphans come to us; go on until none is left.
        strays::end(&errands);
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
                running.take_signals();
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
            known.extend(self.readiness.pid());
            strays::end(&known);
        }
        ended.iter().for_each(Running::say_dead);
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
            Some((b'k', fds)) => self.start_errand(fds),
            Some((_, fds)) => {
                // What belongs to the RUN is closed here by now, so that the next one's process does not keep it open.
                if let Some(wanted) = self.run(fds) {
                    self.get_ready(wanted);
                }
            }
        }
        true
    }

    /// Starts a RUN; says what the next one will need when that is known to come.
    fn run(&mut self, mut fds: Vec<OwnedFd>) -> Option<Wanted> {
        if fds.len() <= init::OWN_FDS {
            return None;
        }
        let channel = fds.remove(1);
        let spec: RunSpec = read_memory(&fds[0])?;
        if !spec.insecure {
            // Compiled here it is there for all later ones.
            init::filter(&spec);
        }
        let wanted = Wanted::after(&spec, &fds[init::OWN_FDS..]);
        let alone = spec.kind == Kind::Namespaces;
        if let Some((pid, pidfd, loopback)) = self.readiness.hand_over(&spec, &fds) {
            self.running.push(Running { alone, loopback, ..Running::new(pid, pidfd, channel) });
            return wanted;
        }
        let pooled = spare::takes_pooled_network(&spec);
        let (namespaces, idle) = self.pooled(spare::namespaces(&spec), pooled);
        match fork::clone_into(namespaces) {
            Ok(Cloned::Child) => {
                drop(channel);
                let fds = init::InitFds::new(fds, idle.map(Loopback::into_namespace));
                init::run(&spec, fds, None)
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let loopback = idle.or_else(|| if pooled { Loopback::of(pid) } else { None });
                self.running.push(Running { alone, loopback, ..Running::new(pid, pidfd, channel) });
            }
            Err(error) => {
                let said = Report::SetUp {
                    doing: "making namespaces".to_owned(),
                    error: error.to_string(),
                };
                let mut report = init::InitFds::new(fds, None).report;
                let _reader_gone = report.write_all(&serde_json::to_vec(&said).unwrap_or_default());
            }
        }
        wanted
    }

    /// A network that no RUN uses any more, and what is to be made then.
    fn pooled(
        &mut self,
        mut namespaces: CloneFlags,
        pooled: bool,
    ) -> (CloneFlags, Option<Loopback>) {
        let idle = if pooled { self.loopbacks.pop() } else { None };
        if idle.is_some() {
            namespaces.remove(CloneFlags::CLONE_NEWNET);
        }
        (namespaces, idle)
    }

    /// Has a process wait for the next RUN, unless one does.
    fn get_ready(&mut self, wanted: Wanted) {
        if !matches!(self.readiness, Readiness::Nobody) {
            return;
        }
        let pooled = wanted.network == Net::None;
        let (namespaces, idle) = self.pooled(wanted.namespaces, pooled);
        let Ok((ours, theirs)) = socket_pair(rnet::SocketType::SEQPACKET) else { return };
        match fork::clone_into(namespaces) {
            Ok(Cloned::Child) => {
                drop(ours);
                self.forget();
                // Its own copy of the request socket is closed with this.
                self.requests = theirs;
                spare::wait(&self.requests, wanted, idle.map(Loopback::into_namespace))
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let loopback = idle.or_else(|| if pooled { Loopback::of(pid) } else { None });
                let spare = Spare { pid, pidfd, channel: ours, wanted, loopback };
                self.readiness = Readiness::Waits(spare);
            }
            // The next RUN will say what is wrong, if it is then.
            Err(_) => self.readiness = Readiness::NotHere,
        }
    }

    /// In a clone: what belongs to the other spawner and its RUNs must not stay open here.
    fn forget(&mut self) {
        self.running.clear();
        self.loopbacks.clear();
        self.network = None;
        self.wills.clear();
        self.readiness = Readiness::Nobody;
    }

    /// Starts a program of this machine.
    fn program(&mut self, fds: Vec<OwnedFd>) {
        let Ok([memory, channel, report]) = <[OwnedFd; 3]>::try_from(fds) else { return };
        let Some(program) = read_memory::<Program>(&memory) else { return };
        let mut report = std::io::PipeWriter::from(report);
        let mut namespaces = CloneFlags::empty();
        namespaces.set(CloneFlags::CLONE_NEWNS, program.own_mounts);
        match fork::clone_into(namespaces) {
            Ok(Cloned::Child) => {
                drop(channel);
                let why = program.exec();
                tell(&mut report, &Outcome::NotStarted(why));
                process::exit_now(127)
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                let report = Some(report);
                let program = Running::new(pid, pidfd, channel);
                self.running.push(Running { alone: false, report, ..program });
            }
            Err(error) => tell(&mut report, &Outcome::NotStarted(error.to_string())),
        }
    }

    /// Does something in a process of its own. Nobody is told when that cannot be made.
    fn start_errand(&mut self, mut fds: Vec<OwnedFd>) {
        if fds.len() < 2 {
            return;
        }
        let (order, channel) = (fds.remove(0), fds.remove(0));
        let own = std::process::id() as i32;
        match fork::clone_into(CloneFlags::empty()) {
            Ok(Cloned::Child) => {
                self.forget();
                // Its own copy of the request socket is closed with this.
                self.requests = channel;
                errands::carry_out(self.errand, own, &order, fds)
            }
            Ok(Cloned::Parent { pid, pidfd }) => {
                self.running.push(Running { is_errand: true, ..Running::new(pid, pidfd, channel) });
            }
            Err(_) => {}
        }
    }

    /// Takes over what the builder may not live to do.
    fn inherit(&mut self, fds: Vec<OwnedFd>) {
        let Ok([memory, channel, tree]) = <[OwnedFd; 3]>::try_from(fds) else { return };
        let Some(list) = read_memory::<Vec<Bequest>>(&memory) else { return };
        self.wills.push(Will { channel, tree, list });
    }

    /// Makes the network of this spawner, and says which process holds it.
    fn connect(&mut self, fds: Vec<OwnedFd>) {
        let Ok([memory, report]) = <[OwnedFd; 2]>::try_from(fds) else { return };
        let Some(connector) = read_memory::<Connector>(&memory) else { return };
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
        let names: Vec<String> = read_memory(&memory).unwrap_or_default();
        let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
        let cloned = std::io::pipe()
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .named(|| "pipe()".to_owned())
            .and_then(|pipe| Ok((pipe, fork::clone_into(namespaces)?)));
        let error = match cloned {
            Ok(((go, writer), Cloned::Child)) => {
                drop(writer);
                self.forget();
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
