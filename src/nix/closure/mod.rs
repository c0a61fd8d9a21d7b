//! A closure: store paths with all that they refer to, and what is known about each.
//!
//! In: a graph as Nix gives it to a build or prints it (`json`, `text`), or a store to look through (`scan`).
//! A [`Closure`] is sorted by path, complete (each reference is in it) and without circles, except that a path may refer
//! to itself; whatever would not be so is refused where it is made. [`Closure::fill`] computes hashes, or checks those
//! that a graph promised.

mod json;
mod scan;
mod text;

use super::{STORE_DIR, StorePath, nar};
use crate::error::{Error, ErrorKind, Result};
use crate::oci::Digest;
use crate::sys::{SysResultExt as _, fs, root};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is known about one store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its archive.
    pub nar_hash: Option<Digest>,
    /// Bytes of its archive.
    pub nar_size: Option<u64>,
    /// What it refers to, sorted; itself too, if it does.
    pub references: Vec<StorePath>,
    /// The derivation that made it.
    pub deriver: Option<String>,
    /// How its path follows from its content, for paths of which this is so.
    pub ca: Option<String>,
}

impl PathInfo {
    /// A path of which nothing is known.
    pub fn new(path: StorePath) -> Self {
        Self {
            path,
            nar_hash: None,
            nar_size: None,
            references: Vec::new(),
            deriver: None,
            ca: None,
        }
    }

    /// Adds what another description of the same path knows; fails where they contradict each other.
    fn learn(&mut self, other: PathInfo) -> Result<()> {
        let path = &self.path;
        let differ = |what: &str, here: &str, there: &str| {
            let message = format!("`{path}` is described twice, with different {what}");
            Err(Error::integrity(message).cause(format!("{here} and {there}")))
        };
        match (&self.nar_hash, &other.nar_hash) {
            (Some(here), Some(there)) if here != there => {
                return differ("hashes", here.as_str(), there.as_str());
            }
            _ => {}
        }
        match (self.nar_size, other.nar_size) {
            (Some(here), Some(there)) if here != there => {
                return differ("sizes", &here.to_string(), &there.to_string());
            }
            _ => {}
        }
        self.nar_hash = self.nar_hash.take().or(other.nar_hash);
        self.nar_size = self.nar_size.or(other.nar_size);
        self.deriver = self.deriver.take().or(other.deriver);
        self.ca = self.ca.take().or(other.ca);
        self.references.extend(other.references);
        Ok(())
    }

    fn tidy(&mut self) {
        self.references.sort_unstable();
        self.references.dedup();
    }
}

/// Greatest number of paths: what a whole distribution has, and what layering is still quick with.
const MAX_PATHS: usize = 100_000;

/// Store paths and everything that they refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// Sorted by path.
    paths: Vec<PathInfo>,
}

impl Closure {
    /// Reads a graph in any of the three forms, which it tells apart by their content. `key` is for JSON.
    pub fn parse(bytes: &[u8], key: Option<&str>) -> Result<Self> {
        match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            None => Err(Error::integrity("the graph of store paths is empty")),
            Some(b'{' | b'[') => Self::from_graph_json(bytes, key),
            Some(_) if text::has_hashes(bytes) => Self::from_registration(bytes),
            Some(_) => Self::from_graph(bytes),
        }
    }

    /// The JSON of a structured derivation's `exportReferencesGraph`, in its `.attrs.json` under `key` (under the only
    /// key that has such a list, when `key` is not given) or by itself; and what `nix path-info --json` prints.
    pub fn from_graph_json(bytes: &[u8], key: Option<&str>) -> Result<Self> {
        Self::new(json::parse(bytes, key)?)
    }

    /// The text of `nix-store --dump-db` and of nixpkgs' `closureInfo`: with hashes and sizes.
    pub fn from_registration(bytes: &[u8]) -> Result<Self> {
        Self::new(text::parse(bytes, true)?)
    }

    /// The text of the older `exportReferencesGraph`: without hashes.
    pub fn from_graph(bytes: &[u8]) -> Result<Self> {
        Self::new(text::parse(bytes, false)?)
    }

    /// Finds what `roots` refer to by looking for the hashes of all store paths below `root` in their archives, as Nix
    /// does after a build. Hashes and sizes come with it.
    pub fn scan(root: BorrowedFd<'_>, roots: &[StorePath]) -> Result<Self> {
        Self::new(scan::scan(store_of(root)?.as_fd(), roots)?)
    }

    /// Checks what was described and sorts it.
    pub fn new(infos: Vec<PathInfo>) -> Result<Self> {
        let mut paths: Vec<PathInfo> = Vec::with_capacity(infos.len());
        let mut infos = infos;
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        for info in infos {
            match paths.last_mut() {
                Some(last) if last.path == info.path => last.learn(info)?,
                _ => paths.push(info),
            }
        }
        if paths.len() > MAX_PATHS {
            let message =
                format!("the closure has {} store paths, more than {MAX_PATHS}", paths.len());
            return Err(Error::integrity(message));
        }
        paths.iter_mut().for_each(PathInfo::tidy);
        let closure = Self { paths };
        closure.check_complete()?;
        closure.check_order()?;
        Ok(closure)
    }

    /// All paths, sorted.
    pub fn paths(&self) -> &[PathInfo] {
        &self.paths
    }

    /// What is known about a path.
    pub fn get(&self, path: &StorePath) -> Option<&PathInfo> {
        self.index(path).map(|at| &self.paths[at])
    }

    /// `roots` with all that they refer to; fails when one of them is not here.
    pub fn closure_of(&self, roots: &[StorePath]) -> Result<Closure> {
        let mut seen = vec![false; self.paths.len()];
        let mut todo = Vec::new();
        for path in roots {
            let Some(at) = self.index(path) else {
                return Err(Error::integrity(format!("`{path}` is not in the closure")));
            };
            todo.push(at);
        }
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                let references = &self.paths[at].references;
                todo.extend(references.iter().filter_map(|path| self.index(path)));
            }
        }
        let kept = self.paths.iter().zip(seen).filter(|(_, seen)| *seen);
        Ok(Self { paths: kept.map(|(info, _)| info.clone()).collect() })
    }

    /// Adds another closure; fails when the two contradict each other, and then nothing was added.
    pub fn merge(&mut self, other: Closure) -> Result<()> {
        let both = self.paths.iter().cloned().chain(other.paths).collect();
        *self = Self::new(both)?;
        Ok(())
    }

    /// Computes the hash and size of each archive below `root`, and fails where one was promised that is not so.
    pub fn fill(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        let store = store_of(root)?;
        for info in &mut self.paths {
            let there = fs::lstat_opt(&store, info.path.name());
            let there = there
                .or_error(ErrorKind::Environment, || format!("cannot read `{}`", info.path))?;
            if there.is_none() {
                return Err(absent(&info.path));
            }
            let (hash, size) = nar::hash(store.as_fd(), info.path.name())?;
            let wrong = |expected: String, found: String| {
                let message = format!("`{}` is not what its description says", info.path);
                Err(Error::integrity(message)
                    .cause(format!("expected {expected}, found {found}"))
                    .hint("the store path was changed; `nix-store --verify --check-contents --repair` can mend a store"))
            };
            match (&info.nar_hash, info.nar_size) {
                (Some(promised), _) if *promised != hash => {
                    return wrong(promised.to_string(), hash.to_string());
                }
                (_, Some(promised)) if promised != size => {
                    return wrong(format!("{promised} bytes"), format!("{size} bytes"));
                }
                _ => {}
            }
            info.nar_hash = Some(hash);
            info.nar_size = Some(size);
        }
        Ok(())
    }

    fn index(&self, path: &StorePath) -> Option<usize> {
        self.paths.binary_search_by(|info| info.path.cmp(path)).ok()
    }

    /// For each path, the places of what it refers to, itself left out.
    pub(super) fn edges(&self) -> Vec<Vec<usize>> {
        let of = |(at, info): (usize, &PathInfo)| {
            let places = info.references.iter().filter_map(|path| self.index(path));
            places.filter(|place| *place != at).collect()
        };
        self.paths.iter().enumerate().map(of).collect()
    }

    fn check_complete(&self) -> Result<()> {
        for info in &self.paths {
            if let Some(absent) = info.references.iter().find(|path| self.index(path).is_none()) {
                let message = format!("the closure is not complete: it lacks `{absent}`");
                return Err(Error::integrity(message)
                    .cause(format!("`{}` refers to it", info.path))
                    .hint("`nix-store --query --requisites` names all paths of a closure"));
            }
        }
        Ok(())
    }

    fn check_order(&self) -> Result<()> {
        let edges = self.edges();
        let ordered = users_first(&edges);
        if ordered.len() == edges.len() {
            return Ok(());
        }
        // What is left has a user that is left, so going from user to user comes to a circle.
        let mut left = vec![true; edges.len()];
        for at in ordered {
            left[at] = false;
        }
        let mut user = vec![0; edges.len()];
        for at in (0..edges.len()).filter(|at| left[*at]) {
            edges[at].iter().for_each(|used| user[*used] = at);
        }
        let mut at = left.iter().position(|left| *left).unwrap_or_default();
        let mut way = Vec::new();
        while std::mem::take(&mut left[at]) {
            way.push(at);
            at = user[at];
        }
        way.drain(..way.iter().position(|seen| *seen == at).unwrap_or_default());
        let names = way.iter().rev().take(4).map(|at| format!("`{}`", self.paths[*at].path));
        let message = "store paths refer to each other in a circle";
        Err(Error::integrity(message).cause(names.collect::<Vec<_>>().join(", ")))
    }
}

/// Places in an order in which users stand before what they use; those of circles and below them are left out.
pub(super) fn users_first(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut users = vec![0_usize; edges.len()];
    edges.iter().flatten().for_each(|used| users[*used] += 1);
    let mut order: Vec<usize> = (0..edges.len()).filter(|at| users[*at] == 0).collect();
    let mut next = 0;
    while let Some(at) = order.get(next).copied() {
        next += 1;
        for used in &edges[at] {
            users[*used] -= 1;
            if users[*used] == 0 {
                order.push(*used);
            }
        }
    }
    order
}

fn absent(path: &StorePath) -> Error {
    Error::integrity(format!("`{path}` is not in the store"))
}

/// The store directory below a root.
fn store_of(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    root::open_dir(root, STORE_DIR.trim_start_matches('/').as_bytes())
        .or_error(ErrorKind::Environment, || format!("cannot open the store `{STORE_DIR}`"))
}

#[cfg(test)]
mod tests;
