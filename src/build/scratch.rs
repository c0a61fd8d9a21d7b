//! Small files that RUNs get by mount, and the directories they lie in.
//!
//! Most RUNs of a build have the same /etc/hosts and the same /etc/resolv.conf. A file is made once for all of them, and
//! every RUN gets a mount of its own of it, which nobody can write through.

use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::snapshot::random_id;
use crate::sys::SysResultExt;
use crate::sys::fs;
use crate::sys::mount::{self, MountFlags};
use crate::sys::sweeper::Sweeper;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files by text and mode, which stay until the value is dropped.
#[derive(Debug)]
pub struct SharedFiles {
    tmp: PathBuf,
    sweeper: Arc<Sweeper>,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    scratch: Scratch,
    files: HashMap<(String, u32), PathBuf>,
}

impl SharedFiles {
    /// They will lie in `tmp`.
    pub(super) fn new(tmp: PathBuf, sweeper: &Arc<Sweeper>) -> Self {
        Self { tmp, sweeper: Arc::clone(sweeper), made: Mutex::default() }
    }

    /// A file with this text, as a mount that can be attached.
    pub(super) fn mounted(&self, text: &str, mode: u32) -> Result<OwnedFd> {
        let path = self.path(text, mode)?;
        let what = || format!("cannot use {}", path.display());
        let clone = mount::clone_tree_path(&path, false).or_error(ErrorKind::Environment, what)?;
        let flags = MountFlags { read_only: true, nosuid: true, nodev: true, noexec: false };
        mount::set_flags(&clone, flags, false).or_error(ErrorKind::Environment, what)?;
        Ok(clone)
    }

    fn path(&self, text: &str, mode: u32) -> Result<PathBuf> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.is_none() {
            let scratch = Scratch::new(&self.tmp, &self.sweeper)?;
            *made = Some(Made { scratch, files: HashMap::new() });
        }
        let Some(Made { scratch, files }) = &mut *made else {
            return Err(crate::error::Error::internal("a directory was not made"));
        };
        let key = (text.to_owned(), mode);
        if let Some(path) = files.get(&key) {
            return Ok(path.clone());
        }
        let path = scratch.path.join(format!("own-{}", files.len()));
        let what = || format!("cannot write {}", path.display());
        std::fs::write(&path, text).or_error(ErrorKind::Environment, what)?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, permissions).or_error(ErrorKind::Environment, what)?;
        files.insert(key, path.clone());
        Ok(path)
    }
}

/// A directory under `tmp` that goes away some time after the value.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) path: PathBuf,
    sweeper: Arc<Sweeper>,
}

impl Scratch {
    pub(super) fn new(tmp: &Path, sweeper: &Arc<Sweeper>) -> Result<Self> {
        let path = tmp.join(format!("run-{}", random_id()));
        std::fs::create_dir(&path)
            .or_error(ErrorKind::Environment, || format!("cannot make {}", path.display()))?;
        Ok(Self { path, sweeper: Arc::clone(sweeper) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        use std::os::unix::ffi::OsStrExt;
        let parent = self.path.parent().and_then(|parent| fs::open_dir_path(parent).ok());
        if let (Some(parent), Some(name)) = (parent, self.path.file_name()) {
            self.sweeper.remove(parent, name.as_bytes());
        }
    }
}
