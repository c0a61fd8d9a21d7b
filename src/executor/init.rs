//! The child side of a RUN: does the mount list, pivots, drops what the command must not have, starts it, and is
//! process 1 until it ends.
//!
//! Runs in a clone of the single-threaded spawner, so ordinary code is allowed. Every failure becomes one [`Report`].
//! When process 1 ends the kernel kills whatever the command left behind.

use super::isolation::Kind;
use super::{Net, Report, RunSpec, mounts::MountOp, supervisor};
use crate::sys::mount::{self, MountFlags};
use crate::sys::process::{self, Ended};
use crate::sys::seccomp::Supervise;
use crate::sys::{Named, SysError, SysResult, caps, fs, landlock, limits, root, seccomp};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

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
}

/// Runs as process 1 and never returns.
pub fn run(spec: &RunSpec, fds: InitFds) -> ! {
    let InitFds { mut report, stdout, stderr, rootfs, mut given } = fds;
    let supervisor = if spec.is_supervised() { given.pop() } else { None };
    let result = set_up(spec, &rootfs, &given);
    drop((rootfs, given));
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

fn set_up(spec: &RunSpec, rootfs: &OwnedFd, given: &[OwnedFd]) -> Step {
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
        Net::None => process::loopback_up().doing("bringing up the loopback interface")?,
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
    for op in &spec.mounts {
        carry_out(op, &base, given)?;
    }
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

fn carry_out(op: &MountOp, base: &OwnedFd, given: &[OwnedFd]) -> Step {
    match op {
        MountOp::Fresh { kind, options, flags, target } => {
            let options: Vec<(&str, &str)> =
                options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let doing = || format!("mounting {kind} on {target}");
            let made = mount::new_mount(kind, &options, *flags).doing(doing())?;
            put(&made, base, target).doing(doing())
        }
        MountOp::Given { fd, target } => {
            let doing = format!("mounting on {target}");
            let given = given.get(*fd).ok_or(Errno::BADF).named(|| "given".to_owned());
            put(given.doing(doing.clone())?, base, target).doing(doing)
        }
        MountOp::OuterProc => outer_proc(base).doing("mounting /proc"),
        MountOp::Device { name } => device(name, base).doing(format!("mounting /dev/{name}")),
        MountOp::Sysfs => sysfs(base),
        MountOp::Directory { path, mode } => {
            let (dir, name) = parent(base, path).doing(format!("making {path}"))?;
            fs::mkdir(&dir, &name, *mode).doing(format!("making {path}"))
        }
        MountOp::File { path } => {
            let (dir, name) = parent(base, path).doing(format!("making {path}"))?;
            fs::create_new(&dir, &name, 0o644).map(drop).doing(format!("making {path}"))
        }
        MountOp::Point { path, is_dir } => point(base, path, *is_dir).map_err(|error| {
            let why = if error.errno == Errno::ROFS {
                ", which the read-only mount around it lacks (make it in what is mounted, or add `rw`)"
            } else {
                ""
            };
            (format!("making the mount target {path}{why}"), error)
        }),
        MountOp::Symlink { target, path } => {
            let (dir, name) = parent(base, path).doing(format!("making {path}"))?;
            fs::symlink(target.as_bytes(), &dir, &name).doing(format!("making {path}"))
        }
        MountOp::Mask { path } => mask(base, path).doing(format!("hiding {path}")),
        MountOp::ReadOnly { path } => {
            read_only(base, path).doing(format!("making {path} read-only"))
        }
    }
}

fn parent(base: &OwnedFd, path: &str) -> SysResult<(OwnedFd, Vec<u8>)> {
    let (dir, name) = root::split_last(path.as_bytes());
    Ok((root::open_dir(base, dir)?, name.unwrap_or(b".").to_vec()))
}

/// Makes what is missing of a mount target inside another mount. Other builds may change a cache meanwhile, so every
/// step looks up its parent anew, inside the root.
fn point(base: &OwnedFd, path: &str, is_dir: bool) -> SysResult<()> {
    let (path, there) = root::canonical(base, path.as_bytes())?;
    if there {
        return Ok(());
    }
    for end in (1..=path.len()).filter(|at| *at == path.len() || path[*at] == b'/') {
        let (dir, name) = root::split_last(&path[..end]);
        let (dir, name) = (root::open_dir(base, dir)?, name.unwrap_or(b"."));
        if fs::lstat_opt(&dir, name)?.is_some() {
            continue;
        }
        if end < path.len() || is_dir {
            fs::mkdir(&dir, name, 0o755)?;
        } else {
            fs::create_new(&dir, name, 0o644)?;
        }
    }
    Ok(())
}

/// Attaches to whatever `target` is inside the root; links are followed in it, never out of it.
fn put(mount: impl AsFd, base: &OwnedFd, target: &str) -> SysResult<()> {
    mount::attach(mount, root::open_path(base, target.as_bytes())?, b"")
}

fn device(name: &str, base: &OwnedFd) -> SysResult<()> {
    let target = format!("/dev/{name}");
    let (dir, leaf) = parent(base, &target)?;
    drop(fs::create_new(&dir, &leaf, 0o666)?);
    let node = mount::clone_tree_path(&target, false)?;
    mount::set_flags(
        &node,
        MountFlags { nosuid: true, noexec: true, ..MountFlags::default() },
        false,
    )?;
    put(&node, base, &target)
}

/// With the masks that the container around put on it: these are locked, and stay where they are.
fn outer_proc(base: &OwnedFd) -> SysResult<()> {
    let proc = mount::clone_tree_path("/proc", true)?;
    let flags = MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false };
    mount::set_flags(&proc, flags, true)?;
    put(&proc, base, "/proc")
}

fn sysfs(base: &OwnedFd) -> Step {
    let made = mount::new_mount("sysfs", &[], MountFlags::LOCKED).or_else(|_| {
        // Not ours to mount without a network namespace of our own: show the host's.
        let host = mount::clone_tree_path("/sys", true)?;
        mount::set_flags(&host, MountFlags::LOCKED, true)?;
        Ok::<_, SysError>(host)
    });
    match made {
        Ok(made) => put(&made, base, "/sys").doing("mounting /sys"),
        // Hardly any build reads /sys; an empty directory is what remains.
        Err(_) => Ok(()),
    }
}

fn mask(base: &OwnedFd, path: &str) -> SysResult<()> {
    let Some(stat) = root::stat_opt(base, path.as_bytes())? else { return Ok(()) };
    let cover = if stat.is_dir() {
        mount::new_mount("tmpfs", &[("size", "0k"), ("mode", "755")], MountFlags::LOCKED)?
    } else {
        let null = mount::clone_tree_path("/dev/null", false)?;
        mount::set_flags(
            &null,
            MountFlags { nosuid: true, noexec: true, ..MountFlags::default() },
            false,
        )?;
        null
    };
    put(&cover, base, path)
}

fn read_only(base: &OwnedFd, path: &str) -> SysResult<()> {
    if root::stat_opt(base, path.as_bytes())?.is_none() {
        return Ok(());
    }
    let here = root::open_path(base, path.as_bytes())?;
    let copy = mount::clone_tree(&here, b"", true)?;
    mount::set_flags(&copy, MountFlags { read_only: true, ..MountFlags::default() }, true)?;
    put(&copy, base, path)
}

/// Starts the command as process 2 and waits for it, reaping everything else that ends.
fn command(spec: &RunSpec, streams: [&OwnedFd; 2], supervisor: Option<OwnedFd>) -> Report {
    let set_up =
        |(doing, error): (String, SysError)| Report::SetUp { doing, error: error.to_string() };
    let (reader, writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(error) => {
            return Report::SetUp { doing: "making a pipe".to_owned(), error: error.to_string() };
        }
    };
    let pid = match process::fork() {
        Ok(Some(pid)) => pid,
        Ok(None) => {
            drop(reader);
            // Signals are meant for the command and what it starts, and reach it as a group where it has no namespace.
            let _its_own_group = rustix::process::setpgid(None, None);
            let said = become_command(spec, streams, supervisor.as_ref());
            let mut writer = writer;
            let _reader_gone = writer.write_all(&serde_json::to_vec(&said).unwrap_or_default());
            process::exit_now(127)
        }
        Err(error) => return set_up(("starting the command".to_owned(), error)),
    };
    drop((writer, supervisor));
    // The pipe closes when the program starts; before that it may bring the reason why it did not.
    let failed: Option<Report> = serde_json::from_reader(reader).ok();
    forward_signals(if spec.kind == Kind::Namespaces { EVERYBODY } else { -pid });
    loop {
        match process::wait(-1, true) {
            Ok(Some((ended, how))) if ended == pid => return failed.unwrap_or(Report::Ended(how)),
            Ok(Some(_)) => {}
            Ok(None) => return failed.unwrap_or(Report::Ended(Ended::Exited(0))),
            Err(error) => return set_up(("waiting for the command".to_owned(), error)),
        }
    }
}

/// All processes of a namespace but its process 1, for `kill`.
const EVERYBODY: i32 = -1;

/// Who gets the signals that process 1 gets.
static FORWARD_TO: AtomicI32 = AtomicI32::new(0);

/// TERM to process 1 means: ask everything in here to end. The handler only sends a signal, which is safe in a handler.
fn forward_signals(to: i32) {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
    extern "C" fn forward(signal: libc::c_int) {
        process::kill(FORWARD_TO.load(Ordering::Relaxed), signal);
    }
    FORWARD_TO.store(to, Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(forward), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // Where it cannot be set the later SIGKILL does the work.
        let _kept = crate::sys::signals::set_handler(signal, &action);
    }
}

/// In the command's own process; returns only when it could not be started.
fn become_command(spec: &RunSpec, streams: [&OwnedFd; 2], supervisor: Option<&OwnedFd>) -> Report {
    match prepare(spec, streams, supervisor) {
        Err((doing, error)) => Report::SetUp { doing, error: error.to_string() },
        Ok(()) => start(spec),
    }
}

fn prepare(spec: &RunSpec, [stdout, stderr]: [&OwnedFd; 2], supervisor: Option<&OwnedFd>) -> Step {
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .named(|| "open(\"/dev/null\")".to_owned())
    .doing("opening the standard input")?;
    for (fd, number) in [(&null, 0), (stdout, 1), (stderr, 2)] {
        process::place_fd(fd, number).doing("placing the standard streams")?;
    }
    process::close_on_exec_from(3).doing("closing descriptors")?;
    crate::sys::signals::reset_signals();
    if spec.personality32 {
        process::become_32_bit().doing("changing the personality")?;
    }
    limit(spec)?;
    // Before the user changes, who need not be allowed to enter it.
    enter(&spec.cwd)?;
    if spec.kind != Kind::Namespaces {
        confine(spec)?;
    }
    if !spec.insecure || spec.is_supervised() {
        // Loading a filter needs SYS_ADMIN, which the next line gives up for good.
        load_filter(spec, supervisor)?;
    }
    if !spec.insecure {
        caps::set_exact(caps::DOCKER_DEFAULT).doing("dropping capabilities")?;
    }
    if spec.supervise == Supervise::Ids {
        // There is one id; the supervisor knows who the command believes to be.
        return Ok(());
    }
    process::set_ids(spec.uid, spec.gid, &spec.groups).doing("changing the user")
}

fn load_filter(spec: &RunSpec, supervisor: Option<&OwnedFd>) -> Step {
    let doing = "loading the seccomp filter";
    let program = filter(spec);
    let Some(socket) = supervisor else { return seccomp::install(&program).doing(doing) };
    let listener = seccomp::install_with_listener(&program).doing(doing)?;
    supervisor::hand_over(socket, &listener).doing("calling the supervisor")
}

fn enter(cwd: &str) -> Step {
    let doing = "entering the working directory";
    rustix::process::chdir(cwd).named(|| format!("chdir({cwd:?})")).doing(doing)?;
    let here = rustix::process::getcwd(Vec::new()).named(|| "getcwd()".to_owned());
    if !here.doing(doing)?.to_bytes().starts_with(b"/") {
        return Err(Errno::XDEV)
            .named(|| "the working directory is outside of the root file system".to_owned())
            .doing(doing);
    }
    Ok(())
}

/// What is around shares its process numbers with us: it must not be traced or signalled from here. In a changed root
/// directory, files outside are out of reach as well, whatever a program does to get out.
fn confine(spec: &RunSpec) -> Step {
    let doing = "keeping the command from what is around it";
    if !caps::has(caps::CapSet::SYS_ADMIN) {
        // The price of a filter and of a domain without that right: set-uid programs gain nothing.
        process::no_new_privileges().doing(doing)?;
    }
    let root = fs::open_dir_path(Path::new("/")).doing(doing)?;
    let beneath = (spec.kind == Kind::Chroot).then(|| root.as_fd());
    landlock::confine(beneath).doing(doing).map(drop)
}

/// Before capabilities go: real root may raise limits.
fn limit(spec: &RunSpec) -> Step {
    for limit in &spec.limits {
        limits::set(&limit.name, limit.soft, limit.hard)
            .doing(format!("setting the limit `{}`", limit.name))?;
    }
    Ok(())
}

/// The filter of a RUN. Each kind is compiled once, by the spawner, before it clones the first RUN that needs it.
pub(super) fn filter(spec: &RunSpec) -> seccomp::Program {
    static COMPILED: Mutex<Vec<(seccomp::Options, seccomp::Program)>> = Mutex::new(Vec::new());
    let options = seccomp::Options {
        caps: if spec.insecure { caps::CapSet::all() } else { caps::DOCKER_DEFAULT },
        permissive: spec.insecure,
        drop_sync: !spec.keep_fsync,
        supervise: spec.supervise,
        signals: spec.guards_signals(),
        no_network: spec.kind == Kind::Chroot && spec.network == Net::None,
    };
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = compiled.iter().find(|(known, _)| *known == options) {
        return program.clone();
    }
    let program = seccomp::compile(&options);
    compiled.push((options, program.clone()));
    program
}

fn start(spec: &RunSpec) -> Report {
    let env_words = spec.env.iter().flat_map(|(name, value)| [name, value]);
    if spec.argv.iter().chain(env_words).any(|word| word.contains('\0')) {
        let error = "an argument or a variable holds a NUL byte".to_owned();
        return Report::Exec { code: 126, error };
    }
    let bytes = |text: &str| CString::new(text).unwrap_or_default();
    let argv: Vec<CString> = spec.argv.iter().map(|arg| bytes(arg)).collect();
    let env: Vec<CString> = spec.env.iter().map(|(k, v)| bytes(&format!("{k}={v}"))).collect();
    let program = spec.argv.first().map_or("", String::as_str);
    let path = spec.env.iter().rev().find(|(k, _)| k == "PATH").map_or("", |(_, v)| v.as_str());
    let candidates: Vec<String> = if program.contains('/') {
        vec![program.to_owned()]
    } else {
        path.split(':')
            .map(|dir| if dir.is_empty() { ".".to_owned() } else { dir.to_owned() })
            .map(|dir| format!("{dir}/{program}"))
            .collect()
    };
    let mut worst = Errno::NOENT;
    for candidate in candidates {
        let errno = process::exec(&bytes(&candidate), &argv, &env);
        match errno {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => worst = Errno::ACCESS,
            errno => {
                return Report::Exec { code: 126, error: exec_error(&candidate, errno, false) };
            }
        }
    }
    let code = if worst == Errno::NOENT { 127 } else { 126 };
    Report::Exec { code, error: exec_error(program, worst, !program.contains('/')) }
}

fn root_is_noexec() -> bool {
    let flags = rustix::fs::statvfs("/").map(|stat| stat.f_flag);
    flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

fn exec_error(program: &str, errno: Errno, searched: bool) -> String {
    match errno {
        Errno::NOENT if searched => format!("`{program}` is in no directory of PATH"),
        Errno::NOENT => {
            format!(
                "`{program}` does not exist in the image, or the interpreter that it names does not"
            )
        }
        Errno::ACCESS if root_is_noexec() => format!(
            "`{program}` may not be executed: the store is on a file system that is mounted noexec; choose another place with `--root`"
        ),
        Errno::ACCESS => format!("`{program}` may not be executed"),
        Errno::NOEXEC => {
            format!("`{program}` is no program for this machine (exec format error)")
        }
        errno => SysError { call: format!("execve({program:?})"), errno }.to_string(),
    }
}
