//! Long stacks, kept short: every so many snapshots are united into one directory of hard links.
//!
//! It lies beside the tree of the topmost of them, as `union-<how many>/{fs,meta,owners}`, is found there by later
//! builds, and goes with that snapshot. Which ones are united depends on their depth alone, so builds that share a stack
//! share its unions. Each file is linked once for each of [`LEVELS`].
//!
//! A link changes the time of an inode's last change, which a RUN can see (`tar` takes the file for one that changes
//! while it reads). So nothing is united that a step works on: a draft holds a shared lock (`flock`) on the lowest
//! snapshot of each part that may still be united, in this process or another, and who unites takes an exclusive one, or
//! leaves it for later.

use super::stack::{Lower, LowerKind};
use super::{Meta, Snapshot, Snapshots, environment, random_id, records};
use crate::error::Result;
use crate::layers::unite::unite;
use crate::sys::fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError};

/// How many snapshots the smallest union stands for. Images that Docker can run have at most 127 layers.
pub(super) const UNITED: usize = 64;

/// How many unions of one level the next one stands for.
const FACTOR: usize = 16;

/// Levels of unions.
const LEVELS: u32 = 3;

/// Several snapshots as one directory.
#[derive(Debug)]
pub(super) struct Union {
    pub(super) dir: OwnedFd,
    /// What it stands on.
    pub(super) below: Option<Arc<Snapshot>>,
    /// How many it stands for.
    pub(super) span: usize,
}

impl Snapshot {
    /// The union of this snapshot and some below it, when there is one.
    pub(super) fn union(&self) -> Option<&Union> {
        self.union.get().and_then(Option::as_ref)
    }
}

/// The lowest of `span` snapshots.
fn lowest(top: &Arc<Snapshot>, span: usize) -> &Arc<Snapshot> {
    let mut lowest = top;
    for _ in 1..span {
        lowest = lowest.parent.as_ref().unwrap_or(lowest);
    }
    lowest
}

impl Snapshots {
    /// The next `count` snapshots of a stack, with unions in the place of those that have one.
    pub(super) fn parts(&self, top: Option<&Arc<Snapshot>>, count: usize) -> Vec<Lower> {
        let mut list: Vec<Lower> = Vec::new();
        let (mut next, mut done) = (top.cloned(), 0);
        while let Some(snapshot) = next.filter(|_| done < count) {
            self.find_union(&snapshot);
            let kind = match snapshot.union() {
                Some(union) if union.span <= count - done => LowerKind::United,
                _ => LowerKind::Own,
            };
            let lower = Lower { top: snapshot, kind };
            next = lower.below().cloned();
            done += lower.span();
            list.push(lower);
        }
        list
    }

    /// How many snapshots unions stand for, the largest first.
    fn sizes(&self) -> impl Iterator<Item = usize> {
        (0..LEVELS).rev().map(|level| self.united * FACTOR.pow(level))
    }

    /// Looks for the union of a snapshot, and makes it where there is none and no step works on what it is made of.
    fn find_union(&self, top: &Arc<Snapshot>) {
        if top.union.get().is_some() {
            return;
        }
        for span in self.sizes().filter(|size| top.depth.is_multiple_of(*size)) {
            let found = match self.known_union(top, span) {
                Some(union) => Some(union),
                None => match self.make_union(top, span) {
                    // It is made another time.
                    Ok(None) => continue,
                    Ok(made) => made,
                    // Links are refused, or the disk is full: without it everything is merely slower. Not again for each step.
                    Err(_refused) => None,
                },
            };
            let _other_thread_was_first = top.union.set(found);
            return;
        }
    }

    /// The union that is there.
    fn known_union(&self, top: &Arc<Snapshot>, span: usize) -> Option<Union> {
        let own = fs::open_dir(&self.dir, &path(top, span)).ok()?;
        if !self.is_usable(&Meta::read(&own)?, &fs::fstat(&own).ok()?) {
            return None;
        }
        records::learn(&own);
        let dir = fs::open_dir(&own, b"fs").ok()?;
        Some(Union { dir, below: lowest(top, span).parent.clone(), span })
    }

    /// Makes the union of a snapshot and those below it; `None` while a step works on them.
    fn make_union(&self, top: &Arc<Snapshot>, span: usize) -> Result<Option<Union>> {
        let lowest = lowest(top, span).id.as_bytes();
        let guard = environment(fs::open_dir(&self.dir, lowest), "open a snapshot")?;
        if !lock(&guard, FlockOperation::NonBlockingLockExclusive) {
            return Ok(None);
        }
        // Somebody may have been first.
        if let Some(union) = self.known_union(top, span) {
            return Ok(Some(union));
        }
        let parts = self.parts(top.parent.as_ref(), span - 1);
        let sources: Vec<BorrowedFd<'_>> =
            std::iter::once(top.fs.as_fd()).chain(parts.iter().map(Lower::dir)).collect();
        let name = random_id();
        let place = path(top, span);
        let made = self.write_union((&name, &place), &sources, top.depth == span);
        if made.is_err() {
            let _prune_takes_it = fs::remove_tree(&self.dir, name.as_bytes());
        }
        made.map(|()| self.known_union(top, span))
    }

    fn write_union(
        &self,
        (name, place): (&str, &[u8]),
        sources: &[BorrowedFd<'_>],
        lowest: bool,
    ) -> Result<()> {
        let opened = (|| {
            let own = self.make_directory(name)?;
            fs::mkdir(&own, b"fs", 0o700)?;
            let tree = fs::open_dir(&own, b"fs")?;
            Ok((own, tree))
        })();
        let (own, tree) = environment(opened, "make a union")?;
        unite(sources, tree.as_fd(), self.xattr_flavour(), lowest)?;
        records::keep(&own)?;
        // What another boot left there, or a process that was killed.
        let moved = fs::remove_tree(&self.dir, place)
            .and_then(|()| fs::rename(&self.dir, name.as_bytes(), &self.dir, place));
        environment(moved, "keep a union")?;
        let meta = Meta {
            parent: None,
            flavour: self.flavour.clone(),
            boot: self.boot.clone(),
            placeholders: false,
        };
        // Last: with it the union counts.
        meta.write(&own)?;
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.push(String::from_utf8_lossy(place).into_owned());
        Ok(())
    }

    /// Locks that keep what a step works on from being united meanwhile.
    pub(super) fn hold(&self, parent: Option<&Arc<Snapshot>>) -> Vec<OwnedFd> {
        let mut held = Vec::new();
        for lower in self.parts(parent, usize::MAX) {
            let bottom = lower.top.depth - lower.span();
            let mut larger = self.sizes().filter(|size| *size > lower.span());
            if larger.any(|size| bottom.is_multiple_of(size)) {
                let lowest = lowest(&lower.top, lower.span()).id.as_bytes();
                let guard = fs::open_dir(&self.dir, lowest).ok();
                // Where nothing can be locked nothing can be united either.
                held.extend(guard.filter(|guard| lock(guard, FlockOperation::LockShared)));
            }
        }
        held
    }
}

/// Where the union of a snapshot and those below it is, from `snapshots`.
fn path(top: &Snapshot, span: usize) -> Vec<u8> {
    format!("{}/union-{span}", top.id).into_bytes()
}

fn lock(file: &OwnedFd, how: FlockOperation) -> bool {
    loop {
        match flock(file, how) {
            Err(Errno::INTR) => {}
            result => return result.is_ok(),
        }
    }
}
