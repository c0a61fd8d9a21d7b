//! The content digest of a selection: what of the user's files a step key depends on.
//!
//! In: a [`FileTree`], what was selected from it, and a cache of file digests; out: one digest over names relative to
//! the selection, types, permission bits, owners (root's for a context), sizes, contents, link targets, device numbers
//! and the extended attributes that count; never times or hard-link structure. It walks as the copy does, so filtered
//! files do not count. Spec: dockerfile §3 (5-7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::time::{ClockId, clock_gettime};

use crate::context::ahead::Scouting;
use crate::context::digest_cache::{DigestCache, FileHash, StatKey};
use crate::context::tree::{FileTree, Selected};
use crate::context::walk::{Visitor, WalkEntry};
use crate::context::xattr;
use crate::error::{Result, ResultExt};
use crate::oci::digest::{Digest, FieldHasher, HashingWriter};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::root;

/// Version of the encoding, part of every digest.
const VERSION: &str = "nb-files-1";
/// A file that changed this recently may change again without its times telling: some file systems count in seconds.
const RACY_SECONDS: i64 = 2;

/// Bytes of fields that are hashed at once.
const COLLECTED: usize = 8192;

/// One thing that counts in a digest.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// Where it is in the tree, as two parts that belong together.
    pub path: (&'a [u8], &'a [u8]),
    /// What it is.
    pub stat: &'a Stat,
    /// User and group as they count.
    pub owner: (u32, u32),
    /// Digest of a file, target of a link; empty for the rest.
    pub content: &'a [u8],
}

/// Is told of everything that counts, in the order in which it does.
pub trait Listing {
    /// One thing.
    fn add(&mut self, one: Listed<'_>);
}

/// Digest of everything that `selected` makes a copy take.
pub fn digest(tree: &FileTree, selected: &[Selected], cache: &dyn DigestCache) -> Result<Digest> {
    digest_scouted(tree, selected, cache, None, Scouting::USUAL)
}

/// The same, telling what it is over.
pub fn digest_listing<'l>(
    tree: &FileTree,
    selected: &[Selected],
    cache: &dyn DigestCache,
    listing: Option<&'l mut (dyn Listing + 'l)>,
) -> Result<Digest> {
    digest_scouted(tree, selected, cache, listing, Scouting::USUAL)
}

/// The same, saying how the walk is helped.
pub(super) fn digest_scouted<'l>(
    tree: &FileTree,
    selected: &[Selected],
    cache: &dyn DigestCache,
    listing: Option<&'l mut (dyn Listing + 'l)>,
    scouting: Scouting,
) -> Result<Digest> {
    let hasher = FieldHasher::collecting(VERSION, COLLECTED);
    let mut hashing = Hashing { tree, cache, hasher, at: &[], listing, scouting };
    for one in selected {
        hashing.at = &one.path;
        hashing.selected(one)?;
    }
    Ok(hashing.hasher.finish())
}

struct Hashing<'a, 'l> {
    tree: &'a FileTree,
    cache: &'a dyn DigestCache,
    hasher: FieldHasher,
    /// Path in the tree of what is being walked, for messages.
    at: &'a [u8],
    listing: Option<&'l mut (dyn Listing + 'l)>,
    scouting: Scouting,
}

impl Hashing<'_, '_> {
    fn list(&mut self, path: &[u8], stat: &Stat, owner: (u32, u32), content: &[u8]) {
        if let Some(listing) = &mut self.listing {
            listing.add(Listed { path: (self.at, path), stat, owner, content });
        }
    }

    fn selected(&mut self, selected: &Selected) -> Result<()> {
        self.hasher.field(b"selected").number(selected.source as u64).field(&selected.name);
        // Which name a wildcard matched decides where it ends up, and that a rename is a change.
        self.hasher.list(selected.matched.iter());
        self.hasher.number(selected.parents.into());
        if selected.is_dir() {
            let dir = root::open_dir(self.tree.root(), &selected.path)
                .map_err(|error| self.tree.unreadable(&selected.path, &error))?;
            self.node(dir.as_fd(), b".", b"", &selected.stat)?;
            let (tree, cache, scouting) = (self.tree, self.cache, self.scouting);
            let read = |dir: BorrowedFd<'_>, name: &[u8], stat: &Stat| {
                read_ahead(tree, cache, dir, name, stat);
            };
            tree.walk_scouted(selected, self, scouting, Some(&read))?;
        } else {
            let (dir, name) = self.tree.open_parent(selected)?;
            self.node(dir.as_fd(), name, b"", &selected.stat)?;
        }
        self.hasher.field(b"end");
        Ok(())
    }

    /// One record. Its first field tells how many follow.
    fn node(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8], stat: &Stat) -> Result<()> {
        let kind: &[u8] = match stat.kind {
            // A socket of a context arrives as an empty file.
            Kind::File | Kind::Socket => b"file",
            Kind::Directory => b"directory",
            Kind::Symlink => b"link",
            Kind::CharDevice => b"char",
            Kind::BlockDevice => b"block",
            Kind::Fifo => b"fifo",
        };
        let unreadable = |error: &_| {
            let separator: &[u8] = if self.at.is_empty() || path.is_empty() { b"" } else { b"/" };
            self.tree.unreadable(&[self.at, separator, path].concat(), error)
        };
        let (uid, gid) = self.tree.owner(dir, name, stat).map_err(|error| unreadable(&error))?;
        self.hasher.field(kind).field(path).number(uid.into()).number(gid.into());
        if stat.kind != Kind::Symlink {
            self.hasher.number(stat.mode.into());
        }
        let mut content = Vec::new();
        match stat.kind {
            Kind::File => {
                let digest = Digest::text_of(&self.file(dir, name, stat, path)?);
                self.hasher.number(stat.size).field(&digest);
                self.list(path, stat, (uid, gid), &digest);
                return Ok(());
            }
            Kind::Symlink => {
                let target = fs::readlink(dir, name).map_err(|error| unreadable(&error))?;
                self.hasher.field(&target);
                content = target;
            }
            Kind::CharDevice | Kind::BlockDevice => {
                self.hasher.number(stat.rdev.0.into()).number(stat.rdev.1.into());
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        let xattrs =
            xattr::read(dir, name, !self.tree.is_context()).map_err(|error| unreadable(&error))?;
        self.hasher.list(xattrs.into_iter().flat_map(|(key, value)| [key, value]));
        self.list(path, stat, (uid, gid), &content);
        Ok(())
    }

    /// Digest of a regular file's content and extended attributes, remembered by what `stat` says.
    fn file(&self, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat, path: &[u8]) -> Result<FileHash> {
        let trusted = !self.tree.is_context();
        let key = StatKey::new(stat, trusted);
        if let Some(known) = self.cache.get(&key) {
            return Ok(known);
        }
        // Before the file is looked into: what changes later has a later time, unless it is this recent.
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        let separator: &[u8] = if self.at.is_empty() || path.is_empty() { b"" } else { b"/" };
        let full = [self.at, separator, path].concat();
        let (hash, after) = read(self.tree, dir, name, &full)?;
        if after == key && is_settled(stat, now) {
            self.cache.put(key, hash);
        }
        Ok(hash)
    }
}

/// Reads a file: its digest, and what state it was in afterwards. `full` is its path, for messages.
fn read(
    tree: &FileTree,
    dir: BorrowedFd<'_>,
    name: &[u8],
    full: &[u8],
) -> Result<(FileHash, StatKey)> {
    let trusted = !tree.is_context();
    let unreadable = |error: &_| tree.unreadable(full, error);
    let mut file = fs::open_read(dir, name).map_err(|error| unreadable(&error))?;
    let mut writer = HashingWriter::new(io::sink());
    io::copy(&mut file, &mut writer).or_error(tree.blame(), || {
        format!("cannot read `{}` in {}", String::from_utf8_lossy(full), tree.label())
    })?;
    let (_, content, _) = writer.finish();
    let xattrs = xattr::read(dir, name, trusted).map_err(|error| unreadable(&error))?;
    let mut hasher = FieldHasher::new("nb-file-1");
    hasher.field(content.as_str().as_bytes());
    hasher.list(xattrs.into_iter().flat_map(|(key, value)| [key, value]));
    let after = fs::fstat(&file).map_err(|error| unreadable(&error))?;
    Ok((hasher.finish_bytes(), StatKey::new(&after, trusted)))
}

/// The errand of scouts: a file whose digest is not known becomes known, if that can be remembered. What goes wrong goes
/// wrong once more when the walk comes to the file.
fn read_ahead(
    tree: &FileTree,
    cache: &dyn DigestCache,
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
) {
    let key = StatKey::new(stat, !tree.is_context());
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    if !is_settled(stat, now) || cache.get(&key).is_some() {
        return;
    }
    if let Ok((hash, after)) = read(tree, dir, name, name)
        && after == key
    {
        cache.put(key, hash);
    }
}

/// Whether a later change of the file would show in its times.
fn is_settled(stat: &Stat, now: i64) -> bool {
    stat.mtime.0.max(stat.ctime.0).saturating_add(RACY_SECONDS) < now
}

impl Visitor for Hashing<'_, '_> {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.node(dir.dir, dir.name, dir.path, dir.stat)
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        self.node(entry.dir, entry.name, entry.path, entry.stat)
    }

    fn leave(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_settled_once_both_times_are_well_past() {
        let stat = fs::lstat(fs::open_dir_path("/".as_ref()).unwrap(), b".").unwrap();
        for (mtime, ctime, expected) in [
            (100, 100, true),
            (107, 100, true),
            (108, 100, false),
            (100, 108, false),
            (100, 110, false),
            (i64::MAX, 100, false),
        ] {
            let stat = Stat { mtime: (mtime, 0), ctime: (ctime, 0), ..stat };
            assert_eq!(is_settled(&stat, 110), expected, "{mtime} {ctime}");
        }
    }
}
