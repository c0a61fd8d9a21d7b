//! What a planned step stands on: a mounted tree, and the layers above it that are only planned themselves.

use super::bodies::Planned;
use crate::build::stage::Builder;
use crate::build::state::StageState;
use crate::build::tree;
use crate::build::worker::Worker;
use crate::context::resolve::{self, Ground as Resolvable};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::planned::{self, Below, FileId};
use crate::layers::{Entry, EntryKind, ImagePath};
use crate::sys::SysResultExt;
use crate::sys::fs::{Kind, Stat};
use std::cell::RefCell;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The tree below a step.
#[derive(Debug)]
pub(super) struct Ground {
    /// `None` when nothing is below.
    view: Option<OwnedFd>,
    /// The lowest first. None of them has anything but a directory where the tree below has one, or the other way round.
    above: Vec<Arc<Planned>>,
    placeholders: bool,
    /// The last path that the mounted tree did not have. Nothing is below it, which most files of a copy are.
    absent: RefCell<Option<ImagePath>>,
}

impl Builder<'_> {
    /// What a step stands on; nothing at all for one that does not look.
    pub(super) fn ground(
        &self,
        state: &StageState,
        nothing: bool,
        worker: &Worker,
    ) -> Result<Ground> {
        let placeholders = worker.isolation.placeholders();
        if nothing || state.slots.is_empty() {
            return Ok(Ground::new(None, Vec::new(), placeholders));
        }
        let planned = |slot: &super::super::state::Slot| {
            slot.planned.as_ref().filter(|planned| !planned.independent).map(Arc::clone)
        };
        let mut above: Vec<_> = state.slots.iter().rev().map_while(planned).collect();
        above.reverse();
        let slots = state.slots[..state.slots.len() - above.len()].to_vec();
        let view = if slots.is_empty() {
            None
        } else {
            Some(tree::view(self.store, &state.on(slots), worker)?)
        };
        Ok(Ground::new(view, above, placeholders))
    }
}

impl Ground {
    fn new(view: Option<OwnedFd>, above: Vec<Arc<Planned>>, placeholders: bool) -> Self {
        Self { view, above, placeholders, absent: RefCell::default() }
    }

    /// True when a planned layer has one of these paths, or may have what one of them leads to.
    pub(super) fn changes(&self, paths: &[&[u8]]) -> Result<bool> {
        if self.above.is_empty() {
            return Ok(false);
        }
        for path in paths {
            // An unchanged parent of something else is in a layer too.
            let is_dir = |entry: &Entry| entry.kind == EntryKind::Directory;
            let planned = self.planned(path);
            let changed = planned.is_some_and(|(layer, at)| !is_dir(&layer.plan.entry(at)));
            let is_link = |entry: Entry| matches!(entry.kind, EntryKind::Symlink { .. });
            if changed || self.look(path)?.is_some_and(|(entry, _)| is_link(entry)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The files of the mounted tree.
    pub(super) fn files(&self) -> Result<OwnedFd> {
        let Some(view) = &self.view else {
            let empty = tempfile::tempdir()
                .or_error(ErrorKind::Environment, || "cannot make a directory".to_owned())?;
            return crate::sys::fs::open_dir_path(empty.path())
                .or_error(ErrorKind::Environment, || "cannot open a directory".to_owned());
        };
        view.try_clone().or_error(ErrorKind::Environment, || "cannot copy a descriptor".to_owned())
    }

    /// What is at a path whose parents are directories; no link is followed.
    pub(super) fn look(&self, path: &[u8]) -> Result<Option<(Entry, Option<FileId>)>> {
        if let Some((layer, at)) = self.planned(path) {
            return Ok(Some((layer.plan.entry(at), None)));
        }
        let Some(view) = &self.view else { return Ok(None) };
        if self.absent.borrow().as_deref().is_some_and(|absent| is_at_or_below(path, absent)) {
            return Ok(None);
        }
        let found = planned::entry_of(view.as_fd(), path, self.placeholders)?;
        if found.is_none() {
            self.absent.replace(Some(path.to_vec()));
        }
        Ok(found.map(|(entry, file)| (entry, Some(file))))
    }

    /// The topmost planned layer that has a path, and where.
    fn planned(&self, path: &[u8]) -> Option<(&Planned, usize)> {
        self.above.iter().rev().find_map(|layer| Some((&**layer, layer.plan.find(path)?)))
    }
}

impl Below for Ground {
    fn entry(&self, path: &[u8]) -> Result<Option<(Entry, Option<FileId>)>> {
        self.look(path)
    }

    fn open(&self, path: &[u8]) -> Result<File> {
        if let Some((layer, at)) = self.planned(path) {
            return layer.open(at);
        }
        let view = self.view.as_ref().ok_or_else(|| Error::internal("a file of no tree"))?;
        planned::open_file(view.as_fd(), path)
            .or_error(ErrorKind::Environment, || "cannot read a file of the base".to_owned())
    }
}

impl Resolvable for &Ground {
    fn look(&self, path: &[u8]) -> Result<Option<Stat>> {
        if path.is_empty() {
            return Ok(Some(stat_of(Kind::Directory)));
        }
        let found = Ground::look(self, path)?;
        Ok(found.map(|(entry, _)| {
            stat_of(match entry.kind {
                EntryKind::Directory => Kind::Directory,
                EntryKind::Symlink { .. } => Kind::Symlink,
                _ => Kind::File,
            })
        }))
    }

    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        match Ground::look(self, path)? {
            Some((Entry { kind: EntryKind::Symlink { target }, .. }, _)) => Ok(target),
            _ => Err(Error::internal("a link was looked at that is none")),
        }
    }
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Only the kind is looked at.
fn stat_of(kind: Kind) -> Stat {
    Stat {
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (0, 0),
        ctime: (0, 0),
        dev: 0,
        ino: 0,
        nlink: 1,
        rdev: (0, 0),
        blocks: 0,
    }
}

/// Where a destination leads, all links followed.
pub(super) fn resolve_in(ground: &Ground, path: &[u8]) -> Result<Vec<u8>> {
    resolve::resolve_in(&ground, path).map(|found| found.path)
}
