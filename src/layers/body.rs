//! Reading bodies of files in pieces of one size, in which runs of zeros are looked for.

use std::io::{self, Read};

/// Reads until `piece` is full or the body ends; gives how much there is.
pub(super) fn fill(body: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match body.read(&mut piece[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
