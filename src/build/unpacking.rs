//! One at a time unpacks a layer onto a tree: stages, and builds that share the store, would else each make a tree of
//! their own out of the same layers.

use super::store::Store;
use super::worker::Worker;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::executor::sandbox::Cancel;
use crate::oci::ChainId;
use std::fs::{File, TryLockError};
use std::time::Duration;

/// Keeps others from unpacking the same, until it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    _lock: File,
}

impl Alone {
    /// Waits for whoever unpacks the same now; afterwards the tree may be there. Nothing to wait for where each tree is a
    /// directory of its own, which the next step takes over.
    pub(super) fn with(store: &Store, chain: &ChainId, worker: &Worker) -> Result<Option<Self>> {
        if worker.snapshots.are_whole() {
            return Ok(None);
        }
        // A fixed set of files, which are never removed: two chains that share one only wait.
        let path = store.sub("locks").join(format!("unpack-{}", &chain.0.hex()[..2]));
        let what = || format!("cannot lock {}", path.display());
        let file = File::options().create(true).append(true).open(&path);
        let file = file.or_error(ErrorKind::Environment, what)?;
        wait_for_lock(&file, &worker.cancel, what)?;
        Ok(Some(Self { _lock: file }))
    }
}

/// Locks a file exclusively. No call that blocks: Ctrl-C must end the waiting. `what` is what cannot be done otherwise.
pub(super) fn wait_for_lock(
    file: &File,
    cancel: &Cancel,
    what: impl FnOnce() -> String,
) -> Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).or_error(ErrorKind::Environment, what);
            }
        }
        cancel.check()?;
        std::thread::sleep(Duration::from_millis(10));
    }
}
