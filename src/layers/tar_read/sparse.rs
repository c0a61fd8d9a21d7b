//! What an archive holds of a file's body: all of it, or the pieces of a GNU sparse file, in the old form and in that of
//! PAX 1.0.
//!
//! The map of a sparse file is checked before anything is read by it: pieces ascend, fit into the file and hold exactly
//! the stored bytes.

use super::blocks::Blocks;
use super::header::{BLOCK, Fields, number};
use super::{bad, named};
use crate::error::{ErrorKind, Result, ResultExt as _};
use crate::layers::pax::InForce;
use std::io::Read;

/// How keys begin that describe a sparse file.
pub(super) const SPARSE: &[u8] = b"GNU.sparse.";
/// Most pieces of one sparse file.
const MAX_PIECES: usize = 1 << 20;

/// Where the data of a sparse file belongs: offset and length, ascending.
pub(super) type Pieces = Vec<(u64, u64)>;

/// How the body of a file lies in the archive.
pub(super) struct Stored {
    /// Bytes that the archive holds of it, without padding and maps.
    pub(super) bytes: u64,
    /// Where they belong.
    pub(super) pieces: Pieces,
    /// Bytes of the file.
    pub(super) size: u64,
}

/// Reads the map of a sparse file, which has `bytes` together with what is behind it; any other body lies there as it is.
pub(super) fn read<R: Read>(
    blocks: &mut Blocks<R>,
    name: &[u8],
    bytes: u64,
    (fields, block): (&Fields, &[u8; BLOCK]),
    records: &InForce,
) -> Result<Stored> {
    let next = || blocks.expect().or_error(ErrorKind::Integrity, || named(name));
    let stored = if records.has_own(SPARSE) {
        pax_form(name, bytes, fields, records, next)?
    } else if fields.kind == b'S' {
        let (pieces, size) = old_form(name, block, next)?;
        Stored { bytes, pieces, size }
    } else {
        return Ok(Stored { bytes, pieces: vec![(0, bytes)], size: bytes });
    };
    check(&stored).map_err(|reason| bad(name, reason))?;
    Ok(stored)
}

/// Pieces and size out of the header, and out of blocks behind it.
fn old_form(
    name: &[u8],
    block: &[u8; BLOCK],
    mut next: impl FnMut() -> Result<[u8; BLOCK]>,
) -> Result<(Pieces, u64)> {
    let fail = |reason: String| bad(name, reason);
    let (mut pieces, size, mut more) = old_sparse(block).map_err(fail)?;
    while more {
        more = more_sparse(&next()?, &mut pieces).map_err(fail)?;
    }
    Ok((pieces, size))
}

/// The size out of a record, and the pieces out of the first blocks of the body.
fn pax_form(
    name: &[u8],
    bytes: u64,
    fields: &Fields,
    records: &InForce,
    mut next: impl FnMut() -> Result<[u8; BLOCK]>,
) -> Result<Stored> {
    let fail = |reason: String| bad(name, reason);
    let version = [records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")];
    let size = records.decimal("GNU.sparse.realsize").map_err(fail)?;
    let size = size.and_then(|size| u64::try_from(size).ok());
    let (Some(size), [Some(b"1"), Some(b"0")]) = (size, version) else {
        return Err(fail("only sparse files of format 1.0 are supported".to_owned())
            .hint("make the archive without sparse files"));
    };
    if !matches!(fields.kind, b'0' | 0) {
        return Err(fail("sparse, but not a file".to_owned()));
    }
    let mut lines = SparseLines::new();
    let mut left = bytes;
    loop {
        left = left
            .checked_sub(BLOCK as u64)
            .ok_or_else(|| fail("sparse map is longer than the entry".to_owned()))?;
        if let Some(pieces) = lines.block(&next()?).map_err(fail)? {
            return Ok(Stored { bytes: left, pieces, size });
        }
    }
}

/// The first pieces of an old GNU sparse header, the real size, and whether more blocks of pieces follow.
fn old_sparse(block: &[u8; BLOCK]) -> Result<(Pieces, u64, bool), String> {
    let real = number(&block[483..495]).ok().and_then(|n| u64::try_from(n).ok());
    let real = real.ok_or("sparse file has a bad size")?;
    let mut pieces = Pieces::new();
    add_pieces(&mut pieces, &block[386..482])?;
    Ok((pieces, real, block[482] != 0))
}

/// Further pieces of an old GNU sparse header, and whether still more follow.
fn more_sparse(block: &[u8; BLOCK], pieces: &mut Pieces) -> Result<bool, String> {
    add_pieces(pieces, &block[..504])?;
    Ok(block[504] != 0)
}

fn add_pieces(pieces: &mut Pieces, table: &[u8]) -> Result<(), String> {
    for pair in table.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        let read = |field: &[u8]| number(field).ok().and_then(|n| u64::try_from(n).ok());
        let (offset, length) = (read(&pair[..12]), read(&pair[12..]));
        let piece = offset.zip(length).ok_or("sparse map has a bad number")?;
        pieces.push(piece);
    }
    if pieces.len() > MAX_PIECES {
        return Err("sparse file has too many pieces".to_owned());
    }
    Ok(())
}

/// Reads the decimal lines of a PAX 1.0 sparse map: a count, then offset and length of each piece.
struct SparseLines {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl SparseLines {
    fn new() -> Self {
        Self { numbers: Vec::new(), digits: Vec::new() }
    }

    /// Takes one block; the pieces when it was the last one.
    fn block(&mut self, block: &[u8; BLOCK]) -> Result<Option<Pieces>, String> {
        for byte in block {
            match byte {
                b'0'..=b'9' if self.digits.len() < 19 => self.digits.push(*byte),
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.digits).parse();
                    self.numbers.push(line.map_err(|_| "sparse map has a bad number")?);
                    self.digits.clear();
                }
                _ => return Err("sparse map has a bad number".to_owned()),
            }
            if let Some((count, pieces)) = self.numbers.split_first() {
                if *count > MAX_PIECES as u64 {
                    return Err("sparse file has too many pieces".to_owned());
                }
                if pieces.len() as u64 == count * 2 {
                    let pairs = pieces.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                    return Ok(Some(pairs.collect()));
                }
            }
        }
        Ok(None)
    }
}

/// Checks that pieces ascend, fit into the file and hold exactly the stored bytes.
fn check(stored: &Stored) -> Result<(), String> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for (offset, length) in &stored.pieces {
        let next = offset.checked_add(*length);
        let next = next.filter(|next| *offset >= end && *next <= stored.size);
        end = next.ok_or("sparse map has overlapping or misplaced pieces")?;
        sum += length;
    }
    if sum != stored.bytes {
        return Err(format!("sparse map holds {sum} bytes, the entry {}", stored.bytes));
    }
    Ok(())
}
