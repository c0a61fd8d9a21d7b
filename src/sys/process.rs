//! Processes: wait, exec, ids, and what else a single-threaded process does to itself. New ones: [`super::fork`].
#![allow(unsafe_code, reason = "raw calls change this thread only, where libc's change all")]

use super::{Named, SysResult};
use nix::sched::CloneFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Ends the process at once, without running anything of this program's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not touch memory.
    unsafe { libc::_exit(code) }
}

/// Has this process get next to nothing of the machine's time as long as others want it, and be the first to go when memory
/// runs out; false where that is refused. It gets a session of its own: where the kernel shares processors among sessions
/// first, what is nice counts within one only.
pub fn step_aside() -> bool {
    let _leads_one_already = rustix::process::setsid();
    let lowest = rustix::process::nice(19).is_ok();
    let _best_effort = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut written = std::fs::write(AUTOGROUP, "19");
    // One in a tenth of a second is let through, of all ordinary users of the machine: others must not try in step.
    let wait = Duration::from_millis(100 + u64::from(std::process::id() % 64));
    while written.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        std::thread::sleep(wait);
        written = std::fs::write(AUTOGROUP, "19");
    }
    let is_kept = written.is_err_and(|error| error.kind() != ErrorKind::NotFound);
    lowest && !is_kept
}

/// Threads of the machine that run or want to, this one too; `None` when nobody says.
pub fn running_threads() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

/// Where a session is told how nice it is.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// Processors that this thread may run on.
pub fn allowed_processors() -> Option<usize> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
    let is_set = |at: &usize| allowed.is_set(*at).unwrap_or(false);
    Some((0..nix::sched::CpuSet::count()).filter(is_set).count())
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Ended {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// Shell convention: 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// Most that are reaped one after the other: who forks again and again is not waited for.
const REAPED: usize = 10_000;

/// Reaps what has ended; true when there is no child any more.
pub fn reap_the_rest() -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    for _ in 0..REAPED {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => return false,
            Err(nix::Error::ECHILD) => return true,
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Waits for one child (`pid` > 0) or any (-1). `None` when `block` is false and none has ended, or when there are no
/// children.
pub fn wait(pid: i32, block: bool) -> SysResult<Option<(i32, Ended)>> {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let flags = if block { WaitPidFlag::empty() } else { WaitPidFlag::WNOHANG };
    loop {
        return match waitpid(nix::unistd::Pid::from_raw(pid), Some(flags | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) => Ok(Some((pid.as_raw(), Ended::Exited(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                Ok(Some((pid.as_raw(), Ended::Killed(signal as i32))))
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => Ok(None),
            Ok(_) | Err(nix::Error::EINTR) => continue,
            Err(errno) => Err(errno).named(|| format!("waitpid({pid})")),
        };
    }
}

/// The number of this process.
pub fn own_id() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The children of this single-threaded process.
pub fn children() -> Vec<i32> {
    let own = own_id();
    // QUIRK(kernel): the list is there only with CONFIG_PROC_CHILDREN.
    let list = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
    if let Ok(list) = list {
        return list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    all().into_iter().filter(|pid| parent_of(*pid) == Some(own)).collect()
}

/// The parent of a process, from /proc.
pub fn parent_of(pid: i32) -> Option<i32> {
    stat_field(pid, 1)
}

/// The process group of a process.
pub fn group_of(pid: i32) -> Option<i32> {
    stat_field(pid, 2)
}

/// A field behind the name in /proc/PID/stat; 0 is the state.
fn stat_field(pid: i32, at: usize) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(at)?.parse().ok()
}

/// The process to which a thread belongs.
pub fn leader_of(tid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// All processes that can be seen.
pub fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A file of a process's directory in /proc.
pub fn describe(pid: i32, name: &str) -> Result<Vec<u8>, Errno> {
    std::fs::read(format!("/proc/{pid}/{name}"))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))
}

/// The number of our parent, from here.
pub fn parent_id() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// Sends a signal to a pid; a vanished process is fine.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: kill has no memory effects.
    let _gone = unsafe { libc::kill(pid, signal) };
}

/// Asks for SIGKILL when the parent dies. Call it last before the work: a change of credentials clears it.
pub fn die_with_parent() -> SysResult<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .named(|| "prctl(PR_SET_PDEATHSIG)".to_owned())
}

/// Has a program that is about to be started killed when the calling thread ends, however that happens: whoever starts it
/// waits for it in the same thread.
pub fn bind_to_this_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let bind = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(std::io::Error::from)
    };
    // SAFETY: between fork and exec there is one system call, without locks and memory of the heap.
    let _same = unsafe { command.pre_exec(bind) };
}

/// Makes orphans of our descendants our children.
pub fn become_subreaper() -> SysResult<()> {
    // SAFETY: prctl with integer arguments only.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()).named(|| "prctl(SUBREAPER)".to_owned()) }
}

/// From now on no program gains anything by set-uid bits or file capabilities. For good, also for children.
pub fn no_new_privileges() -> SysResult<()> {
    rustix::thread::set_no_new_privs(true).named(|| "prctl(PR_SET_NO_NEW_PRIVS)".to_owned())
}

/// Whether [`no_new_privileges`] holds already.
pub fn has_no_new_privileges() -> bool {
    rustix::thread::no_new_privs().unwrap_or(false)
}

/// Closes every descriptor from `first` up. Only for a process that uses none of them any more, not even to drop them.
pub fn close_from(first: u32) {
    // SAFETY: the caller uses none of these descriptors again.
    let _as_far_as_possible =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
}

/// Does nothing until a signal ends this process.
pub fn wait_for_the_end() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Enters the network of a namespace that is open.
pub fn enter_network(namespace: &OwnedFd) -> SysResult<()> {
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).named(|| "setns(network)".to_owned())
}

/// Marks every descriptor from `first` up close-on-exec.
pub fn close_on_exec_from(first: u32) -> SysResult<()> {
    // SAFETY: close_range with CLOEXEC only sets flags of descriptors of this process.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(last_errno()).named(|| "close_range".to_owned()) }
}

/// Tells programs that ask `uname` that this is the 32-bit machine of the same family, as `linux32` does.
pub fn become_32_bit() -> SysResult<()> {
    use nix::sys::personality::{self, Persona};
    // PER_LINUX32 is a number of its own, which nix does not name.
    personality::set(Persona::from_bits_retain(0x0008))
        .named(|| "personality(PER_LINUX32)".to_owned())
        .map(drop)
}

/// Gives a descriptor a fixed number (0, 1, 2) that survives exec.
pub fn place_fd(fd: &OwnedFd, number: i32) -> SysResult<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: dup2 closes whatever `number` was; callers only name the standard streams.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if result >= 0 { Ok(()) } else { Err(last_errno()).named(|| format!("dup2(_, {number})")) }
}

/// Replaces this process; returns only the error.
pub fn exec(path: &CString, argv: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execve(path, argv, env) {
        Err(errno) => Errno::from_raw_os_error(errno as i32),
        Ok(never) => match never {},
    }
}

/// Sets user, groups and group of this single-threaded process, groups first.
pub fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> SysResult<()> {
    let list: Vec<libc::gid_t> = groups.to_vec();
    // SAFETY: the pointer and the length belong to `list`. The raw call: libc's version signals other threads.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, list.len(), list.as_ptr()) };
    if result != 0 {
        return Err(last_errno()).named(|| format!("setgroups({groups:?})"));
    }
    set_user_and_group(uid, gid)
}

/// Sets user and group of this single-threaded process; it stays in its other groups.
pub fn set_user_and_group(uid: u32, gid: u32) -> SysResult<()> {
    // SAFETY: integer arguments only.
    if unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } != 0 {
        return Err(last_errno()).named(|| format!("setresgid({gid})"));
    }
    // SAFETY: integer arguments only.
    if unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } != 0 {
        return Err(last_errno()).named(|| format!("setresuid({uid})"));
    }
    Ok(())
}

/// Brings the loopback interface of this network namespace up.
pub fn loopback_up() -> SysResult<()> {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
            .named(|| "socket(AF_INET)".to_owned())?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `request` is.
    let result = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno()).named(|| "ioctl(SIOCSIFFLAGS, lo)".to_owned())
    }
}

/// Raises the limit of open files as far as it goes: every layer of a deep image is one.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _kept = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Overwrites this process's arguments and environment, which /proc shows to others: build arguments are nobody's
/// business in a RUN. Nothing in this process may read them afterwards.
pub fn hide_arguments() {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The name in parentheses may hold blanks; behind it the third field begins.
    let Some((_, fields)) = stat.rsplit_once(')') else { return };
    let fields: Vec<usize> = fields.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    // arg_start, arg_end, env_start, env_end are fields 48 to 51 (proc(5)).
    for pair in [45, 47] {
        if let (Some(start), Some(end)) = (fields.get(pair), fields.get(pair + 1))
            && *start != 0
            && end > start
        {
            // SAFETY: the kernel gave this writable part of our own stack for the strings that it copied there, and this
            // single-threaded process reads none of them any more.
            unsafe { std::ptr::write_bytes(*start as *mut u8, 0, end - start) };
        }
    }
}
