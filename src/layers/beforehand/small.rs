//! Small files: the tar of all that a command has made so far, of which the layer will have most blocks too.
//!
//! A file that changes, comes or goes afterwards costs the block that it is in ([`super::super::cuts`]). What lies below the
//! command's tree is not looked at: a directory that only leads to what is new, and what is gone, cost theirs too.

use super::super::cuts::{Cuts, LARGE};
use super::super::diff::{DiffOptions, diff_overlay};
use super::super::tar_write::{write_stream, zeros};
use super::super::times::{TimePolicy, is_past};
use super::super::{Change, ChangeKind, beneath, blocks};
use super::BETWEEN;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::sys::fs::{self, Kind, Stat};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Fewer bytes are not worth it.
const WORTH_IT: u64 = 2 << 20;

/// Between two times there is at least this, and several times what one takes.
const REST: Duration = Duration::from_secs(1);
const RESTS: u32 = 4;

/// How the layer will be made of what is there.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How the tree is read.
    pub options: DiffOptions,
    /// Its times.
    pub times: TimePolicy,
}

/// What a look found of small files, and what there was when they were packed.
#[derive(Debug, Default)]
pub(super) struct Smalls {
    pub(super) found: Sum,
    packed: Sum,
    due: Option<Instant>,
}

/// All of a tree but large files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    bytes: u64,
    names: u64,
    newest: (i64, u32),
}

impl Sum {
    pub(super) fn add(&mut self, stat: &Stat) {
        self.bytes += if stat.kind == Kind::File { stat.size } else { 0 };
        self.names += 1;
        self.newest = self.newest.max(stat.ctime);
    }
}

impl Smalls {
    /// Whether it is worth it, and time.
    pub(super) fn are_due(&self) -> bool {
        self.found.bytes >= WORTH_IT
            && self.found != self.packed
            && self.due.is_none_or(|due| due <= Instant::now())
    }

    #[cfg(test)]
    pub(super) fn forget_rest(&mut self) {
        self.due = None;
    }

    /// They were packed since then, or could not be.
    pub(super) fn rest(&mut self, since: Instant, packed: bool) {
        if packed {
            self.packed = self.found;
        }
        let rest = if packed { REST } else { BETWEEN };
        self.due = Some(Instant::now() + rest.max(since.elapsed() * RESTS));
    }
}

/// Gives the blocks of a tree that are not of a large file, and in which nothing is younger than `age`, until it is told to
/// stop. Fails when somebody changes the tree meanwhile.
pub(super) fn blocks_of(
    root: BorrowedFd<'_>,
    manner: &Manner,
    age: Duration,
    keep: impl FnMut(&[u8]) -> Option<()>,
) -> Result<()> {
    let changes = diff_overlay(root, None, &manner.options, &manner.times)?;
    let passing = Cell::new(Passing::Settled);
    let mut small =
        Small { cuts: Cuts::of_tar(), block: Vec::new(), passing: &passing, vain: false, keep };
    let mut buffer = vec![0; LARGE as usize];
    let mut body = |path: &[u8], size: u64, out: &mut dyn Write| {
        let settled =
            (size < LARGE).then(|| settled(root, path, &mut buffer[..size as usize], age));
        passing.set(match settled {
            None => Passing::Large,
            Some(false) => Passing::Unsettled,
            Some(true) => Passing::Settled,
        });
        let done = match settled {
            Some(true) => out.write_all(&buffer[..size as usize]),
            _ => zeros(size, out),
        };
        passing.set(Passing::Settled);
        done.or_error(ErrorKind::Environment, stopped)
    };
    let changes = changes.iter().inspect(|change| passing.set(Passing::of(change, age)));
    write_stream(changes, &mut body, &manner.times, &mut small)?;
    small.end().ok_or_else(|| Error::environment(stopped()))
}

fn stopped() -> String {
    "packing was stopped".to_owned()
}

/// What is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    Settled,
    /// Or is no longer what it was.
    Unsettled,
    /// The body of a large file, which is a block or several by itself.
    Large,
}

impl Passing {
    /// What is to be said of a header, of which only the time is known here.
    fn of(change: &Change, age: Duration) -> Self {
        match &change.kind {
            ChangeKind::Present(entry) if !is_past(entry.mtime, age) => Self::Unsettled,
            _ => Self::Settled,
        }
    }
}

/// Reads a file that has as many bytes and has been left alone for a while; false for any other.
pub(super) fn settled(root: BorrowedFd<'_>, path: &[u8], buffer: &mut [u8], age: Duration) -> bool {
    let Ok(mut file): Result<File, _> = beneath::open_regular(root, path) else { return false };
    let is_old = |stat: Stat| stat.size == buffer.len() as u64 && is_past(stat.ctime, age);
    fs::fstat(&file).is_ok_and(is_old) && file.read_exact(buffer).is_ok()
}

/// Takes a tar apart.
struct Small<'a, K> {
    cuts: Cuts,
    block: Vec<u8>,
    passing: &'a Cell<Passing>,
    /// Something in the block will change.
    vain: bool,
    keep: K,
}

impl<K: FnMut(&[u8]) -> Option<()>> Small<'_, K> {
    /// The block is complete.
    fn end(&mut self) -> Option<()> {
        let kept = if !self.vain && blocks::is_worth_looking(&self.block) {
            (self.keep)(&self.block)
        } else {
            Some(())
        };
        self.block.clear();
        self.vain = false;
        kept
    }
}

impl<K: FnMut(&[u8]) -> Option<()>> Write for Small<'_, K> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (count, ends) = self.cuts.take(bytes);
        let passing = self.passing.get();
        if passing != Passing::Large {
            self.block.extend_from_slice(&bytes[..count]);
            self.vain |= passing == Passing::Unsettled;
        }
        if ends {
            self.end().ok_or_else(|| io::Error::other(stopped()))?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
