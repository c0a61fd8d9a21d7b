//! Collects what a COPY or WORKDIR would leave. The rules are those of `executor::copy` (dockerfile.md §1.7), told of
//! paths instead of done to files; what that refuses, or what is rare, ends the planning.

use super::bodies::{Files, NONE, Planned, Root};
use super::ground::{Ground, resolve_in};
use super::links::Links;
use super::source::Source;
use super::subtree::Subtree;
use crate::context::pattern::clean;
use crate::context::{FileTree, Selected};
use crate::error::Result;
use crate::executor::copy::ModeChange;
use crate::layers::entry_table::EntryTable;
use crate::layers::planned::Plan;
use crate::layers::times::TimePolicy;
use crate::layers::whiteout::is_reserved_name;
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::sys::fs::Kind;
use crate::sys::root::{below, split_last};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::fd::AsFd;

/// An attribute that files made in a directory inherit.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// What all copies of a step have in common.
pub(super) struct Request {
    pub(super) chown: Option<(u32, u32)>,
    pub(super) chmod: Option<ModeChange>,
    /// Time of what no source gives a time.
    pub(super) now: (i64, u32),
    /// Those of the layer.
    pub(super) times: TimePolicy,
}

/// A destination as resolved.
pub(super) struct Destination {
    path: ImagePath,
    means_dir: bool,
}

/// What a copy leaves at a path.
pub(super) struct Node {
    pub(super) entry: Entry,
    /// Which file it is, when that may have several names.
    pub(super) shared: Option<NonZeroU32>,
    /// Number of its bytes among the files; [`NONE`] without any.
    pub(super) leaf: u32,
}

/// What was collected so far.
pub(super) struct Gather<'a> {
    pub(super) ground: &'a Ground,
    pub(super) request: Request,
    pub(super) table: EntryTable,
    /// Directories that are made on the way, with the time that they get.
    made: HashMap<ImagePath, (i64, u32)>,
    links: Links,
    source: usize,
    pub(super) files: Files,
}

impl<'a> Gather<'a> {
    pub(super) fn new(ground: &'a Ground, request: Request) -> Self {
        Self {
            ground,
            request,
            table: EntryTable::default(),
            made: HashMap::new(),
            links: Links::default(),
            source: 0,
            files: Files::default(),
        }
    }

    /// Where a destination is; `None` when it cannot be resolved.
    pub(super) fn resolve(&self, text: &str, cwd: &str) -> Option<Destination> {
        let means_dir = matches!(text.rsplit('/').next().unwrap_or_default(), "" | "." | "..");
        let full = if text.starts_with('/') { text.to_owned() } else { format!("/{cwd}/{text}") };
        let found = resolve_in(self.ground, &clean(full.as_bytes()));
        found.ok().map(|path| Destination { path, means_dir })
    }

    /// Adds a source; false when that cannot be planned.
    pub(super) fn add(
        &mut self,
        tree: &FileTree,
        selected: &Selected,
        destination: &Destination,
    ) -> Result<bool> {
        if selected.source != self.source {
            self.links.clear();
            self.source = selected.source;
        }
        if selected.parents || selected.is_dir() {
            let mtime = (!selected.parents).then_some(selected.stat.mtime);
            if !self.make_dir(&destination.path, mtime)? {
                return Ok(false);
            }
            let root = self.root(tree, selected, &destination.path);
            let base = destination.path.clone();
            let mut walk = Subtree { gather: self, tree, selected, base, root, planned: true };
            tree.walk_helped(selected, &mut walk)?;
            return Ok(walk.planned);
        }
        let Some(target) = self.target(destination, &selected.name)? else { return Ok(false) };
        let (dir, name) = tree.open_parent(selected)?;
        let root = self.root(tree, selected, &target);
        let source =
            Source { tree, dir: dir.as_fd(), name, stat: &selected.stat, path: &selected.path };
        self.put(&source, target, root, true)
    }

    /// Adds a file of the Dockerfile.
    pub(super) fn heredoc(
        &mut self,
        name: &str,
        body: &str,
        destination: &Destination,
    ) -> Result<bool> {
        let name = name.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            return Ok(false);
        }
        let Some(target) = self.target(destination, name.as_bytes())? else { return Ok(false) };
        let (uid, gid) = self.request.chown.unwrap_or((0, 0));
        let mode = self.request.chmod.as_ref().map_or(0o644, |change| change.apply(0o644, false));
        let kind = EntryKind::File { size: body.len() as u64 };
        let mtime = self.request.now;
        let entry = Entry { kind, mode, uid, gid, mtime, xattrs: Vec::new() };
        let root = self.files.add_root(Root::Text(body.as_bytes().to_vec()));
        let leaf = self.files.add(root, (0, (0, 0)));
        self.replace(target, Node { entry, shared: None, leaf }, true)
    }

    /// Makes a directory and its parents where they are missing.
    pub(super) fn directory(&mut self, destination: &Destination) -> Result<bool> {
        self.make_dir(&destination.path, None)
    }

    /// The layer; `None` when it cannot be written.
    pub(super) fn finish(mut self, independent: bool) -> Result<Option<Planned>> {
        let mode = match self.request.chmod {
            Some(ModeChange::Octal(mode)) => mode,
            _ => 0o755,
        };
        for (path, mtime) in &self.made {
            if let Some(at) = self.table.find(path) {
                let entry = Entry { mode, mtime: *mtime, ..self.table.entry(at) };
                self.table.put(path.clone(), entry, None, NONE);
            }
        }
        let reserved = |at| is_reserved_name(split_last(self.table.path(at)).1.unwrap_or_default());
        if (0..self.table.len() as u32).any(reserved) {
            return Ok(None);
        }
        let files = self.files;
        let open = |table: &EntryTable, at| {
            files.open(table.path(at), table.tag(at)).map(|(file, _)| file)
        };
        let plan = Plan::new(self.table, self.ground, &open, &self.request.times)?;
        Ok(Some(Planned { plan, independent, files }))
    }

    fn root(&mut self, tree: &FileTree, selected: &Selected, to: &[u8]) -> u32 {
        let at = selected.path.clone();
        self.files.add_root(Root::Tree { tree: tree.clone(), at, to: to.to_vec() })
    }

    /// What is at a path now.
    fn kind(&self, path: &[u8]) -> Result<Option<bool>> {
        if path.is_empty() {
            return Ok(Some(true));
        }
        if let Some(at) = self.table.find(path) {
            return Ok(Some(self.table.is_dir(at)));
        }
        let below = self.ground.look(path)?;
        Ok(below.map(|(entry, _)| entry.kind == EntryKind::Directory))
    }

    /// Path of a file that is called `name` unless the destination says otherwise.
    fn target(&mut self, destination: &Destination, name: &[u8]) -> Result<Option<ImagePath>> {
        let Destination { path, means_dir } = destination;
        let there = self.kind(path)?;
        if !means_dir && there != Some(true) {
            let parent = parent(path).to_vec();
            return Ok(self.make_dir(&parent, None)?.then(|| path.clone()));
        }
        Ok(self.make_dir(path, None)?.then(|| below(path, name)))
    }

    /// Makes a directory and its parents; false when something else is in the way.
    fn make_dir(&mut self, path: &[u8], mtime: Option<(i64, u32)>) -> Result<bool> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        let ends: Vec<usize> = ends.chain((!path.is_empty()).then_some(path.len())).collect();
        for end in ends {
            let here = &path[..end];
            if let Some(at) = self.table.find(here) {
                if !self.table.is_dir(at) {
                    return Ok(false);
                }
                continue;
            }
            match self.ground.look(here)? {
                Some((entry, _)) if entry.kind == EntryKind::Directory => {
                    if entry.xattrs.iter().any(|(name, _)| name == DEFAULT_ACL) {
                        return Ok(false);
                    }
                    self.table.put(here.to_vec(), entry, None, NONE);
                }
                Some(_) => return Ok(false),
                None => {
                    let mtime = mtime.filter(|_| end == path.len()).unwrap_or(self.request.now);
                    let owner = self.request.chown.unwrap_or((0, 0));
                    self.touch(parent(here));
                    self.table.put(here.to_vec(), directory(owner, mtime), None, NONE);
                    self.made.insert(here.to_vec(), mtime);
                }
            }
        }
        Ok(true)
    }

    /// A name was added to a directory or replaced in it.
    pub(super) fn touch(&mut self, dir: &[u8]) {
        if let Some(at) = self.table.find(dir) {
            self.table.set_mtime(at, self.request.now);
        }
    }

    /// Puts something that is no directory at a path.
    fn replace(&mut self, path: ImagePath, node: Node, touch: bool) -> Result<bool> {
        let Node { entry, shared, leaf } = node;
        match self.kind(&path)? {
            Some(true) => return Ok(false),
            Some(false) if shared.is_none() => self.links.forget(&path),
            _ => {}
        }
        if touch {
            self.touch(parent(&path));
        }
        self.table.put(path, entry, shared, leaf);
        Ok(true)
    }

    pub(super) fn put(
        &mut self,
        source: &Source<'_>,
        path: ImagePath,
        root: u32,
        touch: bool,
    ) -> Result<bool> {
        let stat = source.stat;
        if self.kind(&path)? == Some(false) {
            self.links.forget(&path);
        }
        let Some(mut node) = self.node(source, root)? else { return Ok(false) };
        if stat.nlink > 1 && stat.kind != Kind::Socket {
            node.shared = Some(self.links.file(stat, &path));
        }
        self.replace(path, node, touch)
    }
}

/// Path of the directory that holds a path.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

/// A directory that no source describes.
pub(super) fn directory((uid, gid): (u32, u32), mtime: (i64, u32)) -> Entry {
    Entry { kind: EntryKind::Directory, mode: 0o755, uid, gid, mtime, xattrs: Vec::new() }
}
