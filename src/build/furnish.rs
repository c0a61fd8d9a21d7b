//! What every RUN finds in its root file system, by mounts or by hand.
//!
//! In: a draft, a step and its binds; out: a root file system with everything in it, or with a list of what the sandbox
//! mounts. Nothing of it gets into a layer (design §10.10): below an overlay the targets of mounts lie in a directory of
//! their own, in a whole tree they are taken out again.

use super::caches::Note;
use super::mounts::Binds;
use super::run::RunPlaces;
use super::scratch::{Scratch, SharedFiles};
use super::stubs::{Lent, Stubs};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::isolation::Kind;
use crate::executor::mounts::{self, DEVICES, MOUNT_POINTS, MountOp};
use crate::executor::plant::{Garden, Thing};
use crate::executor::spawner::{Spawner, Will};
use crate::layers::snapshot::Draft;
use crate::plan::step::RunStep;
use crate::sys::sweeper::Sweeper;
use crate::sys::{SysError, SysResultExt, fs, probe};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// A file that every RUN has: target, text, mode.
pub(super) type OwnFile = (String, String, u32);

/// What belongs to a root file system that is ready for a command.
#[derive(Debug)]
pub(super) struct Furnished<'a> {
    /// What the sandbox mounts.
    pub(super) list: Vec<MountOp>,
    /// Descriptors of that list.
    pub(super) fds: Vec<OwnedFd>,
    /// Where caches were moved.
    notes: Vec<Note>,
    /// What was put in by hand; taken out when the command is over.
    garden: Option<Garden>,
    /// Let go when all of that is back.
    will: Option<Will>,
    _scratch: Option<Scratch>,
    _stubs: Option<Lent<'a>>,
}

/// How it is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// Outlives us when we are killed.
    pub(super) spawner: &'a Spawner,
    /// Isolation of the command.
    pub(super) kind: Kind,
    /// The draft is a whole tree.
    pub(super) whole: bool,
    /// Device nodes can be made.
    pub(super) devices: bool,
    /// Files that all RUNs share.
    pub(super) shared: &'a SharedFiles,
    /// Mount targets that many RUNs miss.
    pub(super) stubs: &'a Stubs,
    /// Removes what is not needed any more.
    pub(super) sweeper: &'a Arc<Sweeper>,
}

impl<'a> Manner<'a> {
    /// As a worker has it.
    pub(super) fn of(worker: &'a Worker) -> Self {
        Self {
            spawner: &worker.spawner,
            kind: worker.isolation.kind,
            whole: worker.snapshots.are_whole(),
            devices: worker.isolation.devices,
            shared: &worker.shared_files,
            stubs: &worker.stubs,
            sweeper: &worker.sweeper,
        }
    }
}

/// Gets a root file system ready: it, detached or as a directory, and what belongs to it.
pub(super) fn furnish<'a>(
    draft: &Draft<'_>,
    step: &RunStep,
    files: &[OwnFile],
    binds: &mut Binds,
    manner: Manner<'a>,
    places: &RunPlaces<'_>,
) -> Result<(OwnedFd, Furnished<'a>)> {
    let new_scratch = || Scratch::new(places.tmp, manner.sweeper);
    if manner.kind == Kind::Chroot {
        return by_hand((draft, places.tmp), files, binds, manner, new_scratch()?);
    }
    let mut points: Vec<(String, bool)> =
        MOUNT_POINTS.iter().map(|path| ((*path).to_owned(), true)).collect();
    points.extend(files.iter().filter(|file| !in_new_mount(&file.0)).map(|f| (f.0.clone(), false)));
    points.extend(binds.targets());
    let (mut scratch, mut garden, mut stubs) = (None, None, None);
    if manner.whole {
        garden = Some(stubs_in_tree(draft, &points, scratch.insert(new_scratch()?))?);
    } else {
        let lack = manner.stubs.lacks.of(draft, &points)?;
        if !lack.missing.is_empty() {
            stubs = Some(manner.stubs.lend(lack)?);
        }
    }
    let rootfs = draft.mount(stubs.as_ref().and_then(Lent::dir), true)?;
    let mut list = mounts::standard(step.insecure);
    if manner.kind == Kind::SharedPid {
        mounts::share_processes(&mut list);
    }
    if let Some(bytes) = places.settings.shm_size {
        mounts::resize_shm(&mut list, bytes);
    }
    let mut fds = Vec::new();
    if files.iter().any(|(target, ..)| target.starts_with(PIPES)) {
        list.push(MountOp::Directory { path: PIPES.trim_end_matches('/').to_owned(), mode: 0o755 });
    }
    for (target, text, mode) in files {
        if target.starts_with(PIPES) {
            list.push(MountOp::File { path: target.clone() });
        }
        list.push(MountOp::Given { fd: fds.len(), target: target.clone() });
        fds.push(manner.shared.mounted(text, *mode)?);
    }
    binds.append(&mut list, &mut fds);
    let notes = Vec::new();
    let furnished =
        Furnished { list, fds, notes, will: None, garden, _scratch: scratch, _stubs: stubs };
    Ok((rootfs, furnished))
}

/// Where heredocs lie.
pub(super) const PIPES: &str = "/dev/pipes/";

/// In a file system that the sandbox mounts itself.
fn in_new_mount(target: &str) -> bool {
    target.starts_with("/dev/") || target.starts_with("/proc/")
}

fn stubs_in_tree(
    draft: &Draft<'_>,
    points: &[(String, bool)],
    scratch: &Scratch,
) -> Result<Garden> {
    let mut garden = new_garden(draft, scratch)?;
    for (path, is_dir) in points {
        let thing = if *is_dir { Thing::Directory(0o755) } else { Thing::Stub };
        garden
            .put(path, thing)
            .or_error(ErrorKind::Image, || format!("cannot make the mount target `{path}`"))?;
    }
    Ok(garden)
}

fn new_garden(draft: &Draft<'_>, scratch: &Scratch) -> Result<Garden> {
    let what = || "cannot put things into the root file system".to_owned();
    let path = scratch.path.join("aside");
    std::fs::create_dir(&path).or_error(ErrorKind::Environment, what)?;
    let aside = fs::open_dir_path(&path).or_error(ErrorKind::Environment, what)?;
    let tree = draft.mount(None, false)?;
    Garden::new(tree.as_fd(), aside).or_error(ErrorKind::Environment, what)
}

/// Without mounts: /dev with nodes, copies of what can be copied of /proc, the files, the binds.
fn by_hand<'a>(
    (draft, tmp): (&Draft<'_>, &Path),
    files: &[OwnFile],
    binds: &mut Binds,
    manner: Manner<'a>,
    scratch: Scratch,
) -> Result<(OwnedFd, Furnished<'a>)> {
    let mut garden = new_garden(draft, &scratch)?;
    let failed = |path: &str, error: SysError| {
        let message = format!("cannot put `{path}` into the root file system");
        Error::environment(message).cause(error)
    };
    let mut put =
        |path: &str, thing: Thing| garden.put(path, thing).map_err(|error| failed(path, error));
    put("/dev", Thing::NewDirectory(0o755))?;
    for (name, number) in DEVICES.iter().zip(NUMBERS) {
        if manner.devices {
            put(&format!("/dev/{name}"), Thing::Device { number, mode: 0o666 })?;
        } else if *name == "null" {
            // What is written there is lost as well, when the command is over.
            put("/dev/null", Thing::Text(String::new(), 0o666))?;
        }
    }
    for (path, mode) in [("/dev/pts", 0o755), ("/dev/shm", 0o1777), ("/dev/mqueue", 0o755)] {
        put(path, Thing::NewDirectory(mode))?;
    }
    for (path, target) in mounts::LINKS {
        put(path, Thing::Link(target.to_owned()))?;
    }
    put("/sys", Thing::NewDirectory(0o755))?;
    put("/proc", Thing::NewDirectory(0o555))?;
    for name in PROC_FILES {
        let text = probe::read_host_file(&format!("/proc/{name}")).unwrap_or_default();
        put(&format!("/proc/{name}"), Thing::Text(text, 0o444))?;
    }
    put("/proc/mounts", Thing::Text("rootfs / rootfs rw 0 0\n".to_owned(), 0o444))?;
    for (target, text, mode) in files {
        put(target, Thing::Text(text.clone(), *mode))?;
    }
    let store = tmp.parent().unwrap_or(tmp);
    let rootfs = draft.mount(None, false)?;
    let bequest = binds.bequest();
    let will = if bequest.is_empty() {
        None
    } else {
        // Before anything is there: we may be killed at any moment.
        Some(
            manner
                .spawner
                .bequeath(rootfs.as_fd(), &bequest)
                .or_error(ErrorKind::Environment, || "the spawner does not answer".to_owned())?,
        )
    };
    let notes = binds.plant(&mut garden, store, draft.id())?;
    let (list, fds, garden) = (Vec::new(), Vec::new(), Some(garden));
    let furnished =
        Furnished { list, fds, notes, will, garden, _scratch: Some(scratch), _stubs: None };
    Ok((rootfs, furnished))
}

/// Device numbers of [`DEVICES`].
const NUMBERS: [(u32, u32); 6] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];

/// What programs read of the machine, and what says nothing about what else runs on it.
const PROC_FILES: [&str; 8] = [
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "sys/kernel/osrelease",
    "uptime",
    "version",
];

impl Furnished<'_> {
    /// Takes out what was put in by hand. The command is over.
    pub(super) fn clear(self) -> Result<()> {
        let Some(garden) = self.garden else { return Ok(()) };
        garden.clear().or_error(ErrorKind::Environment, || {
            "cannot take out of the root file system what only the command was to see".to_owned()
        })?;
        self.notes.iter().for_each(Note::forget);
        drop(self.will);
        Ok(())
    }
}
