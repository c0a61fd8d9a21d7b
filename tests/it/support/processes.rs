//! Processes of a build, found by a number that only they have in their arguments; and mounts that somebody still has.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number of seconds so long and odd that no other process sleeps for it.
pub struct Marker(String);

impl Marker {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("7{:07}{number:03}", std::process::id()))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Processes that have the marker among their arguments.
pub fn with(marker: &Marker) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(marker.0.len()).any(|window| window == marker.0.as_bytes())
    };
    all().into_iter().filter(has).collect()
}

/// The process that started one.
pub fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// The processes that one started and that still are there.
pub fn children(pid: i32) -> Vec<i32> {
    all().into_iter().filter(|child| parent(*child) == pid).collect()
}

/// How nice one is, and the session that it is in for the scheduler, where that has any.
pub fn niceness(pid: i32) -> Option<(i32, Option<i32>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let own = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
    let session = fs::read_to_string(format!("/proc/{pid}/autogroup")).ok();
    let session = session.and_then(|text| text.trim().rsplit_once(" nice ")?.1.parse().ok());
    Some((own, session))
}

/// Bytes of a file that a process has open, by how its name begins; 0 when it has none.
pub fn open_bytes(pid: i32, name: &str) -> u64 {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_it = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with(name))
    };
    let mut found = entries.map(|entry| entry.path()).filter(is_it);
    found.next().and_then(|path| fs::metadata(path).ok()).map_or(0, |found| found.len())
}

/// Processes that the same one started, or that started it and so on, as others did one with the marker.
pub fn relatives(marker: &Marker) -> Vec<i32> {
    let above = |pid: &i32| Some(parent(*pid)).filter(|pid| *pid > 1);
    let ancestors: Vec<i32> = with(marker)
        .into_iter()
        .flat_map(|pid| std::iter::successors(above(&pid), above))
        .collect();
    all().into_iter().filter(|pid| ancestors.contains(&parent(*pid))).collect()
}

/// Waits for the end of all processes with the marker; the kernel wakes us, nothing is polled by the clock.
pub fn wait_until_gone(marker: &Marker) {
    for _ in 0..100 {
        let found = with(marker);
        if found.is_empty() {
            return;
        }
        for pid in found {
            assert!(ends(pid), "process {pid} does not end");
        }
    }
    panic!("processes with {marker} come again and again");
}

/// True when the process is gone, or is within a while.
pub fn ends(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

/// Mounts below a directory in the namespace of any process, as `PID MOUNTINFO`. Processes that are about to end are
/// waited for: one that is being killed has no arguments any more, and keeps its mounts a little longer.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    loop {
        let found = mounts_now(dir);
        let stays = |(pid, _): &&(i32, String)| !ends(*pid);
        if found.is_empty() || found.iter().any(|mount| stays(&mount)) {
            return found.into_iter().map(|(pid, line)| format!("{pid} {line}")).collect();
        }
    }
}

fn mounts_now(dir: &Path) -> Vec<(i32, String)> {
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let mut found = Vec::new();
    for pid in all() {
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains(dir));
        found.extend(lines.map(|line| (pid, line.to_owned())));
    }
    found
}
