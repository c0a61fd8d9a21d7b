//! `closure`: Nix store paths with everything that they refer to.

use super::dir::read_at;
use super::{Files, Filler, open_dir};
use crate::assemble::spec::{ClosureContent, ClosureLink, DirSymlinks, References, Strategy};
use crate::assemble::tree::{Body, Origin, join};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::{ChangeKind, EntryKind};
use crate::nix::closure::{Closure, PathInfo};
use crate::nix::store_path::StorePath;
use crate::sys::fs;
use crate::sys::{SysResultExt, root};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// All closures of a spec, as one.
#[derive(Debug, Default)]
pub(in crate::assemble) struct Closures {
    /// What the image has, with the numbers of [`Origin::Store`].
    pub(in crate::assemble) paths: Vec<StorePath>,
    /// The item that each of them came with.
    items: Vec<Origin>,
    numbers: BTreeMap<StorePath, usize>,
    pub(in crate::assemble) all: Option<Closure>,
    /// What was asked for, in order.
    pub(in crate::assemble) roots: Vec<StorePath>,
    /// Where the store is, for each path.
    pub(in crate::assemble) root: Option<Arc<OwnedFd>>,
}

impl Closures {
    /// The number of a path; true when it is new.
    fn number(&mut self, path: &StorePath, item: Origin) -> (usize, bool) {
        if let Some(known) = self.numbers.get(path) {
            return (*known, false);
        }
        self.paths.push(path.clone());
        self.items.push(item);
        self.numbers.insert(path.clone(), self.paths.len() - 1);
        (self.paths.len() - 1, true)
    }

    pub(in crate::assemble) fn number_of(&self, path: &StorePath) -> Option<usize> {
        self.numbers.get(path).copied()
    }

    /// The item that a path came with.
    pub(in crate::assemble) fn item(&self, number: usize) -> Origin {
        self.items.get(number).copied().unwrap_or(Origin::Script)
    }

    /// What is known about the paths in the image.
    pub(in crate::assemble) fn included(&self) -> impl Iterator<Item = &PathInfo> {
        let all = self.all.iter().flat_map(Closure::paths);
        all.filter(|info| self.numbers.contains_key(&info.path))
    }

    /// The first of the paths that were asked for, then any other, that has a program of this name.
    pub(in crate::assemble) fn program(&self, name: &str) -> Option<String> {
        let store = self.root.as_ref()?;
        self.roots.iter().chain(&self.paths).find_map(|path| {
            let at = [path.as_bytes(), b"/bin/", name.as_bytes()].concat();
            let there = root::lstat_opt(store.as_ref(), &at).ok()??;
            (!there.is_dir()).then(|| String::from_utf8_lossy(&at).into_owned())
        })
    }
}

impl Filler<'_> {
    pub(super) fn closure(&mut self, origin: Origin, item: &ClosureContent) -> Result<()> {
        let top = item.root.as_ref().map_or_else(|| "/".into(), |root| self.host(&root.value));
        let store = Arc::new(open_dir(&top)?);
        if root::stat_opt(store.as_ref(), b"nix/store").is_ok_and(|found| found.is_none()) {
            let shown = top.display();
            let error = Error::context(format!("there is no `nix/store` below `{shown}`"));
            return Err(error.hint("`root` says below which directory the store lies"));
        }
        let mut roots = Vec::new();
        for path in &item.paths {
            let parsed = StorePath::parse(path.value.trim_end_matches('/').as_bytes())
                .map_err(|error| error.at(&self.spec.source, path.span))?;
            roots.push(parsed);
        }
        let mut closure = self.references(item, &store, &roots)?;
        let sizes = self.spec.layers.strategy.value == Strategy::Balanced;
        if item.include && (sizes || self.spec.nix_database.is_some()) {
            closure.fill(store.as_fd())?;
        }
        if item.include {
            for info in closure.paths() {
                let (number, new) = self.closures.number(&info.path, origin);
                if new {
                    self.store_path(&store, &info.path, number)?;
                }
            }
        }
        self.closures.root.get_or_insert_with(|| Arc::clone(&store));
        match &mut self.closures.all {
            Some(all) => all.merge(closure)?,
            None => self.closures.all = Some(closure),
        }
        for path in &roots {
            self.show_in_root(origin, &store, path, item)?;
        }
        self.closures.roots.extend(roots);
        Ok(())
    }

    fn references(
        &self,
        item: &ClosureContent,
        store: &Arc<OwnedFd>,
        roots: &[StorePath],
    ) -> Result<Closure> {
        let (file, key) = match &item.references {
            References::Graph(path, key) => (path, key.as_deref()),
            References::Registration(path) => (path, None),
            References::Scan => return Closure::scan(store.as_fd(), roots),
        };
        let bytes = self.read_host(&file.value)?;
        let whole = match item.references {
            // Older tools wrote one without hashes, which is the text of a graph.
            References::Registration(_) => Closure::from_registration(&bytes)
                .or_else(|error| Closure::parse(&bytes, None).map_err(|_| error)),
            _ => Closure::parse(&bytes, key),
        };
        let whole = whole.map_err(|error| {
            let error = error.wrap(format!("cannot use `{}`", file.value.display()));
            error.at(&self.spec.source, file.span)
        })?;
        if roots.is_empty() { Ok(whole) } else { whole.closure_of(roots) }
    }

    /// Puts a store path where it is.
    fn store_path(&mut self, store: &Arc<OwnedFd>, path: &StorePath, number: usize) -> Result<()> {
        let origin = Origin::Store(number);
        let at = &path.as_bytes()[1..];
        let files = read_store(store, at, path)?;
        let what = || format!("cannot read `{path}`");
        let stat = fs::lstat(store.as_ref(), at).or_error(ErrorKind::Context, what)?;
        if stat.is_dir() {
            let mut node = self.plain_dir(origin);
            node.entry.mode = stat.mode;
            node.entry.mtime = stat.mtime;
            self.place(at, node, DirSymlinks::FollowBase)?;
            let files = store_files(store, at, files, origin);
            return self.merge(&files, at, DirSymlinks::FollowBase);
        }
        let mut node = if stat.kind == fs::Kind::Symlink {
            let target = fs::readlink(store.as_ref(), at).or_error(ErrorKind::Context, what)?;
            self.node(origin, EntryKind::Symlink { target }, 0o777, Body::None)
        } else {
            let body = Body::Beneath(Arc::clone(store), at.to_vec());
            self.node(origin, EntryKind::File { size: stat.size }, stat.mode, body)
        };
        node.entry.mtime = stat.mtime;
        self.place(at, node, DirSymlinks::FollowBase).map(drop)
    }

    /// Makes the files of a path show in `/`.
    fn show_in_root(
        &mut self,
        origin: Origin,
        store: &Arc<OwnedFd>,
        path: &StorePath,
        item: &ClosureContent,
    ) -> Result<()> {
        if item.link == ClosureLink::None {
            return Ok(());
        }
        let at = &path.as_bytes()[1..];
        let found = fs::lstat(store.as_ref(), at)
            .or_error(ErrorKind::Context, || format!("cannot read `{path}`"))?;
        if !found.is_dir() {
            return Err(Error::context(format!(
                "`{path}` is no directory, and cannot be shown in `/`"
            ))
            .hint("`link: none` puts it into the image all the same"));
        }
        let mut files = store_files(store, at, read_store(store, at, path)?, origin);
        if item.link == ClosureLink::Symlink {
            for change in &mut files.changes {
                let ChangeKind::Present(entry) = &mut change.kind else { continue };
                if entry.kind == EntryKind::Directory {
                    entry.mode = 0o755;
                } else {
                    let target = join(path.as_bytes(), &change.path);
                    (entry.kind, entry.mode) = (EntryKind::Symlink { target }, 0o777);
                }
            }
        }
        self.merge(&files, b"", DirSymlinks::FollowBase)
    }
}

fn store_files<'a>(
    store: &'a Arc<OwnedFd>,
    at: &'a [u8],
    changes: Vec<crate::layers::Change>,
    origin: Origin,
) -> Files<'a> {
    Files {
        root: store,
        below: at,
        changes,
        origin,
        owners: false,
        xattrs: false,
        // The store may make one file of equal ones at any time, which must not show (A2).
        hardlinks: false,
    }
}

fn read_store(
    store: &Arc<OwnedFd>,
    at: &[u8],
    path: &StorePath,
) -> Result<Vec<crate::layers::Change>> {
    read_at(store, at).map_err(|error| {
        error
            .wrap(format!("cannot put `{path}` into the image"))
            .hint("is it in the store? `nix-store --realise` brings it there; `root` says where another store is")
    })
}
