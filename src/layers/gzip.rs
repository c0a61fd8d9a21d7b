//! One block of a layer as gzip: the part of `layer-format 4` that decides the bytes.
//!
//! A block ([`super::cuts`]) is one member, unless parts of it are out of order. Noise, which is compressed or
//! encrypted already, takes as long to compress as anything, and comes out as long as it went in: such parts are members
//! of their own whose data is stored. Letters in no order (digits, base64) have nothing to refer back to: they are members
//! of their own with codes by frequency only ([`super::letters`]). What a unit of 64 KiB is, its own bytes alone decide
//! ([`super::order`]), in whole numbers, so the result is the same everywhere. RFC 1952, RFC 1951.

use super::letters;
use super::order::{Order, UNIT, order};
use std::io;

/// Levels from which on smaller counts for more than sooner, so that references are looked for among letters too.
const THOROUGH: u8 = 6;

/// Packs a block.
pub(super) fn pack(block: &[u8], level: u8) -> io::Result<Vec<u8>> {
    if level == 0 || block.len() < UNIT {
        return member(block, level);
    }
    let mut out = Vec::new();
    let (mut start, mut next) = (0, None);
    while start < block.len() {
        let kind = next.take().map_or_else(|| judge(unit(block, start), level), Ok)?;
        let mut end = (start + UNIT).min(block.len());
        while end < block.len() {
            let other = judge(unit(block, end), level)?;
            if other != kind {
                next = Some(other);
                break;
            }
            end = (end + UNIT).min(block.len());
        }
        let part = &block[start..end];
        let packed = match kind {
            Order::Plain => member(part, level)?,
            Order::Noise => member(part, 0)?,
            Order::Letters => letters_member(part),
        };
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

/// Whether a block seems to be noise, which is packed at no cost.
pub(super) fn is_noise(block: &[u8]) -> bool {
    let middle = block.len() / 2 / UNIT * UNIT;
    judge(unit(block, middle), THOROUGH).is_ok_and(|kind| kind == Order::Noise)
}

/// What a unit is to be packed as.
fn judge(unit: &[u8], level: u8) -> io::Result<Order> {
    order(unit, |sample| if level < THOROUGH { packed_size(sample, level) } else { Ok(0) })
}

/// Bytes of a member.
pub(super) fn packed_size(bytes: &[u8], level: u8) -> io::Result<usize> {
    member(bytes, level).map(|packed| packed.len())
}

/// No name, no time, unknown system, so that nothing but content and level shows.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// One gzip member.
fn member(block: &[u8], level: u8) -> io::Result<Vec<u8>> {
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
    end(&mut out, block);
    Ok(out)
}

/// One gzip member of letters.
fn letters_member(block: &[u8]) -> Vec<u8> {
    let mut out = letters::deflate(block, HEADER.to_vec());
    end(&mut out, block);
    out
}

/// Appends what ends a member.
fn end(out: &mut Vec<u8>, block: &[u8]) {
    out.extend_from_slice(&libdeflater::crc32(block).to_le_bytes());
    out.extend_from_slice(&(block.len() as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::samples::{hex, noise, text};
    use super::*;
    use std::io::Read;

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
    fn letters_in_no_order_are_members_of_their_own_unless_size_counts_most() {
        let mixed = [text(2 * UNIT), hex(3 * UNIT), noise(UNIT), hex(UNIT)].concat();
        let of = |packed: &[u8], block: &[u8]| -> Vec<usize> {
            members(packed, block).into_iter().map(|(length, _)| length).collect()
        };
        for level in 1..=9 {
            let packed = pack(&mixed, level).unwrap();
            let expected = if level < 6 {
                vec![2 * UNIT, 3 * UNIT, UNIT, UNIT]
            } else {
                vec![5 * UNIT, UNIT, UNIT]
            };
            assert_eq!(of(&packed, &mixed), expected, "{level}");
        }
        let packed = pack(&hex(1 << 20), 4).unwrap();
        assert!(packed.len() * 100 < (1 << 20) * 51, "{}", packed.len());
    }

    /// Every layer that users have cached or pushed would get a new digest: do not change the numbers, make a format 5.
    /// Blocks are packed as in format 3.
    #[test]
    fn layer_format_4_packs_for_ever_alike() {
        let of_2 = [text(100_000), noise(300_000), text(200_000)].concat();
        let block = [of_2.clone(), hex(200_000)].concat();
        let digest = |block: &[u8], level| crate::oci::Digest::of(&pack(block, level).unwrap());
        for (block, level, expected) in [
            // As in format 2.
            (&of_2, 6, "b54ff6b2a70e9bcc41d7fc8814b39aa921727db5d33bbc285f70e520eb962373"),
            (&block, 6, "fff2fc8c63a2a6c313d7835a938ad1ea00a91d817b4f6dbef9359bbd566f78d7"),
            (&block, 4, "0b15c58a6568e49691201288d63f248fab7a6c7f357478fd93f3514f107da0ef"),
        ] {
            assert_eq!(digest(block, level).hex(), expected, "{level}");
        }
    }

    #[test]
    fn level_0_stores_all_in_one_member() {
        let block = [text(UNIT), noise(UNIT)].concat();
        assert_eq!(members(&pack(&block, 0).unwrap(), &block), [(2 * UNIT, true)]);
    }
}
