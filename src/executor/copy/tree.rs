//! Copying the content of a directory: a walk of the source that keeps the matching directory of the copy open.
//!
//! Nested directories get mode, owner, extended attributes and time of the source even when they are there already
//! (spec: dockerfile §1.7.8), after their content, which would change the time and which a mode could forbid.

use std::os::fd::{AsFd, OwnedFd};

use crate::context::{Selected, Visitor, WalkEntry, xattr};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::copy::Copier;
use crate::executor::copy::destination::Place;
use crate::executor::copy::node::Source;
use crate::sys::SysResultExt;
use crate::sys::fs;
use crate::sys::root::below;

/// A walk and the directories of the copy that are open, outermost first.
struct TreeCopy<'c, 'a> {
    copier: &'c mut Copier<'a>,
    dirs: Vec<OwnedFd>,
    /// Path in the rootfs of the outermost.
    base: Vec<u8>,
    /// Path in the source tree of what is walked.
    from: &'c [u8],
}

impl Copier<'_> {
    /// Copies the content of a selected directory into `dir`, which is at `path` in the rootfs.
    pub(super) fn copy_tree(
        &mut self,
        selected: &Selected,
        dir: OwnedFd,
        path: Vec<u8>,
    ) -> Result<()> {
        let tree = self.request.tree;
        let mut copy = TreeCopy { copier: self, dirs: vec![dir], base: path, from: &selected.path };
        tree.walk(selected, &mut copy)
    }
}

impl TreeCopy<'_, '_> {
    fn innermost(&self) -> Result<&OwnedFd> {
        self.dirs.last().ok_or_else(|| Error::internal("a walk left more than it entered"))
    }
}

impl Visitor for TreeCopy<'_, '_> {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        let path = below(&self.base, dir.path);
        let parent = self.innermost()?;
        let place = Place { dir: parent.as_fd(), name: dir.name, path: &path };
        let failed = || format!("cannot make the directory `{}`", place.shown());
        let found = fs::lstat_opt(parent, dir.name).or_error(ErrorKind::Environment, failed)?;
        match found {
            Some(stat) if stat.is_dir() => {}
            Some(_) if !self.copier.request.link => {
                return Err(Error::dockerfile(format!(
                    "cannot copy to non-directory: `{}`",
                    place.shown()
                ))
                .hint(
                    "a link or file is there; copy the directory's content to where the link leads",
                ));
            }
            found => {
                let cleared = found.map_or(Ok(()), |_| fs::unlink(parent, dir.name));
                cleared
                    .and_then(|()| fs::mkdir(parent, dir.name, 0o700))
                    .or_error(ErrorKind::Environment, failed)?;
            }
        }
        let opened = fs::open_dir(parent, dir.name).or_error(ErrorKind::Environment, failed)?;
        self.dirs.push(opened);
        Ok(())
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        let path = below(&self.base, entry.path);
        let from = below(self.from, entry.path);
        let source = Source { dir: entry.dir, name: entry.name, path: &from, stat: entry.stat };
        let dir = self.dirs.last().map(AsFd::as_fd);
        let dir = dir.ok_or_else(|| Error::internal("a walk left more than it entered"))?;
        self.copier.put(&source, &Place { dir, name: entry.name, path: &path })
    }

    fn leave(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.dirs.pop();
        let request = self.copier.request;
        let path = below(&self.base, dir.path);
        let from = below(self.from, dir.path);
        let attributes = xattr::read(dir.dir, dir.name, !request.tree.is_context())
            .map_err(|error| request.tree.unreadable(&from, &error))?;
        let place = Place { dir: self.innermost()?.as_fd(), name: dir.name, path: &path };
        let source = Source { dir: dir.dir, name: dir.name, path: &from, stat: dir.stat };
        let owner = self.copier.owner(&source)?;
        self.copier.set_metadata(&place, dir.stat, &attributes, owner)
    }
}
