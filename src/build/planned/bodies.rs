//! A planned layer: its changes, and where the bytes of its files are.

use crate::context::FileTree;
use crate::error::{Error, Result};
use crate::layers::planned::{self, Plan};
use crate::layers::tar_write::{TimePolicy, WriteBody, file_body, write_stream};
use crate::sys::fs::{self, Kind, Stat};
use std::fs::File;
use std::io::{Seek, Write};

/// The layer of a step that was not carried out on a tree.
#[derive(Debug)]
pub(in crate::build) struct Planned {
    pub(super) plan: Plan,
    /// It does not depend on what is below it, and nothing planned can stand on it.
    pub(in crate::build) independent: bool,
    pub(super) files: Files,
}

/// Where the bytes of all files are.
#[derive(Debug, Default)]
pub(super) struct Files {
    leaves: Vec<Leaf>,
    roots: Vec<Root>,
}

/// A file of the layer: its place, and inode and [`time_of_change`] when it was looked at, which tell a file that was
/// changed since. There may be many.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    /// Index into `roots`.
    root: u32,
    nanoseconds: u32,
    seconds: i64,
    inode: u64,
}

impl Leaf {
    fn time(&self) -> (i64, u32) {
        (self.seconds, self.nanoseconds)
    }
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
    /// Opens the file that the layer has at a place of its plan, a file that holds bytes.
    pub(super) fn open(&self, place: usize) -> Result<File> {
        let (path, tag) = self.plan.source(place);
        self.files.open(path, tag).map(|(file, _)| file)
    }

    /// Waits until whoever writes to one of its files gives it another time than it had when it was looked at: file
    /// systems count in ticks of some milliseconds.
    pub(in crate::build) fn outlive_tick(&self) {
        let newest = self.files.leaves.iter().map(Leaf::time).max().unwrap_or_default();
        crate::build::tick::outlive(newest);
    }

    /// Writes the tar.
    pub(in crate::build) fn write(&self, times: &TimePolicy, out: &mut dyn Write) -> Result<()> {
        // Bodies are asked for in order.
        let mut tags = self.plan.tagged();
        let bodies: &mut WriteBody<'_> = &mut |path, size, out| {
            let tag = tags.find(|(at, _)| *at == path).map_or(NONE, |(_, tag)| tag);
            self.files.body((path, size), tag, out)
        };
        write_stream(self.plan.changes(), bodies, times, out)
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
        let (inode, (seconds, nanoseconds)) = seen;
        self.leaves.push(Leaf { root, nanoseconds, seconds, inode });
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
        if stat.kind != Kind::File
            || (stat.ino, time_of_change(tree, &stat)) != (leaf.inode, leaf.time())
        {
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
