//! What a RUN sees mounted, as an ordered list; pure, so that it can be read and tested without privileges.
//!
//! [`standard`] is the list for every RUN; user mounts come behind it. `init` walks the list once. The order is
//! described in docs/run-sandbox.md.

use crate::sys::mount::MountFlags;
use serde::{Deserialize, Serialize};

/// One thing to do while the rootfs is set up. Paths are in the rootfs, absolute; links in them are followed inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountOp {
    /// A new file system of this kind.
    Fresh {
        /// For example `tmpfs`.
        kind: String,
        /// Options; an empty value is a flag.
        options: Vec<(String, String)>,
        /// Attributes.
        flags: MountFlags,
        /// Where.
        target: String,
    },
    /// A mount that the builder made, by its number among the descriptors that travel with the spec.
    Given {
        /// Number of the descriptor.
        fd: usize,
        /// Where.
        target: String,
    },
    /// The /proc that we see ourselves, with all that hides parts of it.
    OuterProc,
    /// A node of the host's /dev.
    Device {
        /// Name in /dev.
        name: String,
    },
    /// sysfs: a new one where that is allowed, else the host's read-only, else nothing.
    Sysfs,
    /// A directory in a file system that this list mounted.
    Directory {
        /// Where.
        path: String,
        /// Mode.
        mode: u32,
    },
    /// An empty file in a file system that this list mounted, to mount another on.
    File {
        /// Where.
        path: String,
    },
    /// A mount target inside another mount; what is missing of it is made, whatever that changes in the other's files.
    Point {
        /// Where.
        path: String,
        /// Whether a directory is needed, or a file.
        is_dir: bool,
    },
    /// A link in a file system that this list mounted.
    Symlink {
        /// What it says.
        target: String,
        /// Where.
        path: String,
    },
    /// Hides a file or a directory; a missing one is fine.
    Mask {
        /// What.
        path: String,
    },
    /// Makes a path read-only; a missing one is fine.
    ReadOnly {
        /// What.
        path: String,
    },
}

/// Nodes that /dev has.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Directories that /dev has.
pub const DIRECTORIES: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

/// Links that /dev has: path and target.
pub const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Paths that nobody in a RUN may read (the union of what Docker and containerd hide).
pub const MASKED: [&str; 13] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
];

/// Paths that nobody in a RUN may write.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Directories that must exist in the rootfs for [`standard`].
pub const MOUNT_POINTS: [&str; 3] = ["/dev", "/proc", "/sys"];

fn fresh(kind: &str, target: &str, options: &[(&str, &str)], flags: MountFlags) -> MountOp {
    MountOp::Fresh {
        kind: kind.to_owned(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags,
        target: target.to_owned(),
    }
}

/// The mounts of every RUN. `insecure` leaves nothing masked.
pub fn standard(insecure: bool) -> Vec<MountOp> {
    let plain = MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false };
    let mut list = vec![
        fresh("proc", "/proc", &[], plain),
        // Without a mode tmpfs is 1777, and then fs.protected_regular refuses `> /dev/null`.
        fresh("tmpfs", "/dev", &[("mode", "755"), ("size", "65536k")], plain),
    ];
    list.extend(DEVICES.iter().map(|name| MountOp::Device { name: (*name).to_owned() }));
    for path in DIRECTORIES {
        list.push(MountOp::Directory { path: path.to_owned(), mode: 0o755 });
    }
    list.push(fresh(
        "devpts",
        "/dev/pts",
        &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")],
        MountFlags { nosuid: true, noexec: true, ..MountFlags::default() },
    ));
    list.push(fresh("tmpfs", "/dev/shm", &[("mode", "1777"), ("size", "65536k")], plain));
    list.push(fresh("mqueue", "/dev/mqueue", &[], plain));
    for (path, target) in LINKS {
        list.push(MountOp::Symlink { target: target.to_owned(), path: path.to_owned() });
    }
    list.push(MountOp::Sysfs);
    if !insecure {
        list.extend(MASKED.iter().map(|path| MountOp::Mask { path: (*path).to_owned() }));
        list.extend(READ_ONLY.iter().map(|path| MountOp::ReadOnly { path: (*path).to_owned() }));
    }
    list
}

/// Shows the /proc around instead of a new one.
pub fn share_processes(list: &mut [MountOp]) {
    for op in list {
        if matches!(op, MountOp::Fresh { kind, .. } if kind == "proc") {
            *op = MountOp::OuterProc;
        }
    }
}

/// Gives /dev/shm another size.
pub fn resize_shm(list: &mut [MountOp], bytes: u64) {
    for op in list {
        if let MountOp::Fresh { target, options, .. } = op
            && target == "/dev/shm"
        {
            for (_, value) in options.iter_mut().filter(|(name, _)| name == "size") {
                *value = bytes.to_string();
            }
        }
    }
}

/// Text of /etc/hosts in a RUN on a host of that name, with further names and their addresses.
pub fn hosts(hostname: &str, further: &[(String, String)]) -> String {
    let own =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    further.iter().fold(own, |text, (name, address)| text + address + "\t" + name + "\n")
}

/// Which name servers a RUN has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServers {
    /// The host's.
    Host,
    /// Those of the host that are not on a loopback address, which is of no use in another network namespace.
    Remote,
    /// Only this one.
    Only(&'static str),
}

/// Text of /etc/resolv.conf in a RUN, from the host's.
pub fn resolv_conf(host: &str, servers: NameServers) -> String {
    let kept = |line: &&str| {
        let mut words = line.split_whitespace();
        let server = (words.next() == Some("nameserver")).then(|| words.next()).flatten();
        match (servers, server) {
            (NameServers::Host, _) | (_, None) => true,
            (NameServers::Remote, Some(ip)) => !(ip.starts_with("127.") || ip == "::1"),
            (NameServers::Only(_), Some(_)) => false,
        }
    };
    let text = host.lines().filter(kept).fold(String::new(), |text, line| text + line + "\n");
    match servers {
        NameServers::Only(server) => text + "nameserver " + server + "\n",
        NameServers::Host | NameServers::Remote => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_a_mount_comes_after_it() {
        let list = standard(false);
        let at = |wanted: &str| {
            list.iter()
                .position(|op| matches!(op, MountOp::Fresh { target, .. } if target == wanted))
        };
        assert!(at("/dev") < at("/dev/pts"));
        let masks = list.iter().position(|op| matches!(op, MountOp::Mask { .. }));
        assert!(at("/proc") < masks);
        assert!(!standard(true).iter().any(|op| matches!(op, MountOp::Mask { .. })));
    }

    #[test]
    fn no_device_made_in_a_run_can_be_opened() {
        for op in standard(false) {
            if let MountOp::Fresh { target, flags, .. } = op {
                // The six nodes are mounts of their own, so that nobody can make and open another one beside them.
                assert_eq!(flags.nodev, target != "/dev/pts", "{target}");
            }
        }
    }

    #[test]
    fn settings_change_the_hosts_and_the_shared_memory() {
        let further = [("a".to_owned(), "10.0.0.1".to_owned()), ("b".to_owned(), "::2".to_owned())];
        assert_eq!(
            hosts("h", &further),
            "127.0.0.1\tlocalhost h\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\ta\n::2\tb\n"
        );
        let mut list = standard(false);
        resize_shm(&mut list, 4096);
        let of = |target: &str| {
            list.iter().find_map(|op| match op {
                MountOp::Fresh { target: at, options, .. } if at == target => Some(options.clone()),
                _ => None,
            })
        };
        let pairs = |size: &str, mode: &str| {
            Some(
                [("mode", mode), ("size", size)]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .to_vec(),
            )
        };
        assert_eq!((of("/dev/shm"), of("/dev")), (pairs("4096", "1777"), pairs("65536k", "755")));
    }

    #[test]
    fn loopback_name_servers_go_with_the_private_network() {
        let host = "search x\nnameserver 127.0.0.53\nnameserver 1.1.1.1\n";
        assert_eq!(resolv_conf(host, NameServers::Host), host);
        assert_eq!(resolv_conf(host, NameServers::Remote), "search x\nnameserver 1.1.1.1\n");
        let only = NameServers::Only("10.0.2.3");
        assert_eq!(resolv_conf(host, only), "search x\nnameserver 10.0.2.3\n");
    }
}
