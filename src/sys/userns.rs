//! Entering a user and a mount namespace, and the id maps of a process.
//!
//! Must run before the first thread: the kernel refuses a new user namespace to a threaded process. The helpers
//! newuidmap and newgidmap must be started from outside the new namespace, so a child is forked first and waits.

use super::{Named, SysResult, fork, mount, process};
use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use std::io::{Read, Write};
use std::process::Command;

/// One line of an id map: `inside`, `outside`, `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Maps for users and groups.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<MapRange>,
    /// Groups.
    pub gids: Vec<MapRange>,
}

/// How a new user namespace gets its ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maps {
    /// By newuidmap and newgidmap.
    Helpers(IdMaps),
    /// Those that we have, each as itself; needs SETUID, SETGID and SETFCAP.
    Own,
    /// Ourselves as root, and nobody else.
    Single,
}

/// True in the first user namespace, where uid 0 is the real root. A namespace below it may have the same ids
/// (systemd-nspawn's `PrivateUsers=full`), and yet not what only the first one may do.
pub fn is_initial() -> bool {
    // The kernel's PROC_USER_INIT_INO, the same on every machine.
    const NAME: &str = "user:[4026531837]";
    let ids = read_text("/proc/self/uid_map");
    let all_ids = ids.is_some_and(|text| text.split_whitespace().eq(["0", "0", "4294967295"]));
    all_ids && std::fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == NAME)
}

/// How many ids are mapped in this namespace.
pub fn mapped_ids() -> u64 {
    read_text("/proc/self/uid_map").map_or(0, |text| {
        text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
    })
}

fn read_text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A new mount namespace with private propagation.
pub fn enter_mount_namespace() -> SysResult<()> {
    unshare_retrying(CloneFlags::CLONE_NEWNS)?;
    mount::make_private()
}

/// EINVAL right after a thread was joined means that the kernel has not finished it yet.
fn unshare_retrying(flags: CloneFlags) -> SysResult<()> {
    for _ in 0..200 {
        match unshare(flags) {
            Err(nix::Error::EINVAL) => std::thread::yield_now(),
            other => return other.named(|| format!("unshare({flags:?})")),
        }
    }
    unshare(flags).named(|| format!("unshare({flags:?})"))
}

/// Failure to enter: which step, and what the kernel or the helper said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnterError {
    /// The kernel refused the namespace.
    Unshare(super::SysError),
    /// A helper program failed.
    Helper(String),
    /// Mounts could not be made private.
    Mount(super::SysError),
}

/// Enters a new user and mount namespace in which we are root and `maps` hold.
pub fn enter_user_namespace(maps: &Maps) -> Result<(), EnterError> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let helper_error = |error: &dyn std::fmt::Display| EnterError::Helper(error.to_string());
    let (mut ready_read, mut ready_write) = std::io::pipe().map_err(|e| helper_error(&e))?;
    let (mut done_read, mut done_write) = std::io::pipe().map_err(|e| helper_error(&e))?;
    let Some(helper) = fork::fork().map_err(EnterError::Unshare)? else {
        drop((ready_write, done_read));
        let mut go = [0_u8; 1];
        let text = match ready_read.read_exact(&mut go) {
            Ok(()) => write_maps(pid, maps).err().unwrap_or_default(),
            Err(_) => process::exit_now(0),
        };
        let _told = done_write.write_all(text.as_bytes());
        process::exit_now(i32::from(!text.is_empty()))
    };
    drop((ready_read, done_write));
    let entered = unshare_retrying(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
    let mut said = String::new();
    if entered.is_ok() {
        ready_write.write_all(b"g").map_err(|e| helper_error(&e))?;
        done_read.read_to_string(&mut said).map_err(|e| helper_error(&e))?;
    }
    drop(ready_write);
    let _reaped = process::wait(helper, true);
    entered.map_err(EnterError::Unshare)?;
    if !said.is_empty() {
        return Err(EnterError::Helper(said));
    }
    // The other groups stay: the user may go on reading what they open, the sockets of engines among it. A RUN has
    // groups of its own.
    process::set_user_and_group(0, 0).map_err(EnterError::Unshare)?;
    mount::make_private().map_err(EnterError::Mount)
}

/// Gives the new user namespace of a child of ours the ids that we have, each as itself.
pub fn hand_down_ids(pid: i32) -> SysResult<()> {
    for kind in ["uid_map", "gid_map"] {
        let own = read_text(&format!("/proc/self/{kind}")).unwrap_or_default();
        let path = format!("/proc/{pid}/{kind}");
        std::fs::write(&path, identity_map(&own))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .named(|| format!("write({path})"))?;
    }
    Ok(())
}

/// The map of a child namespace with the same ids: one line for each of ours, since none may span two of them.
fn identity_map(own: &str) -> String {
    own.lines().fold(String::new(), |map, line| {
        let mut words = line.split_whitespace();
        match (words.next(), words.nth(1)) {
            (Some(inside), Some(count)) => map + &format!("{inside} {inside} {count}\n"),
            _ => map,
        }
    })
}

fn write_maps(pid: i32, maps: &Maps) -> Result<(), String> {
    match maps {
        Maps::Helpers(maps) => run_helpers(pid, maps),
        Maps::Own => hand_down_ids(pid).map_err(|error| error.to_string()),
        Maps::Single => write_single(pid).map_err(|error| error.to_string()),
    }
}

/// The one map that needs no privilege. Who has it may not call setgroups.
fn write_single(pid: i32) -> SysResult<()> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let files = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (name, text) in files {
        let path = format!("/proc/{pid}/{name}");
        std::fs::write(&path, text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .named(|| format!("write({path})"))?;
    }
    Ok(())
}

fn run_helpers(pid: i32, maps: &IdMaps) -> Result<(), String> {
    for (program, map) in [("newuidmap", &maps.uids), ("newgidmap", &maps.gids)] {
        let mut command = Command::new(program);
        command.arg(pid.to_string());
        for range in map {
            command.args([
                range.inside.to_string(),
                range.outside.to_string(),
                range.count.to_string(),
            ]);
        }
        let output =
            command.output().map_err(|error| format!("cannot start {program}: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    Ok(())
}

/// The subordinate ids of a user in the text of /etc/subuid or /etc/subgid, as (first, count).
pub fn subordinate_ranges(text: &str, user: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let own = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.trim().split(':');
            let who = parts.next()?;
            if Some(who) != user && who != own {
                return None;
            }
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
        .collect()
}

/// A map of ourselves as 0 and the subordinate ranges from 1 up, at most 65535 of them.
pub fn range_map(own: u32, ranges: &[(u32, u32)]) -> Vec<MapRange> {
    let mut map = vec![MapRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for (first, count) in ranges {
        let count = (*count).min(65536_u32.saturating_sub(next));
        if count > 0 {
            map.push(MapRange { inside: next, outside: *first, count });
            next += count;
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_found_by_name_and_number() {
        let text = "a:100000:65536\n1000:200000:10\nbad\nb:1:x\n";
        assert_eq!(subordinate_ranges(text, Some("a"), 7), [(100_000, 65536)]);
        assert_eq!(subordinate_ranges(text, None, 1000), [(200_000, 10)]);
        assert_eq!(subordinate_ranges(text, Some("b"), 7), []);
    }

    #[test]
    fn a_child_namespace_has_the_same_ids() {
        let own = "         0       1000          1\n         1     100000      65535\n";
        assert_eq!(identity_map(own), "0 0 1\n1 1 65535\n");
    }

    #[test]
    fn range_map_stops_at_65536_ids() {
        let map = range_map(1000, &[(100_000, 65536)]);
        assert_eq!(map[0], MapRange { inside: 0, outside: 1000, count: 1 });
        assert_eq!(map[1], MapRange { inside: 1, outside: 100_000, count: 65535 });
        assert_eq!(range_map(1, &[(5, 10), (50, 10)])[2].inside, 11);
    }
}
