//! Copies of what bind mounts show. One that nobody can write to serves the RUNs of a build that mount the same.
//!
//! Few are kept, so that a build which mounts many different trees does not need room for all of them.

use crate::error::Result;
use crate::oci::Digest;
use crate::plan::step::CopyFrom;
use crate::sys::fs;
use crate::sys::sweeper::Sweeper;
use std::collections::VecDeque;
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

/// How many are kept while no RUN uses them.
const KEPT: usize = 2;

/// What is copied: from where, and the digest of its content, in which there are no times.
type Key = (CopyFrom, String, Digest);

/// One of them; whoever needs it while it is made waits.
type Place = Arc<Mutex<Option<Arc<Copied>>>>;

/// The copies that were needed last.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<VecDeque<(Key, Place)>>);

impl Copies {
    /// The copy of this, made by `make` if there is none.
    pub(super) fn get(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<Copied>,
    ) -> Result<Arc<Copied>> {
        let place = self.place(key);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copied) = &*place {
            return Ok(Arc::clone(copied));
        }
        let made = Arc::new(make()?);
        *place = Some(Arc::clone(&made));
        Ok(made)
    }

    fn place(&self, key: Key) -> Place {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(known, _)| *known == key);
        let known = at.and_then(|at| all.remove(at)).unwrap_or_else(|| (key, Place::default()));
        let place = Arc::clone(&known.1);
        all.push_back(known);
        if all.len() > KEPT {
            all.pop_front();
        }
        place
    }
}
