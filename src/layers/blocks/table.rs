//! What is known of packed blocks, by the digest of their content.

use super::Hash;
use super::index::Record;
use crate::sys::fs;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Most blocks of others that are known, some 100 bytes each, and as many of this process.
const BLOCKS: usize = 1 << 16;

/// A blob or what becomes one.
#[derive(Debug)]
pub(super) struct Source(Mutex<State>);

#[derive(Debug)]
enum State {
    Open(Arc<File>),
    /// Opened when it is needed.
    Named(String),
    Closed,
}

impl Source {
    pub(super) fn open(file: File) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Open(Arc::new(file)))))
    }

    pub(super) fn named(name: String) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Named(name))))
    }

    /// The file has another name, by which it can be opened.
    pub(super) fn is_now(&self, name: &str) {
        self.set(State::Named(name.to_owned()));
    }

    /// Nothing more can be read of it.
    pub(super) fn close(&self) {
        self.set(State::Closed);
    }

    fn is_closed(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), State::Closed)
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn file(&self, blobs: &OwnedFd) -> Option<Arc<File>> {
        let name = match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open(file) => return Some(Arc::clone(file)),
            State::Named(name) => name.clone(),
            State::Closed => return None,
        };
        fs::open_read(blobs, name.as_bytes()).ok().map(Arc::new)
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
    pub(super) fn new(source: &Arc<Source>, at: u64, record: &Record) -> Self {
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
}

impl Table {
    pub(super) fn place(&self, content: &Hash) -> Option<Place> {
        self.places.get(content).cloned()
    }

    /// The block cannot be read there. It may be known to be elsewhere by now.
    pub(super) fn forget(&mut self, content: &Hash, place: &Place) {
        if self.places.get(content).is_some_and(|now| Arc::ptr_eq(&now.source, &place.source)) {
            self.places.remove(content);
        }
    }

    /// Makes room.
    pub(super) fn forget_closed(&mut self) {
        self.places.retain(|_, place| !place.source.is_closed());
    }

    /// A block that this process wrote; it is where it was written last.
    pub(super) fn add(&mut self, content: Hash, place: Place) {
        if self.places.len() < 2 * BLOCKS || self.places.contains_key(&content) {
            self.places.insert(content, place);
        }
    }

    /// Blocks that an index tells of; those of a finished blob are better than of one that may go.
    pub(super) fn learn(&mut self, found: Vec<(Hash, Place)>, finished: bool) {
        for (content, place) in found {
            let is_full = self.places.len() >= BLOCKS;
            match self.places.entry(content) {
                Entry::Occupied(mut known) if finished || known.get().source.is_closed() => {
                    known.insert(place);
                }
                Entry::Vacant(free) if !is_full => {
                    free.insert(place);
                }
                _ => {}
            }
        }
    }

    /// Whether others' blocks find no room any more.
    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= BLOCKS
    }
}
