//! Reading indexes: all finished ones when the first block is looked for, and then what is new.

use super::index::{HIDDEN, LINE, LIVE, RECORD, Record, read_line};
use super::table::{Place, Source};
use super::{Blocks, Hash};
use crate::layers::times::is_past;
use crate::sys::fs;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

/// Most finished indexes that are read at once, the newest first.
const INDEXES: usize = 64;

/// Most bytes that are read of an index at once.
const MOST: u64 = 4 << 20;

/// Most blobs of others that are read while they grow.
const GROWING: usize = 32;

/// Longer than the clock of files takes from one tick to the next.
const TICKS: Duration = Duration::from_millis(50);

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Names of indexes that were looked at.
    seen: HashSet<Vec<u8>>,
    growing: Vec<Growing>,
    /// Of the directory when it was listed: seconds and nanoseconds.
    listed: Option<(i64, u32)>,
}

/// An index that somebody writes.
#[derive(Debug)]
struct Growing {
    name: Vec<u8>,
    index: File,
    source: Arc<Source>,
    /// Bytes of the index that were read, and those of the blob that they tell of.
    read: u64,
    at: u64,
}

impl Reader {
    /// An index of which this process knows all.
    pub(super) fn has_seen(&mut self, name: &str) {
        self.seen.insert(name.as_bytes().to_vec());
    }

    /// Reads what is new.
    pub(super) fn refresh(&mut self, blocks: &Blocks) {
        let Ok(found) = fs::fstat(&blocks.dir) else { return };
        if self.listed != Some(found.mtime) {
            // What comes within the same tick of the clock does not show.
            let is_old = is_past(found.mtime, TICKS);
            let is_complete = self.list(blocks);
            self.listed = Some(found.mtime).filter(|_| is_complete && is_old);
        }
        self.growing.retain_mut(|growing| growing.follow(blocks));
    }

    /// False when there is an index that cannot be read yet.
    fn list(&mut self, blocks: &Blocks) -> bool {
        let (mut finished, mut is_complete) = (Vec::new(), true);
        if blocks.table().is_full() {
            blocks.table().forget_closed();
        }
        for name in fs::list(&blocks.dir).unwrap_or_default() {
            if self.seen.contains(&name) || name.starts_with(HIDDEN.as_bytes()) {
                continue;
            }
            if !name.starts_with(LIVE.as_bytes()) {
                let time = fs::lstat(&blocks.dir, &name).map(|found| found.mtime);
                self.seen.insert(name.clone());
                finished.push((time.unwrap_or_default(), name));
            } else if let Some(growing) =
                Growing::open(blocks, &name).filter(|_| self.growing.len() < GROWING)
            {
                self.seen.insert(name);
                self.growing.push(growing);
            } else {
                is_complete = false;
            }
        }
        finished.sort_unstable_by(|a, b| b.cmp(a));
        for (_, name) in finished.into_iter().take(INDEXES) {
            if blocks.table().is_full() {
                break;
            }
            // One that cannot be read tells nothing.
            let _unknown = read(blocks, &name);
        }
        is_complete
    }
}

/// Reads a finished index.
fn read(blocks: &Blocks, name: &[u8]) -> Option<()> {
    let mut bytes = Vec::new();
    fs::open_read(&blocks.dir, name).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    let (data, start) = read_line(&bytes, blocks.level)?;
    let (found, _, _) = places(&Source::named(data), 0, &bytes[start..]);
    blocks.table().learn(found, true);
    Some(())
}

/// Places of blocks that begin there, where the next one would, and whether all records are what was written.
pub(super) fn places(
    source: &Arc<Source>,
    mut at: u64,
    bytes: &[u8],
) -> (Vec<(Hash, Place)>, u64, bool) {
    let mut found = Vec::new();
    for bytes in bytes.as_chunks::<RECORD>().0 {
        let Some(record) = Record::read(bytes) else { return (found, at, false) };
        if record.is_named() {
            found.push((record.content, Place::new(source, at, &record)));
        }
        at += u64::from(record.length);
    }
    (found, at, true)
}

impl Growing {
    fn open(blocks: &Blocks, name: &[u8]) -> Option<Self> {
        let index = fs::open_read(&blocks.dir, name).ok()?;
        let mut bytes = [0; LINE];
        let count = index.read_at(&mut bytes, 0).ok()?;
        let (data, read) = read_line(&bytes[..count], blocks.level)?;
        // Opened when it is needed: one that is open would keep its space when it is gone.
        let source = Source::named(data);
        Some(Self { name: name.to_vec(), index, source, read: read as u64, at: 0 })
    }

    /// Reads on; false when nobody writes any more.
    fn follow(&mut self, blocks: &Blocks) -> bool {
        let is_left = self.index.try_lock_shared().is_ok();
        let is_gone = self.index.metadata().map_or(true, |found| found.nlink() == 0);
        if !is_left && !is_gone && self.go_on(blocks).is_some() {
            return true;
        }
        // Its blob has a name by now, and an index of its own, or is nobody's.
        self.source.close();
        if is_left && !is_gone {
            // Its process was killed.
            let _gone = fs::unlink(&blocks.dir, &self.name);
        }
        false
    }

    /// `None` where it cannot be read, or a record is not what was written.
    fn go_on(&mut self, blocks: &Blocks) -> Option<()> {
        let found = self.index.metadata().ok()?;
        let length = found.len().saturating_sub(self.read).min(MOST) as usize;
        let mut bytes = vec![0; length - length % RECORD];
        self.index.read_exact_at(&mut bytes, self.read).ok()?;
        let (found, at, all) = places(&self.source, self.at, &bytes);
        (self.at, self.read) = (at, self.read + bytes.len() as u64);
        blocks.table().learn(found, false);
        all.then_some(())
    }
}
