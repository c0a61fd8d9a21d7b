//! What commands are run with, and what must not stay behind them: the snapshots of an assembly are nobody's cache.

use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::Result;
use crate::layers::snapshot::{Draft, Snapshot};
use std::sync::{Arc, Mutex, PoisonError};

/// An isolation that was entered. Everything that was made in it goes with the value, however the assembly ends.
#[derive(Debug)]
pub(super) struct Workshop {
    store: Arc<Store>,
    pub(super) worker: Worker,
    made: Mutex<Vec<String>>,
}

impl Workshop {
    pub(super) fn new(store: &Arc<Store>, worker: Worker) -> Self {
        Self { store: Arc::clone(store), worker, made: Mutex::default() }
    }

    /// Makes a draft a snapshot that goes with this value.
    pub(super) fn commit(&self, draft: Draft<'_>) -> Result<Arc<Snapshot>> {
        self.made().push(draft.id().to_owned());
        draft.commit()
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        for id in std::mem::take(&mut *self.made()) {
            // What cannot be removed now is nobody's; `prune --all` takes it.
            let _left = self.worker.remove(&self.store, "snapshots", &id);
        }
    }
}
