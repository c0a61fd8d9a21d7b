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

/// Waits for the end of all processes with the marker; the kernel wakes us, nothing is polled by the clock.
pub fn wait_until_gone(marker: &Marker) {
    for _ in 0..100 {
        let found = with(marker);
        if found.is_empty() {
            return;
        }
        for pid in found {
            let Some(pid) = Pid::from_raw(pid) else { continue };
            let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
            let ended = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap();
            assert_eq!(ended, 1, "process {} does not end", pid.as_raw_nonzero());
        }
    }
    panic!("processes with {marker} come again and again");
}

/// Mounts below a directory in the namespace of any process, as `PID MOUNTINFO`.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let mut found = Vec::new();
    for pid in all() {
        let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        found.extend(
            text.lines().filter(|line| line.contains(dir)).map(|line| format!("{pid} {line}")),
        );
    }
    found
}
