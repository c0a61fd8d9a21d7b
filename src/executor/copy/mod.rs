//! COPY and ADD: puts selected files of a [`FileTree`] into a rootfs.
//!
//! In: a [`CopyRequest`], everything expanded and looked up; out: the changed rootfs, or an error that names the path.
//! The rootfs is an open directory (a merged overlay or a plain one) that nobody else changes meanwhile. Everything is
//! done by descriptor and one name at a time, so no link of either side leads out; only the destination's own path may
//! have links, and they are followed inside the rootfs ([`resolve`]). Knows neither Dockerfiles nor layers: archives are
//! unpacked by the caller's [`Unpack`]. Spec: dockerfile §1.7 (5-16).

mod data;
mod destination;
mod mode;
mod node;
mod tree;

use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use mode::{ModeChange, apply_symbolic};

pub(super) use destination::make_directories;

use crate::context::{FileTree, Selected};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::copy::destination::Destination;
use crate::executor::copy::node::{Linked, Source, set_owner};
use crate::sys::SysResultExt;
use crate::sys::fs;

/// What to copy where, and how.
pub struct CopyRequest<'a> {
    /// Where the files are.
    pub tree: &'a FileTree,
    /// Which ones, from [`FileTree::select`]; `--exclude` and `--parents` are in there.
    pub selected: &'a [Selected],
    /// Files given in the Dockerfile: name and body. They come after `selected`.
    pub heredocs: &'a [(String, String)],
    /// Where they go.
    pub rootfs: BorrowedFd<'a>,
    /// Where the rootfs is an overlay, its upper directory: what is made in the rootfs is really there.
    pub upper: Option<BorrowedFd<'a>>,
    /// Destination as expanded.
    pub destination: &'a str,
    /// Working directory, which a relative destination starts at.
    pub cwd: &'a str,
    /// `--chown`, looked up.
    pub chown: Option<(u32, u32)>,
    /// `--chmod`.
    pub chmod: Option<&'a ModeChange>,
    /// `--link`: links in the destination's path are not followed but replaced by directories.
    pub link: bool,
    /// For ADD: what unpacks archives.
    pub unpack: Option<&'a dyn Unpack>,
    /// Where device nodes cannot be made: the extended attribute in which an empty file records the node that it stands
    /// for (`c` or `b`, then `:major:minor:mode`, the mode in octal).
    pub placeholder: Option<&'a str>,
    /// Time of the directories and files that no source gives a time.
    pub now: (i64, u32),
}

/// Unpacks the archives that ADD meets.
pub trait Unpack {
    /// Whether a file is an archive, by its content. It may be read from any offset.
    fn is_archive(&self, file: BorrowedFd<'_>) -> Result<bool>;
    /// Unpacks `archive` (at offset 0) into `place`.
    fn unpack(&self, archive: OwnedFd, place: UnpackPlace<'_>) -> Result<()>;
}

/// Where an archive goes.
#[derive(Clone, Copy, Debug)]
pub struct UnpackPlace<'a> {
    /// The rootfs, which links in the archive and in the destination count from.
    pub rootfs: BorrowedFd<'a>,
    /// The destination directory, which exists.
    pub dir: BorrowedFd<'a>,
    /// Its path in the rootfs: relative, without links; empty for the root.
    pub path: &'a [u8],
    /// `--chown`, looked up.
    pub chown: Option<(u32, u32)>,
}

/// Carries out a COPY or ADD.
pub fn copy(request: &CopyRequest<'_>) -> Result<()> {
    let mut copier = Copier { request, linked: Linked::default(), made: Vec::new(), source: 0 };
    for selected in request.selected {
        // Hard links are kept within one source only.
        if selected.source != copier.source {
            copier.linked = Linked::default();
            copier.source = selected.source;
        }
        copier.copy_selected(selected)?;
    }
    for (name, body) in request.heredocs {
        copier.write_heredoc(name, body)?;
    }
    copier.finish()
}

/// A directory made on the way, which gets its final mode and time at the end.
struct Made {
    path: Vec<u8>,
    mtime: (i64, u32),
}

/// The state of one copy.
struct Copier<'a> {
    request: &'a CopyRequest<'a>,
    /// Files with several names that were copied.
    linked: Linked,
    /// In the order of making, parents first.
    made: Vec<Made>,
    /// Source that is being copied.
    source: usize,
}

impl Copier<'_> {
    fn copy_selected(&mut self, selected: &Selected) -> Result<()> {
        let destination = Destination::resolve(self.request)?;
        if selected.parents {
            let dir = destination.open_as_dir(self, None)?;
            return self.copy_tree(selected, dir, destination.path);
        }
        if selected.is_dir() {
            let dir = destination.open_as_dir(self, Some(selected.stat.mtime))?;
            return self.copy_tree(selected, dir, destination.path);
        }
        let (from, name) = self.request.tree.open_parent(selected)?;
        if selected.stat.kind == fs::Kind::File
            && self.unpack(&from, name, selected, &destination)?
        {
            return Ok(());
        }
        let target = destination.open_for_file(self, &selected.name)?;
        let source = Source { dir: from.as_fd(), name, path: &selected.path, stat: &selected.stat };
        self.put(&source, &target.place())
    }

    /// Unpacks a file when that is wanted and it is an archive.
    fn unpack(
        &mut self,
        from: &OwnedFd,
        name: &[u8],
        selected: &Selected,
        destination: &Destination,
    ) -> Result<bool> {
        let Some(unpack) = self.request.unpack else { return Ok(false) };
        let tree = self.request.tree;
        let open = || fs::open_read(from, name).map_err(|e| tree.unreadable(&selected.path, &e));
        let file = open()?;
        if !unpack.is_archive(file.as_fd())? {
            return Ok(false);
        }
        // Its members may replace any copy made so far.
        self.linked = Linked::default();
        let dir = destination.open_as_dir(self, None)?;
        let place = UnpackPlace {
            rootfs: self.request.rootfs,
            dir: dir.as_fd(),
            path: &destination.path,
            chown: self.request.chown,
        };
        // Opened again: the offset is wherever the first look left it.
        let shown = String::from_utf8_lossy(&selected.path).into_owned();
        unpack
            .unpack(open()?.into(), place)
            .map_err(|error| error.wrap(format!("cannot unpack `{shown}`")))?;
        Ok(true)
    }

    fn write_heredoc(&mut self, name: &str, body: &str) -> Result<()> {
        let name = name.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            return Err(Error::dockerfile(format!("`{name}` is no file name")));
        }
        let destination = Destination::resolve(self.request)?;
        let target = destination.open_for_file(self, name.as_bytes())?;
        let place = target.place();
        self.clear(&place)?;
        let failed = || format!("cannot write `{}`", place.shown());
        let mut file = fs::create_new(place.dir, place.name, 0o600)
            .or_error(ErrorKind::Environment, failed)?;
        file.write_all(body.as_bytes()).or_error(ErrorKind::Environment, failed)?;
        set_owner(&place, self.request.chown.unwrap_or((0, 0)))?;
        let mode = self.request.chmod.map_or(0o644, |change| change.apply(0o644, false));
        fs::fchmod(&file, mode).or_error(ErrorKind::Environment, failed)?;
        fs::set_mtime(place.dir, place.name, self.request.now)
            .or_error(ErrorKind::Environment, failed)
    }

    /// Gives the directories made on the way their mode and time, deepest first: a mode may close them.
    fn finish(&mut self) -> Result<()> {
        while let Some(made) = self.made.pop() {
            let failed = || format!("cannot finish `/{}`", String::from_utf8_lossy(&made.path));
            let dir = crate::sys::root::open_dir(self.request.rootfs, &made.path)
                .or_error(ErrorKind::Environment, failed)?;
            // Symbolic modes leave such directories as they are made (spec §1.7.7).
            let mode = match self.request.chmod {
                Some(ModeChange::Octal(mode)) => *mode,
                _ => 0o755,
            };
            fs::set_mtime(&dir, b".", made.mtime)
                .and_then(|()| fs::fchmod(&dir, mode))
                .or_error(ErrorKind::Environment, failed)?;
        }
        Ok(())
    }
}

impl fmt::Debug for CopyRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRequest")
            .field("tree", &self.tree)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
