//! Snapshots: the difference of each layer as a directory, stacked by overlayfs.
//!
//! `snapshots/<random id>/{fs,work,meta,owners}`; `fs` is an overlay upper directory, never written after [`Draft::commit`].
//! A chain id is an alias (`snapshots/chains/<flavour>-<hex>`) that is added when the layer's digest is known; the
//! first writer wins. What is made lies in a [`district`] first. A snapshot that was not synced counts only in the boot in which it was made: its upper was mounted
//! `volatile`. Whatever is missing or odd here is unpacked again from blobs; nothing in this room is precious.

mod described;
mod district;
mod draft;
mod records;
mod stack;
mod union;
mod whole;

pub use draft::Draft;

use crate::error::{ErrorKind, Result};
use crate::layers::scan::Tree;
use crate::layers::whiteout::XattrFlavour;
use crate::sys::sweeper::Sweeper;
use crate::sys::{SysResult, SysResultExt, fs, owners, probe};
pub use described::{Described, described};
use described::{Meta, short_boot};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use union::{UNITED, Union};
use whole::Whole;

/// How trees are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The change of each step by itself, stacked by overlayfs, which spells its marks so.
    Overlay(XattrFlavour),
    /// The whole tree in one directory, handed on from step to step.
    Whole {
        /// Directories can be mounted.
        mounts: bool,
    },
}

/// The snapshot directory of a store, for one id map.
#[derive(Debug)]
pub struct Snapshots {
    dir: OwnedFd,
    chains: OwnedFd,
    staging: OwnedFd,
    empty: OwnedFd,
    flavour: String,
    form: Form,
    boot: String,
    /// Where new ones are made, from the first one on.
    district: OnceLock<Option<OwnedFd>>,
    /// How many snapshots are united into one directory.
    united: usize,
    /// Ids of what was made here and is not known to be on the disk; of unions where they are.
    unsynced: Mutex<Vec<String>>,
    sweeper: Arc<Sweeper>,
}

/// A finished snapshot and, through its parents, a whole tree.
#[derive(Debug)]
pub struct Snapshot {
    id: String,
    parent: Option<Arc<Snapshot>>,
    /// Number of directories in the stack, this one included.
    depth: usize,
    fs: OwnedFd,
    /// Files that record device nodes are in it or below it.
    placeholders: bool,
    /// This one and some below it as one directory; none where that cannot be made.
    union: OnceLock<Option<Union>>,
    /// The whole stack up to here, mounted as one directory.
    nested: OnceLock<OwnedFd>,
    /// With a whole tree.
    whole: Option<Whole>,
}

fn environment<T>(result: SysResult<T>, what: &str) -> Result<T> {
    result.or_error(ErrorKind::Environment, || format!("cannot {what} in the store"))
}

fn open_or_make(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    match fs::mkdir(dir, name, 0o700) {
        Err(error) if error.errno != rustix::io::Errno::EXIST => {
            return environment(Err(error), "make a directory");
        }
        _ => {}
    }
    environment(fs::open_dir(dir, name), "open a directory")
}

impl Snapshots {
    /// `store` is the store's directory; `sweeper` removes what nobody needs any more. `flavour` names what else decides how files look on disk (the id map).
    pub fn open(
        store: BorrowedFd<'_>,
        flavour: &str,
        form: Form,
        sweeper: &Arc<Sweeper>,
    ) -> Result<Self> {
        let dir = open_or_make(store, b"snapshots")?;
        let tmp = open_or_make(store, b"tmp")?;
        Ok(Self {
            chains: open_or_make(dir.as_fd(), b"chains")?,
            empty: open_or_make(dir.as_fd(), b"empty")?,
            staging: tmp,
            dir,
            flavour: match form {
                Form::Overlay(_) => flavour.to_owned(),
                Form::Whole { .. } => format!("{flavour}-whole"),
            },
            form,
            boot: short_boot(&probe::boot_id()),
            district: OnceLock::new(),
            united: UNITED,
            unsynced: Mutex::default(),
            sweeper: Arc::clone(sweeper),
        })
    }

    /// The same with other unions.
    #[cfg(test)]
    pub(in crate::layers) fn uniting(self, united: usize) -> Self {
        Self { united, ..self }
    }

    /// Which private attributes overlayfs uses here.
    pub fn xattr_flavour(&self) -> XattrFlavour {
        match self.form {
            Form::Overlay(flavour) => flavour,
            Form::Whole { .. } => XattrFlavour::User,
        }
    }

    /// Whether each snapshot is a whole tree, which the next step takes over.
    pub fn are_whole(&self) -> bool {
        matches!(self.form, Form::Whole { .. })
    }

    /// Starts a snapshot on top of `parent` (`None`: an empty tree). Where trees are whole that one is taken over, unless
    /// the caller says that it must `keep`; `None` when somebody else already took it.
    pub fn prepare(&self, parent: Option<&Arc<Snapshot>>, keep: bool) -> Result<Option<Draft<'_>>> {
        match parent.and_then(|parent| Some((parent, parent.whole.as_ref()?))) {
            Some((parent, whole)) => self.take_over(parent, whole, keep),
            None => self.empty_draft(parent).map(Some),
        }
    }

    /// Makes the directory of a snapshot, or of a union that is not finished.
    fn make_directory(&self, id: &str) -> SysResult<OwnedFd> {
        let district = self.district.get_or_init(|| district::take(self.dir.as_fd()));
        district::make(&self.dir, district.as_ref(), id.as_bytes())
    }

    fn empty_draft(&self, parent: Option<&Arc<Snapshot>>) -> Result<Draft<'_>> {
        let id = random_id();
        let made = (|| {
            let own = self.make_directory(&id)?;
            fs::mkdir(&own, b"fs", 0o755)?;
            fs::mkdir(&own, b"work", 0o700)?;
            Ok((fs::open_dir(&own, b"fs")?, fs::open_dir(&own, b"work")?))
        })();
        let (upper, work) = environment(made, "make a snapshot")?;
        environment(inherit_root(&upper, parent), "make a snapshot")?;
        let (parent, below) = (parent.cloned(), OnceLock::new());
        let placeholders = AtomicBool::new(false);
        let before = self.are_whole().then(Tree::default);
        let held = if self.are_whole() { Vec::new() } else { self.hold(parent.as_ref()) };
        Ok(Draft {
            snapshots: self,
            id,
            parent,
            fs: upper,
            work,
            below,
            before,
            placeholders,
            kept: false,
            _held: held,
        })
    }

    /// The tree of a snapshot as one directory that is only to be read. It may belong to a detached mount, and stays as it
    /// is as long as the descriptor lives. `None` when a step took it over already.
    pub fn view(&self, top: Option<&Arc<Snapshot>>) -> Result<Option<OwnedFd>> {
        let Some(top) = top else { return reopen(self.empty.as_fd()).map(Some) };
        if let Some(whole) = &top.whole {
            let tree = reopen(top.fs.as_fd())?;
            let ours = whole::lock(&tree, false) && !whole.is_gone();
            return Ok(ours.then_some(tree));
        }
        self.stacked(top).map(Some)
    }
}

/// The root directory of an overlay is its upper directory: it must look like the one below.
fn inherit_root(upper: &OwnedFd, parent: Option<&Arc<Snapshot>>) -> SysResult<()> {
    let Some(parent) = parent else { return fs::fchmod(upper, 0o755) };
    let below = fs::fstat(&parent.fs)?;
    let (uid, gid) = owners::of_name(&parent.fs, b".", &below)?;
    fs::lchown(upper, b".", uid, gid)?;
    fs::fchmod(upper, below.mode)?;
    fs::set_mtime(upper, b".", below.mtime)
}

fn reopen(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    environment(fs::reopen_dir(dir), "open a tree")
}

impl Snapshot {
    fn new(id: String, parent: Option<Arc<Snapshot>>, fs: OwnedFd, whole: Option<Whole>) -> Self {
        let depth = parent.as_ref().map_or(1, |parent| parent.depth + 1);
        let placeholders = parent.as_ref().is_some_and(|parent| parent.placeholders);
        let (union, nested) = (OnceLock::new(), OnceLock::new());
        Self { id, parent, depth, fs, placeholders, union, nested, whole }
    }

    fn with(mut self, placeholders: bool) -> Self {
        self.placeholders |= placeholders;
        self
    }

    /// True when a step took over its tree.
    pub fn is_gone(&self) -> bool {
        self.whole.as_ref().is_some_and(Whole::is_gone)
    }

    /// Whether it is a whole tree, which the next step takes over.
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it stands on.
    pub fn parent(&self) -> Option<&Arc<Snapshot>> {
        self.parent.as_ref()
    }

    /// The directory in which the files lie that this layer changed.
    pub fn upper(&self) -> BorrowedFd<'_> {
        self.fs.as_fd()
    }
}

impl Drop for Snapshot {
    /// One after the other: a stack may be deeper than the calls that a thread can nest.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut parent) = next.and_then(Arc::into_inner) {
            next = parent.parent.take();
        }
    }
}

fn write_all(file: &mut std::fs::File, bytes: &[u8]) -> SysResult<()> {
    file.write_all(bytes).map_err(|error| crate::sys::SysError {
        call: "write()".to_owned(),
        errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })
}

/// 128 random bits in hex.
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    crate::oci::digest::hex(&bytes)
}
