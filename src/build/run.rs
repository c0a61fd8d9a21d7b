//! One RUN: mounts, user, sandbox, log.

use super::echo::Echo;
use super::emulate::is_32_bit;
use super::furnish::{Manner, OwnFile, PIPES, furnish};
use super::mounts::Binds;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt, RunOutput};
use crate::executor::emulation::way::{Emulator, Way};
use crate::executor::emulation::{arch, cpuinfo};
use crate::executor::isolation::{IdMode, Kind};
use crate::executor::mounts::{self, MountOp, NameServers};
use crate::executor::network::NAME_SERVER;
use crate::executor::sandbox::{self, Ending};
use crate::executor::settings::RunSettings;
use crate::executor::{HOSTNAME, Net, Report, RunSpec, user};
use crate::layers::PLACEHOLDER_XATTR;
use crate::layers::snapshot::{Draft, random_id};
use crate::oci::Platform;
use crate::plan::step::{NetworkMode, RunStep};
use crate::sys::mount::{self, MountFlags};
use crate::sys::seccomp::Supervise;
use crate::sys::{SysResultExt, fs, probe, root};
use crate::timings::Cpu;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file system with less than this many free bytes counts as full.
const NEARLY_FULL: u64 = 1 << 20;

/// Where the log and the private files of a RUN go, and what runs its programs.
#[derive(Debug)]
pub(super) struct RunPlaces<'a> {
    /// `tmp` of the store.
    pub tmp: &'a Path,
    /// `logs` of the store.
    pub logs: &'a Path,
    /// Directory on which every sandbox attaches its rootfs.
    pub staging: &'a Path,
    /// What its programs are made for.
    pub machine: &'a Platform,
    /// What runs them.
    pub way: &'a Way,
    /// Takes what the shell tells of its own lines out of standard error.
    pub echo: Option<&'a RefCell<Echo>>,
    /// What the user set for all RUNs.
    pub settings: &'a RunSettings,
    /// Whether its stage goes on with another RUN like this.
    pub another_follows: bool,
}

/// Runs a command on a draft snapshot. Everything it wrote is in the draft's upper directory afterwards, which can be read
/// but is still mounted until the end is awaited.
pub(super) fn run(
    worker: &Worker,
    draft: &Draft<'_>,
    (step, network): (&RunStep, NetworkMode),
    mut binds: Binds,
    places: &RunPlaces<'_>,
    output: &mut dyn FnMut(bool, &[u8]),
) -> Result<Ending> {
    let spawner = match places.way {
        Way::Own(_, spawner) => spawner,
        Way::Native | Way::Compatible | Way::Handler(_) => &worker.spawner,
    };
    let connected = match (network, &worker.connector) {
        (NetworkMode::Default, Some(connector)) => {
            Some(spawner.network(connector).map_err(|refusal| {
                Error::environment("the network of the build is gone").cause(refusal)
            })?)
        }
        _ => None,
    };
    let servers = match (network, connected) {
        (NetworkMode::None, _) => NameServers::Remote,
        (_, Some(_)) => NameServers::Only(NAME_SERVER),
        (_, None) => NameServers::Host,
    };
    let files = own_files(step, servers, places);
    let (rootfs, mut furnished) =
        furnish(draft, step, &files, &mut binds, Manner::of(worker), places)?;
    let tree = fs::reopen_dir(&rootfs)
        .or_error(ErrorKind::Environment, || "cannot open the root file system".to_owned())?;
    let who = user::resolve(tree.as_fd(), &step.user)?;
    make_working_directory(&tree, &step.cwd, (who.uid, who.gid))?;
    drop(tree);
    if matches!(places.way, Way::Own(..)) && !worker.isolation.user_namespace {
        own_sysfs(&mut furnished.list, &mut furnished.fds)?;
    }
    let mut fds = std::mem::take(&mut furnished.fds);
    let net = match connected {
        Some(network) => {
            fds.push(
                network
                    .try_clone_to_owned()
                    .or_error(ErrorKind::Environment, || "cannot copy a descriptor".to_owned())?,
            );
            Net::Joined(fds.len() - 1)
        }
        None if network == NetworkMode::None => Net::None,
        None => Net::Host,
    };
    let spec = RunSpec {
        argv: step.argv.clone(),
        env: environment(step, binds.env(), &who.home),
        cwd: step.cwd.clone(),
        uid: who.uid,
        gid: who.gid,
        groups: [who.groups, binds.groups().to_vec()].concat(),
        kind: worker.isolation.kind,
        mounts: std::mem::take(&mut furnished.list),
        network: net,
        staging: places.staging.to_owned(),
        insecure: step.insecure,
        hostname: hostname(step).to_owned(),
        personality32: matches!(places.way, Way::Compatible) && is_32_bit(places.machine),
        limits: places.settings.limits.clone(),
        keep_fsync: places.settings.keep_fsync,
        another_follows: places.another_follows,
        supervise: supervise(worker, draft, step),
        placeholder: PLACEHOLDER_XATTR.to_owned(),
    };
    let mut told = Told { log: Log::new(places.logs), echo: places.echo, output };
    let (report, ending) =
        sandbox::run(spawner, &spec, (rootfs, fds), &worker.cancel, &mut |stderr, bytes| {
            told.add(stderr, bytes);
        })?;
    if let Report::Ended { spent, .. } = &report {
        let (user, system) = spent.times();
        worker.timings.command_used(Cpu { user, system });
    }
    furnished.clear()?;
    judge(&report, step, told.finish())
        .map_err(|error| explain_full_disk(error, places.tmp))
        .map_err(|error| explain_emulator(error, places.way.emulator()))
        .map_err(|error| explain_chroot(error, worker.isolation.kind))?;
    Ok(ending)
}

/// What cannot be done for want of ids is answered by a supervisor. Asking it for every `stat` would be dear where there
/// is no device node to tell about, so that is done where the tree has one, and where the command says that it makes one.
fn supervise(worker: &Worker, draft: &Draft<'_>, step: &RunStep) -> Supervise {
    let scripts = step.scripts.iter().map(|(_, body)| body);
    let makes_nodes = step.argv.iter().chain(scripts).any(|text| text.contains("mknod"));
    match worker.isolation.ids {
        IdMode::Single => Supervise::Ids,
        _ if !worker.isolation.placeholders() => Supervise::None,
        _ if draft.has_placeholders() || makes_nodes => Supervise::Devices,
        _ => Supervise::MakeDevices,
    }
}

/// Real root makes the sysfs itself: in the emulators' user namespace a new one is refused, and showing the host's would
/// show what is mounted on it, to a RUN that there is root (debugfs and the like).
fn own_sysfs(list: &mut [MountOp], fds: &mut Vec<OwnedFd>) -> Result<()> {
    let made = mount::new_mount("sysfs", &[], MountFlags::LOCKED)
        .or_error(ErrorKind::Environment, || "cannot mount /sys".to_owned())?;
    for op in list.iter_mut().filter(|op| matches!(op, MountOp::Sysfs)) {
        *op = MountOp::Given { fd: fds.len(), target: "/sys".to_owned() };
    }
    fds.push(made);
    Ok(())
}

/// The /proc/cpuinfo that programs of the emulated machine expect.
fn cpuinfo(places: &RunPlaces<'_>) -> Option<String> {
    places.way.emulator()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    cpuinfo::text(arch::of(places.machine)?, processors)
}

/// A signal that a program gets for its own faults may as well be the emulator's fault.
fn explain_emulator(error: Error, emulator: Option<&Emulator>) -> Error {
    let (Some(emulator), ErrorKind::RunFailed(code)) = (emulator, error.kind()) else {
        return error;
    };
    let faults = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGSYS,
    ];
    if !faults.iter().any(|signal| code == 128 + signal) {
        return error;
    }
    error
        .cause(format!("it ran under {}, which may have crashed rather than the program", emulator.shown()))
        .hint("try a newer qemu (`--qemu-dir`, `--qemu-image`), or do this step in a stage on the build platform: `FROM --platform=$BUILDPLATFORM`")
}

/// What a command misses there may be why it failed, and nothing in its output need say so.
fn explain_chroot(error: Error, kind: Kind) -> Error {
    match (kind, error.kind()) {
        (Kind::Chroot, ErrorKind::RunFailed(_)) => error.hint(
            "under `--isolation chroot` a command has no /proc/self, no mounts and no set-uid programs; `nativebuild doctor` says which setting gives it more",
        ),
        _ => error,
    }
}

/// A command that fails on a full disk seldom says so.
fn explain_full_disk(error: Error, store: &Path) -> Error {
    match rustix::fs::statvfs(store) {
        Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < NEARLY_FULL => error.hint(
            "the file system of the store has no space left: free some, or choose another store with `--root`",
        ),
        _ => error,
    }
}

fn hostname(step: &RunStep) -> &str {
    step.hostname.as_deref().unwrap_or(HOSTNAME)
}

/// /etc/hosts, /etc/resolv.conf, heredoc scripts and what the emulated machine says of itself; never in a layer.
fn own_files(step: &RunStep, servers: NameServers, places: &RunPlaces<'_>) -> Vec<OwnFile> {
    let host = probe::read_host_file("/etc/resolv.conf").unwrap_or_default();
    let resolv = mounts::resolv_conf(&host, servers);
    let hosts = mounts::hosts(hostname(step), &places.settings.hosts);
    let mut files = vec![
        ("/etc/hosts".to_owned(), hosts, 0o644),
        ("/etc/resolv.conf".to_owned(), resolv, 0o644),
    ];
    let scripts = step.scripts.iter();
    files.extend(scripts.map(|(name, body)| (format!("{PIPES}{name}"), body.clone(), 0o755)));
    files.extend(cpuinfo(places).map(|text| ("/proc/cpuinfo".to_owned(), text, 0o444)));
    files
}

/// A base image's own working directory may be missing, or a RUN took it away; it is made for whoever runs.
fn make_working_directory(tree: &OwnedFd, cwd: &str, owner: (u32, u32)) -> Result<()> {
    let there = root::stat_opt(tree, cwd.as_bytes())
        .or_error(ErrorKind::Image, || format!("cannot look at the working directory `{cwd}`"))?;
    match there {
        Some(stat) if stat.is_dir() => Ok(()),
        Some(_) => Err(Error::image(format!("the working directory `{cwd}` is no directory"))),
        None => user::make_workdir(tree.as_fd(), cwd, owner),
    }
}

/// The stage's variables, those that come with mounts in their place, then what is there by default.
fn environment(step: &RunStep, given: &[(String, String)], home: &str) -> Vec<(String, String)> {
    let mut env = step.env.clone();
    for (name, value) in given {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    for (name, value) in &step.proxy_env {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.clone(), value.clone()));
        }
    }
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), home.to_owned()));
    }
    env
}

fn judge(report: &Report, step: &RunStep, log: Log) -> Result<()> {
    let code = match report {
        Report::Ended { how, .. } if how.code() == 0 => {
            log.remove();
            return Ok(());
        }
        Report::SetUp { doing, error } => {
            return Err(Error::environment(format!("cannot set up the sandbox: {doing}"))
                .cause(error)
                .hint(
                    "`nativebuild build --print-plan` needs no sandbox; see docs/run-sandbox.md",
                ));
        }
        Report::Ended { how, .. } => how.code(),
        Report::Exec { code, .. } => *code,
    };
    let mut error = Error::new(
        ErrorKind::RunFailed(code),
        format!(
            "process `{}` did not complete successfully: exit code: {code}",
            step.argv.join(" ")
        ),
    );
    if let Report::Exec { error: why, .. } = report {
        error = error.cause(why);
    } else if code > 128 {
        error = error.cause(format!("it was ended by signal {}", code - 128));
    }
    Err(error.with_output(log.finish()))
}

/// Where the output of a command goes.
struct Told<'a> {
    log: Log,
    echo: Option<&'a RefCell<Echo>>,
    output: &'a mut dyn FnMut(bool, &[u8]),
}

impl Told<'_> {
    fn add(&mut self, stderr: bool, bytes: &[u8]) {
        match self.echo.filter(|_| stderr) {
            Some(echo) => self.show(true, &echo.borrow_mut().take(bytes)),
            None => self.show(stderr, bytes),
        }
    }

    fn show(&mut self, stderr: bool, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.log.add(bytes);
            (self.output)(stderr, bytes);
        }
    }

    fn finish(mut self) -> Log {
        if let Some(echo) = self.echo {
            self.show(true, &echo.borrow_mut().rest());
        }
        self.log
    }
}

/// The whole output in a file, its last lines in memory.
struct Log {
    path: PathBuf,
    file: Option<std::fs::File>,
    tail: VecDeque<Vec<u8>>,
    line: Vec<u8>,
}

/// Lines that an error shows.
const TAIL: usize = 20;
/// Bytes of one line that an error shows.
const TAIL_LINE: usize = 2000;

impl Log {
    fn new(dir: &Path) -> Self {
        let path = dir.join(format!("run-{}.log", &random_id()[..12]));
        Self { path, file: None, tail: VecDeque::new(), line: Vec::new() }
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.file.is_none() {
            self.file = std::fs::File::create(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            // The log is a service; a full disk shows up where it matters.
            let _best_effort = file.write_all(bytes);
        }
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < TAIL_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(std::mem::take(&mut self.line));
    }

    fn remove(self) {
        if self.file.is_some() {
            let _gone = std::fs::remove_file(&self.path);
        }
    }

    fn finish(mut self) -> RunOutput {
        if !self.line.is_empty() {
            self.end_line();
        }
        let text = |line: &Vec<u8>| String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
        RunOutput {
            tail: self.tail.iter().map(text).collect(),
            log: self.file.as_ref().map(|_| self.path.display().to_string()),
        }
    }
}
