//! Places where a build may run, imitated on this machine without a container runtime (isolation.md §4).
//!
//! An [`Environment`] is data: who runs, with which capabilities, what the kernel refuses, what of /proc is covered, what
//! the store lies on. [`Environment::command`] turns it into a list of [`Step`]s that a new process does between fork and
//! exec. Nothing of it outlives that process: mounts are in a namespace of its own, the rest is its own state.
//! `environments.rs` compares the imitations with podman.

#![allow(
    unsafe_code,
    reason = "the calls between fork and exec, and those that give up rights, are raw system calls"
)]

use super::{Said, World, have, is_root, program, user_ids};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Docker's capabilities, podman's, and one more.
pub const DOCKER: u64 = 0xa804_25fb;
pub const PODMAN: u64 = 0x8004_05fb;
pub const SYS_ADMIN: u64 = 1 << 21;

/// A number that no machine has a name for.
const STRANGER: u32 = 54_321;

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    Root,
    /// The ordinary user, with subordinate ids.
    User,
    /// A number without a name and without subordinate ids.
    Number(u32),
}

/// What a filter refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    Nothing,
    /// Mounts, but no namespaces.
    Mounts,
    /// What podman's profile refuses.
    Podman,
    /// What Docker's profile refuses to those without `SYS_ADMIN`.
    Docker,
    /// What it refuses even then.
    DockerAdmin,
}

/// What the store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// The host's file system.
    Plain,
    /// An overlay, as a container's root directory is one.
    Overlay,
    /// A volume without set-uid programs and devices.
    Volume,
}

/// A place to build.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    pub name: &'static str,
    pub runs: Runs,
    /// All that it can ever have; `None`: all there are.
    pub capabilities: Option<u64>,
    pub refuses: Refuses,
    /// Parts of /proc and /sys are covered.
    pub masked: bool,
    pub no_new_privileges: bool,
    /// `user.max_user_namespaces` is 0.
    pub no_user_namespaces: bool,
    pub disk: Disk,
    /// The one setting that gives more.
    pub more: &'static str,
}

/// Nothing imitated.
pub const HOST: Environment = Environment {
    name: "host, root",
    runs: Runs::Root,
    capabilities: None,
    refuses: Refuses::Nothing,
    masked: false,
    no_new_privileges: false,
    no_user_namespaces: false,
    disk: Disk::Plain,
    more: "",
};

/// A container of Docker's with its defaults.
const CONTAINER: Environment = Environment {
    name: "docker run",
    capabilities: Some(DOCKER),
    refuses: Refuses::Docker,
    masked: true,
    disk: Disk::Overlay,
    more: "`--security-opt seccomp=unconfined`",
    ..HOST
};

/// The columns of the specification's table, and what lies beside them.
pub const ALL: &[Environment] = &[
    HOST,
    Environment { name: "host, user", runs: Runs::User, ..HOST },
    Environment {
        name: "host, user without subordinate ids",
        more: "`usermod --add-subuids`, `--add-subgids`",
        runs: Runs::Number(STRANGER),
        ..HOST
    },
    Environment {
        name: "host, user, no user namespaces",
        more: "`sysctl user.max_user_namespaces`",
        runs: Runs::User,
        no_user_namespaces: true,
        ..HOST
    },
    Environment {
        name: "podman run",
        more: "`--security-opt unmask=ALL`",
        capabilities: Some(PODMAN),
        refuses: Refuses::Podman,
        ..CONTAINER
    },
    Environment {
        name: "podman run --user 1000",
        more: "no `--user`",
        runs: Runs::Number(STRANGER),
        capabilities: Some(PODMAN),
        refuses: Refuses::Podman,
        ..CONTAINER
    },
    CONTAINER,
    Environment { name: "docker run, store on a volume", disk: Disk::Volume, ..CONTAINER },
    Environment {
        name: "docker run --user 1000",
        more: "`--security-opt seccomp=unconfined`",
        runs: Runs::Number(STRANGER),
        ..CONTAINER
    },
    Environment {
        name: "docker run --security-opt seccomp=unconfined",
        more: "a volume for the store",
        refuses: Refuses::Nothing,
        ..CONTAINER
    },
    Environment {
        name: "docker run --security-opt seccomp=unconfined, store on a volume",
        more: "`--security-opt systempaths=unconfined`",
        refuses: Refuses::Nothing,
        disk: Disk::Volume,
        ..CONTAINER
    },
    Environment {
        name: "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined",
        more: "a volume for the store",
        refuses: Refuses::Nothing,
        masked: false,
        ..CONTAINER
    },
    Environment {
        name: "docker run, namespaces allowed and mounts refused",
        more: "no AppArmor profile",
        refuses: Refuses::Mounts,
        ..CONTAINER
    },
    Environment {
        name: "docker run --cap-add SYS_ADMIN",
        more: "a volume for the store",
        capabilities: Some(DOCKER | SYS_ADMIN),
        refuses: Refuses::DockerAdmin,
        ..CONTAINER
    },
    Environment {
        name: "docker run --privileged",
        more: "a volume for the store",
        disk: Disk::Overlay,
        ..HOST
    },
    Environment {
        name: "Kubernetes, restricted",
        more: "`seccompProfile: Unconfined`",
        runs: Runs::Number(STRANGER),
        capabilities: Some(0),
        no_new_privileges: true,
        ..CONTAINER
    },
    Environment {
        name: "Kubernetes, non-root, seccomp Unconfined",
        more: "`procMount: Unmasked`",
        runs: Runs::Number(STRANGER),
        capabilities: Some(0),
        refuses: Refuses::Nothing,
        no_new_privileges: true,
        ..CONTAINER
    },
];

/// The environment of this name.
pub fn named(name: &str) -> &'static Environment {
    ALL.iter().find(|one| one.name == name).unwrap()
}

impl Environment {
    /// A world in which it can run; none when the tests do not run as root.
    pub fn world(&self) -> Option<World> {
        if !have("root", is_root()) {
            return None;
        }
        let world = World::root()?;
        for name in ["disk", "disk/upper", "disk/work"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        self.give(&world);
        Some(world)
    }

    /// Uid and gid of who runs the program.
    pub fn ids(&self) -> (u32, u32) {
        match self.runs {
            Runs::Root => (0, 0),
            Runs::User => user_ids(),
            Runs::Number(number) => (number, number),
        }
    }

    /// Gives all files of a world to who runs the program.
    pub fn give(&self, world: &World) {
        let (uid, gid) = self.ids();
        let owner = format!("{uid}:{gid}");
        let done = Command::new("chown").args(["-R", "-h", &owner]).arg(world.path("")).status();
        assert!(done.unwrap().success());
    }

    /// A program in there.
    pub fn command(&self, world: &World, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = world.command(program);
        let steps = self.steps(world);
        // SAFETY: the closure only makes system calls with what was allocated before the fork.
        unsafe {
            command.pre_exec(move || steps.iter().try_for_each(Step::take));
        }
        command
    }

    /// The program with arguments.
    pub fn run(&self, world: &World, args: &[&str]) -> Said {
        Said::of(self.command(world, program()).args(args).output().unwrap())
    }

    /// Builds the context with this Dockerfile.
    pub fn build(&self, world: &World, dockerfile: &str, args: &[&str]) -> Said {
        world.file("Dockerfile", dockerfile);
        self.give(world);
        let context = world.context();
        let fixed = ["build", "--progress", "plain"];
        self.run(world, &[&fixed[..], args, &[context.to_str().unwrap()]].concat())
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.no_user_namespaces {
            steps.push(Step::UserNamespace);
            steps.push(Step::Write(c("/proc/sys/user/max_user_namespaces"), b"0\n"));
        }
        steps.push(Step::MountNamespace);
        match self.disk {
            Disk::Plain => {}
            Disk::Overlay => steps.push(overlay(world)),
            Disk::Volume => {
                let store = world.store();
                steps.push(Step::bind(&store, &store, 0));
                let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_NOSUID | libc::MS_NODEV;
                steps.push(Step::Mount(c(""), path(&store), c(""), flags, c("")));
            }
        }
        if self.masked {
            steps.extend(masks());
        }
        if self.refuses != Refuses::Nothing {
            steps.push(Step::Filter(super::filter::program(self.refuses)));
        }
        if let Some(set) = self.capabilities {
            steps.push(Step::Bound(set));
        }
        match (self.ids(), self.capabilities) {
            ((0, _), None) => {}
            ((0, _), Some(set)) => steps.push(Step::Capabilities(set)),
            ((uid, gid), _) => steps.push(Step::Ids(uid, gid)),
        }
        if self.no_new_privileges {
            steps.push(Step::NoNewPrivileges);
        }
        steps
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn path(path: &Path) -> CString {
    c(path.to_str().unwrap())
}

fn overlay(world: &World) -> Step {
    let at = |name: &str| world.path(name).to_str().unwrap().to_owned();
    // The mount shows the owner of the upper directory.
    let options =
        format!("lowerdir={},upperdir={},workdir={}", at("out"), at("disk/upper"), at("disk/work"));
    Step::Mount(c("overlay"), path(&world.store()), c("overlay"), 0, c(&options))
}

/// What container runtimes cover; where one of these is, the kernel mounts no new /proc in a user namespace.
fn masks() -> Vec<Step> {
    let there =
        |paths: &'static [&'static str]| paths.iter().filter(|path| Path::new(path).exists());
    let mut steps = Vec::new();
    for file in there(&["/proc/kcore", "/proc/keys", "/proc/timer_list"]) {
        steps.push(Step::bind("/dev/null".as_ref(), file.as_ref(), 0));
    }
    for dir in there(&["/proc/scsi", "/proc/acpi", "/sys/firmware"]) {
        steps.push(Step::Mount(c("tmpfs"), c(dir), c("tmpfs"), libc::MS_RDONLY, c("size=0k")));
    }
    for dir in there(&["/proc/sys", "/proc/bus", "/proc/irq", "/proc/fs"]) {
        steps.push(Step::bind(dir.as_ref(), dir.as_ref(), libc::MS_REC));
        let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
        steps.push(Step::Mount(c(""), c(dir), c(""), flags, c("")));
    }
    steps
}

/// One thing that a new process does to itself.
enum Step {
    /// A user namespace with all ids as they are outside.
    UserNamespace,
    MountNamespace,
    /// Source, target, type, flags, options.
    Mount(CString, CString, CString, libc::c_ulong, CString),
    Write(CString, &'static [u8]),
    Filter(Vec<libc::sock_filter>),
    /// The bounding set.
    Bound(u64),
    /// The permitted and effective sets.
    Capabilities(u64),
    Ids(u32, u32),
    NoNewPrivileges,
}

/// What `capset` takes.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl Step {
    fn bind(source: &Path, target: &Path, more: libc::c_ulong) -> Self {
        Self::Mount(path(source), path(target), c(""), libc::MS_BIND | more, c(""))
    }

    /// Between fork and exec: no allocation, no lock.
    fn take(&self) -> io::Result<()> {
        match self {
            Self::UserNamespace => user_namespace(),
            Self::MountNamespace => {
                // SAFETY: no pointers.
                check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
                mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")
            }
            Self::Mount(source, target, kind, flags, options) => {
                mount(source, target, kind, *flags, options)
            }
            Self::Write(path, text) => write(path, text),
            Self::Filter(program) => load(program),
            Self::Bound(set) => bound(*set),
            Self::Capabilities(set) => capabilities(*set),
            Self::Ids(uid, gid) => ids(*uid, *gid),
            // SAFETY: no pointers.
            Self::NoNewPrivileges => check(unsafe { libc::prctl(38, 1, 0, 0, 0) }),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    flags: libc::c_ulong,
    options: &std::ffi::CStr,
) -> io::Result<()> {
    // SAFETY: all pointers are C strings that live until the call returns.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    })
}

fn write(path: &std::ffi::CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd)?;
    // SAFETY: an open descriptor, and a pointer with its length.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The map is written by a child that has stayed outside, which alone may map all ids.
fn user_namespace() -> io::Result<()> {
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    check(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the child only makes system calls.
    let child = unsafe { libc::fork() };
    check(child)?;
    if child == 0 {
        let code = i32::from(map_parent(pipe).is_err());
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    // SAFETY: our own descriptors, not used any more.
    unsafe { libc::close(pipe[1]) };
    let mut status = 0;
    // SAFETY: a pointer to a number.
    check(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// Waits until the parent has closed its end, then gives it all ids.
fn map_parent(pipe: [i32; 2]) -> io::Result<()> {
    // SAFETY: our own descriptor.
    unsafe { libc::close(pipe[1]) };
    let mut byte = 0_u8;
    // SAFETY: room for one byte.
    unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
    // SAFETY: no arguments.
    let parent = unsafe { libc::getppid() };
    for file in [&b"/uid_map"[..], b"/gid_map"] {
        let mut name = [0_u8; 64];
        let mut digits = [0_u8; 12];
        let mut number = parent;
        let mut at = digits.len();
        while number > 0 {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        let parts = [&b"/proc/"[..], &digits[at..], file];
        let mut end = 0;
        for part in parts {
            name[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        let name = std::ffi::CStr::from_bytes_until_nul(&name);
        write(name.unwrap_or_default(), b"0 0 4294967295\n")?;
    }
    Ok(())
}

fn load(program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives until the call returns. Done while all capabilities are there,
    // so that `no_new_privs` is not needed.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    } as i32)
}

fn bound(set: u64) -> io::Result<()> {
    for number in 0..64 {
        // SAFETY: no pointers.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        if known == 1 && set & (1 << number) == 0 {
            // SAFETY: no pointers.
            check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) })?;
        }
    }
    Ok(())
}

fn capabilities(set: u64) -> io::Result<()> {
    let header = CapHeader { version: 0x2008_0522, pid: 0 };
    let half =
        |bits: u64| CapData { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(set & 0xffff_ffff), half(set >> 32)];
    // SAFETY: a header of version 3 and its two halves.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } as i32)
}

fn ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no groups.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) } as i32)?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } as i32)?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } as i32)
}
