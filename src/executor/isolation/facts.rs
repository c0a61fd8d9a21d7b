//! What this process and the directory of a store are like, for `nativebuild doctor`: reads and harmless tries.

use crate::executor::refusal::Refusal;
use crate::sys::{Named, SysResult, caps, fs, landlock, probe, process};
use rustix::fs::{FileType, StatVfsMountFlags};
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The file system under a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreFacts {
    /// Its type, as /proc/filesystems calls it, or its number.
    pub kind: String,
    /// Mount flags that matter: `nosuid`, `nodev`, `noexec`, `ro`.
    pub flags: Vec<&'static str>,
    /// `user.*` attributes can be kept.
    pub xattrs: bool,
    /// Files can share their data.
    pub reflinks: bool,
    /// Directories say the type of their entries.
    pub types: bool,
}

/// This process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessFacts {
    /// Major and minor version of the kernel.
    pub kernel: String,
    /// User id.
    pub uid: u32,
    /// Capabilities, as the kernel's bits in hex.
    pub capabilities: String,
    /// Set-uid programs such as newuidmap gain nothing.
    pub no_new_privileges: bool,
    /// A seccomp filter is loaded.
    pub seccomp: bool,
    /// Profile of AppArmor, or context of SELinux.
    pub confined_by: Option<String>,
    /// Version of Landlock; 0 when it is not there.
    pub landlock: u32,
    /// Mounts that hide parts of /proc.
    pub masks_of_proc: usize,
    /// Our cgroup can be divided by us.
    pub cgroup: String,
    /// Why user-mode networking cannot work; `None` when it can.
    pub no_tun: Option<String>,
}

/// Looks at the file system of a directory.
pub fn of_store(dir: &Path) -> Result<StoreFacts, Refusal> {
    let refused = |error| Refusal::new("looking at the store", &error);
    let opened = fs::open_dir_path(dir).map_err(refused)?;
    let stat = rustix::fs::fstatfs(&opened).named(|| "fstatfs()".to_owned()).map_err(refused)?;
    let mount = rustix::fs::fstatvfs(&opened).named(|| "fstatvfs()".to_owned()).map_err(refused)?;
    let named = [
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
        (StatVfsMountFlags::RDONLY, "ro"),
    ];
    let flags = named.iter().filter(|(flag, _)| mount.f_flag.contains(*flag));
    let name = format!("trial-{}", process::own_id());
    let tried = (|| {
        fs::mkdir(&opened, name.as_bytes(), 0o700)?;
        let inner = fs::open_dir(&opened, name.as_bytes())?;
        Ok((xattrs(&inner).is_ok(), reflinks(&inner).is_ok(), types(&inner)))
    })();
    let _gone = fs::remove_tree(&opened, name.as_bytes());
    let (xattrs, reflinks, types) = tried.map_err(refused)?;
    let kind = kind_of(stat.f_type as u32);
    Ok(StoreFacts { kind, flags: flags.map(|(_, name)| *name).collect(), xattrs, reflinks, types })
}

fn xattrs(dir: &OwnedFd) -> SysResult<()> {
    fs::set_xattr(dir, b".", b"user.nativebuild.trial", b"1")
}

fn reflinks(dir: &OwnedFd) -> SysResult<()> {
    let from = fs::create_new(dir, b"a", 0o600)?;
    let to = fs::create_new(dir, b"b", 0o600)?;
    rustix::fs::ioctl_ficlone(&to, &from).named(|| "ioctl(FICLONE)".to_owned())
}

fn types(dir: &OwnedFd) -> bool {
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    let mut known = false;
    while let Some(Ok(entry)) = entries.next() {
        known |= entry.file_type() != FileType::Unknown;
    }
    known
}

/// Types that stores lie on, by the magic numbers of linux/magic.h.
fn kind_of(magic: u32) -> String {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        _ => return format!("{magic:#x}"),
    };
    name.to_owned()
}

/// Looks at this process.
pub fn of_process() -> ProcessFacts {
    let (major, minor) = probe::kernel_version().unwrap_or_default();
    let capabilities = caps::effective().map_or(0, |caps| caps.bits());
    let status = probe::read_host_file("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    ProcessFacts {
        kernel: format!("{major}.{minor}"),
        uid: rustix::process::geteuid().as_raw(),
        capabilities: format!("{capabilities:x}"),
        no_new_privileges: process::has_no_new_privileges(),
        seccomp: field("Seccomp").is_some_and(|mode| mode != "0"),
        confined_by: confinement(),
        landlock: landlock::version(),
        masks_of_proc: masks_of_proc(),
        cgroup: cgroup(),
        no_tun: no_tun(),
    }
}

fn confinement() -> Option<String> {
    let text = probe::read_host_file("/proc/self/attr/current")?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty() && text != "unconfined").then(|| text.to_owned())
}

/// Mounts below /proc: with any of these that the kernel does not know as its own it refuses a new one.
fn masks_of_proc() -> usize {
    let mounts = probe::read_host_file("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| point.starts_with("/proc/") && *point != "/proc/sys/fs/binfmt_misc")
        .count()
}

fn cgroup() -> String {
    let own = probe::read_host_file("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return "version 1".to_owned();
    };
    if own.lines().count() > 1 {
        return "versions 1 and 2 mixed".to_owned();
    }
    let dir = format!("/sys/fs/cgroup{path}");
    let writable = rustix::fs::access(&*dir, rustix::fs::Access::WRITE_OK).is_ok();
    format!("version 2, {}", if writable { "ours" } else { "not ours to divide" })
}

fn no_tun() -> Option<String> {
    match fs::open_read_path(Path::new("/dev/net/tun")) {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}
