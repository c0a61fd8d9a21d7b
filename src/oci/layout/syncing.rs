//! Making durable what was written into a layout: all of it in one go, or single blobs.

use super::Layout;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What syncing takes, for all clones of a layout.
#[derive(Debug)]
pub(super) struct Syncing {
    /// Open all the time: a sync tells of what could not be written since then.
    dir: Option<File>,
    /// The kernel tells only once.
    pub(super) failed: AtomicBool,
}

impl Syncing {
    /// What it takes in the directory of a layout.
    pub(super) fn of(root: &Path) -> Self {
        Self { dir: File::open(root).ok(), failed: AtomicBool::new(false) }
    }
}

impl Layout {
    /// Makes all that was written durable, in one go; false where that is refused. Fails too when it failed before.
    pub fn sync(&self) -> Result<bool> {
        let failed = || format!("cannot make `{}` durable", self.root.display());
        if self.sync.failed.load(Ordering::Relaxed) {
            return Err(Error::environment(failed())
                .cause("an earlier attempt failed, and what is written since may be damaged")
                .hint("see what is wrong with the disk, or whether it is full, and build again"));
        }
        let synced = match &self.sync.dir {
            Some(dir) => rustix::fs::syncfs(dir),
            None => match File::open(&self.root) {
                Ok(dir) => rustix::fs::syncfs(dir),
                Err(_) => return Ok(false),
            },
        };
        match synced {
            Err(error) if is_loss(error) => {
                self.sync.failed.store(true, Ordering::Relaxed);
                Err(io::Error::from(error)).or_error(ErrorKind::Environment, failed)
            }
            synced => Ok(synced.is_ok()),
        }
    }

    /// Makes one blob durable.
    pub fn sync_blob(&self, digest: &Digest) -> Result<()> {
        let synced = File::open(self.blob_path(digest)).and_then(|file| sync_data(&file));
        synced.or_error(ErrorKind::Environment, || format!("cannot make blob {digest} durable"))
    }

    /// The same for those of `digests` that this layout wrote.
    pub fn sync_written(&self, digests: &[&Digest]) -> Result<()> {
        let mut written = digests.iter().filter(|digest| self.written.has(digest));
        written.try_for_each(|digest| self.sync_blob(digest))
    }
}

/// Makes a file durable, where that can be done.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| rustix::fs::fdatasync(file)) {
        Err(Errno::INVAL | Errno::ROFS | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        synced => Ok(synced?),
    }
}

/// Whether a failed sync lost something. A file system that cannot sync (or a seccomp filter that forbids it) is no reason
/// to fail a build.
fn is_loss(error: Errno) -> bool {
    matches!(error, Errno::NOSPC | Errno::IO | Errno::DQUOT)
}
