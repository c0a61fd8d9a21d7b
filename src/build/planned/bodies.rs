//! A planned layer: its changes, and where the bytes of its files are.

use crate::context::FileTree;
use crate::error::{Error, Result};
use crate::layers::tar_write::{TimePolicy, WriteBody, file_body, write_stream};
use crate::layers::{Change, ChangeKind, Entry, EntryKind, path_order, planned};
use crate::sys::fs::{self, Kind, Stat};
use std::fs::File;
use std::io::{Seek, Write};

/// The layer of a step that was not carried out on a tree.
#[derive(Debug)]
pub(in crate::build) struct Planned {
    /// In the order of the layer.
    pub(in crate::build) changes: Vec<Change>,
    /// It does not depend on what is below it, and nothing planned can stand on it.
    pub(in crate::build) independent: bool,
    /// The leaf of each change.
    pub(super) tags: Vec<u32>,
    pub(super) files: Files,
}

/// Where the bytes of all files are.
#[derive(Debug, Default)]
pub(super) struct Files {
    leaves: Vec<Leaf>,
    roots: Vec<Root>,
}

/// A file of the layer.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    /// Index into `roots`.
    root: u32,
    /// Inode and [`time_of_change`] when it was looked at, which tell a file that was changed since.
    seen: (u64, (i64, u32)),
}

/// Nothing in the store is ever written, but another step or build may link a file of it, which the kernel counts as a
/// change of the inode.
pub(super) fn time_of_change(tree: &FileTree, stat: &Stat) -> (i64, u32) {
    if tree.is_context() { stat.ctime } else { stat.mtime }
}

/// No leaf: what has no bytes.
pub(super) const NONE: u32 = u32::MAX;

/// Where files come from.
#[derive(Debug)]
pub(super) enum Root {
    /// `at` in the tree is `to` in the image, and so is everything below.
    Tree {
        /// The files.
        tree: FileTree,
        /// Path in the tree, links followed.
        at: Vec<u8>,
        /// Path in the image.
        to: Vec<u8>,
    },
    /// One file, given in the Dockerfile.
    Text(Vec<u8>),
}

impl Planned {
    /// Where the layer has a path.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.changes.binary_search_by(|change| path_order(&change.path, path)).ok()
    }

    /// What the layer says of its n-th path, a second name of a file as the file.
    pub(super) fn entry(&self, at: usize) -> Option<Entry> {
        match &self.changes[at].kind {
            ChangeKind::Deleted => None,
            ChangeKind::Present(entry) => match &entry.kind {
                EntryKind::Hardlink { target } => self.entry(self.find(target)?),
                _ => Some(entry.clone()),
            },
        }
    }

    /// Opens its n-th path, a file that holds bytes.
    pub(super) fn open(&self, at: usize) -> Result<File> {
        if let ChangeKind::Present(Entry { kind: EntryKind::Hardlink { target }, .. }) =
            &self.changes[at].kind
            && let Some(first) = self.find(target)
        {
            return self.open(first);
        }
        let path = &self.changes[at].path;
        self.files.open(path, self.tags[at]).map(|(file, _)| file)
    }

    /// Waits until whoever writes to one of its files gives it another time than it had when it was looked at: file
    /// systems count in ticks of some milliseconds.
    pub(in crate::build) fn outlive_tick(&self) {
        let newest = self.files.leaves.iter().map(|leaf| leaf.seen.1).max().unwrap_or_default();
        crate::build::tick::outlive(newest);
    }

    /// Writes the tar.
    pub(in crate::build) fn write(&self, times: &TimePolicy, out: &mut dyn Write) -> Result<()> {
        let mut at = 0;
        let bodies: &mut WriteBody<'_> = &mut |path, size, out| {
            // They come in order.
            while self.changes.get(at).is_some_and(|change| change.path != path) {
                at += 1;
            }
            let tag = self.tags.get(at).copied().unwrap_or(NONE);
            self.files.body((path, size), tag, out)
        };
        write_stream(&self.changes, bodies, times, out)
    }
}

impl Files {
    /// Adds a place that files come from; gives its index.
    pub(super) fn add_root(&mut self, root: Root) -> u32 {
        self.roots.push(root);
        self.roots.len() as u32 - 1
    }

    /// Adds a file of such a place, with what tells whether it is changed later; gives its tag.
    pub(super) fn add(&mut self, root: u32, seen: (u64, (i64, u32))) -> u32 {
        self.leaves.push(Leaf { root, seen });
        self.leaves.len() as u32 - 1
    }

    fn find(&self, tag: u32) -> Option<(&Leaf, &Root)> {
        let leaf = self.leaves.get(tag as usize)?;
        Some((leaf, self.roots.get(leaf.root as usize)?))
    }

    /// Opens the file that the image has at `path`, which is to be as it was when it was looked at.
    pub(super) fn open(&self, path: &[u8], tag: u32) -> Result<(File, Stat)> {
        let (leaf, tree, at, to) = match self.find(tag) {
            None => return Err(Error::internal("a file of a planned layer comes from nowhere")),
            Some((_, Root::Text(bytes))) => return text(bytes),
            Some((leaf, Root::Tree { tree, at, to })) => (leaf, tree, at, to),
        };
        let at = source(at, to, path);
        let unreadable = |error: &_| tree.unreadable(&at, error);
        let file = planned::open_file(tree.root(), &at).map_err(|error| unreadable(&error))?;
        let stat = fs::fstat(&file).map_err(|error| unreadable(&error))?;
        if stat.kind != Kind::File || (stat.ino, time_of_change(tree, &stat)) != leaf.seen {
            return Err(self.changed(path, tag));
        }
        Ok((file, stat))
    }

    fn body(&self, (path, size): (&[u8], u64), tag: u32, out: &mut dyn Write) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        let (file, stat) = self.open(path, tag)?;
        if stat.size != size {
            return Err(self.changed(path, tag));
        }
        file_body(&file, &stat, path, out)?;
        let time = |stat: &Stat| match self.find(tag) {
            Some((_, Root::Tree { tree, .. })) => time_of_change(tree, stat),
            _ => stat.mtime,
        };
        match fs::fstat(&file) {
            Ok(now) if (now.size, now.mtime, time(&now)) == (size, stat.mtime, time(&stat)) => {
                Ok(())
            }
            _ => Err(self.changed(path, tag)),
        }
    }

    fn changed(&self, path: &[u8], tag: u32) -> Error {
        let Some((_, Root::Tree { tree, at, to })) = self.find(tag) else {
            return Error::internal("a text of the Dockerfile changed");
        };
        let (path, label) = (source(at, to, path), tree.label());
        let path = String::from_utf8_lossy(&path).into_owned();
        Error::new(tree.blame(), format!("`{path}` in {label} changed while it was copied"))
            .cause("somebody wrote to it")
            .hint("build again when nothing writes to it, or leave it out with .dockerignore")
    }
}

/// Path in the tree of what the image has at `path`.
fn source(at: &[u8], to: &[u8], path: &[u8]) -> Vec<u8> {
    let rest = path.strip_prefix(to).unwrap_or(path);
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    match (at, rest) {
        (at, b"") => at.to_vec(),
        (b"", rest) => rest.to_vec(),
        (at, rest) => [at, b"/", rest].concat(),
    }
}

/// A file with the text of a heredoc.
fn text(bytes: &[u8]) -> Result<(File, Stat)> {
    let make = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        Ok::<File, std::io::Error>(file)
    };
    let failed = |error| Error::environment("cannot make a temporary file").cause(error);
    let file = make().map_err(failed)?;
    let stat = fs::fstat(&file)
        .map_err(|error| Error::environment("cannot look at a file").cause(error))?;
    Ok((file, stat))
}
