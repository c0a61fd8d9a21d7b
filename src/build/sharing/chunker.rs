//! Cutting a stream into chunks by its content, so that a change moves only the boundaries beside it.
//!
//! A gear hash over the last 64 bytes decides (FastCDC: Xia et al., USENIX ATC 2016): after the smallest size a chunk ends
//! where the hash has zeros under a mask, a stricter one before the average size than after it. Where the boundaries are
//! depends on the bytes alone, never on how they come; the table and the masks are part of the format of a cache, since
//! other boundaries would send everything anew.

use std::io;

/// No chunk but the last is smaller.
pub(super) const SMALLEST: usize = 256 << 10;
const AVERAGE: usize = 1 << 20;
/// No chunk is larger.
pub(super) const LARGEST: usize = 4 << 20;

/// 22 bits before the average size, 18 after it; the highest ones, which all of the last bytes have part in.
const STRICT: u64 = !0 << 42;
const LOOSE: u64 = !0 << 46;

/// One random number for each byte: the outputs of splitmix64 from seed 0.
const GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0_u64;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
};

/// Cuts what is written to it.
#[derive(Debug, Default)]
pub(super) struct Chunker {
    chunk: Vec<u8>,
    hash: u64,
}

impl Chunker {
    /// Adds bytes; whole chunks go to `sink`.
    pub(super) fn add(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let (taken, is_end) = self.scan(bytes);
            self.chunk.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if is_end {
                sink(&self.chunk)?;
                self.chunk.clear();
                self.hash = 0;
            }
        }
        Ok(())
    }

    /// Gives the last chunk away.
    pub(super) fn finish(self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { sink(&self.chunk) }
    }

    /// How many bytes belong to the present chunk, and whether it ends there.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let before = self.chunk.len();
        let mut at = SMALLEST.saturating_sub(before).min(bytes.len());
        while at < bytes.len() {
            self.hash = (self.hash << 1).wrapping_add(GEAR[usize::from(bytes[at])]);
            at += 1;
            let length = before + at;
            let mask = if length < AVERAGE { STRICT } else { LOOSE };
            if self.hash & mask == 0 || length >= LARGEST {
                return (at, true);
            }
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use std::collections::HashSet;

    /// Bytes that nothing compresses.
    fn noise(count: usize, mut state: u64) -> Vec<u8> {
        let byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        std::iter::repeat_with(byte).take(count).collect()
    }

    fn cut(bytes: &[u8], pieces: usize) -> Vec<Vec<u8>> {
        let (mut chunker, mut all) = (Chunker::default(), Vec::new());
        let mut sink = |chunk: &[u8]| {
            all.push(chunk.to_vec());
            Ok(())
        };
        for piece in bytes.chunks(pieces) {
            chunker.add(piece, &mut sink).unwrap();
        }
        chunker.finish(&mut sink).unwrap();
        all
    }

    #[test]
    fn boundaries_depend_on_the_bytes_alone() {
        let bytes = noise(12 << 20, 7);
        let whole = cut(&bytes, bytes.len());
        assert_eq!(whole.concat(), bytes);
        for pieces in [1 << 20, 65_536, 4097, 13] {
            assert_eq!(cut(&bytes, pieces), whole);
        }
        let sizes: Vec<usize> = whole.iter().map(Vec::len).collect();
        let (last, others) = sizes.split_last().unwrap();
        assert!(*last <= LARGEST);
        assert!(others.iter().all(|size| (SMALLEST..=LARGEST).contains(size)), "{sizes:?}");
        assert!((6..24).contains(&sizes.len()), "{sizes:?}");
        assert!(cut(b"", 1).is_empty());
        let zeros = cut(&vec![0; 9 << 20], 1 << 16);
        assert_eq!(zeros.iter().map(Vec::len).collect::<Vec<_>>(), [LARGEST, LARGEST, 1 << 20]);
    }

    #[test]
    fn a_change_moves_only_the_boundaries_beside_it() {
        let bytes = noise(16 << 20, 9);
        let known: HashSet<Digest> =
            cut(&bytes, 1 << 16).iter().map(|one| Digest::of(one)).collect();
        let new = |bytes: &[u8]| {
            let chunks = cut(bytes, 1 << 16);
            chunks.iter().filter(|chunk| !known.contains(&Digest::of(chunk))).count()
        };
        assert!(new(&[b"inserted", &bytes[..]].concat()) <= 2);
        let mut changed = bytes.clone();
        changed[8 << 20] ^= 1;
        assert!(new(&changed) <= 2);
        assert!(new(&[&bytes[..5 << 20], &bytes[(5 << 20) + 1..]].concat()) <= 2);
    }

    #[test]
    fn the_table_is_the_published_one() {
        let bytes: Vec<u8> = GEAR.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(GEAR[0], 0xe220_a839_7b1d_cdaf);
        let sizes: Vec<usize> = cut(&noise(8 << 20, 3), 1 << 20).iter().map(Vec::len).collect();
        // Other boundaries would make every cache be sent anew.
        let table = "sha256:3843faf2c6540306294b486fda136f53cc592319b024ecb30987d6340908063b";
        assert_eq!(Digest::of(&bytes).as_str(), table);
        assert_eq!(
            format!("{sizes:?}"),
            "[1967734, 1127968, 1092295, 1163130, 412483, 1470690, 1154308]"
        );
    }
}
