//! Snapshots: the difference of each layer as a directory, stacked by overlayfs.
//!
//! `snapshots/<random id>/{fs,work,meta.json,owners}`; `fs` is an overlay upper directory, never written after [`Draft::commit`].
//! A chain id is an alias (`snapshots/chains/<flavour>-<hex>`) that is added when the layer's digest is known; the
//! first writer wins. A snapshot that was not synced counts only in the boot in which it was made: its upper was mounted
//! `volatile`. Whatever is missing or odd here is unpacked again from blobs; nothing in this room is precious.

mod records;
mod whole;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::Change;
use crate::layers::diff::{DiffOptions, diff_overlay, diff_scan};
use crate::layers::scan::Tree;
use crate::layers::whiteout::XattrFlavour;
use crate::oci::ChainId;
use crate::sys::mount::{self, Overlay};
use crate::sys::{SysResultExt, fs, owners, probe, root};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use whole::Whole;

/// Most lower directories in one overlay (the kernel takes 500).
const FLAT: usize = 450;

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
    /// Ids of what was made here and is not known to be on the disk.
    unsynced: Mutex<Vec<String>>,
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
    /// The whole stack up to here as one directory; made for the snapshot of depth [`FLAT`] of a deep stack.
    merged: OnceLock<OwnedFd>,
    /// With a whole tree.
    whole: Option<Whole>,
}

/// A snapshot that is being written.
#[derive(Debug)]
pub struct Draft<'a> {
    snapshots: &'a Snapshots,
    id: String,
    parent: Option<Arc<Snapshot>>,
    fs: OwnedFd,
    work: OwnedFd,
    below: OnceLock<OwnedFd>,
    /// The whole tree before the step.
    before: Option<Tree>,
    placeholders: AtomicBool,
    kept: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    parent: Option<String>,
    flavour: String,
    boot: String,
    synced: bool,
    /// Files that record device nodes are in it.
    #[serde(default)]
    placeholders: bool,
}

fn environment<T>(result: crate::sys::SysResult<T>, what: &str) -> Result<T> {
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
    /// `store` is the store's directory. `flavour` names what else decides how files look on disk (the id map).
    pub fn open(store: BorrowedFd<'_>, flavour: &str, form: Form) -> Result<Self> {
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
            boot: probe::boot_id(),
            unsynced: Mutex::default(),
        })
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

    fn empty_draft(&self, parent: Option<&Arc<Snapshot>>) -> Result<Draft<'_>> {
        let id = random_id();
        let made = (|| {
            fs::mkdir(&self.dir, id.as_bytes(), 0o700)?;
            let own = fs::open_dir(&self.dir, id.as_bytes())?;
            fs::mkdir(&own, b"fs", 0o755)?;
            fs::mkdir(&own, b"work", 0o700)?;
            Ok((fs::open_dir(&own, b"fs")?, fs::open_dir(&own, b"work")?))
        })();
        let (upper, work) = environment(made, "make a snapshot")?;
        environment(inherit_root(&upper, parent), "make a snapshot")?;
        let (parent, below) = (parent.cloned(), OnceLock::new());
        let placeholders = AtomicBool::new(false);
        let before = self.are_whole().then(Tree::default);
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
        })
    }

    /// The snapshot of this id, when it and all its parents are whole and usable here.
    pub fn find(&self, id: &str) -> Option<Arc<Snapshot>> {
        let mut metas = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) || metas.len() > 2000 {
                return None;
            }
            let own = fs::open_dir(&self.dir, id.as_bytes()).ok()?;
            // Whoever removes unused ones sees it; what was taken away before that is not used.
            fs::touch(&own, b"meta.json").ok()?;
            fs::lstat_opt(&self.dir, id.as_bytes()).ok()??;
            let text = root::read_small(&own, b"meta.json", 4096).ok()??;
            let meta: Meta = serde_json::from_slice(&text).ok()?;
            let usable = meta.version == 1
                && meta.flavour == self.flavour
                && (meta.synced || meta.boot == self.boot);
            if !usable {
                return None;
            }
            records::learn(&own);
            next = meta.parent;
            metas.push((id, fs::open_dir(&own, b"fs").ok()?, meta.placeholders));
        }
        if self.are_whole() {
            let placeholders = metas.iter().any(|(_, _, placeholders)| *placeholders);
            let (id, fs, _) = metas.pop()?;
            // Locked first, then looked at again: whoever takes a tree over removes its description.
            let there = whole::lock(&fs, false)
                && matches!(
                    fs::lstat_opt(&self.dir, format!("{id}/meta.json").as_bytes()),
                    Ok(Some(_))
                );
            let made = |fs| Snapshot::new(id, None, fs, Some(Whole::new(None))).with(placeholders);
            return there.then(|| Arc::new(made(fs)));
        }
        let mut found: Option<Arc<Snapshot>> = None;
        for (id, fs, placeholders) in metas.into_iter().rev() {
            found = Some(Arc::new(Snapshot::new(id, found, fs, None).with(placeholders)));
        }
        found
    }

    /// The snapshot of a stack of layers, if there is one.
    pub fn by_chain(&self, chain: &ChainId) -> Option<Arc<Snapshot>> {
        let text =
            root::read_small(&self.chains, self.alias_name(chain).as_bytes(), 256).ok()??;
        self.find(std::str::from_utf8(&text).ok()?.trim())
    }

    fn alias_name(&self, chain: &ChainId) -> String {
        format!("{}-{}", self.flavour, chain.0.hex())
    }

    /// Lets `chain` mean `snapshot`, unless it already means a usable one.
    pub fn alias(&self, chain: &ChainId, snapshot: &Snapshot) -> Result<()> {
        if self.by_chain(chain).is_some() {
            return Ok(());
        }
        let temporary = format!("alias-{}", random_id());
        let made = (|| {
            // Beside the others: `snapshots` may be a file system of its own.
            let mut file = fs::create_new(&self.chains, temporary.as_bytes(), 0o600)?;
            write_all(&mut file, snapshot.id.as_bytes())?;
            fs::rename(
                &self.chains,
                temporary.as_bytes(),
                &self.chains,
                self.alias_name(chain).as_bytes(),
            )
        })();
        environment(made, "name a snapshot")
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

    /// The view of a stack of differences.
    pub fn stacked(&self, top: &Arc<Snapshot>) -> Result<OwnedFd> {
        if top.depth == 1 {
            return reopen(top.fs.as_fd());
        }
        let lowers = self.lowers(top)?;
        let lowers = lowers.iter().map(|(snapshot, merged)| snapshot.dir(*merged)).collect();
        let made = mount::overlay(&Overlay { lowers, upper: None, userxattr: self.userxattr() });
        reopen(overlay_made(made)?.as_fd())
    }

    /// Takes the ids of the snapshots that were made since the last call.
    pub fn unsynced(&self) -> Vec<String> {
        std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn userxattr(&self) -> bool {
        self.xattr_flavour() == XattrFlavour::User
    }

    /// The directories of a stack from the top down; true with the one that stands for all below it.
    fn lowers(&self, top: &Arc<Snapshot>) -> Result<Vec<(Arc<Snapshot>, bool)>> {
        let mut list = Vec::with_capacity(top.depth.min(FLAT));
        let mut next = Some(top);
        while let Some(snapshot) = next {
            let merged = snapshot.depth == FLAT && top.depth > FLAT;
            if merged {
                self.merge(snapshot)?;
            }
            list.push((Arc::clone(snapshot), merged));
            if merged {
                break;
            }
            next = snapshot.parent.as_ref();
        }
        if list.len() > FLAT {
            return Err(Error::environment(format!(
                "the image has {} layers; more than {} cannot be stacked here",
                top.depth,
                2 * FLAT
            ))
            .hint("join RUN instructions with `&&`, or start from a flattened base image"));
        }
        Ok(list)
    }

    /// Mounts the stack up to `snapshot` as one directory; attached in our private mount namespace, since overlayfs
    /// takes no lower from a detached mount.
    fn merge(&self, snapshot: &Arc<Snapshot>) -> Result<()> {
        if snapshot.merged.get().is_some() {
            return Ok(());
        }
        let lowers = self.lowers(snapshot)?;
        let lowers = lowers.iter().map(|(lower, merged)| lower.dir(*merged)).collect();
        let made = mount::overlay(&Overlay { lowers, upper: None, userxattr: self.userxattr() });
        let made = overlay_made(made)?;
        let name = format!("merged-{}", random_id());
        let attached = (|| {
            fs::mkdir(&self.staging, name.as_bytes(), 0o700)?;
            mount::attach(&made, &self.staging, name.as_bytes())?;
            fs::open_dir(&self.staging, name.as_bytes())
        })();
        let _other_thread_was_first = snapshot.merged.set(environment(attached, "stack layers")?);
        Ok(())
    }

    /// After the store was synced: what was made so far survives a reboot. Call with `before` from [`Self::unsynced`],
    /// taken before the sync.
    pub fn mark_synced(&self, before: Vec<String>) {
        for id in before {
            let mark = || -> Option<()> {
                let own = fs::open_dir(&self.dir, id.as_bytes()).ok()?;
                let text = root::read_small(&own, b"meta.json", 4096).ok()??;
                let mut meta: Meta = serde_json::from_slice(&text).ok()?;
                meta.synced = true;
                write_meta(&own, &meta).ok()
            };
            // Without the mark it is merely unpacked again after a reboot.
            let _kept = mark();
        }
    }
}

/// The root directory of an overlay is its upper directory: it must look like the one below.
fn inherit_root(upper: &OwnedFd, parent: Option<&Arc<Snapshot>>) -> crate::sys::SysResult<()> {
    let Some(parent) = parent else { return fs::fchmod(upper, 0o755) };
    let below = fs::fstat(&parent.fs)?;
    let (uid, gid) = owners::of_name(&parent.fs, b".", &below)?;
    fs::lchown(upper, b".", uid, gid)?;
    fs::fchmod(upper, below.mode)?;
    fs::set_mtime(upper, b".", below.mtime)
}

fn overlay_made(made: crate::sys::SysResult<OwnedFd>) -> Result<OwnedFd> {
    made.map_err(|error| {
        Error::environment("cannot mount an overlay file system on the store").cause(error).hint(
            "the store must be on a file system that overlayfs takes as upper (ext4, xfs, btrfs, tmpfs; not overlay, \
             not NFS); choose one with `--root`",
        )
    })
}

fn reopen(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    environment(fs::reopen_dir(dir), "open a tree")
}

impl Snapshot {
    fn new(id: String, parent: Option<Arc<Snapshot>>, fs: OwnedFd, whole: Option<Whole>) -> Self {
        let depth = parent.as_ref().map_or(1, |parent| parent.depth + 1);
        let placeholders = parent.as_ref().is_some_and(|parent| parent.placeholders);
        Self { id, parent, depth, fs, placeholders, merged: OnceLock::new(), whole }
    }

    fn with(mut self, placeholders: bool) -> Self {
        self.placeholders |= placeholders;
        self
    }

    /// True when a step took over its tree.
    pub fn is_gone(&self) -> bool {
        self.whole.as_ref().is_some_and(Whole::is_gone)
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

    fn dir(&self, merged: bool) -> BorrowedFd<'_> {
        match self.merged.get() {
            Some(whole) if merged => whole.as_fd(),
            _ => self.fs.as_fd(),
        }
    }
}

impl Draft<'_> {
    /// Mounts the tree for writing, detached, with `stubs` between the parent and the upper directory. Without a
    /// parent and stubs the upper directory itself is the tree.
    pub fn mount(&self, stubs: Option<BorrowedFd<'_>>, always: bool) -> Result<OwnedFd> {
        if let Form::Whole { mounts } = self.snapshots.form {
            return if mounts && always { self.bind() } else { reopen(self.fs.as_fd()) };
        }
        if self.parent.is_none() && stubs.is_none() && !always {
            return reopen(self.fs.as_fd());
        }
        let stack = match &self.parent {
            Some(parent) => self.snapshots.lowers(parent)?,
            None => Vec::new(),
        };
        let mut lowers: Vec<BorrowedFd<'_>> = stubs.into_iter().collect();
        lowers.extend(stack.iter().map(|(snapshot, merged)| snapshot.dir(*merged)));
        if lowers.is_empty() {
            lowers.push(self.snapshots.empty.as_fd());
        }
        overlay_made(mount::overlay(&Overlay {
            lowers,
            upper: Some((self.fs.as_fd(), self.work.as_fd())),
            userxattr: self.snapshots.userxattr(),
        }))
    }

    /// The directory of a whole tree as a mount of its own, without device nodes.
    fn bind(&self) -> Result<OwnedFd> {
        let flags = mount::MountFlags { nodev: true, ..mount::MountFlags::default() };
        let made = mount::clone_tree(&self.fs, b"", false)
            .and_then(|made| mount::set_flags(&made, flags, false).map(|()| made));
        environment(made, "mount a tree")
    }

    /// What the step changed so far, as a layer says it. With `placeholders`, files that stand for device nodes are these.
    pub fn changes(&self, placeholders: bool) -> Result<Vec<Change>> {
        let options = DiffOptions { flavour: self.snapshots.xattr_flavour(), placeholders };
        match &self.before {
            Some(before) => diff_scan(before, self.fs.as_fd(), &options),
            None => diff_overlay(self.fs.as_fd(), Some(self.below()?), &options),
        }
    }

    /// The tree that the draft stands on, as one directory that is only to be read; mounted once. In a whole tree that is
    /// the tree itself, and only true before the step.
    pub fn below(&self) -> Result<BorrowedFd<'_>> {
        if self.before.is_some() {
            return Ok(self.fs.as_fd());
        }
        if let Some(view) = self.below.get() {
            return Ok(view.as_fd());
        }
        let view = match &self.parent {
            Some(parent) => self.snapshots.stacked(parent)?,
            None => reopen(self.snapshots.empty.as_fd())?,
        };
        Ok(self.below.get_or_init(|| view).as_fd())
    }

    /// The tree of a step that changed nothing.
    pub fn unchanged(self) -> Result<Option<Arc<Snapshot>>> {
        if self.before.is_some() {
            return self.commit().map(Some);
        }
        Ok(self.parent.clone())
    }

    /// Notes that files that record device nodes were made in it.
    pub fn note_placeholders(&self) {
        self.placeholders.store(true, Ordering::Relaxed);
    }

    /// Whether such files are in it, or in what it stands on.
    pub fn has_placeholders(&self) -> bool {
        let below = self.parent.as_ref().is_some_and(|parent| parent.placeholders);
        below || self.placeholders.load(Ordering::Relaxed)
    }

    /// Makes it a snapshot.
    pub fn commit(mut self) -> Result<Arc<Snapshot>> {
        let meta = Meta {
            version: 1,
            parent: self.parent.as_ref().map(|parent| parent.id.clone()),
            flavour: self.snapshots.flavour.clone(),
            boot: self.snapshots.boot.clone(),
            synced: false,
            placeholders: self.placeholders.load(Ordering::Relaxed),
        };
        let own = environment(
            fs::open_dir(&self.snapshots.dir, self.id.as_bytes()),
            "finish a snapshot",
        )?;
        records::keep(&own)?;
        write_meta(&own, &meta)?;
        self.kept = true;
        let unsynced = &self.snapshots.unsynced;
        unsynced.lock().unwrap_or_else(PoisonError::into_inner).push(self.id.clone());
        // Only a writer needs it, and overlayfs leaves a directory in it that its owner may not enter: with it an
        // ordinary user could not remove the store.
        let _prune_takes_it = fs::remove_tree(&own, b"work");
        let upper = reopen(self.fs.as_fd())?;
        let before = self.before.take();
        if before.is_none() {
            let made = Snapshot::new(self.id.clone(), self.parent.clone(), upper, None);
            return Ok(Arc::new(made.with(meta.placeholders)));
        }
        // The draft's own lock, exclusive or none, becomes the snapshot's shared one.
        let tree = self.fs.try_clone();
        let tree =
            tree.or_error(ErrorKind::Environment, || "cannot copy a descriptor".to_owned())?;
        whole::lock(&tree, false);
        let whole = Some(Whole::new(before));
        let made = Snapshot::new(self.id.clone(), None, tree, whole);
        Ok(Arc::new(made.with(meta.placeholders)))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is nobody's; `prune` takes it.
            let _left = fs::remove_tree(&self.snapshots.dir, self.id.as_bytes());
        }
    }
}

fn write_meta(own: &OwnedFd, meta: &Meta) -> Result<()> {
    let text = serde_json::to_vec(meta)
        .map_err(|error| Error::internal("JSON of a snapshot").cause(error))?;
    let made = (|| {
        fs::unlink(own, b"meta.new").or_else(|error| match error.errno {
            rustix::io::Errno::NOENT => Ok(()),
            _ => Err(error),
        })?;
        let mut file = fs::create_new(own, b"meta.new", 0o600)?;
        write_all(&mut file, &text)?;
        fs::rename(own, b"meta.new", own, b"meta.json")
    })();
    environment(made, "describe a snapshot")
}

fn write_all(file: &mut std::fs::File, bytes: &[u8]) -> crate::sys::SysResult<()> {
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
