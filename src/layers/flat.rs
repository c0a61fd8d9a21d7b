//! The tree of a stack of layers without a file system: nothing is unpacked, and no privilege is needed.
//!
//! In: uncompressed layers, bottom first. Out: the tree as [`Change`]s, whole or against another, and the bodies of its
//! files, which wait in a [`Spool`]. A layer does here what [`super::apply`] does to a directory: parents are resolved
//! through links inside the root and made where they are missing, whiteouts do not touch what their own layer brought, a
//! hard link is the same file. Memory is bounded by the number of paths, which the tar reader bounds.
//! image-spec layer.md#applying-changesets.

use super::beneath::{join, shown};
use super::settle::{Found, Gathered};
use super::tar_read::{Limits, TarEntry, for_each};
use super::whiteout::Whiteout;
use super::{Change, Entry, EntryKind, ImagePath};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::oci::Digest;
use crate::oci::digest::HashingWriter;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

/// Links that are followed on the way to one directory.
const MAX_LINKS: usize = 40;
const CHUNK: usize = 64 * 1024;
const ROOT: usize = 0;

/// Where bodies wait until they are written: one file, in which long runs of zeros are holes.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: u64,
}

impl Spool {
    /// An empty file that nobody else writes to.
    pub fn new(file: File) -> Self {
        Self { file, end: 0 }
    }

    /// Keeps a body; gives where it begins.
    fn add(&mut self, body: &mut dyn Read, hash: &mut dyn Write) -> io::Result<u64> {
        let start = self.end;
        let mut buffer = vec![0_u8; CHUNK];
        loop {
            let mut filled = 0;
            while filled < buffer.len() {
                match body.read(&mut buffer[filled..])? {
                    0 => break,
                    n => filled += n,
                }
            }
            let chunk = &buffer[..filled];
            hash.write_all(chunk)?;
            if filled == 0 {
                break;
            }
            if chunk.iter().any(|b| *b != 0) {
                self.file.write_all_at(chunk, self.end)?;
            }
            self.end += filled as u64;
        }
        Ok(start)
    }

    fn write(&self, start: u64, size: u64, out: &mut dyn Write) -> Result<()> {
        let mut buffer = vec![0_u8; CHUNK];
        let (mut at, end) = (start, start + size);
        while at < end {
            let part = &mut buffer[..(end - at).min(CHUNK as u64) as usize];
            let read = self.file.read_at(part, at);
            let n = read.or_error(ErrorKind::Environment, || "cannot read a file".to_owned())?;
            // A hole at the very end.
            let n = if n == 0 {
                part.fill(0);
                part.len()
            } else {
                n
            };
            out.write_all(&part[..n])
                .or_error(ErrorKind::Environment, || "cannot write a file".to_owned())?;
            at += n as u64;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Inode {
    entry: Entry,
    /// Of a file's bytes.
    content: Option<Digest>,
    /// Where it begins in the spool.
    body: Option<u64>,
    /// Names of a directory.
    children: BTreeMap<Vec<u8>, usize>,
}

/// The files of an image.
#[derive(Debug)]
pub struct FlatTree {
    /// What lost its last name stays, unseen.
    inodes: Vec<Inode>,
    spool: Option<Spool>,
    /// Paths that the present layer brought, as it writes them, with all their parents.
    seen: HashSet<ImagePath>,
    /// Directories that the present layer emptied, by path and inode: below is nothing then but what it brought.
    emptied: HashSet<(ImagePath, usize)>,
}

impl FlatTree {
    /// An empty tree; without a spool it knows its files' digests and not their bytes.
    pub fn new(spool: Option<Spool>) -> Self {
        Self { inodes: vec![directory(0)], spool, seen: HashSet::new(), emptied: HashSet::new() }
    }

    /// Puts a layer on top.
    pub fn apply(&mut self, tar: impl Read, limits: &Limits) -> Result<()> {
        self.seen.clear();
        self.emptied.clear();
        for_each(tar, limits, |member, body| self.take(member, body))
    }

    /// Everything in it, each path present.
    pub fn changes(&self) -> Vec<Change> {
        settled(self.walk(None))
    }

    /// What makes `below` this tree.
    pub fn changes_from(&self, below: &Self) -> Vec<Change> {
        let mut found = self.walk(Some(below));
        let (own, old) = (self.links(), below.links());
        for item in &mut found {
            // A name that shares its file with others than before is changed, though it looks the same.
            let links = item.shared.and_then(|(_, inode)| own.get(&inode));
            item.changed |= links != item.lower.and_then(|(_, inode)| old.get(&inode));
        }
        settled(found)
    }

    /// Each path with what it is and the digest of its bytes; a further name of a file looks like the first.
    pub fn files(&self) -> Vec<(ImagePath, Entry, Option<Digest>)> {
        let file = |found: Found| {
            let content = found.shared.and_then(|(_, at)| self.inodes[at as usize].content.clone());
            Some((found.path, found.entry?, content))
        };
        self.walk(None).into_iter().filter_map(file).collect()
    }

    /// Writes the bytes of a file.
    pub fn body(&self, path: &[u8], size: u64, out: &mut dyn Write) -> Result<()> {
        let mut at = Some(ROOT);
        for part in path.split(|b| *b == b'/') {
            at = at.and_then(|inode| self.inodes[inode].children.get(part).copied());
        }
        let body = at.and_then(|inode| self.inodes[inode].body);
        match (body, &self.spool) {
            (Some(body), Some(spool)) => spool.write(body, size, out),
            _ => Err(Error::internal(format!("the bytes of {} were not kept", shown(path)))),
        }
    }

    fn take(&mut self, member: &TarEntry, body: &mut dyn Read) -> Result<()> {
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

    fn is_directory(&self, inode: usize) -> bool {
        self.inodes[inode].entry.kind == EntryKind::Directory
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
                    self.inodes.push(directory(0));
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

    /// First name and number of names of everything but directories.
    fn links(&self) -> HashMap<u64, (ImagePath, usize)> {
        let mut links = HashMap::new();
        for item in self.walk(None) {
            if let Some((_, inode)) = item.shared {
                links.entry(inode).or_insert((item.path, 0)).1 += 1;
            }
        }
        links
    }

    /// All paths in path order, and what of `below` is gone.
    fn walk(&self, below: Option<&Self>) -> Vec<Found> {
        let mut found = Vec::new();
        let mut waiting =
            vec![Step { path: Vec::new(), here: Some(ROOT), below: below.map(|_| ROOT) }];
        while let Some(step) = waiting.pop() {
            let lower = below.zip(step.below).map(|(tree, inode)| &tree.inodes[inode]);
            if !step.path.is_empty() {
                match step.here {
                    None => {
                        found.push(Found::deleted(step.path));
                        continue;
                    }
                    Some(inode) => found.push(self.found(&step, inode, lower)),
                }
            }
            let own = step.here.map(|inode| &self.inodes[inode].children);
            let both = lower.filter(|lower| lower.entry.kind == EntryKind::Directory);
            let is_dir = step.here.is_some_and(|inode| self.is_directory(inode));
            let old = both.filter(|_| is_dir).map(|lower| &lower.children);
            let mut names: Vec<&Vec<u8>> =
                own.into_iter().chain(old).flat_map(BTreeMap::keys).collect();
            names.sort_unstable();
            names.dedup();
            // The last one that is put there is the next one that is taken.
            for name in names.into_iter().rev() {
                let path = if step.path.is_empty() {
                    name.clone()
                } else {
                    [&step.path[..], b"/", name].concat()
                };
                waiting.push(Step {
                    path,
                    here: own.and_then(|own| own.get(name).copied()),
                    below: old.and_then(|old| old.get(name).copied()),
                });
            }
        }
        found
    }

    fn found(&self, step: &Step, inode: usize, lower: Option<&Inode>) -> Found {
        let own = &self.inodes[inode];
        let same = lower.is_some_and(|lower| same(own, lower));
        Found {
            path: step.path.clone(),
            entry: Some(own.entry.clone()),
            changed: !same,
            shared: (!self.is_directory(inode)).then_some((0, inode as u64)),
            lower: step.below.map(|below| (1, below as u64)),
        }
    }
}

fn settled(found: Vec<Found>) -> Vec<Change> {
    let mut gathered = Gathered::default();
    for item in found {
        gathered.push(item);
    }
    gathered.settle().to_vec()
}

struct Step {
    path: ImagePath,
    here: Option<usize>,
    below: Option<usize>,
}

/// Equal as far as a layer of ours can say it: its times are whole seconds.
fn same(a: &Inode, b: &Inode) -> bool {
    let (mut x, mut y) = (a.entry.clone(), b.entry.clone());
    (x.mtime.1, y.mtime.1) = (0, 0);
    x == y && a.content == b.content
}

fn directory(mtime: i64) -> Inode {
    let kind = EntryKind::Directory;
    let entry = Entry { kind, mode: 0o755, uid: 0, gid: 0, mtime: (mtime, 0), xattrs: Vec::new() };
    Inode { entry, content: None, body: None, children: BTreeMap::new() }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn bad(path: &[u8], why: impl std::fmt::Display) -> Error {
    Error::integrity(format!("archive entry {} cannot be unpacked", shown(path))).cause(why)
}
