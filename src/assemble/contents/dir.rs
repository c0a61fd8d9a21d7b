//! `dir`: the files of a directory of this machine.

use super::{Files, Filler, open_dir, relative};
use crate::assemble::spec::DirContent;
use crate::assemble::tree::{Origin, join};
use crate::build::hidden;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::diff::{DiffOptions, XattrFlavour, read_tree, read_tree_without};
use crate::layers::{Change, ChangeKind, EntryKind, path_order};
use crate::sys::SysResultExt;
use crate::sys::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Links to directories that may be expanded inside each other.
const MAX_NESTED: usize = 40;

/// How trees of this machine are read.
pub(super) const READ: DiffOptions =
    DiffOptions { flavour: XattrFlavour::User, placeholders: false };

impl Filler<'_> {
    pub(super) fn dir(&mut self, origin: Origin, item: &DirContent) -> Result<()> {
        let path = self.host(&item.path.value);
        let spec = self.spec;
        let root = open_dir(&path).map_err(|error| error.at(&spec.source, item.path.span))?;
        let root = Arc::new(root);
        let mut left_out = Vec::new();
        // What is kept of the images that were made of a directory is no part of it.
        let store = hidden::inside(&path, self.store).unwrap_or_default();
        let changes = read_tree_without(root.as_fd(), &READ, &store, &mut left_out)
            .map(|changes| changes.to_vec())
            .map_err(|error| error.wrap(format!("cannot read `{}`", item.path.value.display())))?;
        for path in left_out {
            self.warnings.push(format!(
                "`{}` of `{}` is left out: a layer holds no sockets, and the device 0:0 marks deletions",
                super::shown(&path),
                item.path.value.display()
            ));
        }
        let to = relative(&item.to);
        let mut files = Files {
            root: &root,
            below: b"",
            changes,
            origin,
            owners: item.owners,
            xattrs: item.xattrs,
            hardlinks: item.hardlinks,
        };
        let expanded = if item.expand { take_links(&mut files, &path) } else { Vec::new() };
        self.merge(&files, &to, item.dir_symlinks)?;
        for (at, target) in expanded {
            self.expanded(origin, item, (&at, &target), &[identity(&path)?])?;
        }
        Ok(())
    }

    /// The files of a directory that a link of the source leads to. `above` are the directories in which it stands.
    fn expanded(
        &mut self,
        origin: Origin,
        item: &DirContent,
        (at, path): (&[u8], &Path),
        above: &[(u64, u64)],
    ) -> Result<()> {
        let own = identity(path)?;
        if above.contains(&own) || above.len() > MAX_NESTED {
            let message = format!("links in `{}` lead around in a circle", path.display());
            return Err(Error::context(message).hint("leave `sourceSymlinks: expand` out"));
        }
        let above = [above, &[own]].concat();
        let root = Arc::new(open_dir(path)?);
        let store = hidden::inside(path, self.store).unwrap_or_default();
        let changes = read_tree_without(root.as_fd(), &READ, &store, &mut Vec::new())?;
        let mut files = Files {
            root: &root,
            below: b"",
            changes: changes.to_vec(),
            origin,
            owners: item.owners,
            xattrs: item.xattrs,
            hardlinks: item.hardlinks,
        };
        let links = take_links(&mut files, path);
        let to = join(&relative(&item.to), at);
        self.merge(&files, &to, item.dir_symlinks)?;
        for (below, target) in links {
            self.expanded(origin, item, (&join(at, &below), &target), &above)?;
        }
        Ok(())
    }
}

/// Device and number of a directory.
fn identity(path: &Path) -> Result<(u64, u64)> {
    let found = std::fs::metadata(path).map_err(|error| {
        Error::context(format!("cannot read `{}`", path.display())).cause(error)
    })?;
    Ok((found.dev(), found.ino()))
}

/// Takes the links to directories out of the files; where they are, and where they lead.
fn take_links(files: &mut Files<'_>, path: &Path) -> Vec<(Vec<u8>, PathBuf)> {
    let mut links = Vec::new();
    files.changes.retain(|change| {
        let ChangeKind::Present(entry) = &change.kind else { return true };
        let EntryKind::Symlink { .. } = entry.kind else { return true };
        let at = path.join(std::ffi::OsStr::from_bytes(&change.path));
        let leads = at.is_dir();
        if leads {
            links.push((change.path.clone(), at));
        }
        !leads
    });
    links
}

/// What lies at one path of a directory: a tree, or a single thing.
pub(super) fn read_at(root: &Arc<std::os::fd::OwnedFd>, path: &[u8]) -> Result<Vec<Change>> {
    let shown = || format!("cannot read `/{}`", super::shown(path));
    let what = fs::lstat(root.as_ref(), path).or_error(ErrorKind::Context, shown)?;
    if what.is_dir() {
        let dir = fs::open_dir(root.as_ref(), path).or_error(ErrorKind::Context, shown)?;
        let mut found = read_tree(dir.as_fd(), &READ)?.to_vec();
        found.sort_by(|a, b| path_order(&a.path, &b.path));
        return Ok(found);
    }
    Ok(Vec::new())
}
