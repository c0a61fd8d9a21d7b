//! The store directory (docs/store.md): images, step records, snapshots, cache mounts, locks.
//!
//! Any number of builds share it. A build holds a shared lock on `locks/store`; `prune` an exclusive one. What
//! cannot be read here is a cache miss; a newer version of the directory is refused.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::layout::Layout;
use crate::sys::{SysResultExt, fs};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Version of the store's form.
const VERSION: &str = "1";

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: OwnedFd,
    images: Layout,
    _lock: File,
}

impl Store {
    /// Opens a store, making it when it does not exist, and takes the shared lock.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, |lock| lock.lock_shared().map(|()| true))
    }

    /// Opens a store for itself alone; fails when anybody else uses it.
    pub fn open_alone(path: &Path) -> Result<Self> {
        Self::open_with(path, |lock| match lock.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        })
    }

    fn open_with(path: &Path, take: impl Fn(&File) -> std::io::Result<bool>) -> Result<Self> {
        let what = || format!("cannot use the store {}", path.display());
        let hint = "choose another directory with `--root` or NATIVEBUILD_ROOT";
        let made = || -> Result<OwnedFd> {
            std::fs::create_dir_all(path).or_error(ErrorKind::Environment, what)?;
            let dir = fs::open_dir_path(path).or_error(ErrorKind::Environment, what)?;
            check_version(path)?;
            for name in ["snapshots", "cache", "mounts", "tmp", "trash", "locks", "logs"] {
                std::fs::create_dir_all(path.join(name)).or_error(ErrorKind::Environment, what)?;
            }
            Ok(dir)
        };
        let dir = made().map_err(|error| error.hint(hint))?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(path.join("locks/store"))
            .or_error(ErrorKind::Environment, what)?;
        if !take(&lock).or_error(ErrorKind::Environment, what)? {
            return Err(Error::environment(format!("the store {} is in use", path.display()))
                .hint("wait until the builds in it are done"));
        }
        let images = Layout::create(path.join("images"))?;
        Ok(Self { path: path.to_owned(), dir, images, _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The images.
    pub fn images(&self) -> &Layout {
        &self.images
    }

    /// A directory of the store by name.
    pub fn sub(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn check_version(path: &Path) -> Result<()> {
    let file = path.join("version");
    match std::fs::read_to_string(&file) {
        Ok(text) if text.trim() == VERSION => Ok(()),
        Ok(text) => Err(Error::environment(format!(
            "the store {} has version `{}`, this program knows version {VERSION}",
            path.display(),
            text.trim()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let temporary = path.join(format!("version.{}", std::process::id()));
            std::fs::write(&temporary, format!("{VERSION}\n"))
                .and_then(|()| std::fs::rename(&temporary, &file))
                .or_error(ErrorKind::Environment, || format!("cannot write {}", file.display()))
        }
        Err(error) => Err(error)
            .or_error(ErrorKind::Environment, || format!("cannot read {}", file.display())),
    }
}
