//! From tar bytes to a blob in one pass: both digests, the compressed bytes and their size.
//!
//! gzip: input in blocks of 1 MiB, each one member or several ([`super::gzip`]), packed side by side and written in order.
//! zstd: one frame by the library's own job machinery, always with at least one worker (without any it gives other
//! bytes). Neither depends on the number of threads, on write sizes, or on the machine (`layer-format 3`, pinned in
//! tests). Memory is bounded by a few blocks for each worker. RFC 1952, RFC 8878.

pub use super::decompress::{decompressor, guarded, guarded_within};
pub use super::workers::Workers;

use super::{Layer, gzip};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::oci::digest::HashingWriter;
use crate::oci::{DiffId, Digest};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Input bytes that are packed together.
const BLOCK: usize = 1 << 20;

/// Format and level of a layer blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The tar itself.
    None,
    /// Members of at most 1 MiB.
    Gzip {
        /// 0 to 9.
        level: u8,
    },
    /// One frame.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

/// Of gzip where nobody names one; docs/adr/0003 has the reason.
pub const GZIP_LEVEL: u8 = 4;

/// Of zstd where nobody names one, which is the library's own.
pub const ZSTD_LEVEL: i32 = 3;

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: GZIP_LEVEL }
    }
}

impl Compression {
    /// From `--compression` and `--compression-level`.
    pub fn parse(name: &str, level: Option<i32>) -> Result<Self> {
        let within = |default: i32, range: std::ops::RangeInclusive<i32>| {
            let level = level.unwrap_or(default);
            if range.contains(&level) {
                return Ok(level);
            }
            let (low, high) = range.into_inner();
            Err(Error::usage(format!("compression level {level} is not one of {name}"))
                .hint(format!("use a level from {low} to {high}")))
        };
        match name {
            "gzip" => Ok(Self::Gzip { level: within(i32::from(GZIP_LEVEL), 0..=9)? as u8 }),
            "zstd" => Ok(Self::Zstd { level: within(ZSTD_LEVEL, 1..=22)? }),
            "none" | "uncompressed" if level.is_none() => Ok(Self::None),
            "none" | "uncompressed" => {
                Err(Error::usage(format!("compression `{name}` has no levels")))
            }
            _ => Err(Error::usage(format!("unknown compression `{name}`"))
                .hint("use `gzip`, `zstd` or `none`")),
        }
    }

    /// Version of the bytes that are written for a change stream; frozen, pinned by digests in tests, part of blob keys.
    pub fn layer_format(self) -> u32 {
        match self {
            Self::Gzip { .. } => 3,
            // As in format 2.
            Self::None | Self::Zstd { .. } => 2,
        }
    }

    /// Media type of a layer (image-spec layer.md).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip { .. } => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd { .. } => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// End of a file name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => ".tar",
            Self::Gzip { .. } => ".tar.gz",
            Self::Zstd { .. } => ".tar.zst",
        }
    }
}

/// Runs `produce`, which writes a tar, and puts the blob into `out`. `produce` runs on this thread; hashing and
/// writing run beside it, unless the tar is so small that starting threads would take longer.
pub fn compress_layer<W: Write + Send>(
    compression: Compression,
    workers: &Workers,
    out: W,
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<(W, Layer)> {
    thread::scope(|scope| {
        let start = |out: W| Line::start(scope, compression, workers, out);
        let mut sink = Sink { out: Some(out), start, block: Vec::new(), line: None };
        let produced = produce(&mut sink)
            .and_then(|()| sink.end().or_error(ErrorKind::Environment, cannot_write));
        let Sink { out, block, line, .. } = sink;
        let (diff_id, written) = match (line, out) {
            (Some(line), _) => line.join()?,
            (None, Some(out)) => {
                produced.clone()?;
                (Digest::of(&block), write_small(compression, out, &block))
            }
            (None, None) => return Err(Error::internal("a layer lost its file")),
        };
        // A failed writer makes `produce` fail too; its own error says why.
        let (out, digest, size) = written.or_error(ErrorKind::Environment, cannot_write)?;
        produced?;
        let media_type = compression.media_type().to_owned();
        Ok((out, Layer { digest, size, diff_id: DiffId(diff_id), media_type }))
    })
}

fn cannot_write() -> String {
    "cannot write the layer".to_owned()
}

/// A blob whose tar is one block, or nothing.
fn write_small<W: Write>(
    compression: Compression,
    out: W,
    block: &[u8],
) -> io::Result<(W, Digest, u64)> {
    let piece = match compression {
        Compression::Gzip { level } => Piece::Done(gzip::pack(block, level)?),
        _ => Piece::Plain(Arc::new(block.to_vec())),
    };
    write(compression, 1, out, std::iter::once(piece))
}

/// One thing for the writer, in order.
enum Piece {
    Plain(Arc<Vec<u8>>),
    Packed(Receiver<io::Result<Vec<u8>>>),
    Done(Vec<u8>),
}

/// What a writer gives back: where it wrote, and digest and size of the blob.
type Written<W> = io::Result<(W, Digest, u64)>;

/// Blocks that wait to be hashed, and as many that wait to be written. What comes before and after packing keeps no more
/// than some ten cores busy, and several layers are written at once: memory must not grow with the machine.
fn window(cores: usize) -> usize {
    cores.saturating_mul(2).saturating_add(2).min(MOST_WAITING)
}

const MOST_WAITING: usize = 12;

/// Threads of one Zstandard frame, each of which takes about 12 MiB.
const MOST_ZSTD: usize = 4;

/// The threads behind a large layer, and the way to them.
struct Line<'scope, 'w, W> {
    compression: Compression,
    workers: &'w Workers,
    to_hash: SyncSender<Arc<Vec<u8>>>,
    to_write: SyncSender<Piece>,
    hasher: thread::ScopedJoinHandle<'scope, Digest>,
    writer: thread::ScopedJoinHandle<'scope, Written<W>>,
}

impl<'scope, 'w, W: Write + Send + 'scope> Line<'scope, 'w, W> {
    fn start(
        scope: &'scope thread::Scope<'scope, '_>,
        compression: Compression,
        workers: &'w Workers,
        out: W,
    ) -> io::Result<Self> {
        let window = window(workers.count());
        let (to_hash, blocks) = sync_channel::<Arc<Vec<u8>>>(window);
        let (to_write, pieces) = sync_channel::<Piece>(window);
        let threads = workers.count().min(MOST_ZSTD) as u32;
        let hasher = thread::Builder::new().spawn_scoped(scope, move || hash(&blocks))?;
        let writer = thread::Builder::new()
            .spawn_scoped(scope, move || write(compression, threads, out, pieces.into_iter()))?;
        Ok(Self { compression, workers, to_hash, to_write, hasher, writer })
    }

    fn send(&self, block: Vec<u8>) -> io::Result<()> {
        let block = Arc::new(block);
        let stopped = || io::Error::other("the writer of the layer stopped");
        let piece = match self.compression {
            Compression::Gzip { level } => {
                let block = Arc::clone(&block);
                Piece::Packed(self.workers.submit(move || gzip::pack(&block, level)))
            }
            _ => Piece::Plain(Arc::clone(&block)),
        };
        self.to_hash.send(block).map_err(|_| stopped())?;
        self.to_write.send(piece).map_err(|_| stopped())
    }

    /// The threads end when nobody can send any more.
    fn join(self) -> Result<(Digest, Written<W>)> {
        drop((self.to_hash, self.to_write));
        let (Ok(diff_id), Ok(written)) = (self.hasher.join(), self.writer.join()) else {
            return Err(Error::internal("a thread that wrote a layer panicked"));
        };
        Ok((diff_id, written))
    }
}

/// Cuts what is written into blocks and hands them out. The threads start with the second block.
struct Sink<'scope, 'w, W, S> {
    /// Until the threads have it.
    out: Option<W>,
    start: S,
    block: Vec<u8>,
    line: Option<Line<'scope, 'w, W>>,
}

impl<'scope, 'w, W, S> Sink<'scope, 'w, W, S>
where
    W: Write + Send + 'scope,
    S: Fn(W) -> io::Result<Line<'scope, 'w, W>>,
{
    fn send(&mut self) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            self.line = Some((self.start)(out)?);
        }
        let block = std::mem::take(&mut self.block);
        match &self.line {
            Some(line) => line.send(block),
            None => Err(io::Error::other("the threads of the layer did not start")),
        }
    }

    /// Hands out the rest, unless it is all there is.
    fn end(&mut self) -> io::Result<()> {
        if self.line.is_some() && !self.block.is_empty() { self.send() } else { Ok(()) }
    }
}

impl<'scope, 'w, W, S> Write for Sink<'scope, 'w, W, S>
where
    W: Write + Send + 'scope,
    S: Fn(W) -> io::Result<Line<'scope, 'w, W>>,
{
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.send()?;
        }
        if self.block.capacity() == 0 {
            // Most layers are small; a large one soon needs all of it.
            self.block.reserve_exact(if self.line.is_some() {
                BLOCK
            } else {
                bytes.len().min(BLOCK)
            });
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash(blocks: &Receiver<Arc<Vec<u8>>>) -> Digest {
    let mut hasher = HashingWriter::new(io::sink());
    for block in blocks {
        hasher.write_all(&block).expect("a sink takes everything");
    }
    hasher.finish().1
}

fn write<W: Write>(
    compression: Compression,
    threads: u32,
    out: W,
    pieces: impl Iterator<Item = Piece>,
) -> io::Result<(W, Digest, u64)> {
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
                Piece::Done(packed) => out.write_all(&packed)?,
                Piece::Packed(packed) => {
                    let died = |_| io::Error::other("a compression thread panicked");
                    out.write_all(&packed.recv().map_err(died)??)?;
                }
            }
        }
    }
    out.flush()?;
    Ok(out.finish())
}
