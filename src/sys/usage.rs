//! What processes used: processor time and memory.

use super::{Named, SysResult};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::time::Duration;

/// Processor time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spent {
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

/// What this process used so far, without its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads.
    pub spent: Spent,
    /// Most bytes of memory that it had at once.
    pub peak_memory: u64,
}

impl Spent {
    /// In programs, and in the kernel.
    pub fn times(self) -> (Duration, Duration) {
        (Duration::from_micros(self.user), Duration::from_micros(self.system))
    }
}

/// What this process used.
pub fn own() -> SysResult<Usage> {
    let used = getrusage(UsageWho::RUSAGE_SELF).named(|| "getrusage(RUSAGE_SELF)".to_owned())?;
    let spent = Spent { user: micros(used.user_time()), system: micros(used.system_time()) };
    let ours = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| high_water(&text));
    let kilobytes = ours.unwrap_or_else(|| u64::try_from(used.max_rss()).unwrap_or_default());
    Ok(Usage { spent, peak_memory: kilobytes.saturating_mul(1024) })
}

/// Kilobytes of memory at most, which `getrusage` tells of the process before `execve` too.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// What all children used that were waited for, and theirs; nothing when the kernel does not say.
pub fn of_children() -> Spent {
    getrusage(UsageWho::RUSAGE_CHILDREN)
        .map(|used| Spent { user: micros(used.user_time()), system: micros(used.system_time()) })
        .unwrap_or_default()
}

fn micros(time: TimeVal) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    let rest = u64::try_from(time.tv_usec()).unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        let used = own().unwrap();
        assert!(used.peak_memory > 1 << 20, "{used:?}");
        let spent = Spent { user: 1_500_000, system: 2 };
        assert_eq!(spent.times(), (Duration::from_millis(1500), Duration::from_micros(2)));
        assert_eq!(micros(TimeVal::new(2, 5)), 2_000_005);
        assert_eq!(high_water("Name:\tx\nVmHWM:\t   18204 kB\nVmRSS:\t 1 kB\n"), Some(18204));
        assert_eq!(high_water("Name:\tx\n"), None);
    }
}
