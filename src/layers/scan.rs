//! Trees without an overlay: the record of a tree, its change since then, and a whole tree as changes.
//!
//! A [`Tree`] is taken before a step. Afterwards every path with the same inode and ctime is the same (ctime cannot be
//! set back); the rest is compared in metadata and, by SHA-256, in content. The stream is the one that
//! [`super::diff::diff_overlay`] would give.

use super::beneath::{self, join, shown};
use super::diff::{DiffOptions, HELD};
use super::node::{Node, content_hash};
use super::settle::{Found, Gathered};
use super::times::TimePolicy;
use super::{Changes, Entry, EntryKind, ImagePath, path_order};
use crate::error::{ErrorKind, Result, ResultExt as _};
use crate::sys::SysResultExt as _;
use crate::sys::fs::{self, Kind, Names, Stat};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Record of a tree at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// In path order.
    paths: Vec<Recorded>,
}

#[derive(Clone, Debug)]
struct Recorded {
    path: ImagePath,
    node: Node,
    /// SHA-256 of a regular file.
    content: Option<[u8; 32]>,
}

impl Tree {
    /// Number of paths.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// True when only the root is there.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// Records a tree that a step is about to change. Reads every file once.
pub fn record_tree(root: BorrowedFd<'_>) -> Result<Tree> {
    record_again(root, &Tree::default())
}

/// Records a tree again, reading only what changed since `before`.
pub fn record_again(root: BorrowedFd<'_>, before: &Tree) -> Result<Tree> {
    let mut paths = Vec::new();
    let mut old = before.paths.iter().peekable();
    walk(root, &mut |seen| {
        while old.next_if(|old| is_before(old, &seen)).is_some() {}
        if let Some(old) = old.next_if(|old| old.path == seen.path)
            && untouched(&old.node.stat, &seen.stat)
        {
            paths.push(old.clone());
            return Ok(());
        }
        let node = seen.node()?;
        let content = match seen.stat.kind {
            Kind::File => Some(seen.content()?),
            _ => None,
        };
        paths.push(Recorded { path: seen.path, node, content });
        Ok(())
    })?;
    wait_for_next_tick(&paths);
    Ok(Tree { paths })
}

/// Changes of the tree since `before` was recorded, for a layer with these times.
pub fn diff_scan(
    before: &Tree,
    root: BorrowedFd<'_>,
    options: &DiffOptions,
    times: &TimePolicy,
) -> Result<Changes> {
    let mut gathered = Gathered::default();
    // Both are in path order.
    let mut old = before.paths.iter().peekable();
    walk(root, &mut |seen| {
        while let Some(gone) = old.next_if(|old| is_before(old, &seen)) {
            vanished(&mut gathered, gone, *options);
        }
        let old = old.next_if(|old| old.path == seen.path);
        let found = compare(seen, old, *options, times)?;
        match old {
            _ if found.entry.is_some() => gathered.push(found),
            Some(gone) => vanished(&mut gathered, gone, *options),
            None => {}
        }
        Ok(())
    })?;
    old.for_each(|gone| vanished(&mut gathered, gone, *options));
    Ok(gathered.settle())
}

fn is_before(old: &Recorded, seen: &Seen<'_>) -> bool {
    path_order(&old.path, &seen.path).is_lt()
}

/// Adds the deletion of a path, unless the directory that held it is gone too.
fn vanished(gathered: &mut Gathered, old: &Recorded, options: DiffOptions) {
    let parent = old.path.iter().rposition(|b| *b == b'/').map(|at| &old.path[..at]);
    if parent.is_none_or(|parent| gathered.has_dir(parent))
        && old.node.entry(options.placeholders).is_some()
    {
        gathered.push(Found::deleted(old.path.clone()));
    }
}

/// A whole tree, each path present.
pub fn read_tree(root: BorrowedFd<'_>, options: &DiffOptions) -> Result<Changes> {
    read_tree_without(root, options, b"", &mut Vec::new())
}

/// The same without the path `without` and all below it, which nobody looks at; nothing is left out for an empty one. Paths
/// of what no layer can hold (sockets, overlayfs's mark of a deletion) are added to `left_out`.
pub fn read_tree_without(
    root: BorrowedFd<'_>,
    options: &DiffOptions,
    without: &[u8],
    left_out: &mut Vec<ImagePath>,
) -> Result<Changes> {
    let mut gathered = Gathered::default();
    walk_without(root, without, &mut |seen| {
        let node = seen.node()?;
        match node.entry(options.placeholders) {
            Some(entry) => gathered.push(item(seen.path, &node, Some(entry))),
            None => left_out.push(seen.path),
        }
        Ok(())
    })?;
    Ok(gathered.settle())
}

fn item(path: ImagePath, node: &Node, entry: Option<Entry>) -> Found {
    let shared = !node.stat.is_dir() && node.stat.nlink > 1;
    Found { path, entry, changed: true, shared: shared.then(|| node.inode()), lower: None }
}

fn compare(
    seen: Seen<'_>,
    old: Option<&Recorded>,
    options: DiffOptions,
    times: &TimePolicy,
) -> Result<Found> {
    let Some(old) = old else {
        let node = seen.node()?;
        let entry = node.entry(options.placeholders);
        return Ok(item(seen.path, &node, entry));
    };
    let old_entry = old.node.entry(options.placeholders);
    let lower = Some(old.node.inode());
    if untouched(&old.node.stat, &seen.stat) {
        // The link count belongs to the inode too: no name of it came or went.
        return Ok(Found { changed: false, lower, ..item(seen.path, &old.node, old_entry) });
    }
    let node = seen.node()?;
    let entry = node.entry(options.placeholders);
    let mut changed = match (&entry, &old_entry) {
        (Some(new), Some(old)) => !new.is_same(old, times),
        (new, old) => new != old,
    };
    if !changed && matches!(&entry, Some(Entry { kind: EntryKind::File { .. }, .. })) {
        changed = old.content != Some(seen.content()?);
    }
    Ok(Found { changed, lower, ..item(seen.path, &node, entry) })
}

fn untouched(old: &Stat, new: &Stat) -> bool {
    (old.ino, old.dev, old.ctime, old.mtime, old.size, old.kind, old.mode)
        == (new.ino, new.dev, new.ctime, new.mtime, new.size, new.kind, new.mode)
}

/// One path while its directory is open.
struct Seen<'a> {
    dir: &'a OwnedFd,
    name: &'a [u8],
    path: ImagePath,
    stat: Stat,
}

impl Seen<'_> {
    fn node(&self) -> Result<Node> {
        Node::read(self.dir.as_fd(), self.name, self.stat, &self.path)
    }

    fn content(&self) -> Result<[u8; 32]> {
        let message = || format!("cannot read {}", shown(&self.path));
        let file = fs::open_read(self.dir, self.name).or_error(ErrorKind::Environment, message)?;
        content_hash(file).or_error(ErrorKind::Environment, message)
    }
}

/// A directory on the way to where the walk is.
struct Level {
    path: ImagePath,
    names: Names,
    /// The next of them.
    at: usize,
    /// Opened again when it is needed.
    open: Option<OwnedFd>,
}

impl Level {
    fn read(root: BorrowedFd<'_>, path: ImagePath) -> Result<Self> {
        let dir = open(root, &path)?;
        let names = fs::list_opened(&dir)
            .or_error(ErrorKind::Environment, || format!("cannot list {}", shown(&path)))?;
        Ok(Self { path, names, at: 0, open: Some(dir) })
    }
}

fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    beneath::open_dir(root, path)
        .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(path)))
}

/// Visits every path below the root in path order, without recursion and with few directories open.
fn walk(root: BorrowedFd<'_>, visit: &mut dyn FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
    walk_without(root, b"", visit)
}

fn walk_without(
    root: BorrowedFd<'_>,
    without: &[u8],
    visit: &mut dyn FnMut(Seen<'_>) -> Result<()>,
) -> Result<()> {
    let mut levels = vec![Level::read(root, ImagePath::new())?];
    while let (depth, Some(level)) = (levels.len(), levels.last_mut()) {
        if level.at == level.names.len() {
            levels.pop();
            continue;
        }
        let dir = match level.open.take() {
            Some(dir) => dir,
            None => open(root, &level.path)?,
        };
        let dir = level.open.insert(dir);
        let name = level.names.get(level.at);
        level.at += 1;
        let path = join(&level.path, name)?;
        if path == without {
            continue;
        }
        let stat = fs::lstat(&dir, name)
            .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(&path)))?;
        let descend = stat.is_dir().then(|| path.clone());
        visit(Seen { dir, name, path, stat })?;
        if let Some(path) = descend {
            if depth > HELD {
                level.open = None;
            }
            levels.push(Level::read(root, path)?);
        }
    }
    Ok(())
}

/// Kernels before 6.13 stamp times by the timer tick: what changes in the tick of the newest recorded ctime would
/// look untouched. A clock that was set back must not hold us up, so this gives up after a moment.
fn wait_for_next_tick(paths: &[Recorded]) {
    let Some(newest) = paths.iter().map(|recorded| recorded.node.stat.ctime).max() else { return };
    for _ in 0..50 {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        if (now.tv_sec, now.tv_nsec as u32) > newest {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
