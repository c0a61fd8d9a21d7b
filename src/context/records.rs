//! Sorted records of fixed size in a file, in blocks that are read and checked when they are first looked at.
//!
//! In: a key; out: the value beside it. Opening reads nothing, so a file of a million records costs a small build as
//! much as an empty one. Each block ends with a magic that has the version, its place in the file, the number of its
//! records and a CRC-32 over all of it: a flipped bit, a torn write or a block of zeros is [`Damaged`]. A block that an
//! older file had at the same place passes, and may: what a record says holds whatever stands beside it. Only so many
//! blocks are held in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes of a key.
pub(super) const KEY: usize = 49;
/// Bytes of a value.
pub(super) const VALUE: usize = 32;
/// Records of a block.
pub(super) const IN_BLOCK: usize = 50;

/// What is looked for, ordered as its bytes are.
pub(super) type Key = [u8; KEY];
/// What is found.
pub(super) type Value = [u8; VALUE];

/// First bytes of what ends a block, with its version.
const MAGIC: &[u8; 8] = b"nb-fd-2\n";
const RECORD: usize = KEY + VALUE;
/// Bytes of a block.
const BLOCK: usize = 4096;
/// Where the records end: magic, place (4 bytes) and number of records (2 bytes) follow.
const END: usize = RECORD * IN_BLOCK;
/// Where the checksum is.
const CHECKSUM: usize = BLOCK - 4;
/// Blocks that are held: 16 MiB.
const MAX_HELD: usize = 4096;

/// The file is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// A file of records.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    held: Vec<Option<Box<Block>>>,
    /// Those that are held, the longest held first.
    order: VecDeque<usize>,
    /// One bit for each record that was found.
    used: Vec<u64>,
    /// The block that had the last key: neighbours in a tree are often neighbours here.
    last: usize,
}

#[derive(Debug)]
struct Block {
    bytes: [u8; BLOCK],
    count: usize,
}

impl Records {
    /// Takes a file of at most `limit` records.
    pub(super) fn open(file: File, limit: usize) -> Result<Self, Damaged> {
        let size = file.metadata().map_err(|_| Damaged)?.len();
        let blocks = usize::try_from(size / BLOCK as u64).map_err(|_| Damaged)?;
        if !size.is_multiple_of(BLOCK as u64) || blocks > limit.div_ceil(IN_BLOCK) {
            return Err(Damaged);
        }
        let held = std::iter::repeat_with(|| None).take(blocks).collect();
        Ok(Self { file, held, order: VecDeque::new(), used: vec![0; blocks], last: 0 })
    }

    /// Takes a file that was written just now, with what the writer was told to be in use.
    pub(super) fn written(file: File, found: Found) -> Self {
        let Found(used) = found;
        let held = std::iter::repeat_with(|| None).take(used.len()).collect();
        Self { file, held, order: VecDeque::new(), used, last: 0 }
    }

    /// About how many records there are; never too few.
    pub(super) fn len(&self) -> usize {
        self.held.len() * IN_BLOCK
    }

    /// The value of a key.
    pub(super) fn get(&mut self, key: &Key) -> Result<Option<Value>, Damaged> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let at = self.find_block(key)?;
        let block = self.block(at)?;
        let Ok(index) = block.search(key) else { return Ok(None) };
        let value = *block.value(index);
        self.used[at] |= 1 << index;
        Ok(Some(value))
    }

    /// The last block whose first key is not behind `key`; the first one when there is none.
    fn find_block(&mut self, key: &Key) -> Result<usize, Damaged> {
        let last = self.block(self.last)?;
        if last.key(0) <= key && key <= last.key(last.count - 1) {
            return Ok(self.last);
        }
        let (mut low, mut high) = (0, self.held.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if self.block(middle)?.key(0) <= key {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.last = low;
        Ok(low)
    }

    fn block(&mut self, at: usize) -> Result<&Block, Damaged> {
        if self.held[at].is_none() {
            if self.order.len() >= MAX_HELD
                && let Some(oldest) = self.order.pop_front()
            {
                self.held[oldest] = None;
            }
            self.held[at] = Some(Block::read(&self.file, at)?);
            self.order.push_back(at);
        }
        self.held[at].as_deref().ok_or(Damaged)
    }

    /// Calls `each` with all records, in order, and with whether they were found meanwhile.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(&Key, &Value, bool) -> io::Result<()>,
    ) -> Result<io::Result<()>, Damaged> {
        for (at, used) in self.used.iter().enumerate() {
            let block = Block::read(&self.file, at)?;
            for index in 0..block.count {
                let is_used = used >> index & 1 == 1;
                if let Err(error) = each(block.key(index), block.value(index), is_used) {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }
}

impl Block {
    /// Reads and checks a block.
    fn read(file: &File, at: usize) -> Result<Box<Self>, Damaged> {
        let mut block = Box::new(Self { bytes: [0; BLOCK], count: 0 });
        file.read_exact_at(&mut block.bytes, (at * BLOCK) as u64).map_err(|_| Damaged)?;
        let bytes = &block.bytes;
        let count = usize::from(u16::from_le_bytes([bytes[END + 12], bytes[END + 13]]));
        let is_whole = bytes[END..].starts_with(MAGIC)
            && bytes[END + 8..END + 12] == (at as u32).to_le_bytes()
            && (1..=IN_BLOCK).contains(&count)
            && bytes[CHECKSUM..] == libdeflater::crc32(&bytes[..CHECKSUM]).to_le_bytes();
        block.count = count;
        if is_whole { Ok(block) } else { Err(Damaged) }
    }

    fn record(&self, index: usize) -> &[u8; RECORD] {
        &self.bytes[..END].as_chunks().0[index]
    }

    fn key(&self, index: usize) -> &Key {
        self.record(index).first_chunk().expect("a record begins with a key")
    }

    fn value(&self, index: usize) -> &Value {
        self.record(index).last_chunk().expect("a record ends with a value")
    }

    fn search(&self, key: &Key) -> Result<usize, usize> {
        let (records, _) = self.bytes[..END].as_chunks::<RECORD>();
        records[..self.count].binary_search_by(|record| record[..KEY].cmp(key))
    }
}

/// Which records of a file are in use: one bit for each, a number for each block.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<u64>);

/// Writes records, which come in order.
#[derive(Debug)]
pub(super) struct RecordWriter<W> {
    inner: W,
    bytes: Box<[u8; BLOCK]>,
    count: usize,
    blocks: u32,
    found: Found,
}

impl<W: Write> RecordWriter<W> {
    /// Into an empty file.
    pub(super) fn new(inner: W) -> Self {
        Self { inner, bytes: Box::new([0; BLOCK]), count: 0, blocks: 0, found: Found::default() }
    }

    /// The next record, and whether it is in use.
    pub(super) fn add(&mut self, key: &Key, value: &Value, found: bool) -> io::Result<()> {
        if self.count == 0 {
            self.found.0.push(0);
        }
        if let Some(block) = self.found.0.last_mut() {
            *block |= u64::from(found) << self.count;
        }
        let record = &mut self.bytes[self.count * RECORD..][..RECORD];
        record[..KEY].copy_from_slice(key);
        record[KEY..].copy_from_slice(value);
        self.count += 1;
        if self.count == IN_BLOCK { self.end_block() } else { Ok(()) }
    }

    /// Writes what is left; gives which records are in use.
    pub(super) fn finish(mut self) -> io::Result<Found> {
        if self.count > 0 {
            self.end_block()?;
        }
        self.inner.flush()?;
        Ok(self.found)
    }

    fn end_block(&mut self) -> io::Result<()> {
        let bytes = &mut self.bytes;
        bytes[END..END + 8].copy_from_slice(MAGIC);
        bytes[END + 8..END + 12].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[END + 12..END + 14].copy_from_slice(&(self.count as u16).to_le_bytes());
        let checksum = libdeflater::crc32(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        self.inner.write_all(&bytes[..])?;
        bytes.fill(0);
        self.count = 0;
        self.blocks += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn key(number: u64) -> Key {
        let mut key = [0; KEY];
        key[4..12].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn value(number: u64) -> Value {
        let mut value = [7; VALUE];
        value[..8].copy_from_slice(&number.to_le_bytes());
        value
    }

    /// Even numbers below twice `count`.
    fn written(count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = RecordWriter::new(&mut bytes);
        for number in 0..count {
            writer.add(&key(2 * number), &value(number), number % 3 == 0).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn open(bytes: &[u8]) -> Records {
        Records::open(file(bytes), 1_000_000).unwrap()
    }

    #[test]
    fn records_are_found_in_any_order_and_nothing_else_is() {
        for count in [0, 1, 49, 50, 51, 100, 1234] {
            let mut records = open(&written(count));
            // 7 shares no divisor with any of the counts.
            for number in (0..count).map(|n| n * 7919 % count) {
                assert_eq!(records.get(&key(2 * number)), Ok(Some(value(number))), "{count}");
                assert_eq!(records.get(&key(2 * number + 1)), Ok(None), "{count}");
            }
            assert_eq!(records.get(&[0xff; KEY]), Ok(None));
            assert!(records.len() >= count as usize);
        }
    }

    #[test]
    fn all_records_come_in_order_with_what_was_found() {
        let mut records = open(&written(120));
        records.get(&key(2 * 70)).unwrap();
        records.get(&key(2 * 119)).unwrap();
        let mut seen = Vec::new();
        let each = |key: &Key, value: &Value, used: bool| {
            seen.push((*key, *value, used));
            Ok(())
        };
        records.for_each(each).unwrap().unwrap();
        let expected: Vec<_> =
            (0..120).map(|n| (key(2 * n), value(n), n == 70 || n == 119)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_was_written_as_found_is_found() {
        for count in [0, 1, 50, 51, 120] {
            let mut bytes = Vec::new();
            let mut writer = RecordWriter::new(&mut bytes);
            for number in 0..count {
                writer.add(&key(number), &value(number), number % 3 == 0).unwrap();
            }
            let found = writer.finish().unwrap();
            let mut seen = Vec::new();
            let each = |_: &Key, _: &Value, used| {
                seen.push(used);
                Ok(())
            };
            Records::written(file(&bytes), found).for_each(each).unwrap().unwrap();
            assert_eq!(seen, (0..count).map(|number| number % 3 == 0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_more_blocks_are_held_than_allowed() {
        let count = (MAX_HELD as u64 + 100) * IN_BLOCK as u64;
        let mut records = open(&written(count));
        for number in (0..count).step_by(IN_BLOCK).chain([0, count - 1]) {
            assert_eq!(records.get(&key(2 * number)), Ok(Some(value(number))));
        }
        assert_eq!(records.held.iter().flatten().count(), MAX_HELD);
    }

    #[test]
    fn a_changed_byte_anywhere_is_seen() {
        let good = written(60);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let number = if at < BLOCK { 3 } else { 55 };
            let mut records = open(&bad);
            assert_eq!(records.get(&key(2 * number)), Err(Damaged), "byte {at}");
            assert_eq!(records.for_each(|_, _, _| Ok(())).err(), Some(Damaged), "byte {at}");
        }
    }

    #[test]
    fn torn_and_moved_blocks_are_seen() {
        let good = written(150);
        let (first, second) = (&good[..BLOCK], &good[BLOCK..2 * BLOCK]);
        let half = [&first[..BLOCK / 2], &second[BLOCK / 2..]].concat();
        for bad in [vec![0; BLOCK], half, second.to_vec()] {
            assert_eq!(open(&bad).get(&key(0)), Err(Damaged));
        }
        for length in [1, BLOCK - 1, BLOCK + 1] {
            assert!(Records::open(file(&good[..length]), 1000).is_err());
        }
        assert!(Records::open(file(&good), 149).is_ok());
        assert!(Records::open(file(&good), 100).is_err(), "larger than any that was written");
    }

    #[test]
    fn a_block_is_read_when_it_is_needed() {
        let mut damaged = written(10 * IN_BLOCK as u64);
        damaged[9 * BLOCK + 5] ^= 1;
        let mut records = open(&damaged);
        assert_eq!(records.get(&key(0)), Ok(Some(value(0))));
        let last = key(2 * (10 * IN_BLOCK as u64 - 1));
        assert_eq!(records.get(&last), Err(Damaged));
    }

    #[test]
    fn the_bytes_are_pinned() {
        let mut bytes = Vec::new();
        let mut file = file(&written(51));
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 2 * BLOCK);
        assert_eq!(&bytes[END..END + 14], b"nb-fd-2\n\0\0\0\0\x32\0");
        assert_eq!(&bytes[BLOCK + END..][..14], b"nb-fd-2\n\x01\0\0\0\x01\0");
    }
}
