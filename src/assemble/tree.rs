//! The files to add, as data on top of what the base shows: no byte is copied before a layer is written.
//!
//! In: nodes at paths; out: the tree that they and the base make together, and what of it is new. A path that is removed,
//! or that becomes something else than a directory, hides all that the base has there. Paths are relative bytes.
//! Whether something is really new is asked in [`super::dedup`].

use super::base::View;
use super::spec::Spec;
use crate::error::Error;
use crate::layers::snapshot::Snapshot;
use crate::layers::tar_stream::{Content, Names};
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::transfer::flatten::File as BaseFile;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub(super) enum Body {
    None,
    Bytes(Arc<[u8]>),
    /// Below a directory.
    Beneath(Arc<OwnedFd>, Vec<u8>),
    /// From this offset of a file of ours.
    Part(Arc<File>, u64),
}

/// Who brought a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// An item of `contents`.
    Item(usize),
    /// A store path, by its number in the closure.
    Store(usize),
    /// A command.
    Script,
    /// Nix's database.
    Database,
}

impl Origin {
    /// An error with the item of the spec that brought the file, when an item did.
    pub(super) fn placed(self, error: Error, spec: &Spec) -> Error {
        match self {
            Self::Item(at) if error.place().is_none() => match spec.contents.get(at) {
                Some(item) => error.at(&spec.source, item.span),
                None => error,
            },
            _ => error,
        }
    }
}

/// What a path is.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Metadata; hard links are given by `group` instead.
    pub(super) entry: Entry,
    pub(super) names: OwnerNames,
    pub(super) body: Body,
    pub(super) origin: Origin,
    /// Names of one file have the same number.
    pub(super) group: Option<u64>,
}

/// Names of owner and group in the tar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnerNames {
    pub(super) user: Option<Arc<str>>,
    pub(super) group: Option<Arc<str>>,
}

impl Node {
    /// Its bytes for a tar.
    pub(super) fn content(&self) -> Content<'_> {
        match &self.body {
            Body::None => Content::None,
            Body::Bytes(bytes) => Content::Bytes(bytes),
            Body::Beneath(root, path) => Content::Beneath(root.as_fd(), path),
            Body::Part(file, at) => Content::Part(file, *at),
        }
    }

    /// The names of its owners for a tar.
    pub(super) fn names(&self) -> Names<'_> {
        Names { user: self.names.user.as_deref(), group: self.names.group.as_deref() }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.entry.kind == EntryKind::Directory
    }
}

/// Files on top of a base.
#[derive(Debug)]
pub(super) struct Tree {
    base: Arc<View>,
    files: BTreeMap<ImagePath, Node>,
    /// Paths at and below which nothing of the base shows.
    hidden: BTreeSet<ImagePath>,
    groups: u64,
    kept: Vec<Arc<Snapshot>>,
}

impl Tree {
    pub(super) fn new(base: Arc<View>) -> Self {
        let (files, hidden, kept) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Self { base, files, hidden, groups: 0, kept }
    }

    /// Keeps the files of a snapshot for as long as the tree is there.
    pub(super) fn keep(&mut self, snapshot: Arc<Snapshot>) {
        self.kept.push(snapshot);
    }

    /// A number for the names of one file.
    pub(super) fn new_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups
    }

    /// What was added, sorted by bytes.
    pub(super) fn files(&self) -> &BTreeMap<ImagePath, Node> {
        &self.files
    }

    pub(super) fn files_mut(&mut self) -> &mut BTreeMap<ImagePath, Node> {
        &mut self.files
    }

    pub(super) fn base(&self) -> &View {
        &self.base
    }

    /// What is at a path, whoever brought it.
    pub(super) fn entry(&self, path: &[u8]) -> Option<&Entry> {
        match self.files.get(path) {
            Some(node) => Some(&node.entry),
            None => self.base_entry(path),
        }
    }

    /// What the base shows at a path; nothing when something hides it.
    pub(super) fn base_entry(&self, path: &[u8]) -> Option<&Entry> {
        let found = self.base.files.get(path)?;
        (!self.is_hidden(path)).then_some(&found.entry)
    }

    /// What a layer of ours would replace at a path, when only the path itself counts: for what is no directory on either
    /// side, it does not matter that it was hidden on the way.
    pub(super) fn replaced(&self, path: &[u8]) -> Option<&BaseFile> {
        let found = self.base.files.get(path)?;
        let plain = found.entry.kind != EntryKind::Directory;
        let hidden = if plain { self.is_hidden(split(path).0) } else { self.is_hidden(path) };
        (!hidden).then_some(found)
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        !self.hidden.is_empty() && ancestors(path).any(|above| self.hidden.contains(above))
    }

    pub(super) fn is_dir(&self, path: &[u8]) -> bool {
        path.is_empty() || self.entry(path).is_some_and(|e| e.kind == EntryKind::Directory)
    }

    /// Puts something at a path, replacing what is there. A directory over a directory keeps what is in it.
    pub(super) fn put(&mut self, path: ImagePath, node: Node) {
        let both = node.is_dir() && self.is_dir(&path);
        if !both {
            self.remove(&path);
        }
        self.files.insert(path, node);
    }

    /// Removes a path with all below it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.forget(path);
        if self.base.files.contains_key(path) && !self.is_hidden(path) {
            self.hidden.insert(path.to_vec());
        }
    }

    /// Takes what was put at a path away again, with all below it: what the base has there shows.
    pub(super) fn withdraw(&mut self, path: &[u8]) {
        self.forget(path);
    }

    /// Nothing was ever said about a path and what is below it.
    fn forget(&mut self, path: &[u8]) {
        for below in keys_below(&self.files, path) {
            self.files.remove(&below);
        }
        self.files.remove(path);
        let first = [path, b"/"].concat();
        let after = self.hidden.range::<ImagePath, _>(&first..);
        let below: Vec<ImagePath> =
            after.take_while(|hidden| hidden.starts_with(&first)).cloned().collect();
        for hidden in below {
            self.hidden.remove(&hidden);
        }
        self.hidden.remove(path);
    }

    /// Removes what is below a directory, and keeps the directory.
    pub(super) fn remove_below(&mut self, path: &[u8]) {
        for below in keys_below(&self.files, path) {
            self.files.remove(&below);
        }
        for child in self.base.children(path) {
            if !self.is_hidden(&child) {
                self.hidden.insert(child);
            }
        }
    }

    /// Makes the missing directories above a path, with this metadata.
    pub(super) fn make_parents(&mut self, path: &[u8], like: &Node) {
        let mut missing: Vec<&[u8]> = Vec::new();
        for above in ancestors(path).skip(1) {
            if self.is_dir(above) {
                break;
            }
            missing.push(above);
        }
        for above in missing.into_iter().rev() {
            self.put(above.to_vec(), like.clone());
        }
    }

    /// Paths of the base that are gone: of a directory that vanished only itself.
    pub(super) fn deleted(&self) -> Vec<ImagePath> {
        let mut gone = Vec::new();
        for path in &self.hidden {
            self.gone_at(path, &mut gone);
        }
        gone.sort();
        gone.dedup();
        gone
    }

    fn gone_at(&self, path: &ImagePath, gone: &mut Vec<ImagePath>) {
        // What has no directory above it any more went with that.
        let (above, _) = split(path);
        if !self.is_dir(above) {
            return;
        }
        match self.files.get(path) {
            None => gone.push(path.clone()),
            Some(node) if node.is_dir() => {
                self.base.children(path).iter().for_each(|child| self.gone_at(child, gone));
            }
            Some(_) => {}
        }
    }
}

/// A path and all above it, without the root.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = (!path.is_empty()).then_some(path);
    std::iter::from_fn(move || {
        let now = next?;
        next = Some(split(now).0).filter(|above| !above.is_empty());
        Some(now)
    })
}

/// Parent and name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// `parent/name`, or the one of them that is not empty.
pub(super) fn join(parent: &[u8], name: &[u8]) -> ImagePath {
    match (parent, name) {
        (b"", name) => name.to_vec(),
        (parent, b"") => parent.to_vec(),
        (parent, name) => [parent, b"/", name].concat(),
    }
}

/// Keys of a map that lie below a directory.
pub(super) fn keys_below<T>(map: &BTreeMap<ImagePath, T>, path: &[u8]) -> Vec<ImagePath> {
    if path.is_empty() {
        return map.keys().cloned().collect();
    }
    let first = [path, b"/"].concat();
    let range = (Bound::Included(first.clone()), Bound::Unbounded);
    let below = map.range::<ImagePath, _>(range).map(|(path, _)| path);
    below.take_while(|path| path.starts_with(&first)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::flatten::Files;

    fn entry(kind: EntryKind) -> Entry {
        Entry { kind, mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }

    fn node(kind: EntryKind) -> Node {
        let names = OwnerNames::default();
        let (entry, origin) = (entry(kind), Origin::Item(0));
        Node { entry, names, body: Body::None, origin, group: None }
    }

    /// A tree on a base with these paths; a directory's ends in a slash.
    fn tree(paths: &[&str]) -> Tree {
        let mut files = Files::new();
        for path in paths {
            let dir = path.ends_with('/');
            let kind = if dir { EntryKind::Directory } else { EntryKind::File { size: 0 } };
            let path = path.trim_end_matches('/').as_bytes().to_vec();
            files.insert(path, BaseFile { entry: entry(kind), content: None });
        }
        Tree::new(Arc::new(View::new(files)))
    }

    fn deleted(tree: &Tree) -> Vec<String> {
        tree.deleted().iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[test]
    fn a_directory_that_is_gone_is_one_deletion() {
        let mut tree = tree(&["a/", "a/b/", "a/b/c", "d"]);
        tree.remove(b"a/b/c");
        assert_eq!(deleted(&tree), ["a/b/c"]);
        tree.remove(b"a");
        assert_eq!(deleted(&tree), ["a"]);
        assert!(tree.entry(b"a/b").is_none() && tree.entry(b"d").is_some());
    }

    #[test]
    fn a_directory_that_is_made_again_loses_what_was_in_it() {
        let mut tree = tree(&["a/", "a/b/", "a/b/c", "a/d", "a-e"]);
        tree.remove(b"a");
        tree.put(b"a".to_vec(), node(EntryKind::Directory));
        assert_eq!(deleted(&tree), ["a/b", "a/d"]);
        tree.put(b"a/b".to_vec(), node(EntryKind::Directory));
        assert_eq!(deleted(&tree), ["a/b/c", "a/d"]);
        tree.put(b"a/d".to_vec(), node(EntryKind::Fifo));
        assert_eq!(deleted(&tree), ["a/b/c"]);
    }

    #[test]
    fn what_becomes_no_directory_hides_all_below_without_a_deletion() {
        let mut tree = tree(&["a/", "a/b"]);
        tree.put(b"a".to_vec(), node(EntryKind::Fifo));
        assert_eq!(deleted(&tree), [""; 0]);
        assert!(tree.entry(b"a/b").is_none());
        // Taken back, all of the base shows again.
        tree.withdraw(b"a");
        assert!(tree.entry(b"a/b").is_some());
    }

    #[test]
    fn a_directory_over_a_directory_keeps_what_is_in_it() {
        let mut tree = tree(&["a/", "a/b"]);
        tree.put(b"a".to_vec(), node(EntryKind::Directory));
        assert!(tree.entry(b"a/b").is_some());
        tree.remove_below(b"a");
        assert_eq!(deleted(&tree), ["a/b"]);
    }

    #[test]
    fn missing_directories_are_made_up_to_the_first_that_is_there() {
        let mut tree = tree(&["a/", "f"]);
        tree.make_parents(b"a/b/c/d", &node(EntryKind::Directory));
        let made: Vec<&[u8]> = tree.files().keys().map(Vec::as_slice).collect();
        assert_eq!(made, [&b"a/b"[..], b"a/b/c"]);
        // A file in the way is replaced.
        tree.make_parents(b"f/x", &node(EntryKind::Directory));
        assert!(tree.is_dir(b"f"));
    }
}
