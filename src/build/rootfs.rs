//! `with-rootfs`: a program of this machine works on the root file system of an image.
//!
//! In: an image of the store, and commands. Out: what the program said, and what it changed, as a layer. The program gets a
//! new directory in the store's `tmp` with `mnt`, the tree, and for one that may be written `layer`, what is new in it.
//! Mounts are in a namespace of this process and its spawner; with both gone, nothing is left but what `prune` removes.

use super::images::BaseImage;
use super::output::Target;
use super::store::Store;
use super::tree;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::program::{self, Program};
use crate::layers::apply::{ApplyOptions, apply};
use crate::layers::diff::{DiffOptions, read_tree};
use crate::layers::snapshot::{Draft, random_id};
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::sys::mount::{self, MountFlags};
use crate::sys::process::Ended;
use crate::sys::{SysResultExt, fs};
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where programs find the tree.
const VARIABLE: &[u8] = b"NATIVEBUILD_ROOTFS";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Work {
    /// The tree may be written.
    pub writable: bool,
    /// Where the changes go as a layer; `-` is standard output.
    pub layer: Option<PathBuf>,
    /// Text for the shell before the tree is mounted.
    pub before: Option<Vec<u8>>,
    /// Text for the shell after it is unmounted.
    pub after: Option<Vec<u8>>,
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment of all of them.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Does it; gives how the program ended, or the first that did not end with 0.
pub fn with(store: &Store, base: &BaseImage, worker: &Worker, work: &Work) -> Result<Ended> {
    let scratch = Scratch::new(store)?;
    let whole = worker.snapshots.are_whole();
    let draft = draft(store, base, worker)?;
    if work.writable && whole {
        make_directory(&scratch.path.join("layer"))?;
    } else if work.writable {
        scratch.show("layer", clone(draft.upper())?)?;
    }
    make_directory(&scratch.path.join("mnt"))?;
    let shell = |text: &Vec<u8>| vec![b"/bin/sh".to_vec(), b"-c".to_vec(), text.clone()];
    let run = |argv: Vec<Vec<u8>>| {
        let mut env = work.env.clone();
        env.retain(|(name, _)| name != VARIABLE);
        env.push((VARIABLE.to_vec(), scratch.path.join("mnt").as_os_str().as_bytes().to_vec()));
        // What it mounts in its directory must not be there when that is removed.
        let own_mounts = worker.isolation.kind.mounts();
        let to_stderr = work.layer.as_deref() == Some(Path::new("-"));
        let program = Program { argv, env, cwd: scratch.path.clone(), to_stderr, own_mounts };
        program::run(&worker.spawner, &program, &worker.cancel)
    };
    let good = |ended: Ended| ended == Ended::Exited(0) && worker.cancel.signal().is_none();
    if let Some(text) = &work.before {
        let ended = run(shell(text))?;
        if !good(ended) {
            return Ok(ended);
        }
    }
    if work.writable && whole {
        merge(&scratch.path.join("layer"), &draft, worker)?;
    }
    scratch.mount(store, &draft, worker, work.writable)?;
    let ended = run(work.argv.clone())?;
    scratch.unmount(worker)?;
    if !good(ended) {
        return Ok(ended);
    }
    if let Some(text) = &work.after {
        let ended = run(shell(text))?;
        if !good(ended) {
            return Ok(ended);
        }
    }
    if let Some(path) = &work.layer {
        let changes = draft.changes(worker.isolation.placeholders(), &TimePolicy::EXACT)?;
        let times = TimePolicy { epoch: None, started: (i64::MAX, 0) };
        let path = (path != Path::new("-")).then_some(path.as_path());
        Target::open(path)?.fill(|out| write_layer(&changes, draft.upper(), &times, out))?;
    }
    Ok(ended)
}

fn draft<'w>(store: &Store, base: &BaseImage, worker: &'w Worker) -> Result<Draft<'w>> {
    tree::draft(store, &tree::base_state(base), worker, true)
}

fn clone(dir: impl AsFd) -> Result<OwnedFd> {
    mount::clone_tree(dir, b"", false)
        .or_error(ErrorKind::Environment, || "cannot mount a directory of the store".to_owned())
}

fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir(path)
        .or_error(ErrorKind::Environment, || format!("cannot make {}", path.display()))
}

/// What was put into `layer` of a whole tree is put onto that.
fn merge(layer: &Path, draft: &Draft<'_>, worker: &Worker) -> Result<()> {
    let what = || "cannot take what is in `layer`".to_owned();
    let view = fs::open_dir_path(layer).or_error(ErrorKind::Environment, what)?;
    let flavour = worker.snapshots.xattr_flavour();
    let placeholders = worker.isolation.placeholders();
    let entries = read_tree(view.as_fd(), &DiffOptions { flavour, placeholders })?;
    let times = TimePolicy { epoch: None, started: (i64::MAX, 0) };
    let (reader, mut writer) = std::io::pipe().or_error(ErrorKind::Environment, what)?;
    std::thread::scope(|scope| {
        let producer =
            scope.spawn(move || write_layer(&entries, view.as_fd(), &times, &mut writer));
        let options = ApplyOptions {
            whiteouts: false,
            keep_root: true,
            ..ApplyOptions::layer(tree::devices(worker))
        };
        let reader = BufReader::with_capacity(1 << 18, reader);
        let applied = apply(reader, draft.upper(), &options).map(drop);
        let produced =
            producer.join().unwrap_or_else(|_| Err(Error::internal("the writing thread stopped")));
        applied.and(produced)
    })
}

/// The directory in which programs are started; gone with the value.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(store: &Store) -> Result<Self> {
        let tmp = store.sub("tmp");
        let tmp = std::path::absolute(&tmp)
            .or_error(ErrorKind::Environment, || format!("cannot find {}", tmp.display()))?;
        let path = tmp.join(format!("with-rootfs-{}", random_id()));
        make_directory(&path)?;
        Ok(Self { path })
    }

    /// Attaches a mount under a name.
    fn show(&self, name: &str, what: impl AsFd) -> Result<()> {
        let path = self.path.join(name);
        if !path.exists() {
            make_directory(&path)?;
        }
        mount::attach(what, rustix::fs::CWD, path.as_os_str().as_bytes())
            .or_error(ErrorKind::Environment, || format!("cannot mount {}", path.display()))
    }

    /// Makes `mnt` the tree: a mount, or where nothing can be mounted a link to its directory.
    fn mount(
        &self,
        store: &Store,
        draft: &Draft<'_>,
        worker: &Worker,
        writable: bool,
    ) -> Result<()> {
        if !worker.isolation.kind.mounts() {
            let what = || "cannot make a link to the tree".to_owned();
            let tree = store.sub("snapshots").join(draft.id()).join("fs");
            let tree = std::path::absolute(tree).or_error(ErrorKind::Environment, what)?;
            let link = self.path.join("mnt");
            return std::fs::remove_dir(&link)
                .and_then(|()| std::os::unix::fs::symlink(tree, &link))
                .or_error(ErrorKind::Environment, what);
        }
        let made = draft.mount(None, true)?;
        if !writable {
            let flags = MountFlags { read_only: true, ..MountFlags::default() };
            mount::set_flags(&made, flags, false)
                .or_error(ErrorKind::Environment, || "cannot make the tree read-only".to_owned())?;
        }
        self.show("mnt", made)
    }

    fn unmount(&self, worker: &Worker) -> Result<()> {
        let path = self.path.join("mnt");
        if worker.isolation.kind.mounts() {
            mount::detach(&path);
            return Ok(());
        }
        std::fs::remove_file(&path)
            .and_then(|()| std::fs::create_dir(&path))
            .or_error(ErrorKind::Environment, || format!("cannot remove {}", path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in ["mnt", "layer"] {
            mount::detach(&self.path.join(name));
        }
        // What cannot be removed now is nobody's; `prune` takes it.
        let _left = std::fs::remove_dir_all(&self.path);
    }
}
