//! Writing an index while its blob is written.

use super::index::{HIDDEN, LIVE, Record, line};
use super::table::{Place, Source};
use super::{Blocks, Packed};
use crate::layers::snapshot::random_id;
use crate::oci::Digest;
use crate::sys::fs;
use crate::sys::signals::Doomed;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// The index of a blob that is being written. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct Journal {
    blocks: Arc<Blocks>,
    /// The file that the blob grows in.
    data: String,
    begun: Option<Begun>,
    /// Blocks that were known.
    known: u64,
}

#[derive(Debug)]
struct Begun {
    /// What this process knows it by.
    source: Arc<Source>,
    /// Bytes of the blob so far.
    at: u64,
    records: Vec<u8>,
    live: Option<Live>,
}

/// The file that others read meanwhile.
#[derive(Debug)]
struct Live {
    blocks: Arc<Blocks>,
    name: String,
    file: File,
    _doomed: Option<Doomed>,
}

impl Journal {
    pub(super) fn new(blocks: Arc<Blocks>, data: &str) -> Self {
        Self { blocks, data: data.to_owned(), begun: None, known: 0 }
    }

    /// The blob will have more than one block. What cannot be written is known to nobody, which does no harm.
    pub fn begin(&mut self) -> Arc<Blocks> {
        if let Ok(file) = fs::open_read(&self.blocks.blobs, self.data.as_bytes()) {
            let live = Live::make(&self.blocks, LIVE, &self.data).ok();
            let source = Source::open(file);
            self.begun = Some(Begun { source, at: 0, records: Vec::new(), live });
        }
        Arc::clone(&self.blocks)
    }

    /// A block was appended to the blob.
    pub fn note(&mut self, packed: &Packed) {
        self.known += u64::from(packed.content.is_some() && !packed.is_new);
        let Some(begun) = &mut self.begun else { return };
        let length = packed.bytes.len() as u32;
        let content = packed.content.unwrap_or_default();
        let record = Record { content, length, sum: packed.sum };
        let bytes = record.to_bytes();
        begun.records.extend_from_slice(&bytes);
        if let Some(live) = &mut begun.live
            && live.file.write_all(&bytes).is_err()
        {
            begun.live = None;
        }
        if record.is_named() {
            let place = Place::new(&begun.source, begun.at, &record);
            self.blocks.table().add(content, place);
        }
        begun.at += u64::from(length);
    }

    /// How many of its blocks so far were packed before.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// The blob is in its place.
    pub fn finish(mut self, digest: &Digest) {
        let Some(begun) = self.begun.take() else { return };
        begun.source.is_now(digest.hex());
        self.blocks.reader().has_seen(digest.hex());
        // Without it the next build packs once more.
        let _best_effort = self.keep(&begun, digest);
    }

    fn keep(&self, begun: &Begun, digest: &Digest) -> io::Result<()> {
        let dir = &self.blocks.dir;
        let mut file = Live::make(&self.blocks, HIDDEN, digest.hex())?;
        file.file.write_all(&begun.records)?;
        Ok(fs::rename(dir, file.name.as_bytes(), dir, digest.hex().as_bytes())?)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Of a layer that failed nothing is left.
        if let Some(begun) = self.begun.take() {
            begun.source.close();
        }
    }
}

impl Live {
    fn make(blocks: &Arc<Blocks>, prefix: &str, data: &str) -> io::Result<Self> {
        let name = format!("{prefix}{}", random_id());
        blocks.reader().has_seen(&name);
        let file = fs::create_new(&blocks.dir, name.as_bytes(), 0o600)?;
        // Says that somebody writes. Where there are no locks, nobody can tell that its process was killed.
        let _unlocked = file.lock();
        let doomed = Doomed::new(&blocks.path.join(&name));
        let mut live = Self { blocks: Arc::clone(blocks), name, file, _doomed: doomed };
        live.file.write_all(line(blocks.level, data).as_bytes())?;
        Ok(live)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It has its final name by now, or a prune was faster.
        let _gone = fs::unlink(&self.blocks.dir, self.name.as_bytes());
    }
}
