//! The child side of a RUN: does the mount list, pivots, drops what the command must not have, starts it, and is
//! process 1 until it ends.
//!
//! Runs in a clone of the single-threaded spawner, so ordinary code is allowed. Every failure becomes one [`Report`].
//! When process 1 ends the kernel kills whatever the command left behind.

mod command;
mod filter;
mod mounts;
mod prepared;

use super::isolation::Kind;
use super::{Net, Report, RunSpec};
use crate::sys::{Named, SysError, SysResult, mount, process};
use command::command;
pub(in crate::executor) use filter::filter;
use mounts::Carrier;
pub(super) use prepared::{Prepared, common, prepare};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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

/// How many of a request's descriptors every RUN has, before the mounts that it is given.
pub(super) const OWN_FDS: usize = 5;

impl InitFds {
    /// Of a request without its channel: the spec, then these in their order.
    pub(super) fn new(fds: Vec<OwnedFd>, loopback: Option<OwnedFd>) -> Self {
        let mut fds = fds.into_iter().skip(1);
        let mut next = || fds.next().expect("the spawner counted the descriptors");
        let (report, stdout, stderr, rootfs) = (next().into(), next(), next(), next());
        Self { report, stdout, stderr, rootfs, given: fds.collect(), loopback }
    }
}

/// Runs as process 1 and never returns.
pub(super) fn run(spec: &RunSpec, fds: InitFds, prepared: Option<Prepared>) -> ! {
    let InitFds { mut report, stdout, stderr, rootfs, mut given, loopback } = fds;
    let supervisor = if spec.is_supervised() { given.pop() } else { None };
    let result = set_up(spec, &rootfs, &given, loopback.as_ref(), prepared);
    drop((rootfs, given, loopback));
    let said = match result {
        Err((doing, error)) => Report::SetUp { doing, error: error.to_string() },
        Ok(()) => command(spec, [&stdout, &stderr], supervisor),
    };
    let text = serde_json::to_vec(&said).unwrap_or_default();
    let _reader_gone = report.write_all(&text);
    // The builder goes on when it has read all of them, and the end of this process takes a while.
    drop((report, stdout, stderr));
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

fn set_up(
    spec: &RunSpec,
    rootfs: &OwnedFd,
    given: &[OwnedFd],
    loopback: Option<&OwnedFd>,
    prepared: Option<Prepared>,
) -> Step {
    if prepared.is_none() {
        become_first(spec.kind)?;
    }
    if spec.kind == Kind::Chroot {
        return change_root(rootfs);
    }
    match rustix::system::sethostname(spec.hostname.as_bytes()) {
        // Podman's profile refuses it in every namespace; the command then sees the name of what is around.
        Err(Errno::PERM) => {}
        done => done.named(|| "sethostname()".to_owned()).doing("naming the host")?,
    }
    if prepared.is_none() {
        let joined = match spec.network {
            Net::Joined(at) => given.get(at),
            Net::Host | Net::None => loopback,
        };
        enter_network(spec.network, joined)?;
    }
    let base = attach_at(rootfs, &spec.staging)?;
    let done = match &prepared {
        Some(prepared) => prepared.move_to(&base)?,
        None => 0,
    };
    let mut carrier = Carrier::new(&base, given);
    spec.mounts[done..].iter().try_for_each(|op| carrier.carry_out(op))?;
    rustix::process::fchdir(&base)
        .named(|| "fchdir()".to_owned())
        .doing("entering the root file system")?;
    mount::pivot_here().doing("changing the root")
}

/// What process 1 does for itself.
fn become_first(kind: Kind) -> Step {
    process::die_with_parent().doing("following the builder")?;
    if kind != Kind::Namespaces {
        // What the command leaves behind stays with its own RUN.
        process::become_subreaper().doing("taking in orphans")?;
    }
    rustix::process::setsid().named(|| "setsid()".to_owned()).doing("leaving the terminal")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Goes into the network that is to be joined, or into the one that was made for another RUN.
fn enter_network(network: Net, joined: Option<&OwnedFd>) -> Step {
    match network {
        Net::Host => Ok(()),
        Net::None => {
            let entered = joined.map_or(Ok(()), process::enter_network);
            entered.doing("entering the loopback network")?;
            process::loopback_up().doing("bringing up the loopback interface")
        }
        Net::Joined(_) => {
            let network = joined.ok_or(Errno::BADF).named(|| "given".to_owned());
            network.and_then(process::enter_network).doing("entering the network")
        }
    }
}

/// Attaches a file system where sandboxes do, and opens it there.
fn attach_at(root: &OwnedFd, staging: &Path) -> Step<OwnedFd> {
    mount::attach(root, CWD, staging.as_os_str().as_bytes())
        .doing("attaching the root file system")?;
    rustix::fs::open(
        staging,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .named(|| format!("open({})", staging.display()))
    .doing("opening the root file system")
}

/// Nothing is mounted: whatever the command needs was put into the tree.
fn change_root(rootfs: &OwnedFd) -> Step {
    let doing = "changing the root";
    rustix::process::fchdir(rootfs).named(|| "fchdir()".to_owned()).doing(doing)?;
    rustix::process::chroot(".").named(|| "chroot(\".\")".to_owned()).doing(doing)?;
    rustix::process::chdir("/").named(|| "chdir(\"/\")".to_owned()).doing(doing)
}
