//! What the spawner knows of a RUN, a program or an errand that goes on.

use super::loopback::Loopback;
use crate::sys::process;
use rustix::io::Errno;
use rustix::net as rnet;
use std::os::fd::OwnedFd;

pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: Option<OwnedFd>,
    /// In a process namespace, in which nothing outlives process 1.
    pub(super) alone: bool,
    /// Who wants to know how it ended, when it does not say so itself.
    pub(super) report: Option<std::io::PipeWriter>,
    /// Its network, when another RUN may have that after it.
    pub(super) loopback: Option<Loopback>,
    /// Nobody waits for its end.
    pub(super) is_errand: bool,
}

impl Running {
    /// One of which nothing is left when its process is gone.
    pub(super) fn new(pid: i32, pidfd: OwnedFd, channel: OwnedFd) -> Self {
        let (channel, alone) = (Some(channel), true);
        Self { pid, pidfd, channel, alone, report: None, loopback: None, is_errand: false }
    }

    /// Passes on signals that the builder asked for; a closed channel means: kill.
    pub(super) fn take_signals(&mut self) {
        let Some(channel) = &self.channel else { return };
        let mut byte = [0_u8; 1];
        match rnet::recv(channel, &mut byte, rnet::RecvFlags::DONTWAIT) {
            Ok((_, 1)) => process::kill(self.pid, byte[0].into()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                process::kill(self.pid, libc::SIGKILL);
                self.channel = None;
            }
        }
    }

    /// Process 1 of a RUN was reaped, and nothing that it left behind is alive.
    pub(super) fn say_dead(&self) {
        if let Some(channel) = &self.channel {
            let _builder_gone = rnet::send(channel, b"d", rnet::SendFlags::NOSIGNAL);
        }
    }
}
