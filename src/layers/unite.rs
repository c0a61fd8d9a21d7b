//! Several directories that overlayfs would stack, made one directory that it can take in their place.
//!
//! Files are linked, never copied, so the new directory costs names and no data. What is linked is never written: all of
//! them are lowers, and overlayfs copies what it changes. Directories are made anew, each with the metadata of the
//! topmost one at its path. What hides something further below stays: deletion marks, and the mark of a directory that
//! nothing shows through. Directories are visited without recursion.

use super::ImagePath;
use super::beneath::{join, open_dir, shown};
use super::copy_tree::{copy_node, metadata};
use super::settle::Inode;
use super::whiteout::{self, XattrFlavour};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::{SysResult, SysResultExt as _, owners};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Puts what `sources`, the topmost first, show together into the empty directory `to` of the same file system. With
/// `lowest` nothing will be below it.
pub(super) fn unite(
    sources: &[BorrowedFd<'_>],
    to: BorrowedFd<'_>,
    flavour: XattrFlavour,
    lowest: bool,
) -> Result<()> {
    let mut union = Union { sources, to, flavour, copies: HashMap::new() };
    let from = (0..sources.len()).collect();
    let mut waiting = vec![Directory { path: ImagePath::new(), from, closed: lowest, mark: false }];
    while let Some(directory) = waiting.pop() {
        waiting.extend(union.directory(&directory)?);
    }
    Ok(())
}

struct Union<'a> {
    sources: &'a [BorrowedFd<'a>],
    to: BorrowedFd<'a>,
    flavour: XattrFlavour,
    /// Where the copy is of what could not be linked and has several names.
    copies: HashMap<Inode, ImagePath>,
}

/// A directory that was made and is still empty.
struct Directory {
    path: ImagePath,
    /// The sources that show in it, the topmost first.
    from: Vec<usize>,
    /// Nothing below all sources shows through.
    closed: bool,
    /// That has to be said.
    mark: bool,
}

/// What is known of a name.
enum Name {
    /// The topmost source decided.
    Done,
    /// Directories: in these sources; nothing below the last of them shows when `closed`.
    Directories { from: Vec<usize>, closed: bool },
}

impl Union<'_> {
    /// Fills a directory; gives those in it.
    fn directory(&mut self, directory: &Directory) -> Result<Vec<Directory>> {
        let path = &directory.path;
        let what = || format!("cannot unite {}", shown(path));
        let target = open_dir(self.to, path).or_error(ErrorKind::Environment, what)?;
        let mut names = BTreeMap::new();
        let mut whiteouts = false;
        let mut topmost = None;
        for at in &directory.from {
            let source =
                open_dir(self.sources[*at], path).or_error(ErrorKind::Environment, what)?;
            for name in fs::list(&source).or_error(ErrorKind::Environment, what)? {
                let child = join(path, &name)?;
                let both = Both { source: &source, target: &target, closed: directory.closed };
                whiteouts |= self
                    .name(&both, &mut names, name, (&child, *at))
                    .or_error(ErrorKind::Environment, || {
                        format!("cannot unite {}", shown(&child))
                    })?;
            }
            topmost.get_or_insert(source);
        }
        if let Some(source) = topmost {
            self.describe(&source, &target, (directory.mark, whiteouts), path)?;
        }
        let mut inside = Vec::new();
        for (name, known) in names {
            if let Name::Directories { from, closed } = known {
                let path = join(path, &name)?;
                let mark = closed && !directory.closed;
                inside.push(Directory { path, from, closed: closed || directory.closed, mark });
            }
        }
        Ok(inside)
    }

    /// Looks at a name in one of the sources; true when a deletion mark was put into the target.
    fn name(
        &mut self,
        both: &Both<'_>,
        names: &mut BTreeMap<Vec<u8>, Name>,
        name: Vec<u8>,
        (path, at): (&[u8], usize),
    ) -> SysResult<bool> {
        let known = names.get_mut(&name);
        if matches!(known, Some(Name::Done | Name::Directories { closed: true, .. })) {
            return Ok(false);
        }
        let stat = fs::lstat(both.source, &name)?;
        let opaque = stat.is_dir()
            && whiteout::is_opaque(&fs::list_xattrs(both.source, &name)?, self.flavour);
        match known {
            Some(Name::Directories { from, closed }) => {
                // Anything but a directory hides what is below it, and is hidden itself.
                *closed = opaque || !stat.is_dir();
                if stat.is_dir() {
                    from.push(at);
                }
                return Ok(false);
            }
            _ if stat.is_dir() => {
                fs::mkdir(both.target, &name, 0o700)?;
                names.insert(name, Name::Directories { from: vec![at], closed: opaque });
                return Ok(false);
            }
            _ => {}
        }
        let deleted = whiteout::is_whiteout_node(&stat);
        // Where nothing shows through it would hide nothing, and could be seen.
        if !deleted || !both.closed {
            self.link(both, &name, &stat, path)?;
        }
        names.insert(name, Name::Done);
        Ok(deleted && !both.closed)
    }

    fn link(&mut self, both: &Both<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> SysResult<()> {
        // The owner of what can have no attribute is recorded by inode, and a RUN can only keep it where there is one name.
        let by_inode = owners::are_kept() && stat.kind != Kind::File;
        if !by_inode || whiteout::is_whiteout_node(stat) {
            match fs::link(both.source, name, both.target, name) {
                Err(error) if error.errno == Errno::MLINK => {}
                other => return other,
            }
        }
        if stat.kind == Kind::Socket {
            return Ok(());
        }
        let inode = (stat.dev, stat.ino);
        if let Some(first) = self.copies.get(&inode)
            && fs::link(self.to, first, both.target, name).is_ok()
        {
            return Ok(());
        }
        copy_node((both.source, both.target), name, stat)?;
        if stat.nlink > 1 {
            self.copies.insert(inode, path.to_vec());
        }
        Ok(())
    }

    /// Gives a directory that is filled what the topmost one has, and the marks.
    fn describe(
        &self,
        source: &OwnedFd,
        target: &OwnedFd,
        (opaque, whiteouts): (bool, bool),
        path: &[u8],
    ) -> Result<()> {
        let what = || format!("cannot unite {}", shown(path));
        let xattrs = fs::list_xattrs(source, b".").or_error(ErrorKind::Environment, what)?;
        if whiteout::is_indirect(&xattrs, self.flavour) {
            return Err(Error::environment(format!("{} is a redirect of overlayfs", shown(path))));
        }
        let made = (|| {
            let stat = fs::fstat(source)?;
            metadata((source, target), b".", &stat)?;
            if opaque {
                whiteout::make_opaque(target.as_fd(), b".", self.flavour)?;
            }
            if whiteouts {
                whiteout::make_copied_up(target.as_fd(), b".", self.flavour)?;
            }
            Ok(())
        })();
        made.or_error(ErrorKind::Environment, what)?;
        for (key, value) in xattrs {
            let is_there = !whiteout::is_private_xattr(&key) || whiteout::is_our_mark(&key);
            if !is_there && !whiteout::is_note_of_overlay(&key, self.flavour) {
                // No layer has it: labels of this machine, which its policy sets, and what only real root may set.
                let _best_effort = fs::set_xattr(target, b".", &key, &value);
            }
        }
        Ok(())
    }
}

/// The same directory in a source and in the union.
struct Both<'a> {
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    /// Nothing below all sources shows through.
    closed: bool,
}
