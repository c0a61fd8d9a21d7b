//! Copying one node that is no directory: links, special files, and the metadata of any node.
//!
//! Order matters: the owner first (changing it takes setuid bits and capabilities away), the time last. Spec: dockerfile §1.7 (9-12).

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::context::xattr::{self, Xattrs};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::copy::Copier;
use crate::executor::copy::destination::Place;
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::{SysResultExt, root};

/// A node to copy.
pub(super) struct Source<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    /// Path in its tree, for messages.
    pub(super) path: &'a [u8],
    pub(super) stat: &'a Stat,
}

/// Copies of files that have several names, as long as they are still there. Paths are those of the rootfs.
#[derive(Default)]
pub(super) struct Linked {
    /// By device and inode of the source.
    by_source: HashMap<(u64, u64), Vec<u8>>,
    by_path: HashMap<Vec<u8>, (u64, u64)>,
}

impl Linked {
    fn remember(&mut self, stat: &Stat, path: &[u8]) {
        self.by_source.insert((stat.dev, stat.ino), path.to_vec());
        self.by_path.insert(path.to_vec(), (stat.dev, stat.ino));
    }

    /// What is at the path is replaced. (Its inode number would not tell: the next file may get the same one.)
    fn forget(&mut self, path: &[u8]) {
        if let Some(source) = self.by_path.remove(path) {
            self.by_source.remove(&source);
        }
    }
}

impl Copier<'_> {
    /// Copies a node that is no directory to a place, replacing what is there.
    pub(super) fn put(&mut self, source: &Source<'_>, place: &Place<'_>) -> Result<()> {
        self.clear(place)?;
        let stat = source.stat;
        let can_link = stat.nlink > 1 && stat.kind != Kind::Socket;
        if can_link && self.link_to_copy(stat, place)? {
            return Ok(());
        }
        let tree = self.request.tree;
        let mut attributes = xattr::read(source.dir, source.name, !tree.is_context())
            .map_err(|error| tree.unreadable(source.path, &error))?;
        let owner = self.owner(source)?;
        let failed = || format!("cannot make `{}`", place.shown());
        match stat.kind {
            Kind::File => {
                let stat = self.put_file(source, place)?;
                self.set_placeholder_mode(&stat, &mut attributes);
                self.set_metadata(place, &stat, &attributes, owner)?;
            }
            Kind::Symlink => {
                let target = fs::readlink(source.dir, source.name)
                    .map_err(|error| tree.unreadable(source.path, &error))?;
                fs::symlink(&target, place.dir, place.name)
                    .or_error(ErrorKind::Environment, failed)?;
                self.set_metadata(place, stat, &attributes, owner)?;
            }
            Kind::CharDevice | Kind::BlockDevice => {
                self.put_device(stat, place, &mut attributes)?;
                self.set_metadata(place, stat, &attributes, owner)?;
            }
            Kind::Fifo => {
                fs::mknod(place.dir, place.name, Kind::Fifo, 0o600, (0, 0))
                    .or_error(ErrorKind::Environment, failed)?;
                self.set_metadata(place, stat, &attributes, owner)?;
            }
            Kind::Socket => {
                fs::create_new(place.dir, place.name, 0o600)
                    .or_error(ErrorKind::Environment, failed)?;
                self.set_metadata(place, stat, &attributes, owner)?;
            }
            Kind::Directory => return Err(Error::internal("a directory was taken for a file")),
        }
        if can_link {
            self.linked.remember(stat, place.path);
        }
        Ok(())
    }

    /// Owner of the copy of a node.
    pub(super) fn owner(&self, source: &Source<'_>) -> Result<(u32, u32)> {
        if let Some(owner) = self.request.chown {
            return Ok(owner);
        }
        let tree = self.request.tree;
        tree.owner(source.dir, source.name, source.stat)
            .map_err(|error| tree.unreadable(source.path, &error))
    }

    /// Removes what is at a place, unless it is a directory.
    pub(super) fn clear(&mut self, place: &Place<'_>) -> Result<()> {
        let failed = || format!("cannot replace `{}`", place.shown());
        match fs::lstat_opt(place.dir, place.name).or_error(ErrorKind::Environment, failed)? {
            None => Ok(()),
            Some(stat) if stat.is_dir() => {
                let shown = place.shown();
                Err(Error::dockerfile(format!("cannot replace to directory `{shown}` with file"))
                    .hint("remove the directory in an earlier RUN, or choose another destination"))
            }
            Some(_) => {
                self.linked.forget(place.path);
                fs::unlink(place.dir, place.name).or_error(ErrorKind::Environment, failed)
            }
        }
    }

    /// Makes the place another name of an earlier copy of the same inode.
    fn link_to_copy(&self, stat: &Stat, place: &Place<'_>) -> Result<bool> {
        let Some(path) = self.linked.by_source.get(&(stat.dev, stat.ino)) else {
            return Ok(false);
        };
        let (parent, Some(name)) = root::split_last(path) else { return Ok(false) };
        let linked = root::open_dir(self.request.rootfs, parent)
            .and_then(|dir| fs::link(&dir, name, place.dir, place.name));
        match linked {
            Ok(()) => Ok(true),
            // As many names as the file system allows: the next one starts a new file.
            Err(error) if error.errno == Errno::MLINK => Ok(false),
            Err(error) => Err(error)
                .or_error(ErrorKind::Environment, || format!("cannot link `{}`", place.shown())),
        }
    }

    /// Makes a device node, or the empty file that stands for one.
    fn put_device(&self, stat: &Stat, place: &Place<'_>, attributes: &mut Xattrs) -> Result<()> {
        let failed = || format!("cannot make the device node `{}`", place.shown());
        let Some(placeholder) = self.request.placeholder else {
            return fs::mknod(place.dir, place.name, stat.kind, 0o600, stat.rdev)
                .or_error(ErrorKind::Environment, failed);
        };
        fs::create_new(place.dir, place.name, 0o600).or_error(ErrorKind::Environment, failed)?;
        let letter = if stat.kind == Kind::BlockDevice { 'b' } else { 'c' };
        let value = format!("{letter}:{}:{}:{:o}", stat.rdev.0, stat.rdev.1, self.mode(stat));
        attributes.push((placeholder.as_bytes().to_vec(), value.into_bytes()));
        Ok(())
    }

    /// `--chmod` of a file that stands for a device node changes the mode that it records.
    fn set_placeholder_mode(&self, stat: &Stat, attributes: &mut Xattrs) {
        let (Some(change), Some(key)) = (self.request.chmod, self.request.placeholder) else {
            return;
        };
        for (_, value) in attributes.iter_mut().filter(|(name, _)| name == key.as_bytes()) {
            let Some(at) = value.iter().rposition(|b| *b == b':') else { continue };
            let recorded = std::str::from_utf8(&value[at + 1..])
                .ok()
                .and_then(|octal| u32::from_str_radix(octal, 8).ok());
            let mode = change.apply(recorded.unwrap_or(stat.mode), false);
            value.truncate(at + 1);
            value.extend_from_slice(format!("{mode:o}").as_bytes());
        }
    }

    /// Permission bits of the copy.
    fn mode(&self, stat: &Stat) -> u32 {
        self.request.chmod.map_or(stat.mode, |change| change.apply(stat.mode, stat.is_dir()))
    }

    /// Owner, mode, extended attributes and time of the copy of a node.
    pub(super) fn set_metadata(
        &self,
        place: &Place<'_>,
        stat: &Stat,
        attributes: &Xattrs,
        owner: (u32, u32),
    ) -> Result<()> {
        set_owner(place, owner)?;
        let failed = || format!("cannot set mode and time of `{}`", place.shown());
        // Before the mode, which may forbid it to who is not root.
        for (key, value) in attributes {
            self.set_xattr(place, stat, key, value)?;
        }
        if stat.kind != Kind::Symlink {
            fs::chmod(place.dir, place.name, self.mode(stat))
                .or_error(ErrorKind::Environment, failed)?;
        }
        fs::set_mtime(place.dir, place.name, stat.mtime).or_error(ErrorKind::Environment, failed)
    }

    fn set_xattr(&self, place: &Place<'_>, stat: &Stat, key: &[u8], value: &[u8]) -> Result<()> {
        match fs::set_xattr(place.dir, place.name, key, value) {
            // A store that keeps no notes of desktops is no reason to fail; one that would lose a capability, or the
            // mark of a device node, is.
            Err(error)
                if error.errno == Errno::OPNOTSUPP
                    && key.starts_with(b"user.")
                    && Some(key) != self.request.placeholder.map(str::as_bytes) =>
            {
                Ok(())
            }
            // Links and special files cannot have such attributes where the copy goes, whatever the source's can.
            Err(error)
                if error.errno == Errno::PERM
                    && key.starts_with(b"user.")
                    && !matches!(stat.kind, Kind::File | Kind::Directory) =>
            {
                Ok(())
            }
            other => other.or_error(ErrorKind::Environment, || {
                let key = String::from_utf8_lossy(key);
                format!("cannot set the extended attribute `{key}` of `{}`", place.shown())
            }),
        }
    }
}

/// Gives a node its owner: the one place where owners are set.
pub(super) fn set_owner(place: &Place<'_>, (uid, gid): (u32, u32)) -> Result<()> {
    fs::lchown(place.dir, place.name, uid, gid).map_err(|error| {
        let out_of_range = error.errno == Errno::INVAL;
        let shown = Err::<(), _>(error)
            .or_error(ErrorKind::Environment, || {
                format!("cannot give `{}` to {uid}:{gid}", place.shown())
            })
            .expect_err("an error stays one");
        if out_of_range {
            return shown.hint("the id range of this build does not reach that far");
        }
        shown
    })
}

pub(super) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
