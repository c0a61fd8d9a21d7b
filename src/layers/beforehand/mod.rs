//! Packing what a command has written while it still runs.
//!
//! In: the upper directory of a running command; out: packed blocks of its large files, and then of all the others
//! ([`small`]), which the layer finds afterwards ([`super::blocks`]). All of it is a guess: the layer reads every file anew,
//! and takes a packed block only for the same bytes. What changes once more was packed in vain. Links are not followed, and
//! only regular files are opened. A process of its own does it, which may be killed at any moment.

mod small;

pub use small::Manner;

use super::ImagePath;
use super::beneath;
use super::blocks::{Blocks, Spill};
use super::cuts::{BLOCK, LARGE, piece};
use super::times::is_past;
use crate::sys::fs::{self, Kind, Stat};
use rustix::io::Errno;
use small::{Smalls, Sum};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
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

/// The tree of a running command.
#[derive(Debug)]
pub struct Upper {
    root: OwnedFd,
    manner: Manner,
    blocks: Arc<Blocks>,
    spill: Spill,
    /// A file that nobody touched for as long is taken for finished.
    age: Duration,
    /// By inode.
    files: HashMap<u64, Seen>,
    smalls: Smalls,
    pause: fn(),
    written: u64,
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
    /// Nothing is looked at yet. A file that nobody touched for `age` is taken for finished.
    pub fn new(
        root: OwnedFd,
        manner: Manner,
        (blocks, spill): (Arc<Blocks>, Spill),
        age: Duration,
    ) -> Self {
        let (files, smalls) = (HashMap::new(), Smalls::default());
        let pause = || {};
        Self { root, manner, blocks, spill, age, files, smalls, pause, written: 0, over: false }
    }

    /// Looks again and again, until there is too much. `pause` is called before each look and each block, and may wait.
    pub fn watch(mut self, pause: fn()) {
        self.pause = pause;
        while !self.over {
            (self.pause)();
            let took = self.look();
            std::thread::sleep(BETWEEN.max(took * LOOKS));
        }
    }

    /// Looks once and packs what is new. Gives how long the looking took.
    fn look(&mut self) -> Duration {
        let began = Instant::now();
        let Some(found) = self.candidates() else { return began.elapsed() };
        let took = began.elapsed();
        let all = found.iter().all(|candidate| self.pack(candidate).is_some());
        if all && self.smalls.are_due() {
            self.pack_small();
        }
        took
    }

    fn pack_small(&mut self) {
        let began = Instant::now();
        let Ok(root) = self.root.try_clone() else { return };
        let (manner, age) = (self.manner, self.age);
        let packed = small::blocks_of(root.as_fd(), &manner, age, |block| self.keep(block));
        self.smalls.rest(began, packed.is_ok());
    }

    /// Large files of which something is not packed; all else is summed up.
    fn candidates(&mut self) -> Option<Vec<Candidate>> {
        let (mut found, mut names, mut met) = (Vec::new(), 0, HashSet::new());
        let mut dirs = vec![ImagePath::new()];
        let mut sum = Sum::default();
        while let Some(path) = dirs.pop() {
            // A directory may go at any moment.
            let Ok(dir) = beneath::open_dir(self.root.as_fd(), &path) else { continue };
            let Ok(list) = fs::list_opened(&dir) else { continue };
            names += list.len();
            if names > NAMES {
                self.over = true;
                return None;
            }
            for name in (0..list.len()).map(|index| list.get(index)) {
                let Ok(stat) = fs::lstat(&dir, name) else { continue };
                let Ok(path) = beneath::join(&path, name) else { continue };
                let is_large = stat.kind == Kind::File && stat.size >= LARGE;
                if !is_large {
                    sum.add(&stat);
                }
                match stat.kind {
                    Kind::Directory => dirs.push(path),
                    Kind::File if is_large && !is_sparse(&stat) => {
                        let settled = is_past(stat.ctime, self.age);
                        let seen = self.files.get(&stat.ino);
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
        self.files.retain(|inode, _| met.contains(inode));
        self.smalls.found = sum;
        Some(found)
    }

    /// `None` when nothing more is to be packed.
    fn pack(&mut self, candidate: &Candidate) -> Option<()> {
        let stat = &candidate.stat;
        let file = match beneath::open_regular(self.root.as_fd(), &candidate.path) {
            Ok(file) => file,
            // It has another name by now.
            Err(error) if is_elsewhere(error.errno) => return Some(()),
            Err(_) => {
                let seen =
                    Seen { size: stat.size, mtime: stat.mtime, next: stat.size, times: TIMES };
                self.files.insert(stat.ino, seen);
                return Some(());
            }
        };
        let mut seen = self.files.get(&stat.ino).copied().unwrap_or_default();
        if seen.times == 0 || seen.next >= stat.size || seen.size > stat.size {
            seen = Seen { times: seen.times.saturating_add(1), ..Seen::default() };
        }
        (seen.size, seen.mtime) = (stat.size, stat.mtime);
        let mut buffer = Vec::new();
        while let Some(count) = next_piece(&seen, candidate.settled) {
            buffer.resize(count, 0);
            if file.read_exact_at(&mut buffer, seen.next).is_err() {
                // It is shorter now.
                break;
            }
            seen.next += count as u64;
            self.keep(&buffer)?;
        }
        self.files.insert(stat.ino, seen);
        Some(())
    }

    /// `None` when there is too much, or no room.
    fn keep(&mut self, block: &[u8]) -> Option<()> {
        (self.pause)();
        let packed = self.blocks.pack_quietly(block).ok()?;
        if !packed.is_new() {
            return Some(());
        }
        self.written += packed.bytes().len() as u64;
        let most = MOST.min(self.blocks.room().saturating_sub(FREE) / SHARE);
        let written = (self.written <= most).then(|| self.spill.add(&packed).ok()).flatten();
        self.over |= written.is_none();
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
