//! The command of a RUN: what it must not have is given up, its filter is loaded, it is started and waited for.

use super::{Doing, Step};
use crate::executor::isolation::Kind;
use crate::executor::{Report, RunSpec, supervisor};
use crate::sys::process::{self, Ended};
use crate::sys::seccomp::Supervise;
use crate::sys::{Named, SysError, caps, fork, fs, landlock, limits, seccomp, usage};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

/// Starts the command as process 2 and waits for it, reaping everything else that ends.
pub(super) fn command(
    spec: &RunSpec,
    streams: [&OwnedFd; 2],
    supervisor: Option<OwnedFd>,
) -> Report {
    let set_up =
        |(doing, error): (String, SysError)| Report::SetUp { doing, error: error.to_string() };
    let mut failed = Some(Report::SetUp {
        doing: "starting the command".to_owned(),
        error: "its process did not have our memory (does an emulator run this program?)"
            .to_owned(),
    });
    let started = fork::fork_in_our_memory(&mut || {
        // Signals are meant for the command and what it starts, and reach it as a group where it has no namespace.
        let _its_own_group = rustix::process::setpgid(None, None);
        failed = None;
        // It returns only when the program did not start.
        failed = Some(become_command(spec, streams, supervisor.as_ref()));
        127
    });
    drop(supervisor);
    let pid = match started {
        Ok(pid) => pid,
        Err(error) => return set_up(("starting the command".to_owned(), error)),
    };
    forward_signals(if spec.kind == Kind::Namespaces { EVERYBODY } else { -pid });
    loop {
        match process::wait(-1, true) {
            Ok(Some((ended, how))) if ended == pid => {
                // Orphans of this namespace are children of its process 1: without one, nobody is left in it. With all
                // capabilities a mount or a swap file could be, which writes until the namespaces are gone.
                let alone = spec.kind == Kind::Namespaces && !spec.insecure;
                let quiet = alone && process::reap_the_rest();
                let spent = usage::of_children();
                return failed.unwrap_or(Report::Ended { how, spent, quiet });
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                // Nobody knows.
                let (how, spent) = (Ended::Exited(0), usage::of_children());
                return failed.unwrap_or(Report::Ended { how, spent, quiet: false });
            }
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
        caps::set_exact(capabilities(spec)).doing("dropping capabilities")?;
    }
    if spec.supervise == Supervise::Ids {
        // There is one id; the supervisor knows who the command believes to be.
        return Ok(());
    }
    process::set_ids(spec.uid, spec.gid, &spec.groups).doing("changing the user")
}

/// Where no mount says `nodev`, a node that the command made could be opened: it makes none, the supervisor does.
fn capabilities(spec: &RunSpec) -> caps::CapSet {
    match spec.kind {
        Kind::Chroot => caps::DOCKER_DEFAULT - caps::CapSet::MKNOD,
        _ => caps::DOCKER_DEFAULT,
    }
}

fn load_filter(spec: &RunSpec, supervisor: Option<&OwnedFd>) -> Step {
    let doing = "loading the seccomp filter";
    let program = super::filter(spec);
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
