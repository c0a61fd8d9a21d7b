//! Packed blocks that are no layer yet. One process packs them and another one uses them, over two files without names:
//! nothing is left of them, however both end.

use super::index::{RECORD, Record};
use super::reader::places;
use super::table::{Place, Source};
use super::{Blocks, Packed};
use crate::sys::{Named, SysResult, fs};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Most bytes of records that are read.
const MOST: u64 = 4 << 20;

/// Where packed blocks go: their bytes, and in memory a record for each of them, as in an index.
#[derive(Debug)]
pub struct Room {
    data: File,
    records: File,
}

impl Room {
    /// An empty one beside the blobs, to be read by its owner only.
    pub fn make(blocks: &Blocks) -> SysResult<Self> {
        let data = fs::create_nameless(&blocks.blobs, 0o600)?;
        let records = memfd_create("packed-blocks", MemfdFlags::CLOEXEC)
            .named(|| "memfd_create()".to_owned())?;
        Ok(Self { data, records: File::from(records) })
    }

    /// The same room, elsewhere.
    pub fn of(data: OwnedFd, records: OwnedFd) -> Self {
        Self { data: File::from(data), records: File::from(records) }
    }

    /// What [`Self::of`] takes.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.data.as_fd(), self.records.as_fd()]
    }

    /// Bytes of packed blocks, each with its record.
    #[cfg(test)]
    pub(in super::super) fn bytes(&self) -> u64 {
        self.data.metadata().unwrap().len()
    }
}

/// Fills a room. What is in it is known to this process as long as the value lives.
#[derive(Debug)]
pub struct Spill {
    blocks: Arc<Blocks>,
    room: Room,
    source: Arc<Source>,
    /// Bytes so far.
    at: u64,
}

impl Spill {
    /// One that begins with an empty room.
    pub fn new(blocks: &Arc<Blocks>, room: Room) -> io::Result<Self> {
        let source = Source::open(room.data.try_clone()?);
        Ok(Self { blocks: Arc::clone(blocks), room, source, at: 0 })
    }

    /// Appends a block that is worth looking for.
    pub fn add(&mut self, packed: &Packed) -> io::Result<()> {
        let Some(content) = packed.content else { return Ok(()) };
        let record = Record { content, length: packed.bytes.len() as u32, sum: packed.sum };
        self.room.data.write_all(&packed.bytes)?;
        // Whoever reads it finds the bytes.
        self.room.records.write_all(&record.to_bytes())?;
        let place = Place::new(&self.source, self.at, &record);
        self.blocks.table().add(content, place);
        self.at += u64::from(record.length);
        Ok(())
    }

    #[cfg(test)]
    pub(in super::super) fn room(&self) -> &Room {
        &self.room
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.source.close();
    }
}

/// What is in a room, found by this process as long as the value lives.
#[derive(Debug)]
pub struct Loan(Arc<Source>);

impl Loan {
    /// Of all blocks that are complete; nobody waits for whoever fills the room. `None` when there are none.
    pub fn of(blocks: &Blocks, room: Room) -> Option<Self> {
        let length = room.records.metadata().ok()?.len().min(MOST) as usize;
        let mut bytes = vec![0; length - length % RECORD];
        room.records.read_exact_at(&mut bytes, 0).ok()?;
        let source = Source::open(room.data);
        let (found, at, _) = places(&source, 0, &bytes);
        // What is in a layer stays longer.
        blocks.table().learn(found, false);
        (at > 0).then_some(Self(source))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.close();
    }
}
