//! Runs the probe of an architecture in a sandbox like that of a RUN: the proof that its programs run here.

use super::arch::Architecture;
use super::probe_elf::{self, Verdict};
use super::ways::Bench;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::isolation::Kind;
use crate::executor::mounts::MountOp;
use crate::executor::sandbox;
use crate::executor::spawner::Spawner;
use crate::executor::{Net, Report, RunSpec};
use crate::sys::mount::{self, MountFlags};
use crate::sys::seccomp::Supervise;
use crate::sys::{SysResult, SysResultExt, fs, owners};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Runs a probe through a spawner.
pub(super) fn run(arch: &Architecture, spawner: &Spawner, bench: &Bench<'_>) -> Result<Verdict> {
    let what = || format!("cannot get a probe for {} ready", arch.goarch);
    let directory = if bench.kind.mounts() {
        None
    } else {
        let made = tempfile::Builder::new().prefix("probe-").tempdir_in(bench.staging);
        Some(made.or_error(ErrorKind::Environment, what)?)
    };
    let rootfs = match &directory {
        None => rootfs(arch),
        Some(directory) => directory_rootfs(arch, directory.path()),
    };
    let rootfs = rootfs.or_error(ErrorKind::Environment, what)?;
    let spec = RunSpec {
        // A process namespace is no hindrance to so small a program, where there can be one.
        kind: if bench.kind.mounts() { Kind::Namespaces } else { bench.kind },
        // Found in PATH, so that argv[0] is this word while the kernel is given an absolute path.
        argv: vec![probe_elf::ARGV0.to_owned()],
        env: vec![("PATH".to_owned(), "/".to_owned())],
        cwd: "/".to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        mounts: if bench.kind.mounts() { mounts() } else { Vec::new() },
        network: Net::Host,
        staging: bench.staging.to_owned(),
        insecure: false,
        personality32: false,
        hostname: crate::executor::HOSTNAME.to_owned(),
        limits: Vec::new(),
        keep_fsync: true,
        another_follows: false,
        // Where all have one id, whose program it is only the supervisor knows.
        supervise: if owners::are_kept() { Supervise::Ids } else { Supervise::None },
        placeholder: String::new(),
    };
    let (report, _ending) =
        sandbox::run(spawner, &spec, (rootfs, Vec::new()), bench.cancel, &mut |_, _| {})?;
    match report {
        Report::Ended { how, .. } => Ok(Verdict::of_exit_code(how.code())),
        Report::Exec { code, .. } => Ok(Verdict::of_exit_code(code)),
        Report::SetUp { doing, error } => {
            Err(Error::environment(format!("cannot set up a sandbox: {doing}")).cause(error))
        }
    }
}

/// What every command needs: a /dev/null for its standard input.
fn mounts() -> Vec<MountOp> {
    let flags = MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false };
    let options = vec![("mode".to_owned(), "755".to_owned())];
    vec![
        MountOp::Fresh { kind: "tmpfs".to_owned(), options, flags, target: "/dev".to_owned() },
        MountOp::Device { name: "null".to_owned() },
    ]
}

/// A file system in memory that holds the probe and nothing else.
fn rootfs(arch: &Architecture) -> SysResult<OwnedFd> {
    let flags = MountFlags { nodev: true, ..MountFlags::default() };
    let made = mount::new_mount("tmpfs", &[("mode", "755"), ("size", "1m")], flags)?;
    fill(arch, &fs::reopen_dir(&made)?)?;
    Ok(made)
}

/// The same where nothing can be mounted; an ordinary file stands for /dev/null.
fn directory_rootfs(arch: &Architecture, path: &Path) -> SysResult<OwnedFd> {
    let root = fs::open_dir_path(path)?;
    fill(arch, &root)?;
    fs::chmod(&root, b".", 0o755)?;
    fs::create_new(&root, b"dev/null", 0o666)?;
    Ok(root)
}

fn fill(arch: &Architecture, root: &OwnedFd) -> SysResult<()> {
    fs::mkdir(root, b"dev", 0o755)?;
    let name = probe_elf::ARGV0.as_bytes();
    let mut file = fs::create_new(root, name, 0o755)?;
    file.write_all(&probe_elf::build(arch)).map_err(|error| crate::sys::SysError {
        call: "write(probe)".to_owned(),
        errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })?;
    drop(file);
    // The set-uid bit comes last: a change of the owner takes it away.
    fs::lchown(root, name, probe_elf::OWNER, probe_elf::OWNER)?;
    fs::chmod(root, name, 0o4755)
}
