//! Copies of what bind mounts show. One that nobody can write to serves all RUNs of a build that mount the same.

use crate::error::Result;
use crate::oci::Digest;
use crate::sys::fs;
use crate::sys::sweeper::Sweeper;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A directory of the store with a copy in it, removed in the background.
#[derive(Debug)]
pub(super) struct Copied {
    /// None only while it is dropped.
    dir: Option<tempfile::TempDir>,
    sweeper: Arc<Sweeper>,
}

impl Copied {
    pub(super) fn new(dir: tempfile::TempDir, sweeper: &Arc<Sweeper>) -> Self {
        Self { dir: Some(dir), sweeper: Arc::clone(sweeper) }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        let parent = dir.path().parent().and_then(|parent| fs::open_dir_path(parent).ok());
        // Without a descriptor for it the directory removes itself here and now.
        if let Some(parent) = parent {
            let path = dir.keep();
            let name = path.file_name().unwrap_or_default();
            self.sweeper.remove(parent, name.as_bytes());
        }
    }
}

/// One of them; whoever needs it while it is made waits.
type Place = Arc<Mutex<Option<Arc<Copied>>>>;

/// The copies of a build, by the content digest of what is copied.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<HashMap<Digest, Place>>);

impl Copies {
    /// The copy of this content, made by `make` if there is none.
    pub(super) fn get(
        &self,
        content: &Digest,
        make: impl FnOnce() -> Result<Copied>,
    ) -> Result<Arc<Copied>> {
        let place = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(content.clone()).or_default())
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copied) = &*place {
            return Ok(Arc::clone(copied));
        }
        let made = Arc::new(make()?);
        *place = Some(Arc::clone(&made));
        Ok(made)
    }
}
