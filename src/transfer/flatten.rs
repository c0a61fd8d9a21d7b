//! The files of an image as plain data, out of its layers' tars: nothing is unpacked and no privilege is needed.
//!
//! Layers are applied as image-spec layer.md says: a whiteout removes what lower layers brought, never what its own
//! layer does. Memory is bounded by the number of paths, which the tar reader bounds.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::compress::guarded;
use crate::layers::tar_read::{Limits, TarEntry, for_each};
use crate::layers::whiteout::Whiteout;
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::oci::Digest;
use crate::oci::digest::HashingWriter;
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufReader, Read};
use std::ops::Bound;

/// Links that are followed on the way to one path.
const MAX_LINKS: usize = 40;

/// One path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Type and metadata; a further name of a file has the file's own.
    pub entry: Entry,
    /// Of a regular file's bytes.
    pub content: Option<Digest>,
}

/// All paths of an image, without the root itself.
pub type Files = BTreeMap<ImagePath, File>;

/// The files of these layers, bottom first.
pub fn files(layout: &Layout, layers: &[Descriptor]) -> Result<Files> {
    let mut tree = Tree::default();
    for layer in layers {
        tree.made.clear();
        let limits = Limits::default();
        let blob = BufReader::with_capacity(256 << 10, layout.open_blob(layer)?);
        let plain = guarded(blob, limits.ratio)?;
        for_each(plain, &limits, |entry, body| tree.take(entry, body))
            .map_err(|error| error.wrap(format!("cannot read layer {}", layer.digest())))?;
    }
    Ok(tree.files)
}

/// The bytes of a regular file, by the topmost layer that has it under exactly this path.
pub fn read(
    layout: &Layout,
    layers: &[Descriptor],
    path: &[u8],
    limit: u64,
) -> Result<Option<Vec<u8>>> {
    for layer in layers.iter().rev() {
        let limits = Limits::default();
        let blob = BufReader::with_capacity(256 << 10, layout.open_blob(layer)?);
        let mut found = None;
        for_each(guarded(blob, limits.ratio)?, &limits, |entry, body| {
            if entry.path == path && matches!(entry.entry.kind, EntryKind::File { .. }) {
                let mut bytes = Vec::new();
                body.take(limit + 1)
                    .read_to_end(&mut bytes)
                    .or_error(ErrorKind::Integrity, || "a file cannot be read".to_owned())?;
                found = Some(bytes);
            }
            Ok(())
        })
        .map_err(|error| error.wrap(format!("cannot read layer {}", layer.digest())))?;
        if let Some(bytes) = found {
            if bytes.len() as u64 > limit {
                return Err(Error::integrity(format!(
                    "`/{}` of the image is too large",
                    String::from_utf8_lossy(path)
                )));
            }
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

#[derive(Default)]
struct Tree {
    files: Files,
    /// Paths of the present layer.
    made: HashSet<ImagePath>,
}

impl Tree {
    fn take(&mut self, member: &TarEntry, body: &mut dyn Read) -> Result<()> {
        if member.path.is_empty() {
            return Ok(());
        }
        let at = member.path.iter().rposition(|b| *b == b'/');
        let (parent, name) = match at {
            Some(at) => (&member.path[..at], &member.path[at + 1..]),
            None => (&b""[..], &member.path[..]),
        };
        let parent = self.directory(parent);
        match &member.whiteout {
            Some(Whiteout::Remove(hidden)) => self.remove(&join(&parent, hidden)),
            Some(Whiteout::Opaque) => self.remove_below(&parent),
            Some(Whiteout::Reserved) => {}
            None => {
                let path = join(&parent, name);
                let file = self.file(&member.entry, body)?;
                if file.entry.kind != EntryKind::Directory {
                    for path in self.below(&path) {
                        self.files.remove(&path);
                    }
                }
                self.made.insert(path.clone());
                self.files.insert(path, file);
            }
        }
        Ok(())
    }

    fn file(&self, entry: &Entry, body: &mut dyn Read) -> Result<File> {
        match &entry.kind {
            EntryKind::Hardlink { target } => {
                // A target that is not there is the applier's to refuse; here it is a difference.
                let known = self.files.get(target).cloned();
                Ok(known.unwrap_or_else(|| File { entry: entry.clone(), content: None }))
            }
            EntryKind::File { .. } => {
                let mut hash = HashingWriter::new(io::sink());
                io::copy(body, &mut hash)
                    .or_error(ErrorKind::Integrity, || "a file cannot be read".to_owned())?;
                Ok(File { entry: entry.clone(), content: Some(hash.finish().1) })
            }
            _ => Ok(File { entry: entry.clone(), content: None }),
        }
    }

    /// The path of a directory with links on the way followed, inside the image.
    fn directory(&self, path: &[u8]) -> ImagePath {
        let mut rest: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut done: ImagePath = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    let end = done.iter().rposition(|b| *b == b'/').unwrap_or(0);
                    done.truncate(end);
                    continue;
                }
                _ => {}
            }
            let next = join(&done, &part);
            match self.files.get(&next).map(|file| &file.entry.kind) {
                Some(EntryKind::Symlink { target }) if links < MAX_LINKS => {
                    links += 1;
                    if target.first() == Some(&b'/') {
                        done.clear();
                    }
                    rest.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => done = next,
            }
        }
        done
    }

    fn below(&self, path: &[u8]) -> Vec<ImagePath> {
        if path.is_empty() {
            return self.files.keys().cloned().collect();
        }
        let first = join(path, b"");
        let range = (Bound::Included(first.clone()), Bound::Unbounded);
        let below = self.files.range::<ImagePath, _>(range);
        below.map(|(path, _)| path).take_while(|path| path.starts_with(&first)).cloned().collect()
    }

    fn remove(&mut self, path: &ImagePath) {
        self.remove_below(path);
        let kept = self.made.contains(path) || !self.below(path).is_empty();
        if !kept {
            self.files.remove(path);
        }
    }

    fn remove_below(&mut self, path: &[u8]) {
        for path in self.below(path) {
            if !self.made.contains(&path) {
                self.files.remove(&path);
            }
        }
    }
}

fn join(parent: &[u8], name: &[u8]) -> ImagePath {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
