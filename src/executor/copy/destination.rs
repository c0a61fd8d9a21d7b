//! Where a copy ends up: resolving the destination, and making the directories it needs.
//!
//! In: destination and working directory as text; out: an open directory, or a directory and a name in it. Links in
//! the path, the last one and dangling ones included, are followed inside the rootfs; missing directories are made 0755
//! and owned as `--chown` says. Spec: dockerfile §1.7 (5-9) and, for working directories, §1.6.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::context::pattern::clean;
use crate::context::resolve::resolve;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::copy::{Copier, CopyRequest, Made};
use crate::sys::fs::{self, Kind};
use crate::sys::root::below;
use crate::sys::{SysResultExt, root};

/// A resolved destination.
pub(super) struct Destination {
    /// Relative to the rootfs, links followed; empty for the root.
    pub(super) path: Vec<u8>,
    /// The text means a directory: it ends in `/` or `/.`, or is empty or `.`.
    means_dir: bool,
    /// What is there now.
    exists: Option<Kind>,
}

/// A name in an open directory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    /// Path in the rootfs.
    pub(super) path: &'a [u8],
}

impl Place<'_> {
    /// Absolute, for messages.
    pub(super) fn shown(&self) -> String {
        shown(self.path)
    }
}

/// A [`Place`] that owns what it needs.
pub(super) struct Target {
    dir: OwnedFd,
    path: Vec<u8>,
}

impl Target {
    pub(super) fn place(&self) -> Place<'_> {
        let name = root::split_last(&self.path).1.unwrap_or_default();
        Place { dir: self.dir.as_fd(), name, path: &self.path }
    }
}

impl Destination {
    pub(super) fn resolve(request: &CopyRequest<'_>) -> Result<Self> {
        let text = request.destination;
        let last = text.rsplit('/').next().unwrap_or_default();
        let means_dir = matches!(last, "" | "." | "..");
        let full = if text.starts_with('/') {
            text.to_owned()
        } else {
            format!("/{}/{text}", request.cwd)
        };
        let cleaned = clean(full.as_bytes());
        if request.link {
            let path = cleaned[1..].to_vec();
            let stat = root::lstat_opt(request.rootfs, &path)
                .or_error(ErrorKind::Environment, || {
                    format!("cannot look at `{}`", shown(&path))
                })?;
            return Ok(Self { path, means_dir, exists: stat.map(|stat| stat.kind) });
        }
        let found = resolve(request.rootfs, &cleaned).map_err(|e| {
            e.with_kind(ErrorKind::Dockerfile).wrap(format!("bad destination `{text}`"))
        })?;
        Ok(Self { path: found.path, means_dir, exists: found.stat.map(|stat| stat.kind) })
    }

    /// Opens it as a directory, making it and its parents where missing. `mtime` is for itself, if it is made here.
    pub(super) fn open_as_dir(
        &self,
        copier: &mut Copier<'_>,
        mtime: Option<(i64, u32)>,
    ) -> Result<OwnedFd> {
        match self.exists {
            None | Some(Kind::Directory) => {}
            Some(Kind::Symlink) if copier.request.link => {}
            Some(_) => {
                let shown = shown(&self.path);
                return Err(Error::dockerfile(format!("cannot copy to non-directory: `{shown}`"))
                    .hint("a directory's content can only be copied into a directory"));
            }
        }
        copier.open_made(&self.path, mtime)
    }

    /// Opens the directory for a file that is called `name` there unless the destination says otherwise.
    pub(super) fn open_for_file(&self, copier: &mut Copier<'_>, name: &[u8]) -> Result<Target> {
        let is_dir = self.exists == Some(Kind::Directory);
        if !self.means_dir && !is_dir && !self.path.is_empty() {
            let dir = copier.open_made(root::split_last(&self.path).0, None)?;
            return Ok(Target { dir, path: self.path.clone() });
        }
        if self.exists.is_some() && !is_dir && !copier.request.link {
            return Err(Error::dockerfile(format!("not a directory: `{}`", shown(&self.path)))
                .hint("leave out the `/` at the end of the destination to replace the file"));
        }
        let dir = copier.open_made(&self.path, None)?;
        Ok(Target { dir, path: below(&self.path, name) })
    }
}

impl Copier<'_> {
    /// Opens a directory of the rootfs by its resolved path, making what is missing.
    fn open_made(&mut self, path: &[u8], mtime: Option<(i64, u32)>) -> Result<OwnedFd> {
        let owner = self.request.chown.unwrap_or((0, 0));
        let new = make_directories(self.request.rootfs, path, owner, self.request.link)?;
        let last = new.made.len().wrapping_sub(1);
        for (index, path) in new.made.into_iter().enumerate() {
            let mtime = mtime.filter(|_| index == last).unwrap_or(self.request.now);
            self.made.push(Made { path, mtime });
        }
        Ok(new.dir)
    }
}

/// A directory, and which directories had to be made for it, parents first.
pub(in crate::executor) struct NewDirectories {
    pub(super) dir: OwnedFd,
    pub(super) made: Vec<Vec<u8>>,
}

/// Opens the directory at a resolved path, making it and its parents (0755, `owner`) where missing. With `replace`,
/// anything else that is in the way gives way.
pub(in crate::executor) fn make_directories(
    rootfs: BorrowedFd<'_>,
    path: &[u8],
    owner: (u32, u32),
    replace: bool,
) -> Result<NewDirectories> {
    let failed = |path: &[u8]| format!("cannot make the directory `{}`", shown(path));
    let dir = fs::reopen_dir(rootfs).or_error(ErrorKind::Environment, || failed(b""))?;
    let mut new = NewDirectories { dir, made: Vec::new() };
    let mut here = Vec::new();
    for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        here = below(&here, name);
        let mut found =
            fs::lstat_opt(&new.dir, name).or_error(ErrorKind::Environment, || failed(&here))?;
        if replace && found.is_some_and(|stat| !stat.is_dir()) {
            fs::unlink(&new.dir, name).or_error(ErrorKind::Environment, || failed(&here))?;
            found = None;
        }
        match found {
            Some(stat) if stat.is_dir() => {}
            Some(_) => {
                return Err(Error::dockerfile(format!("not a directory: `{}`", shown(&here))));
            }
            None => {
                // The mode again by chmod: mkdir's is cut by the umask and by default access lists.
                fs::mkdir(&new.dir, name, 0o755)
                    .and_then(|()| fs::lchown(&new.dir, name, owner.0, owner.1))
                    .and_then(|()| fs::chmod(&new.dir, name, 0o755))
                    .or_error(ErrorKind::Environment, || failed(&here))?;
                new.made.push(here.clone());
            }
        }
        new.dir =
            fs::open_dir(&new.dir, name).or_error(ErrorKind::Environment, || failed(&here))?;
    }
    Ok(new)
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
