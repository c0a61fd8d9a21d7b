//! The items of `contents`, put into the tree one after the other; later ones win.

mod closure;
mod dir;
mod preset;
mod single;
mod tar;

pub(super) use closure::Closures;

use super::place::shown;
use super::spec::{Content, ContentKind, DirSymlinks, Spec};
use super::tree::{Body, Node, Origin, OwnerNames, Tree, join};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::whiteout;
use crate::layers::{Change, ChangeKind, Entry, EntryKind, ImagePath};
use crate::sys::SysResultExt;
use crate::sys::fs;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What items are put in with.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    pub(super) spec: &'a Spec,
    /// Against which the spec's paths are.
    pub(super) dir: &'a Path,
    /// Which is in no directory.
    pub(super) store: &'a Path,
    /// For bytes that come out of an archive.
    pub(super) tmp: &'a Path,
    pub(super) tree: Tree,
    pub(super) closures: Closures,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
    /// What items put into the config.
    pub(super) config: serde_json::Map<String, serde_json::Value>,
}

impl Filler<'_> {
    /// Puts all items in.
    pub(super) fn fill(&mut self) -> Result<()> {
        let spec = self.spec;
        for (at, content) in spec.contents.iter().enumerate() {
            self.item(Origin::Item(at), content).map_err(|error| match error.place() {
                None => error.at(&spec.source, content.span),
                Some(_) => error,
            })?;
        }
        Ok(())
    }

    fn item(&mut self, origin: Origin, content: &Content) -> Result<()> {
        match &content.kind {
            ContentKind::Dir(dir) => self.dir(origin, dir),
            ContentKind::Tar(tar) => self.tar(origin, tar),
            ContentKind::Closure(closure) => self.closure(origin, closure),
            ContentKind::File(file) => self.file(origin, file),
            ContentKind::Symlink(link) => self.symlink(origin, link),
            ContentKind::Directory(dir) => self.directory(origin, dir),
            ContentKind::Preset(presets) => {
                presets.iter().try_for_each(|preset| self.preset(origin, preset))
            }
        }
    }

    /// A path of this machine as the spec means it.
    fn host(&self, path: &Path) -> PathBuf {
        self.dir.join(path)
    }

    /// Something with the spec's owner.
    pub(super) fn node(&self, origin: Origin, kind: EntryKind, mode: u32, body: Body) -> Node {
        let owner = &self.spec.owner;
        let entry =
            Entry { kind, mode, uid: owner.uid, gid: owner.gid, mtime: (0, 0), xattrs: Vec::new() };
        Node { entry, names: self.names(), body, origin, group: None }
    }

    fn names(&self) -> OwnerNames {
        let name = |name: &Option<String>| name.as_deref().map(Arc::from);
        OwnerNames { user: name(&self.spec.owner.uname), group: name(&self.spec.owner.gname) }
    }

    /// A directory that nobody asked for by itself.
    fn plain_dir(&self, origin: Origin) -> Node {
        self.node(origin, EntryKind::Directory, 0o755, Body::None)
    }

    /// Puts a node where its path really is, making what is missing above it.
    pub(super) fn place(&mut self, path: &[u8], node: Node, how: DirSymlinks) -> Result<ImagePath> {
        let path = super::place::name(&self.tree, path, how)?;
        check_names(&path)?;
        if path.is_empty() {
            return Err(Error::image("the root directory itself cannot be replaced"));
        }
        let above = self.plain_dir(node.origin);
        self.tree.make_parents(&path, &above);
        self.tree.put(path.clone(), node);
        Ok(path)
    }

    /// Puts a tree of this machine below `to`. Directories that are there keep what they are, as with COPY.
    fn merge(&mut self, files: &Files<'_>, to: &[u8], how: DirSymlinks) -> Result<()> {
        let mut groups: HashMap<ImagePath, u64> = HashMap::new();
        // Where the directories of the source are in the image.
        let mut places: HashMap<ImagePath, ImagePath> = HashMap::new();
        let top = super::place::directory(&self.tree, to, how)?;
        check_names(&top)?;
        self.make_dir(&top, files.origin);
        places.insert(Vec::new(), top);
        for change in &files.changes {
            let ChangeKind::Present(entry) = &change.kind else { continue };
            let (above, name) = super::tree::split(&change.path);
            check_names(name)?;
            let above = places.get(above).cloned().unwrap_or_default();
            let path = join(&above, name);
            if entry.kind == EntryKind::Directory {
                let path = super::place::directory(&self.tree, &path, how)?;
                places.insert(change.path.clone(), path.clone());
                if !self.tree.is_dir(&path) {
                    let node = files.node(self, entry, &change.path);
                    let above = self.plain_dir(files.origin);
                    self.tree.make_parents(&path, &above);
                    self.tree.put(path, node);
                }
                continue;
            }
            let mut node = files.node(self, entry, &change.path);
            if let EntryKind::Hardlink { target } = &entry.kind {
                let Some(first) = files.first(target) else {
                    return Err(Error::internal("a link to nothing"));
                };
                node = files.node(self, first, target);
                if files.hardlinks {
                    let tree = &mut self.tree;
                    let group = *groups.entry(target.clone()).or_insert_with(|| tree.new_group());
                    node.group = Some(group);
                    let first = super::tree::split(target);
                    let first = places.get(first.0).map(|above| join(above, first.1));
                    if let Some(node) = first.and_then(|at| self.tree.files_mut().get_mut(&at)) {
                        node.group = Some(group);
                    }
                }
            }
            self.tree.put(path, node);
        }
        Ok(())
    }

    /// A directory, unless there is one.
    fn make_dir(&mut self, path: &[u8], origin: Origin) {
        if !self.tree.is_dir(path) {
            let node = self.plain_dir(origin);
            self.tree.make_parents(path, &node);
            self.tree.put(path.to_vec(), node);
        }
    }
}

/// Bytes of one name that Linux takes.
const MAX_NAME: usize = 255;

/// Fails for names that no layer, or no file system, can hold.
pub(super) fn check_names(path: &[u8]) -> Result<()> {
    for name in path.split(|b| *b == b'/') {
        if whiteout::is_reserved_name(name) {
            let message = format!("`{}` cannot be stored in a layer", shown(path));
            return Err(Error::image(message).cause(whiteout::RESERVED_NAMES));
        }
        if name.len() > MAX_NAME {
            let start = shown(&name[..60]);
            return Err(Error::image(format!(
                "the name `{start}…` has more than {MAX_NAME} bytes"
            ))
            .cause("no file system of Linux takes it, so nobody could unpack the image"));
        }
    }
    Ok(())
}

/// Files of this machine that are to be put in.
struct Files<'a> {
    root: &'a Arc<OwnedFd>,
    /// Path of the files below `root`.
    below: &'a [u8],
    changes: Vec<Change>,
    origin: Origin,
    owners: bool,
    xattrs: bool,
    hardlinks: bool,
}

impl Files<'_> {
    fn first(&self, target: &[u8]) -> Option<&Entry> {
        let at = self
            .changes
            .binary_search_by(|change| crate::layers::path_order(&change.path, target))
            .ok()?;
        match &self.changes[at].kind {
            ChangeKind::Present(entry) => Some(entry),
            ChangeKind::Deleted => None,
        }
    }

    fn node(&self, filler: &Filler<'_>, entry: &Entry, path: &[u8]) -> Node {
        let body = match entry.kind {
            EntryKind::File { .. } => Body::Beneath(Arc::clone(self.root), join(self.below, path)),
            _ => Body::None,
        };
        let mut node = filler.node(self.origin, entry.kind.clone(), entry.mode, body);
        node.entry.mtime = entry.mtime;
        if self.owners {
            (node.entry.uid, node.entry.gid) = (entry.uid, entry.gid);
            node.names = OwnerNames::default();
        }
        if self.xattrs {
            node.entry.xattrs.clone_from(&entry.xattrs);
        }
        node
    }
}

/// Opens a directory that the user named.
fn open_dir(path: &Path) -> Result<OwnedFd> {
    let what = || format!("cannot read the directory `{}`", path.display());
    let found = std::fs::metadata(path).or_error(ErrorKind::Context, what)?;
    if !found.is_dir() {
        return Err(Error::context(format!("`{}` is not a directory", path.display())));
    }
    fs::open_dir_path(path).or_error(ErrorKind::Context, what)
}

/// An absolute path of the spec as one below the root.
pub(super) fn relative(path: &str) -> ImagePath {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/").into_bytes()
}
