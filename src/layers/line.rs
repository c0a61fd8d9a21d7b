//! The threads behind a large layer: blocks are packed side by side, hashed and written in order.
//!
//! In: the bytes of a tar; out: a blob, its digest and size. Memory is bounded by a few blocks for each worker.

use super::blocks::{self, Blocks, Journal, Packed};
use super::compress::{Compression, Workers};
use super::cuts::{BLOCK, Cuts};
use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::oci::digest::HashingWriter;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// One thing for the writer, in order.
pub(super) enum Piece {
    Plain(Arc<Vec<u8>>),
    Packed(Receiver<io::Result<Packed>>),
    Done(io::Result<Vec<u8>>),
}

/// What a writer gives back: where it wrote, and digest and size of the blob.
pub(super) type Written<W> = io::Result<(W, Digest, u64)>;

/// Where a blob goes, and who is told of its blocks.
pub(super) type Target<'w, W> = (W, Option<&'w mut Journal>);

/// Blocks that wait to be hashed, and as many that wait to be written. What comes before and after packing keeps no more
/// than some ten cores busy, and several layers are written at once: memory must not grow with the machine.
fn window(cores: usize) -> usize {
    cores.saturating_mul(2).saturating_add(2).min(MOST_WAITING)
}

const MOST_WAITING: usize = 12;

/// Threads of one Zstandard frame, each of which takes about 12 MiB.
const MOST_ZSTD: usize = 4;

/// The threads behind a large layer, and the way to them.
pub(super) struct Line<'scope, 'w, W> {
    compression: Compression,
    workers: &'w Workers,
    known: Option<Arc<Blocks>>,
    to_hash: SyncSender<Arc<Vec<u8>>>,
    to_write: SyncSender<Piece>,
    hasher: thread::ScopedJoinHandle<'scope, Digest>,
    writer: thread::ScopedJoinHandle<'scope, Written<W>>,
}

impl<'scope, 'w: 'scope, W: Write + Send + 'scope> Line<'scope, 'w, W> {
    pub(super) fn start(
        scope: &'scope thread::Scope<'scope, '_>,
        compression: Compression,
        workers: &'w Workers,
        mut target: Target<'w, W>,
    ) -> io::Result<Self> {
        let window = window(workers.count());
        let (to_hash, blocks) = sync_channel::<Arc<Vec<u8>>>(window);
        let (to_write, pieces) = sync_channel::<Piece>(window);
        let threads = workers.count().min(MOST_ZSTD) as u32;
        let known = target.1.as_mut().map(|journal| journal.begin());
        let hasher =
            thread::Builder::new().spawn_scoped(scope, move || hash(blocks.into_iter()))?;
        let writer = thread::Builder::new()
            .spawn_scoped(scope, move || write(compression, threads, target, pieces.into_iter()))?;
        Ok(Self { compression, workers, known, to_hash, to_write, hasher, writer })
    }

    fn send(&self, block: Vec<u8>) -> io::Result<()> {
        let block = Arc::new(block);
        let stopped = || io::Error::other("the writer of the layer stopped");
        let piece = match self.compression {
            Compression::Gzip { level } => {
                let (block, known) = (Arc::clone(&block), self.known.clone());
                let pack = move || blocks::pack(&block, level, known.as_deref());
                Piece::Packed(self.workers.submit(pack))
            }
            _ => Piece::Plain(Arc::clone(&block)),
        };
        self.to_hash.send(block).map_err(|_| stopped())?;
        self.to_write.send(piece).map_err(|_| stopped())
    }

    /// The threads end when nobody can send any more.
    pub(super) fn join(self) -> Result<(Digest, Written<W>)> {
        drop((self.to_hash, self.to_write));
        let (Ok(diff_id), Ok(written)) = (self.hasher.join(), self.writer.join()) else {
            return Err(Error::internal("a thread that wrote a layer panicked"));
        };
        Ok((diff_id, written))
    }
}

/// Cuts what is written into blocks and hands them out. The threads start when there is more than a block of 1 MiB holds.
pub(super) struct Sink<'scope, 'w, W, S> {
    /// Until the threads have it.
    target: Option<Target<'w, W>>,
    start: S,
    cuts: Cuts,
    block: Vec<u8>,
    /// Blocks before there are threads, and their bytes.
    waiting: Vec<Vec<u8>>,
    bytes: usize,
    line: Option<Line<'scope, 'w, W>>,
}

impl<'scope, 'w: 'scope, W, S> Sink<'scope, 'w, W, S>
where
    W: Write + Send + 'scope,
    S: Fn(Target<'w, W>) -> io::Result<Line<'scope, 'w, W>>,
{
    pub(super) fn new(compression: Compression, target: Target<'w, W>, start: S) -> Self {
        let cuts = match compression {
            Compression::Gzip { .. } => Cuts::of_tar(),
            _ => Cuts::even(),
        };
        let (block, waiting) = (Vec::new(), Vec::new());
        Self { target: Some(target), start, cuts, block, waiting, bytes: 0, line: None }
    }

    /// The block is complete.
    fn end_block(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        if let Some(line) = &self.line {
            return line.send(block);
        }
        self.waiting.push(block);
        Ok(())
    }

    /// Hands out what waits.
    fn start(&mut self) -> io::Result<()> {
        if let Some(target) = self.target.take() {
            let line = self.line.insert((self.start)(target)?);
            return self.waiting.drain(..).try_for_each(|block| line.send(block));
        }
        Ok(())
    }

    /// The last block ends here.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.block.is_empty() { Ok(()) } else { self.end_block() }
    }

    /// What is left to do.
    pub(super) fn into_parts(self) -> Parts<'scope, 'w, W> {
        match (self.line, self.target) {
            (Some(line), _) => Parts::Large(line),
            (None, Some((out, _))) => Parts::Small(out, self.waiting),
            (None, None) => Parts::Lost,
        }
    }
}

/// What there is when all was written.
pub(super) enum Parts<'scope, 'w, W> {
    /// The threads.
    Large(Line<'scope, 'w, W>),
    /// Where the blob is to go, and its blocks.
    Small(W, Vec<Vec<u8>>),
    /// The threads could not be started.
    Lost,
}

impl<'scope, 'w: 'scope, W, S> Write for Sink<'scope, 'w, W, S>
where
    W: Write + Send + 'scope,
    S: Fn(Target<'w, W>) -> io::Result<Line<'scope, 'w, W>>,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.line.is_none() && self.bytes + bytes.len() > BLOCK {
            self.start()?;
        }
        if self.line.is_some() && self.block.capacity() == 0 {
            self.block.reserve_exact(self.cuts.foreseen().unwrap_or(BLOCK));
        }
        let (count, ends) = self.cuts.take(bytes);
        self.block.extend_from_slice(&bytes[..count]);
        self.bytes += count;
        if ends {
            self.end_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digest of what was written.
pub(super) fn hash(blocks: impl Iterator<Item = impl std::ops::Deref<Target = Vec<u8>>>) -> Digest {
    let mut hasher = HashingWriter::new(io::sink());
    for block in blocks {
        hasher.write_all(&block).expect("a sink takes everything");
    }
    hasher.finish().1
}

/// Writes a blob.
pub(super) fn write<W: Write>(
    compression: Compression,
    threads: u32,
    (out, mut journal): Target<'_, W>,
    pieces: impl Iterator<Item = Piece>,
) -> Written<W> {
    let mut out = HashingWriter::new(out);
    if let Compression::Zstd { level } = compression {
        let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
        encoder.multithread(threads)?;
        encoder.include_checksum(false)?;
        for piece in pieces {
            if let Piece::Plain(block) = piece {
                encoder.write_all(&block)?;
            }
        }
        out = encoder.finish()?;
    } else {
        for piece in pieces {
            match piece {
                Piece::Plain(block) => out.write_all(&block)?,
                Piece::Done(packed) => out.write_all(&packed?)?,
                Piece::Packed(packed) => {
                    let died = |_| io::Error::other("a compression thread panicked");
                    let packed = packed.recv().map_err(died)??;
                    out.write_all(&packed.bytes)?;
                    if let Some(journal) = &mut journal {
                        journal.note(&packed);
                    }
                }
            }
        }
    }
    out.flush()?;
    Ok(out.finish())
}
