//! The store directory (docs/store.md): images, step records, snapshots, cache mounts, locks.
//!
//! Any number of processes share it; [`super::care`] says how they see each other. What cannot be read here is a cache
//! miss; a newer version of the directory is refused.

use super::care::Lease;
use super::care::room::Room;
use super::hidden;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::layout::Layout;
use crate::sys::{SysResultExt, fs};
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
    lease: Lease,
    room: Room,
}

impl Store {
    /// Opens a store, making it when it does not exist, and says that it is in use.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("cannot use the store {}", path.display());
        let hint = "choose another directory with `--root` or NATIVEBUILD_ROOT";
        let made = || -> Result<(OwnedFd, Lease, Layout)> {
            std::fs::create_dir_all(path).or_error(ErrorKind::Environment, what)?;
            let dir = fs::open_dir_path(path).or_error(ErrorKind::Environment, what)?;
            check_version(path)?;
            for name in ["snapshots", "cache", "mounts", "tmp", "trash", "locks/use", "logs"] {
                std::fs::create_dir_all(path.join(name)).or_error(ErrorKind::Environment, what)?;
            }
            let lease = Lease::take(path).or_error(ErrorKind::Environment, what)?;
            let images = Layout::create(path.join("images"))?.stamping(Lease::gate(path));
            Ok((dir, lease, images))
        };
        let (dir, lease, images) = made().map_err(|error| error.hint(hint))?;
        Ok(Self { path: path.to_owned(), dir, images, lease, room: Room::default() })
    }

    /// Whether there is a store.
    pub fn exists(path: &Path) -> bool {
        path.join("version").exists()
    }

    /// The same store, in which a build keeps to a limit in bytes.
    pub fn limited(self, limit: Option<u64>) -> Self {
        Self { room: Room::limited(limit), ..self }
    }

    /// The limit that a build keeps to, and what is known of the room that is left.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Says that this process uses the store.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The tree of the directory `dir` without the store, should it lie there: what it has of one build would be copied in
    /// the next, and in the very build that writes it.
    pub fn hide(&self, tree: FileTree, dir: &Path) -> Result<FileTree> {
        if hidden::is_same(dir, &self.path) {
            let what = format!("the build context {} is the store itself", dir.display());
            return Err(Error::context(what)
                .hint("choose another directory with `--root` or NATIVEBUILD_ROOT"));
        }
        Ok(hidden::without_dir(tree, dir, &self.path, "the store is no part of a build context"))
    }

    /// The images.
    pub fn images(&self) -> &Layout {
        &self.images
    }

    /// Where uploads are remembered that go on after the program was killed; made when there is one.
    pub fn uploads(&self) -> PathBuf {
        self.sub("uploads")
    }

    /// A directory of the store by name.
    pub fn sub(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A directory with other people's files does not become a store: what is below `tmp` and the like of a store may be
/// removed at any time.
fn refuse_foreign(path: &Path) -> Result<()> {
    let entries = std::fs::read_dir(path)
        .or_error(ErrorKind::Environment, || format!("cannot read {}", path.display()))?;
    let mut foreign = None;
    for entry in entries.flatten() {
        match entry.file_name().to_string_lossy().as_ref() {
            // Somebody else made it a store meanwhile.
            "version" => return Ok(()),
            // Of a volume, and of somebody who is about to.
            "lost+found" => {}
            name if name.starts_with("version.") => {}
            name => foreign = Some(name.to_owned()),
        }
    }
    foreign.map_or(Ok(()), |name| {
        let error = Error::environment(format!("{} is not a store", path.display()));
        Err(error.cause(format!("it has no file `version`, and holds `{name}`")))
    })
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
            refuse_foreign(path)?;
            let temporary = path.join(format!("version.{}", std::process::id()));
            std::fs::write(&temporary, format!("{VERSION}\n"))
                .and_then(|()| std::fs::rename(&temporary, &file))
                .or_error(ErrorKind::Environment, || format!("cannot write {}", file.display()))
        }
        Err(error) => Err(error)
            .or_error(ErrorKind::Environment, || format!("cannot read {}", file.display())),
    }
}
