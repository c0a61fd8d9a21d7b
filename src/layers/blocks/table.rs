//! What is known of packed blocks, by the digest of their content: read out of all indexes when the first block is looked
//! for, and again when there is something new.

use super::Hash;
use super::index::{LINE, LIVE, RECORD, Record, read_line};
use crate::sys::fs;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, PoisonError};

/// Most finished indexes that are read, the newest first.
const INDEXES: usize = 64;

/// Most blocks that are known, some 100 bytes each.
const BLOCKS: usize = 1 << 16;

/// Most bytes of an index that are read.
const MOST: u64 = (BLOCKS * RECORD + LINE) as u64;

/// Most blobs of others that are read while they grow.
const GROWING: usize = 32;

/// A blob or what becomes one.
#[derive(Debug)]
pub(super) struct Source(Mutex<State>);

#[derive(Debug)]
enum State {
    Open(Arc<File>),
    /// A finished blob is opened when it is needed.
    Named(String),
    Closed,
}

impl Source {
    pub(super) fn open(file: File) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Open(Arc::new(file)))))
    }

    fn named(name: String) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Named(name))))
    }

    /// The file has another name, by which it can be opened.
    pub(super) fn is_now(&self, name: &str) {
        self.set(State::Named(name.to_owned()));
    }

    pub(super) fn close(&self) {
        self.set(State::Closed);
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn file(&self, blobs: &OwnedFd) -> Option<Arc<File>> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open(file) => Some(Arc::clone(file)),
            State::Named(name) => fs::open_read(blobs, name.as_bytes()).ok().map(Arc::new),
            State::Closed => None,
        }
    }
}

/// Where packed bytes are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    source: Arc<Source>,
    at: u64,
    length: u32,
    sum: u32,
}

impl Place {
    fn new(source: &Arc<Source>, at: u64, record: &Record) -> Self {
        Self { source: Arc::clone(source), at, length: record.length, sum: record.sum }
    }

    /// CRC-32 of the packed bytes.
    pub(super) fn sum(&self) -> u32 {
        self.sum
    }

    /// The packed bytes; `None` when they cannot be read, or are others.
    pub(super) fn read(&self, blobs: &OwnedFd) -> Option<Vec<u8>> {
        let file = self.source.file(blobs)?;
        // A length that lies makes no larger buffer than the file is.
        if file.metadata().ok()?.len() < self.at.checked_add(u64::from(self.length))? {
            return None;
        }
        let mut bytes = vec![0; self.length as usize];
        file.read_exact_at(&mut bytes, self.at).ok()?;
        (libdeflater::crc32(&bytes) == self.sum).then_some(bytes)
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: HashMap<Hash, Place>,
    /// Names of indexes that were looked at.
    seen: HashSet<Vec<u8>>,
    growing: Vec<Growing>,
    /// Of the directory when it was listed: seconds and nanoseconds.
    listed: Option<(i64, u32)>,
}

/// An index that somebody writes.
#[derive(Debug)]
struct Growing {
    index: File,
    source: Arc<Source>,
    /// Bytes of the index that were read, and those of the blob that they tell of.
    read: u64,
    at: u64,
}

impl Table {
    pub(super) fn place(&self, content: &Hash) -> Option<Place> {
        self.places.get(content).cloned()
    }

    pub(super) fn forget(&mut self, content: &Hash) {
        self.places.remove(content);
    }

    /// An index of which this process knows all.
    pub(super) fn has_seen(&mut self, name: &str) {
        self.seen.insert(name.as_bytes().to_vec());
    }

    /// What this process wrote itself is where it was written last.
    pub(super) fn add(&mut self, source: &Arc<Source>, at: u64, record: &Record) {
        if self.places.len() < 2 * BLOCKS || self.places.contains_key(&record.content) {
            self.places.insert(record.content, Place::new(source, at, record));
        }
    }

    /// Reads what is new.
    pub(super) fn refresh(&mut self, dir: &OwnedFd, blobs: &OwnedFd, level: u8) {
        let Ok(found) = fs::fstat(dir) else { return };
        if self.listed != Some(found.mtime) {
            self.listed = Some(found.mtime);
            self.list(dir, blobs, level);
        }
        let mut growing = std::mem::take(&mut self.growing);
        growing.retain_mut(|growing| self.follow(growing));
        self.growing = growing;
    }

    fn list(&mut self, dir: &OwnedFd, blobs: &OwnedFd, level: u8) {
        let mut finished = Vec::new();
        for name in fs::list(dir).unwrap_or_default() {
            if !self.seen.insert(name.clone()) {
                continue;
            }
            if !name.starts_with(LIVE.as_bytes()) {
                finished.push((
                    fs::lstat(dir, &name).map(|found| found.mtime).unwrap_or_default(),
                    name,
                ));
            } else if self.growing.len() < GROWING {
                self.growing.extend(Growing::open((dir, &name), blobs, level));
            }
        }
        finished.sort_unstable_by(|a, b| b.cmp(a));
        for (_, name) in finished.into_iter().take(INDEXES) {
            // One that cannot be read tells nothing.
            let _unknown = self.read(dir, &name, level);
        }
    }

    /// Reads a finished index.
    fn read(&mut self, dir: &OwnedFd, name: &[u8], level: u8) -> Option<()> {
        let mut bytes = Vec::new();
        fs::open_read(dir, name).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        let (data, start) = read_line(&bytes, level)?;
        self.records(&Source::named(data), 0, &bytes[start..]);
        Some(())
    }

    /// Reads on; false when nobody writes any more.
    fn follow(&mut self, growing: &mut Growing) -> bool {
        let Ok(found) = growing.index.metadata() else { return false };
        let length = found.len().saturating_sub(growing.read).min(MOST) as usize;
        let mut bytes = vec![0; length - length % RECORD];
        if growing.index.read_exact_at(&mut bytes, growing.read).is_err() {
            return false;
        }
        growing.at = self.records(&growing.source, growing.at, &bytes);
        growing.read += bytes.len() as u64;
        found.nlink() > 0
    }

    /// Takes records of blocks that begin there; gives where the next one would.
    fn records(&mut self, source: &Arc<Source>, mut at: u64, bytes: &[u8]) -> u64 {
        for bytes in bytes.as_chunks::<RECORD>().0 {
            let Some(record) = Record::read(bytes) else { break };
            if record.is_named() && self.places.len() < BLOCKS {
                let place = || Place::new(source, at, &record);
                self.places.entry(record.content).or_insert_with(place);
            }
            at += u64::from(record.length);
        }
        at
    }
}

impl Growing {
    fn open((dir, name): (&OwnedFd, &[u8]), blobs: &OwnedFd, level: u8) -> Option<Self> {
        let index = fs::open_read(dir, name).ok()?;
        let mut bytes = [0; LINE];
        let count = index.read_at(&mut bytes, 0).ok()?;
        let (data, read) = read_line(&bytes[..count], level)?;
        let source = Source::open(fs::open_read(blobs, data.as_bytes()).ok()?);
        Some(Self { index, source, read: read as u64, at: 0 })
    }
}
