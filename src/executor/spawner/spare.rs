//! A process 1 that is made while the RUN before it goes on, and waits for its own.
//!
//! Most of what a RUN needs before its command can start is the same for all RUNs: its namespaces, its network, /proc,
//! /dev and /sys. The spare has all that on a file system of its own, and moves it to the rootfs once it is told.

use super::loopback::Loopback;
use super::wire::{read_memory, receive, send};
use crate::executor::isolation::Kind;
use crate::executor::mounts::MountOp;
use crate::executor::{Net, RunSpec, init};
use crate::sys::process;
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net as rnet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What a spare says when it is ready.
const READY: u8 = b'k';
/// Seconds that one may take for it: a thousand times what it needs.
const LIMIT: i64 = 1;

/// What the next RUN is taken to need: what this one needs.
pub(super) struct Wanted {
    pub(super) namespaces: CloneFlags,
    pub(super) network: Net,
    /// The network of [`Net::Joined`]: a spawner has one for all of its RUNs.
    joined: Option<OwnedFd>,
    /// The first mounts of its list, which are the same for every rootfs.
    mounts: Vec<MountOp>,
    staging: PathBuf,
}

impl Wanted {
    /// `None` when no RUN will follow, or one like this cannot be made in advance.
    pub(super) fn after(spec: &RunSpec, given: &[OwnedFd]) -> Option<Self> {
        // With all capabilities a command is given a network that nobody has after it.
        if !spec.another_follows || spec.insecure || spec.kind != Kind::Namespaces {
            return None;
        }
        let joined = match spec.network {
            Net::Joined(at) => Some(given.get(at)?.try_clone().ok()?),
            Net::Host | Net::None => None,
        };
        Some(Self {
            namespaces: namespaces(spec),
            network: spec.network,
            joined,
            mounts: init::common(&spec.mounts).to_vec(),
            staging: spec.staging.clone(),
        })
    }
}

/// The spawner's side of the process that waits.
pub(super) struct Spare {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: OwnedFd,
    pub(super) wanted: Wanted,
    pub(super) loopback: Option<Loopback>,
}

/// Whether the next RUN has a process that waits for it.
pub(super) enum Readiness {
    Nobody,
    Waits(Spare),
    /// One could not get ready here, and no other is tried.
    NotHere,
}

impl Readiness {
    /// Gives a RUN to the process that waits, should it be one for a RUN like this.
    pub(super) fn hand_over(
        &mut self,
        spec: &RunSpec,
        fds: &[OwnedFd],
    ) -> Option<(i32, OwnedFd, Option<Loopback>)> {
        match std::mem::replace(self, Self::Nobody) {
            Self::Waits(spare) if spare.fits(spec) => {
                let given = spare.give(fds);
                if given.is_none() {
                    *self = Self::NotHere;
                }
                given
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// The process that waits.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Waits(spare) => Some(spare.pid),
            Self::Nobody | Self::NotHere => None,
        }
    }
}

impl Spare {
    /// Whether it is what this RUN needs.
    fn fits(&self, spec: &RunSpec) -> bool {
        let Wanted { namespaces: known, network, mounts, staging, .. } = &self.wanted;
        !spec.insecure
            && spec.kind == Kind::Namespaces
            && *known == namespaces(spec)
            && std::mem::discriminant(network) == std::mem::discriminant(&spec.network)
            && *staging == spec.staging
            && spec.mounts.starts_with(mounts)
    }

    /// Makes it the process 1 of a RUN; `None` when it could not get ready, and is no more.
    fn give(self, fds: &[OwnedFd]) -> Option<(i32, OwnedFd, Option<Loopback>)> {
        let list: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // What is not ready yet takes no longer than what would be made now.
        if is_ready(&self.channel) && send(&self.channel, b'r', &list).is_ok() {
            return Some((self.pid, self.pidfd, self.loopback));
        }
        process::kill(self.pid, libc::SIGKILL);
        // Whatever it hangs in is not waited for; the spawner reaps the last ones at its own end.
        let _reaped = process::wait(self.pid, false);
        None
    }
}

/// Waits for what is being made, but not for something that hangs: other RUNs need the spawner too.
fn is_ready(channel: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(channel, PollFlags::IN)];
    let limit = Timespec { tv_sec: LIMIT, tv_nsec: 0 };
    if !matches!(poll(&mut fds, Some(&limit)), Ok(1)) {
        return false;
    }
    let mut byte = [0_u8; 1];
    let got = rnet::recv(channel, &mut byte, rnet::RecvFlags::DONTWAIT);
    matches!(got, Ok((_, 1))) && byte[0] == READY
}

/// In the process itself: gets ready, waits for its RUN, and becomes that.
pub(super) fn wait(channel: &OwnedFd, wanted: Wanted, loopback: Option<OwnedFd>) -> ! {
    let Wanted { network, joined, mounts, staging, .. } = wanted;
    let joined = loopback.or(joined);
    let Ok(prepared) = init::prepare((network, joined.as_ref()), &mounts, &staging) else {
        process::exit_now(1)
    };
    drop((joined, mounts, staging));
    let _spawner_gone = rnet::send(channel, &[READY], rnet::SendFlags::NOSIGNAL);
    let fds = loop {
        match receive(channel) {
            Some((b'r', fds)) => break fds,
            // Interrupted.
            Some(_) => {}
            None => process::exit_now(0),
        }
    };
    let Some(spec) = fds.first().and_then(read_memory::<RunSpec>) else { process::exit_now(1) };
    init::run(&spec, init::InitFds::new(fds, None), Some(prepared))
}

/// The namespaces of a RUN; the network is not among them where one is joined or kept from another RUN.
pub(super) fn namespaces(spec: &RunSpec) -> CloneFlags {
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

/// Whether its network may be one that another RUN had. With all capabilities it could leave anything in there.
pub(super) fn takes_pooled_network(spec: &RunSpec) -> bool {
    namespaces(spec).contains(CloneFlags::CLONE_NEWNET) && !spec.insecure
}
