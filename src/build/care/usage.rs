//! What is in a store, and how large it is.
//!
//! Sizes are those of contents without holes; a file with several names counts once. Trees may belong to
//! subordinate ids, so they are measured inside the namespaces of a worker; the size of a snapshot never changes and is
//! written beside it.

use crate::build::store::Store;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::blocks::LIVE;
use crate::layers::snapshot::{Described, described};
use crate::oci::layout::UNFINISHED;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Seconds and nanoseconds since 1970.
pub type Time = (i64, i64);

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A blob of `images/`.
    Blob,
    /// A tree of `snapshots/`.
    Snapshot,
    /// A record of `cache/`.
    Record,
    /// A directory of `mounts/`.
    Mount,
    /// What was left behind: `tmp/`, `trash/`, `logs/`, `uploads/`, unfinished blobs and snapshots.
    Leftover,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] =
        [Kind::Blob, Kind::Snapshot, Kind::Record, Kind::Mount, Kind::Leftover];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Snapshot => "snapshots",
            Self::Record => "cache records",
            Self::Mount => "cache mounts",
            Self::Leftover => "leftovers",
        }
    }
}

/// One thing that can be removed by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Where it is, from the store's directory.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// When it was used last.
    pub used: Time,
    /// The snapshot below a snapshot.
    pub parent: Option<String>,
}

impl Object {
    /// Last part of its path.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Everything in a store.
pub fn objects(store: &Store) -> Result<Vec<Object>> {
    let what = || format!("cannot list the store {}", store.path().display());
    let mut found = Vec::new();
    let mut list = Lister { store: store.path(), found: &mut found };
    list.all().or_error(ErrorKind::Environment, what)?;
    Ok(found)
}

/// Bytes by kind.
pub fn totals(objects: &[Object]) -> BTreeMap<Kind, (usize, u64)> {
    let mut totals: BTreeMap<Kind, (usize, u64)> = BTreeMap::new();
    for object in objects {
        let total = totals.entry(object.kind).or_default();
        *total = (total.0 + 1, total.1 + object.size);
    }
    totals
}

struct Lister<'a> {
    store: &'a Path,
    found: &'a mut Vec<Object>,
}

impl Lister<'_> {
    fn all(&mut self) -> io::Result<()> {
        self.each("images/blobs/sha256", |name, seen| {
            let kind = if name.starts_with(UNFINISHED) { Kind::Leftover } else { Kind::Blob };
            Some((kind, seen.len(), last_use(seen)))
        })?;
        self.each("images", |name, seen| {
            name.starts_with(UNFINISHED).then(|| (Kind::Leftover, seen.len(), modified(seen)))
        })?;
        // The digests of files, half written by a process that was killed; `files.recent` itself is whole.
        self.each("cache", |name, seen| {
            let half_written = name.starts_with("files.") && name != "files.recent";
            half_written.then(|| (Kind::Leftover, seen.len(), modified(seen)))
        })?;
        for dir in ["cache/steps", "cache/selections", "cache/explain", "cache/http", "cache/git"] {
            self.each(dir, |_, seen| Some((Kind::Record, seen.len(), modified(seen))))?;
        }
        // What grows belongs to a layer that is being written.
        self.each("cache/blocks", |name, seen| {
            let kind = if name.starts_with(LIVE) { Kind::Leftover } else { Kind::Record };
            Some((kind, seen.len(), modified(seen)))
        })?;
        // Who uses one writes it anew.
        self.each("uploads", |_, seen| Some((Kind::Leftover, seen.len(), modified(seen))))?;
        for dir in ["tmp", "trash", "logs"] {
            self.trees(dir, |_| Kind::Leftover, |_, seen| modified(seen))?;
        }
        let stamps = self.store.join("locks");
        self.trees(
            "mounts",
            |_| Kind::Mount,
            |name, seen| {
                let stamp = fs::metadata(stamps.join(format!("mount-{name}")));
                stamp.map_or(modified(seen), |stamp| modified(&stamp).max(modified(seen)))
            },
        )?;
        self.snapshots()
    }

    /// The entries of a directory, which may be missing.
    fn each(
        &mut self,
        dir: &str,
        look: impl Fn(&str, &Metadata) -> Option<(Kind, u64, Time)>,
    ) -> io::Result<()> {
        for (name, seen) in entries(&self.store.join(dir))? {
            if let Some((kind, size, used)) = look(&name, &seen) {
                let path = Path::new(dir).join(name);
                self.found.push(Object { kind, path, size, used, parent: None });
            }
        }
        Ok(())
    }

    fn trees(
        &mut self,
        dir: &str,
        kind: impl Fn(&str) -> Kind,
        used: impl Fn(&str, &Metadata) -> Time,
    ) -> io::Result<()> {
        for (name, seen) in entries(&self.store.join(dir))? {
            let path = Path::new(dir).join(&name);
            // Sandboxes mount on it: it is always there, and always empty.
            if path == Path::new("tmp/rootfs") {
                continue;
            }
            let size = tree_size(&self.store.join(&path));
            let (kind, used) = (kind(&name), used(&name, &seen));
            self.found.push(Object { kind, path, size, used, parent: None });
        }
        Ok(())
    }

    fn snapshots(&mut self) -> io::Result<()> {
        for (name, seen) in entries(&self.store.join("snapshots"))? {
            if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            let path = Path::new("snapshots").join(&name);
            let own = self.store.join(&path);
            // Without its description a snapshot is not finished.
            self.found.push(match described(&own) {
                Some(described) => Object {
                    kind: Kind::Snapshot,
                    path,
                    size: snapshot_size(&own),
                    used: used(&described),
                    parent: described.parent,
                },
                None => Object {
                    kind: Kind::Leftover,
                    path,
                    size: tree_size(&own),
                    used: modified(&seen),
                    parent: None,
                },
            });
        }
        Ok(())
    }
}

/// The size of a finished snapshot, which is measured once.
fn snapshot_size(own: &Path) -> u64 {
    let note = own.join("size");
    let known = fs::read_link(&note).ok().and_then(|text| text.to_str()?.parse().ok());
    known.unwrap_or_else(|| {
        let mut whole = true;
        let size = measure(&own.join("fs"), &mut whole);
        if whole {
            // A link, which needs no block. It is measured again when it cannot be noted.
            let _damaged = fs::remove_file(&note);
            let _best_effort = symlink(size.to_string(), note);
        }
        size
    })
}

fn tree_size(path: &Path) -> u64 {
    measure(path, &mut true)
}

/// Bytes of all files below a path on one device, each inode once; what cannot be looked at counts nothing, and `whole`
/// is false then.
fn measure(path: &Path, whole: &mut bool) -> u64 {
    let device = fs::symlink_metadata(path).map(|seen| seen.dev()).unwrap_or_default();
    Measure { device, whole, seen: HashSet::new() }.path(path)
}

struct Measure<'a> {
    device: u64,
    whole: &'a mut bool,
    /// Inodes with several names.
    seen: HashSet<u64>,
}

impl Measure<'_> {
    fn path(&mut self, path: &Path) -> u64 {
        let Ok(seen) = fs::symlink_metadata(path) else {
            *self.whole = false;
            return 0;
        };
        // A mounted tree is no part of the store.
        if seen.dev() != self.device {
            return 0;
        }
        if !seen.is_dir() {
            let counts = seen.is_file() && (seen.nlink() < 2 || self.seen.insert(seen.ino()));
            // Holes take no space.
            return if counts { seen.len().min(seen.blocks() * 512) } else { 0 };
        }
        let Ok(inside) = fs::read_dir(path) else {
            *self.whole = false;
            return 0;
        };
        inside.flatten().map(|entry| self.path(&entry.path())).sum()
    }
}

/// Names and what they are; what vanishes meanwhile is left out.
fn entries(dir: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let list = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list?,
    };
    let mut found = Vec::new();
    for entry in list {
        let entry = entry?;
        if let Ok(seen) = entry.metadata() {
            found.push((entry.file_name().to_string_lossy().into_owned(), seen));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// When something was written or used last.
pub(super) fn last_use(seen: &Metadata) -> Time {
    modified(seen).max((seen.atime(), seen.atime_nsec()))
}

pub(super) fn modified(seen: &Metadata) -> Time {
    (seen.mtime(), seen.mtime_nsec())
}

/// When a snapshot was used last.
pub(super) fn used(snapshot: &Described) -> Time {
    (snapshot.used.0, snapshot.used.1.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `files.recent` counted as half written, since a name begins so while a file is being written; `prune` removed it,
    /// and the next build read its context again. Found by reading.
    #[test]
    fn remembered_digests_of_files_are_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for name in ["files", "files.7", "files.recent", "files.recent.7"] {
            fs::write(store.sub("cache").join(name), "x").unwrap();
        }
        let found = objects(&store).unwrap().into_iter().map(|object| (object.kind, object.path));
        let left = |path: &str| (Kind::Leftover, PathBuf::from(path));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [left("cache/files.7"), left("cache/files.recent.7")]
        );
    }
}
