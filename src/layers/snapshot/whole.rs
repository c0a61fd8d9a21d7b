//! Snapshots without an overlay: one directory holds the whole tree, and a step works in it.
//!
//! A step takes over the tree that it stands on, under a lock, and leaves it changed: the snapshot before it is gone, and
//! is unpacked again from blobs should anybody ask. Whoever else needs it has it copied first. The lock is `flock` on
//! the tree's own directory: shared by all who look at it, in this process or another, exclusive while a step works.

use super::described::{META, is_synced};
use super::{Draft, Snapshot, Snapshots, environment};
use crate::error::Result;
use crate::layers::copy_tree::copy_tree;
use crate::layers::scan::{Tree, record_again, record_tree};
use crate::sys::fs;
use rustix::fs::{FlockOperation, flock};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What belongs to a snapshot that is a whole tree.
#[derive(Debug, Default)]
pub(super) struct Whole {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A step took the tree over.
    gone: bool,
    /// The tree as it was before the step that made it, which is read again only where it changed.
    earlier: Option<Tree>,
}

impl Whole {
    pub(super) fn new(earlier: Option<Tree>) -> Self {
        Self { state: Mutex::new(State { gone: false, earlier }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.lock().gone
    }
}

/// Takes a shared lock, or an exclusive one; false when somebody is in the way.
pub(super) fn lock(tree: &OwnedFd, exclusive: bool) -> bool {
    let operation = if exclusive {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    flock(tree, operation).is_ok()
}

impl Snapshots {
    /// A draft with the tree of `parent`: taken over, or copied where it must `keep` or where others look at it. `None`
    /// when it is gone.
    pub(super) fn take_over(
        &self,
        parent: &Arc<Snapshot>,
        whole: &Whole,
        keep: bool,
    ) -> Result<Option<Draft<'_>>> {
        let mut state = whole.lock();
        if state.gone {
            return Ok(None);
        }
        if !keep && lock(&parent.fs, true) {
            if !self.is_described(&parent.id) {
                // Another process had it for a moment, between our two locks.
                state.gone = true;
                return Ok(None);
            }
            state.gone = true;
            let before = record(parent.fs.as_fd(), state.earlier.take())?;
            return self.adopt(parent, before).map(Some);
        }
        // The failed attempt gave up our own lock.
        if !lock(&parent.fs, false) || !self.is_described(&parent.id) {
            state.gone = true;
            return Ok(None);
        }
        drop(state);
        let mut draft = self.empty_draft(None)?;
        copy_tree(parent.fs.as_fd(), draft.fs.as_fd())?;
        draft.before = Some(record_tree(draft.fs.as_fd())?);
        draft.placeholders = parent.placeholders.into();
        Ok(Some(draft))
    }

    /// Moves the tree of a snapshot, which is locked, into a new draft.
    fn adopt(&self, parent: &Arc<Snapshot>, before: Tree) -> Result<Draft<'_>> {
        let mut draft = self.empty_draft(None)?;
        let moved = (|| {
            let old = fs::open_dir(&self.dir, parent.id.as_bytes())?;
            // From now on nobody finds it; a loss of power brings no description back that would count after it, above what the
            // step wrote into the tree.
            fs::unlink(&old, META)?;
            if is_synced(&fs::fstat(&old)?) {
                fs::fsync(&old)?;
            }
            let new = fs::open_dir(&self.dir, draft.id.as_bytes())?;
            fs::rmdir(&new, b"fs")?;
            fs::rename(&old, b"fs", &new, b"fs")?;
            fs::remove_tree(&self.dir, parent.id.as_bytes())
        })();
        environment(moved, "take over a tree")?;
        // The same open file: the lock stays for as long as somebody has it.
        let tree = parent.fs.try_clone().map_err(|error| {
            crate::error::Error::environment("cannot copy a descriptor").cause(error)
        })?;
        draft.before = Some(before);
        draft.placeholders = parent.placeholders.into();
        draft.fs = tree;
        Ok(draft)
    }
}

fn record(tree: std::os::fd::BorrowedFd<'_>, earlier: Option<Tree>) -> Result<Tree> {
    match earlier {
        Some(earlier) => record_again(tree, &earlier),
        None => record_tree(tree),
    }
}
