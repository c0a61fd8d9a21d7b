//! One block of a layer as gzip: the part of `layer-format 2` that decides the bytes.
//!
//! A block (1 MiB of tar, or the rest) is one member, unless parts of it look like noise: what is compressed or encrypted
//! already takes as long to compress as anything, and comes out as long as it went in. Such parts are members of their
//! own whose data is stored. What is noise is decided by the bytes of a unit of 64 KiB alone, in whole numbers, so the
//! result is the same everywhere. RFC 1952, RFC 1951.

use std::io;

/// Bytes that are judged together.
const UNIT: usize = 64 << 10;
/// Bytes at the start of each sixteenth of a unit whose frequencies are counted.
const COUNTED: usize = 512;
/// Positions in a unit where words are compared with each other: one in so many.
const SPARSE: u64 = 64;
/// Words that occur twice, from which on there is something to gain.
const REPEATS: usize = 8;

/// Packs a block.
pub(super) fn pack(block: &[u8], level: u8) -> io::Result<Vec<u8>> {
    if level == 0 || block.len() < UNIT {
        return member(block, level);
    }
    let mut out = Vec::new();
    let mut start = 0;
    while start < block.len() {
        let noise = is_noise(unit(block, start));
        let mut end = (start + UNIT).min(block.len());
        while end < block.len() && is_noise(unit(block, end)) == noise {
            end = (end + UNIT).min(block.len());
        }
        let packed = member(&block[start..end], if noise { 0 } else { level })?;
        if start == 0 {
            out = packed;
        } else {
            out.extend_from_slice(&packed);
        }
        start = end;
    }
    Ok(out)
}

fn unit(block: &[u8], start: usize) -> &[u8] {
    &block[start..(start + UNIT).min(block.len())]
}

/// True when deflate could gain nothing: all bytes are about equally frequent, and nothing occurs twice.
fn is_noise(unit: &[u8]) -> bool {
    unit.len() == UNIT && is_flat(unit) && !repeats(unit)
}

/// Whether the frequencies of bytes are those of chance: the sum of their squares is at most a tenth above that of
/// frequencies that are all the same.
fn is_flat(unit: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    let mut total = 0;
    for part in unit.chunks_exact(UNIT / 16) {
        part[..COUNTED].iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        total += COUNTED as u64;
    }
    let squares: u64 = counts.iter().map(|count| count * count).sum();
    squares * 256 * 10 <= total * total * 11
}

/// Whether words of eight bytes occur twice. Which positions are looked at depends on the bytes there, so that two copies
/// are looked at in the same places.
fn repeats(unit: &[u8]) -> bool {
    const SLOTS: usize = 2048;
    let mut seen = [0_u64; SLOTS];
    let mut twice = 0;
    for window in unit.windows(8) {
        let word = u64::from_le_bytes([
            window[0], window[1], window[2], window[3], window[4], window[5], window[6], window[7],
        ]);
        let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if mixed >> 32 & (SPARSE - 1) != 0 {
            continue;
        }
        let slot = (mixed >> 53) as usize % SLOTS;
        if seen[slot] == word {
            twice += 1;
            if twice == REPEATS {
                return true;
            }
        }
        seen[slot] = word;
    }
    false
}

/// One gzip member: no name, no time, unknown system, so that nothing but content and level shows.
fn member(block: &[u8], level: u8) -> io::Result<Vec<u8>> {
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let invalid = |_| io::Error::other("the gzip level is not known");
    let level = libdeflater::CompressionLvl::new(level.into()).map_err(invalid)?;
    // A fresh one each time: state that survives a block would make the bytes depend on who did which block.
    let mut compressor = libdeflater::Compressor::new(level);
    let bound = compressor.deflate_compress_bound(block.len());
    let mut out = vec![0_u8; HEADER.len() + bound + 8];
    out[..HEADER.len()].copy_from_slice(&HEADER);
    let packed = compressor
        .deflate_compress(block, &mut out[HEADER.len()..HEADER.len() + bound])
        .map_err(|_| io::Error::other("a block does not fit its own bound"))?;
    out.truncate(HEADER.len() + packed);
    out.extend_from_slice(&libdeflater::crc32(block).to_le_bytes());
    out.extend_from_slice(&(block.len() as u32).to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Bytes without any order, always the same.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        (0..length.div_ceil(8)).flat_map(|_| next().to_be_bytes()).take(length).collect()
    }

    fn text(length: usize) -> Vec<u8> {
        (0_u32..).flat_map(|number| format!("{number:x} ").into_bytes()).take(length).collect()
    }

    /// Lengths of the members' contents, and whether each is stored.
    fn members(packed: &[u8], block: &[u8]) -> Vec<(usize, bool)> {
        let mut found = Vec::new();
        let (mut at, mut rest) = (0, packed);
        while !rest.is_empty() {
            let mut decoder = flate2::bufread::GzDecoder::new(rest);
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain).unwrap();
            assert_eq!(plain, block[at..at + plain.len()]);
            let after = decoder.into_inner();
            let length = rest.len() - after.len();
            found.push((plain.len(), length >= plain.len()));
            at += plain.len();
            rest = after;
        }
        assert_eq!(at, block.len());
        found
    }

    #[test]
    fn noise_is_stored_and_nothing_else_is() {
        let mixed = [text(100_000), noise(300_000), text(200_000)].concat();
        for (block, expected) in [
            (text(1 << 20), vec![(1 << 20, false)]),
            (noise(1 << 20), vec![(1 << 20, true)]),
            // The units that hold both are compressed, the last, short one too.
            (mixed, vec![(131_072, false), (262_144, true), (206_784, false)]),
            (noise(UNIT + 200), vec![(UNIT, true), (200, true)]),
            (noise(UNIT - 1), vec![(UNIT - 1, true)]),
            (Vec::new(), vec![(0, true)]),
        ] {
            assert_eq!(members(&pack(&block, 6).unwrap(), &block), expected);
        }
    }

    #[test]
    fn what_deflate_can_shorten_is_not_noise() {
        // The same twenty kilobytes again and again, words of four bytes in any order, few letters, a counter.
        let period: Vec<u8> = noise(20_000).into_iter().cycle().take(UNIT).collect();
        let letters: Vec<u8> = noise(UNIT).into_iter().map(|byte| b'A' + byte % 64).collect();
        let skewed: Vec<u8> = noise(UNIT).into_iter().map(|b| if b < 32 { 0 } else { b }).collect();
        let counter: Vec<u8> = (0..UNIT).map(|at| (at % 256) as u8).collect();
        for block in [period, letters, skewed, counter, vec![0; UNIT]] {
            assert!(!is_noise(&block));
        }
        assert!(is_noise(&noise(UNIT)));
        let packed = member(&noise(200_000), 6).unwrap();
        assert!(is_noise(&packed[100_000..100_000 + UNIT]), "of what is packed already");
    }

    /// Every layer that users have cached or pushed would get a new digest: do not change the number, make a format 3.
    #[test]
    fn layer_format_2_is_frozen() {
        let block = [text(100_000), noise(300_000), text(200_000)].concat();
        let digest = crate::oci::Digest::of(&pack(&block, 6).unwrap());
        assert_eq!(
            digest.hex(),
            "b54ff6b2a70e9bcc41d7fc8814b39aa921727db5d33bbc285f70e520eb962373"
        );
    }

    #[test]
    fn level_0_stores_all_in_one_member() {
        let block = [text(UNIT), noise(UNIT)].concat();
        assert_eq!(members(&pack(&block, 0).unwrap(), &block), [(2 * UNIT, true)]);
    }
}
