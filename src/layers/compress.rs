//! From tar bytes to a blob in one pass: both digests, the compressed bytes and their size.
//!
//! gzip: input in blocks that the tar itself tells ([`super::cuts`]), each one member or several ([`super::gzip`]), packed
//! side by side and written in order.
//! zstd: one frame by the library's own job machinery, always with at least one worker (without any it gives other
//! bytes). Neither depends on the number of threads, on write sizes, or on the machine (`layer-format 4`, pinned in
//! tests). Memory is bounded by a few blocks for each worker. RFC 1952, RFC 8878.

pub use super::decompress::{decompressor, guarded, guarded_within};
pub use super::workers::Workers;

use super::blocks::Journal;
use super::line::{Line, Parts, Piece, Sink, Written, hash, write};
use super::{Layer, gzip};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::oci::DiffId;
use std::io::Write;
use std::sync::Arc;
use std::thread;

/// Format and level of a layer blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The tar itself.
    None,
    /// Members of at most 1 MiB and 64 KiB.
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
            Self::Gzip { .. } => 4,
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
    compress_layer_noting(compression, workers, (out, None), produce)
}

/// The same; of a gzip layer of more than 1 MiB of tar the journal, if there is one, is told each block.
pub fn compress_layer_noting<'w, W: Write + Send>(
    compression: Compression,
    workers: &'w Workers,
    (out, journal): (W, Option<&'w mut Journal>),
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<(W, Layer)> {
    thread::scope(|scope| {
        let start = |out| Line::start(scope, compression, workers, out);
        let mut sink = Sink::new(compression, (out, journal), start);
        let produced = produce(&mut sink)
            .and_then(|()| sink.end().or_error(ErrorKind::Environment, cannot_write));
        let (diff_id, written) = match sink.into_parts() {
            Parts::Large(line) => line.join()?,
            Parts::Small(out, blocks) => {
                produced.clone()?;
                (hash(blocks.iter()), write_small(compression, out, blocks))
            }
            Parts::Lost => {
                produced?;
                return Err(Error::internal("a layer lost its file"));
            }
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

/// A blob whose tar is no longer than a block. Without any there is still a member.
fn write_small<W: Write>(compression: Compression, out: W, blocks: Vec<Vec<u8>>) -> Written<W> {
    let blocks = if blocks.is_empty() { vec![Vec::new()] } else { blocks };
    let pieces = blocks.into_iter().map(|block| match compression {
        Compression::Gzip { level } => Piece::Done(gzip::pack(&block, level)),
        _ => Piece::Plain(Arc::new(block)),
    });
    write(compression, 1, (out, None), pieces)
}
