//! The child side of a RUN: does the mount list, pivots, drops what the command must not have, starts it, and is
//! process 1 until it ends.
//!
//! Runs in a clone of the single-threaded spawner, so ordinary code is allowed. Every failure becomes one [`Report`].
//! When process 1 ends the kernel kills whatever the command left behind.

mod command;
mod mounts;

use super::isolation::Kind;
use super::{Net, Report, RunSpec};
use crate::sys::{Named, SysError, SysResult, mount, process};
use command::command;
pub(in crate::executor) use command::filter;
use mounts::Carrier;
use rustix::fs::CWD;
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Descriptors that travel with a spec.
#[derive(Debug)]
pub struct InitFds {
    /// Where the one report goes.
    pub report: std::io::PipeWriter,
    /// Standard output of the command.
    pub stdout: OwnedFd,
    /// Standard error of the command.
    pub stderr: OwnedFd,
    /// The detached rootfs.
    pub rootfs: OwnedFd,
    /// Detached mounts for [`MountOp::Given`].
    pub given: Vec<OwnedFd>,
    /// A loopback network to go into; without one the process is in its own already.
    pub loopback: Option<OwnedFd>,
}

/// Runs as process 1 and never returns.
pub fn run(spec: &RunSpec, fds: InitFds) -> ! {
    let InitFds { mut report, stdout, stderr, rootfs, mut given, loopback } = fds;
    let supervisor = if spec.is_supervised() { given.pop() } else { None };
    let result = set_up(spec, &rootfs, &given, loopback.as_ref());
    drop((rootfs, given, loopback));
    let said = match result {
        Err((doing, error)) => Report::SetUp { doing, error: error.to_string() },
        Ok(()) => command(spec, [&stdout, &stderr], supervisor),
    };
    let text = serde_json::to_vec(&said).unwrap_or_default();
    let _reader_gone = report.write_all(&text);
    process::exit_now(0)
}

type Step<T = ()> = Result<T, (String, SysError)>;

trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Step<T>;
}

impl<T> Doing<T> for SysResult<T> {
    fn doing(self, what: impl Into<String>) -> Step<T> {
        self.map_err(|error| (what.into(), error))
    }
}

fn set_up(spec: &RunSpec, rootfs: &OwnedFd, given: &[OwnedFd], loopback: Option<&OwnedFd>) -> Step {
    process::die_with_parent().doing("following the builder")?;
    if spec.kind != Kind::Namespaces {
        // What the command leaves behind stays with its own RUN.
        process::become_subreaper().doing("taking in orphans")?;
    }
    rustix::process::setsid().named(|| "setsid()".to_owned()).doing("leaving the terminal")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if spec.kind == Kind::Chroot {
        return change_root(rootfs);
    }
    match rustix::system::sethostname(spec.hostname.as_bytes()) {
        // Podman's profile refuses it in every namespace; the command then sees the name of what is around.
        Err(Errno::PERM) => {}
        done => done.named(|| "sethostname()".to_owned()).doing("naming the host")?,
    }
    match spec.network {
        Net::Host => {}
        Net::None => {
            let entered = loopback.map_or(Ok(()), process::enter_network);
            entered.doing("entering the loopback network")?;
            process::loopback_up().doing("bringing up the loopback interface")?;
        }
        Net::Joined(at) => {
            let network = given.get(at).ok_or(Errno::BADF).named(|| "given".to_owned());
            network.and_then(process::enter_network).doing("entering the network")?;
        }
    }
    mount::attach(rootfs, CWD, spec.staging.as_os_str().as_bytes())
        .doing("attaching the root file system")?;
    let base = rustix::fs::open(
        spec.staging.as_path(),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .named(|| format!("open({})", spec.staging.display()))
    .doing("opening the root file system")?;
    let mut carrier = Carrier::new(&base, given);
    spec.mounts.iter().try_for_each(|op| carrier.carry_out(op))?;
    rustix::process::fchdir(&base)
        .named(|| "fchdir()".to_owned())
        .doing("entering the root file system")?;
    mount::pivot_here().doing("changing the root")
}

/// Nothing is mounted: whatever the command needs was put into the tree.
fn change_root(rootfs: &OwnedFd) -> Step {
    let doing = "changing the root";
    rustix::process::fchdir(rootfs).named(|| "fchdir()".to_owned()).doing(doing)?;
    rustix::process::chroot(".").named(|| "chroot(\".\")".to_owned()).doing(doing)?;
    rustix::process::chdir("/").named(|| "chdir(\"/\")".to_owned()).doing(doing)
}
