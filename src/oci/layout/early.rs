//! Copies of blobs that are made before the layout that they are for: files without a name. They get one when the layout
//! is written, and are gone when this process ends without that, however it ends.

use super::{Layout, UNFINISHED};
use crate::oci::digest::Digest;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::{
    collections::HashMap,
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The copies of the blobs of a layout; all clones of a layout share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Early(Arc<Mutex<HashMap<Digest, File>>>);

impl Early {
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.copies().contains_key(digest)
    }

    pub(super) fn note(&self, digest: Digest, file: File) {
        self.copies().insert(digest, file);
    }

    pub(super) fn take(&self, digest: &Digest) -> Option<File> {
        self.copies().remove(digest)
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<Digest, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new file in the file system of a directory.
pub(super) fn nameless(near: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(near, flags, Mode::from_raw_mode(0o644)).ok().map(File::from)
}

impl Layout {
    /// Gives a whole copy its place among our blobs; false when it has to be copied anew, in another file system say.
    pub(super) fn adopt(&self, file: &File, digest: &Digest) -> bool {
        let dir = self.blob_dir();
        let unfinished = dir.join(format!("{UNFINISHED}{}", digest.hex()));
        let place = dir.join(digest.hex());
        let linked = fs::create_dir_all(&dir).and_then(|()| {
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, name, CWD, &unfinished, AtFlags::SYMLINK_FOLLOW)
                .map_err(Into::into)
        });
        if linked.is_err() {
            return false;
        }
        let placed = fs::rename(&unfinished, &place).is_ok();
        if placed {
            self.written.note(digest);
        } else {
            let _not_there = fs::remove_file(&unfinished);
        }
        placed
    }
}
