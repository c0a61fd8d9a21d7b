//! Trying one approach in a forked child: what can be entered and what then works.
//!
//! A child does exactly what a build would do, once, and tells how it went over a pipe; nothing of it stays. A few
//! milliseconds. The caller is single-threaded.

use super::{IdMode, Kind};
use crate::executor::refusal::Refusal;
use crate::sys::fork::{self, Cloned};
use crate::sys::mount::{self, MountFlags, Overlay};
use crate::sys::userns::{self, EnterError, Maps};
use crate::sys::{Named, SysError, SysResult, caps, fs, process};
use nix::sched::CloneFlags;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What is being done when a user namespace is refused.
pub const USER_NAMESPACE: &str = "making a user namespace";

/// One way to get a root file system of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approach {
    /// As root: a mount namespace.
    Root,
    /// A user namespace with these ids.
    Namespace(Maps),
    /// Only another root directory.
    Chroot,
    /// Nothing: files are copied as this process can.
    Files,
}

impl Approach {
    /// Who its ids are.
    pub fn ids(&self) -> IdMode {
        match self {
            Self::Root => IdMode::Real,
            Self::Chroot => {
                // Without these rights owners cannot be given, and are kept beside the files.
                if caps::has(caps::CapSet::CHOWN | caps::CapSet::SETUID | caps::CapSet::SETGID) {
                    IdMode::Real
                } else {
                    IdMode::Single
                }
            }
            Self::Namespace(Maps::Single) | Self::Files => IdMode::Single,
            Self::Namespace(_) => IdMode::Range,
        }
    }

    /// For a report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Namespace(Maps::Own) => "user namespace with our own ids",
            Self::Namespace(Maps::Helpers(_)) => "user namespace with subordinate ids",
            Self::Namespace(Maps::Single) => "user namespace with one id",
            Self::Chroot => "changed root directory",
            Self::Files => "files alone",
        }
    }
}

/// How an attempt went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Why it could not be entered; the rest then means nothing.
    pub refused: Option<Refusal>,
    /// Mounts can be made and attached.
    pub mounts: Result<(), Refusal>,
    /// A process namespace with a /proc of its own.
    pub processes: Result<(), Refusal>,
    /// Overlayfs with the store as its upper directory.
    pub overlay: Result<(), Refusal>,
    /// Device nodes can be made and opened.
    pub devices: bool,
}

impl Default for Trial {
    fn default() -> Self {
        Self::failed(Refusal::said("trying it", "it was not tried"))
    }
}

impl Trial {
    fn failed(refusal: Refusal) -> Self {
        Self {
            mounts: Err(refusal.clone()),
            processes: Err(refusal.clone()),
            overlay: Err(refusal.clone()),
            refused: Some(refusal),
            devices: false,
        }
    }

    /// The best isolation that this gives, or the one asked for; `None` when it gives none.
    pub fn kind(&self, approach: &Approach, asked: Option<Kind>) -> Option<Kind> {
        if self.refused.is_some() || (self.mounts.is_err() && *approach != Approach::Chroot) {
            return None;
        }
        let best = match (approach, &self.processes) {
            (Approach::Chroot, _) => Kind::Chroot,
            (Approach::Files, _) => Kind::Files,
            (_, Ok(())) => Kind::Namespaces,
            (_, Err(_)) => Kind::SharedPid,
        };
        match (best, asked) {
            (best, None) => Some(best),
            (Kind::Namespaces, Some(Kind::SharedPid)) => asked,
            (best, Some(asked)) => (best == asked).then_some(best),
        }
    }

    /// What stands in the way of an isolation, or of any.
    pub fn refusals(&self, asked: Option<Kind>) -> Vec<&Refusal> {
        if let Some(refusal) = &self.refused {
            return vec![refusal];
        }
        let processes = (asked == Some(Kind::Namespaces)).then_some(&self.processes);
        let parts = std::iter::once(&self.mounts).chain(processes);
        parts.filter_map(|part| part.as_ref().err()).collect()
    }
}

/// Tries an approach in a directory of the store.
pub fn of(approach: &Approach, tmp: &Path) -> Trial {
    let name = format!("trial-{}", process::own_id());
    let made = fs::open_dir_path(tmp).and_then(|dir| {
        fs::mkdir(&dir, name.as_bytes(), 0o755)?;
        Ok(dir)
    });
    let dir = match made {
        Ok(dir) => dir,
        Err(error) => return Trial::failed(Refusal::new("making a directory", &error)),
    };
    let scratch = tmp.join(&name);
    let trial = in_child(CloneFlags::empty(), || in_approach(approach, &scratch));
    let _left_for_prune = fs::remove_tree(&dir, name.as_bytes());
    trial.unwrap_or_else(Trial::failed)
}

fn in_approach(approach: &Approach, scratch: &Path) -> Result<Trial, Refusal> {
    match approach {
        Approach::Root => {
            userns::enter_mount_namespace().map_err(refused("making a mount namespace"))?;
        }
        Approach::Namespace(maps) => {
            userns::enter_user_namespace(maps).map_err(|error| match error {
                EnterError::Unshare(error) => Refusal::new(USER_NAMESPACE, &error),
                EnterError::Helper(said) => Refusal::said("mapping user ids", said),
                EnterError::Mount(error) => Refusal::new("making mounts private", &error),
            })?;
        }
        Approach::Chroot => return change_root(scratch),
        Approach::Files => return Ok(Trial::default()),
    }
    let userxattr = !userns::is_initial();
    Ok(Trial {
        refused: None,
        mounts: mounts(scratch),
        processes: processes(),
        overlay: overlay(scratch, userxattr),
        devices: device_node(scratch).is_ok(),
    })
}

fn refused(doing: &'static str) -> impl Fn(SysError) -> Refusal {
    move |error| Refusal::new(doing, &error)
}

/// What the sandbox does with mounts: a new one, attached, and a copy of a node of /dev.
fn mounts(scratch: &Path) -> Result<(), Refusal> {
    let made = mount::new_mount("tmpfs", &[("mode", "755")], MountFlags::default())
        .map_err(refused("mounting a file system in memory"))?;
    let dir = fs::open_dir_path(scratch).map_err(refused("opening a directory of the store"))?;
    mount::attach(&made, &dir, b"").map_err(refused("attaching a mount"))?;
    mount::detach(scratch);
    mount::clone_tree_path("/dev/null", false)
        .map(drop)
        .map_err(refused("copying the mount of /dev/null"))
}

fn processes() -> Result<(), Refusal> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    in_child(namespaces, || {
        let flags = MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false };
        mount::new_mount("proc", &[], flags).map(drop).map_err(refused("mounting a new /proc"))
    })
}

/// As a snapshot is used: something of the lower directory is removed, something new is made.
fn overlay(scratch: &Path, userxattr: bool) -> Result<(), Refusal> {
    let doing = "using overlayfs on the store";
    let made = (|| {
        let dir = fs::open_dir_path(scratch)?;
        let open = |name: &[u8]| -> SysResult<OwnedFd> {
            fs::mkdir(&dir, name, 0o755)?;
            fs::open_dir(&dir, name)
        };
        let (lower, upper, work) = (open(b"lower")?, open(b"upper")?, open(b"work")?);
        fs::mkdir(&lower, b"gone", 0o755)?;
        if userxattr {
            fs::set_xattr(&upper, b".", b"user.nativebuild.trial", b"1")?;
        }
        let parts = Overlay {
            lowers: vec![lower.as_fd()],
            upper: Some((upper.as_fd(), work.as_fd())),
            userxattr,
        };
        let tree = fs::reopen_dir(mount::overlay(&parts)?)?;
        fs::rmdir(&tree, b"gone")?;
        fs::mkdir(&tree, b"gone", 0o755)?;
        fs::create_new(&tree, b"gone/new", 0o644).map(drop)
    })();
    made.map_err(refused(doing))
}

fn device_node(scratch: &Path) -> SysResult<()> {
    let dir = fs::open_dir_path(scratch)?;
    fs::mknod(&dir, b"null", fs::Kind::CharDevice, 0o666, (1, 3))?;
    // On a volume without devices it can be made and not be used.
    fs::open_read(&dir, b"null").map(drop)
}

/// Another root directory, and a program that leaves root.
fn change_root(scratch: &Path) -> Result<Trial, Refusal> {
    let devices = device_node(scratch).is_ok();
    let doing = "changing the root directory";
    let changed = rustix::process::chroot(scratch).named(|| "chroot()".to_owned());
    changed.map_err(refused(doing))?;
    let denied = Refusal::said("making mounts", "this isolation has none");
    Ok(Trial {
        refused: None,
        mounts: Err(denied.clone()),
        processes: Err(denied.clone()),
        overlay: Err(denied),
        devices,
    })
}

/// Runs something in a child with namespaces of its own and brings back what it says.
fn in_child<T: Serialize + DeserializeOwned>(
    namespaces: CloneFlags,
    work: impl FnOnce() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let doing = "starting a process";
    let (reader, writer) = std::io::pipe()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .named(|| "pipe()".to_owned())
        .map_err(refused(doing))?;
    match fork::clone_into(namespaces).map_err(refused("making namespaces"))? {
        Cloned::Child => {
            drop(reader);
            let text = serde_json::to_vec(&work()).unwrap_or_default();
            let mut writer = writer;
            let _reader_gone = writer.write_all(&text);
            process::exit_now(0)
        }
        Cloned::Parent { pid, .. } => {
            drop(writer);
            let said = serde_json::from_reader(reader);
            let _reaped = process::wait(pid, true);
            said.unwrap_or_else(|_| Err(Refusal::said(doing, "it ended without an answer")))
        }
    }
}
