//! Packing what a command has written while it still runs.
//!
//! In: the upper directory of a running command; out: packed blocks of its large files, which the layer finds afterwards
//! ([`super::blocks`]). All of it is a guess: the layer reads every file anew, and takes a packed block only for the same
//! bytes. What changes once more was packed in vain. Links are not followed, and only regular files are opened.

use super::ImagePath;
use super::beneath;
use super::blocks::{Blocks, Loan, Spill};
use super::cuts::{BLOCK, LARGE, piece};
use super::times::is_past;
use crate::sys::fs::{self, Kind, Stat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of a file that grows the end is left alone.
const GROWING: u64 = 2 << 20;

/// Between two looks at a tree there is at least this, and several times what a look takes.
const BETWEEN: Duration = Duration::from_millis(200);
const LOOKS: u32 = 5;

/// Trees with more names are not looked at any more.
const NAMES: usize = 100_000;

/// A file is packed so many times at most.
const TIMES: u8 = 2;

/// Most packed bytes of a tree, the share of the free space that they may take, and what stays free for the command.
const MOST: u64 = 1 << 30;
const SHARE: u64 = 8;
const FREE: u64 = 2 << 30;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A command that takes no longer is left alone.
    pub command: Duration,
    /// A file that nobody touched for as long is taken for finished.
    pub file: Duration,
}

/// The tree of a running command.
#[derive(Debug)]
pub struct Upper {
    root: OwnedFd,
    since: Instant,
    stopped: AtomicBool,
    spill: Mutex<Option<Spill>>,
    loan: Mutex<Option<Loan>>,
    look: Mutex<Look>,
}

/// What the thread that looks remembers.
#[derive(Debug, Default)]
struct Look {
    /// By inode.
    files: HashMap<u64, Seen>,
    due: Option<Instant>,
    written: u64,
    /// There is a file for them.
    spills: bool,
    /// There is too much, or no room: never again.
    over: bool,
}

/// How far a file is packed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    size: u64,
    mtime: (i64, u32),
    next: u64,
    times: u8,
}

struct Candidate {
    path: ImagePath,
    stat: Stat,
    settled: bool,
}

impl Upper {
    /// Nothing is looked at yet.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root,
            since: Instant::now(),
            stopped: AtomicBool::new(false),
            spill: Mutex::default(),
            loan: Mutex::default(),
            look: Mutex::default(),
        }
    }

    /// The command has ended. What was packed can be found as long as the value lives.
    pub fn end(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Whoever holds it writes one block.
        let spill = self.spill.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(loan) = spill.and_then(Spill::into_loan) {
            *self.loan.lock().unwrap_or_else(PoisonError::into_inner) = Some(loan);
        }
    }

    /// Whether it has been running for as long.
    pub fn is_older(&self, than: Duration) -> bool {
        self.since.elapsed() >= than
    }

    /// Whether the command has ended.
    pub fn is_over(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Looks once and packs what is new, if the command has been running for a while and it is time; `idle` waits until
    /// the machine has nothing better to do, and is false when it has no time at all.
    pub fn look(&self, blocks: &Arc<Blocks>, patience: Patience, idle: &dyn Fn() -> bool) {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let is_due = !look.over && look.due.is_none_or(|due| due <= began);
        if self.is_over() || !is_due || !self.is_older(patience.command) || !idle() {
            return;
        }
        let Some(found) = self.candidates(&mut look, patience.file) else { return };
        let took = began.elapsed();
        for candidate in found {
            if self.is_over() || self.pack(&mut look, blocks, &candidate, idle).is_none() {
                break;
            }
        }
        look.due = Some(Instant::now() + BETWEEN.max(took * LOOKS));
    }

    /// Large files of which something is not packed.
    fn candidates(&self, look: &mut Look, age: Duration) -> Option<Vec<Candidate>> {
        let (mut found, mut names, mut met) = (Vec::new(), 0, HashSet::new());
        let mut dirs = vec![ImagePath::new()];
        while let Some(path) = dirs.pop() {
            // A directory may go at any moment.
            let Ok(dir) = beneath::open_dir(self.root.as_fd(), &path) else { continue };
            let Ok(list) = fs::list_opened(&dir) else { continue };
            names += list.len();
            look.over |= names > NAMES;
            if look.over || self.is_over() {
                return None;
            }
            for name in (0..list.len()).map(|index| list.get(index)) {
                let Ok(stat) = fs::lstat(&dir, name) else { continue };
                let Ok(path) = beneath::join(&path, name) else { continue };
                match stat.kind {
                    Kind::Directory => dirs.push(path),
                    Kind::File if stat.size >= LARGE && !is_sparse(&stat) => {
                        let settled = is_past(stat.ctime, age);
                        let seen = look.files.get(&stat.ino);
                        // Names of one file are met once.
                        if met.insert(stat.ino)
                            && seen.is_none_or(|seen| seen.wants(&stat, settled))
                        {
                            found.push(Candidate { path, stat, settled });
                        }
                    }
                    _ => {}
                }
            }
        }
        look.files.retain(|inode, _| met.contains(inode));
        Some(found)
    }

    /// `None` when nothing more is to be packed.
    fn pack(
        &self,
        look: &mut Look,
        blocks: &Arc<Blocks>,
        candidate: &Candidate,
        idle: &dyn Fn() -> bool,
    ) -> Option<()> {
        let stat = &candidate.stat;
        let file = match beneath::open_regular(self.root.as_fd(), &candidate.path) {
            Ok(file) => file,
            // It has another name by now.
            Err(error) if is_elsewhere(error.errno) => return Some(()),
            Err(_) => {
                let seen =
                    Seen { size: stat.size, mtime: stat.mtime, next: stat.size, times: TIMES };
                look.files.insert(stat.ino, seen);
                return Some(());
            }
        };
        let mut seen = look.files.get(&stat.ino).copied().unwrap_or_default();
        if seen.times == 0 || seen.next >= stat.size || seen.size > stat.size {
            seen = Seen { times: seen.times.saturating_add(1), ..Seen::default() };
        }
        (seen.size, seen.mtime) = (stat.size, stat.mtime);
        let mut buffer = Vec::new();
        while let Some(count) = next_piece(&seen, candidate.settled) {
            if self.is_over() || !idle() {
                return None;
            }
            buffer.resize(count, 0);
            if file.read_exact_at(&mut buffer, seen.next).is_err() {
                // It is shorter now.
                break;
            }
            seen.next += count as u64;
            self.keep(look, blocks, &buffer)?;
        }
        look.files.insert(stat.ino, seen);
        Some(())
    }

    fn keep(&self, look: &mut Look, blocks: &Arc<Blocks>, block: &[u8]) -> Option<()> {
        let packed = blocks.pack_quietly(block).ok()?;
        if !packed.is_new() {
            return Some(());
        }
        look.written += packed.bytes().len() as u64;
        let most = MOST.min(blocks.room().saturating_sub(FREE) / SHARE);
        let is_full = look.written > most;
        // Made before anybody can wait for it.
        let fresh = if look.spills || is_full { None } else { blocks.spill().ok() };
        look.spills = true;
        let mut spill = self.spill.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over() {
            // Too late: who ended it has taken what there was.
            return None;
        }
        if fresh.is_some() {
            *spill = fresh;
        }
        let written = spill.as_mut().filter(|_| !is_full).and_then(|spill| spill.add(&packed).ok());
        look.over |= written.is_none();
        written
    }
}

fn is_elsewhere(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

impl Seen {
    /// Whether there is something to pack.
    fn wants(&self, stat: &Stat, settled: bool) -> bool {
        let is_same = (self.size, self.mtime) == (stat.size, stat.mtime);
        if self.next >= self.size && is_same {
            return false;
        }
        settled && self.times < TIMES || stat.size > self.size && stat.size > self.next + GROWING
    }
}

/// Bytes of the next block, when there is one that will stay as it is.
fn next_piece(seen: &Seen, settled: bool) -> Option<usize> {
    let left = seen.size - seen.next;
    let count = piece(left);
    let stays = settled || count == BLOCK as u64 && left >= count + GROWING;
    (left > 0 && stays).then_some(count as usize)
}

fn is_sparse(stat: &Stat) -> bool {
    stat.blocks.saturating_mul(512) < stat.size
}

#[cfg(test)]
mod tests;
