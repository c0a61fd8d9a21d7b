//! A snapshot that is being written: mounted or opened for a step, read for its changes, made a snapshot.

use super::stack::{Lower, overlay_made};
use super::whole::{self, Whole};
use super::{Form, Meta, Snapshot, Snapshots, environment, inherit_root, records, reopen};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::Changes;
use crate::layers::diff::{DiffOptions, diff_overlay, diff_scan};
use crate::layers::scan::Tree;
use crate::layers::times::TimePolicy;
use crate::sys::fs;
use crate::sys::mount::{self, Overlay};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

/// Most names that are looked for one by one in all that lies below.
const FEW: usize = 8;

/// A snapshot that is being written.
#[derive(Debug)]
pub struct Draft<'a> {
    pub(super) snapshots: &'a Snapshots,
    pub(super) id: String,
    pub(super) parent: Option<Arc<Snapshot>>,
    pub(super) fs: OwnedFd,
    pub(super) work: OwnedFd,
    pub(super) below: OnceLock<OwnedFd>,
    /// The whole tree before the step.
    pub(super) before: Option<Tree>,
    pub(super) placeholders: AtomicBool,
    pub(super) kept: bool,
    /// Keep what it stands on from being united.
    pub(super) _held: Vec<OwnedFd>,
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
        lowers.extend(stack.iter().map(Lower::dir));
        if lowers.is_empty() {
            lowers.push(self.snapshots.empty.as_fd());
        }
        let made = overlay_made(mount::overlay(&Overlay {
            lowers,
            upper: Some((self.fs.as_fd(), self.work.as_fd())),
            userxattr: self.snapshots.userxattr(),
        }))?;
        // The kernel's own directories have no permissions at all: what a killed build leaves could not be removed by whom
        // it belongs to.
        for own in [&b"work"[..], b"work/incompat", b"work/incompat/volatile"] {
            let _only_for_that = fs::chmod(&self.work, own, 0o700);
        }
        Ok(made)
    }

    /// Puts one that was made on an empty tree onto what it belongs on. With `own_root` it says itself what the root is like.
    #[allow(clippy::used_underscore_binding, reason = "it is only kept")]
    pub fn onto(mut self, parent: &Arc<Snapshot>, own_root: bool) -> Result<Self> {
        if !own_root {
            environment(inherit_root(&self.fs, Some(parent)), "make a snapshot")?;
        }
        self._held = self.snapshots.hold(Some(parent));
        self.parent = Some(Arc::clone(parent));
        Ok(self)
    }

    /// The directory that holds what is new; of a whole tree the tree itself.
    pub fn upper(&self) -> BorrowedFd<'_> {
        self.fs.as_fd()
    }

    /// What it stands on.
    pub fn parent(&self) -> Option<&Arc<Snapshot>> {
        self.parent.as_ref()
    }

    /// Its id, which it keeps as a snapshot.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory of a whole tree as a mount of its own, without device nodes.
    fn bind(&self) -> Result<OwnedFd> {
        let flags = mount::MountFlags { nodev: true, ..mount::MountFlags::default() };
        let made = mount::clone_tree(&self.fs, b"", false)
            .and_then(|made| mount::set_flags(&made, flags, false).map(|()| made));
        environment(made, "mount a tree")
    }

    /// What the step changed so far, as a layer says it. With `placeholders`, files that stand for device nodes are these.
    /// `times` are those of the layer.
    pub fn changes(&self, placeholders: bool, times: &TimePolicy) -> Result<Changes> {
        let options = DiffOptions { flavour: self.snapshots.xattr_flavour(), placeholders };
        match &self.before {
            Some(before) => diff_scan(before, self.fs.as_fd(), &options, times),
            None if self.is_all_new()? => diff_overlay(self.fs.as_fd(), None, &options, times),
            None => diff_overlay(self.fs.as_fd(), Some(self.below()?), &options, times),
        }
    }

    /// Whether nothing below has any of the names in the root of the upper directory. Then there is nothing to compare
    /// with, and the mount for that is spared.
    fn is_all_new(&self) -> Result<bool> {
        let what = "look for what a step changed";
        let names = environment(fs::list(&self.fs), what)?;
        if names.len() > FEW {
            return Ok(false);
        }
        let lowers = match &self.parent {
            Some(parent) => self.snapshots.lowers(parent)?,
            None => Vec::new(),
        };
        for (lower, name) in lowers.iter().flat_map(|lower| names.iter().map(move |n| (lower, n))) {
            if environment(fs::lstat_opt(lower.dir(), name), what)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
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

    /// Removes it, and waits for that.
    pub fn discard(mut self) {
        // What cannot be removed is nobody's; `prune` takes it.
        let _left = fs::remove_tree(&self.snapshots.dir, self.id.as_bytes());
        self.kept = true;
    }

    /// Makes it a snapshot.
    pub fn commit(mut self) -> Result<Arc<Snapshot>> {
        let meta = Meta {
            parent: self.parent.as_ref().map(|parent| parent.id.clone()),
            flavour: self.snapshots.flavour.clone(),
            boot: self.snapshots.boot.clone(),
            placeholders: self.placeholders.load(Ordering::Relaxed),
        };
        let own = environment(
            fs::open_dir(&self.snapshots.dir, self.id.as_bytes()),
            "finish a snapshot",
        )?;
        records::keep(&own)?;
        meta.write(&own)?;
        self.kept = true;
        let unsynced = &self.snapshots.unsynced;
        unsynced.lock().unwrap_or_else(PoisonError::into_inner).push(self.id.clone());
        // Only a writer needs it, and overlayfs leaves a directory in it that its owner may not enter: with it an
        // ordinary user could not remove the store.
        self.snapshots.sweeper.remove(own, b"work");
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
            // What cannot be removed is nobody's; `prune` takes it.
            match self.snapshots.dir.try_clone() {
                Ok(dir) => self.snapshots.sweeper.remove(dir, self.id.as_bytes()),
                Err(_) => drop(fs::remove_tree(&self.snapshots.dir, self.id.as_bytes())),
            }
        }
    }
}
