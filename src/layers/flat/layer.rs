//! One layer on top of the tree: each of its members does here what unpacking it would do to a directory.
//! image-spec layer.md#applying-changesets.

use super::{FlatTree, Inode, ROOT, directory};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::layers::EntryKind;
use crate::layers::beneath::{join, shown, split};
use crate::layers::tar_read::TarEntry;
use crate::layers::whiteout::Whiteout;
use crate::oci::digest::HashingWriter;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Links that are followed on the way to one directory.
const MAX_LINKS: usize = 40;

impl FlatTree {
    /// Puts a member where it belongs, or removes what it says is gone.
    pub(super) fn take(&mut self, member: &TarEntry, body: &mut dyn Read) -> Result<()> {
        let (parent, name) = split(&member.path);
        match &member.whiteout {
            Some(Whiteout::Reserved) => return Ok(()),
            Some(Whiteout::Opaque) => return self.empty(parent),
            Some(Whiteout::Remove(hidden)) => return self.hide(&join(parent, hidden)?),
            None => {}
        }
        self.remember(&member.path);
        if member.path.is_empty() {
            if member.entry.kind != EntryKind::Directory {
                return Err(bad(b"/", "the archive replaces the root by something else"));
            }
            return Ok(());
        }
        let Some(dir) = self.resolve(parent, true)? else {
            return Err(bad(&member.path, "its directory is not there"));
        };
        let old = self.inodes[dir].children.get(name).copied();
        let inode = match &member.entry.kind {
            EntryKind::Hardlink { target } => {
                let found = self.target(&member.path, target)?;
                if old.is_some_and(|old| old != found) {
                    // What it replaces may be what the target lies in.
                    self.inodes[dir].children.remove(name);
                }
                if old == Some(found) { found } else { self.target(&member.path, target)? }
            }
            EntryKind::Directory if old.is_some_and(|old| self.is_directory(old)) => {
                let old = old.unwrap_or_default();
                self.inodes[old].entry = member.entry.clone();
                return Ok(());
            }
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                return Err(bad(
                    &member.path,
                    "the character device 0:0 is overlayfs's mark of a deletion",
                ));
            }
            _ => self.make(member, body)?,
        };
        self.inodes[dir].children.insert(name.to_vec(), inode);
        Ok(())
    }

    fn make(&mut self, member: &TarEntry, body: &mut dyn Read) -> Result<usize> {
        let mut entry = member.entry.clone();
        let (mut content, mut place) = (None, None);
        match &entry.kind {
            EntryKind::File { .. } => {
                let mut hash = HashingWriter::new(io::sink());
                let read = match &mut self.spool {
                    Some(spool) => spool.add(body, &mut hash).map(Some),
                    None => io::copy(body, &mut hash).map(|_| None),
                };
                place = read.or_error(ErrorKind::Environment, || {
                    format!("cannot unpack {}", shown(&member.path))
                })?;
                content = Some(hash.finish().1);
            }
            EntryKind::Symlink { .. } => {
                // A link has neither permissions nor attributes of its own.
                entry.mode = 0o777;
                entry.xattrs.clear();
            }
            _ => {}
        }
        self.inodes.push(Inode { entry, content, body: place, children: BTreeMap::new() });
        Ok(self.inodes.len() - 1)
    }

    fn target(&mut self, path: &[u8], target: &[u8]) -> Result<usize> {
        let (parent, name) = split(target);
        let dir = self.resolve(parent, false)?;
        let found = dir.and_then(|dir| self.inodes[dir].children.get(name).copied());
        match found {
            Some(found) if self.is_directory(found) => {
                Err(bad(path, format!("it links to {}, a directory", shown(target))))
            }
            Some(found) => Ok(found),
            None => Err(bad(path, format!("it links to {}, which is not there", shown(target)))),
        }
    }

    /// The directory that a path means, links on the way followed inside the root; made where it is missing, also behind
    /// dangling links, when that is wanted.
    fn resolve(&mut self, path: &[u8], make: bool) -> Result<Option<usize>> {
        let mut rest: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut way = vec![ROOT];
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let here = way.last().copied().unwrap_or(ROOT);
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let next = self.inodes[here].children.get(&part).copied();
            match next.map(|next| (next, &self.inodes[next].entry.kind)) {
                Some((next, EntryKind::Directory)) => way.push(next),
                Some((_, EntryKind::Symlink { target })) => {
                    links += 1;
                    if make {
                        // What comes through a link is not seen under the path that was emptied.
                        self.emptied.clear();
                    }
                    if links > MAX_LINKS {
                        return Err(bad(path, "too many links lead to it"));
                    }
                    if target.first() == Some(&b'/') {
                        way.truncate(1);
                    }
                    rest.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(_) if make => return Err(bad(path, "something on the way is no directory")),
                None if make => {
                    // Nobody recorded a time for it.
                    self.inodes.push(directory());
                    let made = self.inodes.len() - 1;
                    self.inodes[here].children.insert(part, made);
                    way.push(made);
                }
                _ => return Ok(None),
            }
        }
        Ok(way.last().copied())
    }

    /// Removes what the layers below have at a path.
    fn hide(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let Some(dir) = self.resolve(parent, false)? else { return Ok(()) };
        let Some(found) = self.inodes[dir].children.get(name).copied() else { return Ok(()) };
        if !self.seen.contains(path) {
            self.inodes[dir].children.remove(name);
            return Ok(());
        }
        if self.is_directory(found) { self.empty(path) } else { Ok(()) }
    }

    /// Removes what the layers below have in a directory.
    fn empty(&mut self, path: &[u8]) -> Result<()> {
        let mut waiting = vec![path.to_vec()];
        while let Some(path) = waiting.pop() {
            let Some(dir) = self.resolve(&path, false)? else { continue };
            if !self.emptied.insert((path.clone(), dir)) {
                continue;
            }
            let names: Vec<Vec<u8>> = self.inodes[dir].children.keys().cloned().collect();
            for name in names {
                let child = join(&path, &name)?;
                // What was removed may have been a link on the way.
                if self.resolve(&path, false)? != Some(dir) {
                    break;
                }
                if !self.seen.contains(&child) {
                    self.inodes[dir].children.remove(&name);
                } else if self.is_directory(self.inodes[dir].children[&name]) {
                    waiting.push(child);
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, path: &[u8]) {
        let mut path = path;
        while self.seen.insert(path.to_vec()) {
            match path.iter().rposition(|b| *b == b'/') {
                Some(at) => path = &path[..at],
                None => return,
            }
        }
    }
}

fn bad(path: &[u8], why: impl std::fmt::Display) -> Error {
    Error::integrity(format!("archive entry {} cannot be unpacked", shown(path))).cause(why)
}
