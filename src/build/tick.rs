//! The ticks in which file systems count time.
//!
//! Two changes within one tick have the same time. A step that makes again what the step before it made, a tick later
//! another time and in the same tick none, would have a layer that depends on how fast the machine is.

use super::store::Store;
use std::time::Duration;

/// Milliseconds between two times that the kernel gives to files, at most.
const LONGEST: u32 = 10;

/// File systems that give a file a time of its own when somebody looked at the last one, from Linux 6.13 on: ext4, XFS,
/// btrfs, tmpfs.
const FINE: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// Whether two changes of a file have the same time only when nothing looks at it between them, as a diff does.
pub(super) fn are_short(store: &Store) -> bool {
    let version = version(&rustix::system::uname().release().to_string_lossy());
    let kind = rustix::fs::statfs(store.sub("tmp")).map(|stat| stat.f_type as u32);
    version >= Some((6, 13)) && kind.is_ok_and(|kind| FINE.contains(&kind))
}

/// The first two numbers of what the kernel calls itself.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Waits until the kernel gives files a later time than this one (seconds and nanoseconds).
pub(super) fn outlive(time: (i64, u32)) {
    // Bounded, since times may lie in the future.
    for _ in 0..LONGEST {
        if super::stage::now() > time {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernels_are_told_apart_by_their_first_two_numbers() {
        for (release, expected) in [
            ("6.13.0-rc1", Some((6, 13))),
            ("6.6.87.2-microsoft-standard-WSL2", Some((6, 6))),
            ("5.15", Some((5, 15))),
            ("7.0-generic", Some((7, 0))),
            ("6", None),
            ("", None),
            ("next-20260101", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(version("6.9.1") < Some((6, 13)) && version("") < Some((6, 13)));
    }
}
