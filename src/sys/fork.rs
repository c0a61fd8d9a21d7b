//! New processes: clone with namespaces, fork, and one that has our memory. For single-threaded processes only.
//!
//! The threaded builder never forks (a fork of a big parent is slow, and only async-signal-safe code may run after it);
//! the spawner does, see `executor::spawner`.
#![allow(unsafe_code, reason = "clone3 and fork have no safe wrapper")]

use super::process::last_errno;
use super::{Named, SysResult};
use nix::sched::CloneFlags;
use nix::unistd::ForkResult;
use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// What a clone returned.
#[derive(Debug)]
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the child's pid and a descriptor of it.
    Parent {
        /// Pid as the caller sees it.
        pid: i32,
        /// Becomes readable when the child ends.
        pidfd: OwnedFd,
    },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Clones this single-threaded process into new namespaces, like fork.
pub fn clone_into(namespaces: CloneFlags) -> SysResult<Cloned> {
    let mut pidfd: i32 = -1;
    let args = CloneArgs {
        flags: namespaces.bits() as u64 | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: no CLONE_VM and no new stack, so this is a fork of a single-threaded process; `args` and `pidfd` are
    // valid for the call.
    let mut result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if result < 0 && last_errno() == Errno::NOSYS {
        result = clone_old(namespaces, &mut pidfd);
    }
    match result {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel just stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
        _ => Err(last_errno()).named(|| format!("clone3({namespaces:?})")),
    }
}

/// Docker's filter answers ENOSYS to clone3; clone(2) takes the same flags.
fn clone_old(namespaces: CloneFlags, pidfd: &mut i32) -> libc::c_long {
    let flags = namespaces.bits() as libc::c_ulong
        | libc::CLONE_PIDFD as libc::c_ulong
        | libc::SIGCHLD as libc::c_ulong;
    // SAFETY: as above; a null stack means that the child goes on with a copy of ours.
    unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, std::ptr::from_mut(pidfd), 0_usize, 0_usize)
    }
}

/// Forks this single-threaded process; `None` in the child.
pub fn fork() -> SysResult<Option<i32>> {
    // SAFETY: callers are single-threaded, so ordinary code may run in the child.
    match unsafe { nix::unistd::fork() }.named(|| "fork()".to_owned())? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child.as_raw())),
    }
}

/// Bytes of stack for a process that has our memory.
const STACK: usize = 1 << 20;

/// Does something in a new process that has the memory of this single-threaded one, which stands still until that starts
/// a program or ends; it ends with the code that `child` returns. Nothing is copied, as fork would do, and what it writes to
/// memory is ours: it must leave everything in order there before it starts a program.
pub fn fork_in_our_memory(child: &mut dyn FnMut() -> i32) -> SysResult<i32> {
    extern "C" fn begin(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: what was given to clone below, and lives while the caller stands still.
        let child = unsafe { &mut *child.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    let stack = Stack::new()?;
    let mut child = child;
    // SAFETY: the stack is ours and grows down from its end; the caller, who owns all that the child uses, does not go on
    // before the child has a memory of its own or none. CLONE_VM shares neither descriptors nor signal handlers.
    let pid = unsafe {
        libc::clone(
            begin,
            stack.end(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut child).cast(),
        )
    };
    if pid < 0 { Err(last_errno()).named(|| "clone(CLONE_VM)".to_owned()) } else { Ok(pid) }
}

/// Memory whose first page nobody can use.
struct Stack(*mut libc::c_void);

impl Stack {
    fn new() -> SysResult<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping where the kernel likes.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), STACK, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(last_errno()).named(|| "mmap(stack)".to_owned());
        }
        let stack = Self(start);
        // SAFETY: the first page of the mapping, which nobody uses yet. No page is larger than this.
        if unsafe { libc::mprotect(start, STACK / 16, libc::PROT_NONE) } != 0 {
            return Err(last_errno()).named(|| "mprotect(stack)".to_owned());
        }
        Ok(stack)
    }

    /// Where it begins to be used.
    fn end(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nobody uses any more.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::{Ended, wait};
    use super::*;

    #[test]
    fn what_a_process_in_our_memory_writes_is_there_when_we_go_on() {
        let mut said = Vec::new();
        let pid = fork_in_our_memory(&mut || {
            said.extend_from_slice(b"from the child");
            7
        });
        let pid = pid.expect("a process can be made");
        assert_eq!(said, b"from the child");
        assert_eq!(wait(pid, true), Ok(Some((pid, Ended::Exited(7)))));
    }

    #[test]
    fn it_has_descriptors_and_a_directory_of_its_own() {
        let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
        let before = std::env::current_dir().expect("there is a directory");
        let mut elsewhere = None;
        let pid = fork_in_our_memory(&mut || {
            super::super::process::close_from(3);
            let moved = rustix::process::chdir("/");
            elsewhere = std::env::current_dir().ok();
            i32::from(moved.is_err())
        });
        let pid = pid.expect("a process can be made");
        assert_eq!(wait(pid, true), Ok(Some((pid, Ended::Exited(0)))));
        assert_eq!(elsewhere.as_deref(), Some(std::path::Path::new("/")));
        assert_eq!(std::env::current_dir().ok(), Some(before));
        std::io::Write::write_all(&mut writer, b"x").expect("it is still open");
        drop(reader);
    }
}
