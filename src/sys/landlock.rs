//! Landlock: giving up rights over what lies outside, for this process and all that it starts.
//!
//! Used where a RUN shares its process numbers, or even its whole file system view, with the container around it
//! (docs/run-sandbox.md). In a domain of Landlock a process cannot trace those outside (so their memory and
//! environment are out of reach), from version 6 of its interface on cannot signal them, and reaches only files below
//! the directories that were named.
#![allow(unsafe_code, reason = "Landlock has no wrapper in libc")]

use super::{Named, SysResult};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// The same numbers on every architecture.
const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;
const CREATE_VERSION: u32 = 1;
const RULE_PATH_BENEATH: i32 = 1;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;
const MAKE_BLOCK: u64 = 1 << 11;
const MOVE: u64 = 1 << 13;

/// Since which version of the interface signals can be scoped.
pub const SIGNALS: u32 = 6;

/// Since which version a file can be renamed or linked from one directory to another in a domain; before it, no build
/// would work.
const REFER: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Ruleset {
    fs: u64,
    net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Version of the interface; 0 where there is none.
pub fn version() -> u32 {
    // SAFETY: with the version flag the kernel takes no memory.
    let found = unsafe {
        libc::syscall(CREATE_RULESET, std::ptr::null::<Ruleset>(), 0_usize, CREATE_VERSION)
    };
    u32::try_from(found).unwrap_or(0)
}

/// All rights over files that a version knows.
fn file_rights(version: u32) -> u64 {
    let count = match version {
        0 => 0,
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << count) - 1
}

/// Puts this thread and its future children into a domain of its own: processes outside cannot be traced or (version
/// 6) signalled; with `beneath`, files are out of reach except below that directory. Needs SYS_ADMIN in this user
/// namespace or `no_new_privs`. False when the kernel has no Landlock, or one too old for what is asked.
pub fn confine(beneath: Option<BorrowedFd<'_>>) -> SysResult<bool> {
    let version = version();
    if version < REFER {
        return Ok(false);
    }
    let scoped = if version >= SIGNALS { SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL } else { 0 };
    let rights = file_rights(version);
    // A ruleset must handle something. Where no file is to be out of reach and nothing can be scoped, these two are
    // handled and given everywhere; moving files is refused by every ruleset about files that does not give it.
    let handled = match beneath {
        Some(_) => rights,
        None if scoped != 0 => 0,
        None => MAKE_BLOCK | MOVE,
    };
    let rules = create(&Ruleset { fs: handled, net: 0, scoped }, version)?;
    if let Some(dir) = beneath {
        allow(&rules, dir, rights)?;
    } else if handled != 0 {
        let root = super::fs::open_dir_path(std::path::Path::new("/"))?;
        allow(&rules, std::os::fd::AsFd::as_fd(&root), handled)?;
    }
    // SAFETY: a descriptor and a number.
    let done = unsafe { libc::syscall(RESTRICT_SELF, rules.as_raw_fd(), 0_u32) };
    check(done).named(|| "landlock_restrict_self()".to_owned())?;
    Ok(true)
}

fn create(rules: &Ruleset, version: u32) -> SysResult<OwnedFd> {
    // Older kernels refuse fields that they do not know unless these are zero; they are then.
    let size = match version {
        0..=3 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the kernel reads `size` bytes of a structure that has at least so many.
    let fd = unsafe { libc::syscall(CREATE_RULESET, std::ptr::from_ref(rules), size, 0_u32) };
    check(fd).named(|| "landlock_create_ruleset()".to_owned())?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn allow(rules: &OwnedFd, dir: BorrowedFd<'_>, allowed: u64) -> SysResult<()> {
    let rule = PathBeneath { allowed, parent: dir.as_raw_fd() };
    // SAFETY: the kernel reads the structure, which outlives the call.
    let done = unsafe {
        libc::syscall(ADD_RULE, rules.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0_u32)
    };
    check(done).named(|| "landlock_add_rule()".to_owned())
}

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{fs, process};
    use std::os::fd::AsFd;

    #[test]
    fn a_domain_ends_at_the_directory_and_at_its_processes() {
        if version() < SIGNALS {
            eprintln!("SKIPPED: this kernel has no Landlock with scopes");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("out"), "secret").unwrap();
        let inside = fs::open_dir_path(&dir.path().join("in")).unwrap();
        let outside = fs::open_dir_path(dir.path()).unwrap();
        let own = rustix::process::getpid();
        // A domain belongs to a thread; the other tests keep theirs.
        let found = std::thread::spawn(move || {
            process::no_new_privileges().unwrap();
            assert!(confine(Some(inside.as_fd())).unwrap());
            let made = fs::create_new(&inside, b"new", 0o600).is_ok();
            let read = fs::open_read(&outside, b"out").map(drop).unwrap_err().errno;
            let parent = rustix::process::getppid().unwrap();
            let signalled = rustix::process::test_kill_process(parent).unwrap_err();
            let own_signalled = rustix::process::test_kill_process(own).is_ok();
            (made, read, signalled, own_signalled)
        });
        assert_eq!(found.join().unwrap(), (true, Errno::ACCESS, Errno::PERM, true));
    }
}
