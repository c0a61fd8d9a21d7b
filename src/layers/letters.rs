//! Deflate for bytes in no order: codes by frequency, and no references back, which would gain next to nothing.
//!
//! Hexadecimal digits, base64 and columns of numbers are like that. Where the bytes are cut and how codes are chosen is
//! part of the layer format, in whole numbers, so the result is the same everywhere. RFC 1951, section 3.2.7.

use super::bits::BitWriter;

/// Input bytes that have one set of codes.
const BLOCK: usize = super::order::UNIT;
/// Symbols of literals and the one that ends a block.
const SYMBOLS: usize = 257;
const END: usize = 256;
/// Longest code that a block can have.
const LONGEST: usize = 15;
/// The same of the code in which lengths are told.
const LONGEST_OF_LENGTHS: usize = 7;
/// In which order the lengths of that code are told.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A code: its bits as they are written, and how many.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bits: u16,
    length: u8,
}

/// Appends `input` to `out` as a whole deflate stream. There must be a byte.
pub(super) fn deflate(input: &[u8], out: Vec<u8>) -> Vec<u8> {
    let mut bits = BitWriter::new(out);
    let blocks = input.len().div_ceil(BLOCK);
    for (number, block) in input.chunks(BLOCK).enumerate() {
        let last = number + 1 == blocks;
        bits.put(u64::from(last) | 2 << 1, 3);
        let lengths = lengths(&frequencies(block), LONGEST);
        describe(&lengths, &mut bits);
        let codes = codes(&lengths);
        literals(block, &codes, &mut bits);
        bits.put(codes[END].bits.into(), codes[END].length.into());
    }
    bits.finish()
}

/// How often each symbol occurs in a block.
fn frequencies(block: &[u8]) -> [u32; SYMBOLS] {
    // Neighbours that are the same would wait for each other.
    let mut counts = [[0_u32; 256]; 4];
    let (fours, rest) = block.as_chunks::<4>();
    for four in fours {
        for (count, byte) in counts.iter_mut().zip(four) {
            count[usize::from(*byte)] += 1;
        }
    }
    for byte in rest {
        counts[0][usize::from(*byte)] += 1;
    }
    let mut sums = [0; SYMBOLS];
    for (symbol, sum) in sums[..256].iter_mut().enumerate() {
        *sum = counts.iter().map(|count| count[symbol]).sum();
    }
    sums[END] = 1;
    sums
}

fn literals(block: &[u8], codes: &[Code], bits: &mut BitWriter) {
    bits.reserve(block.len() * LONGEST / 8 + 16);
    let (threes, rest) = block.as_chunks::<3>();
    for three in threes {
        let (mut word, mut length) = (0_u64, 0_u32);
        for byte in three {
            let code = codes[usize::from(*byte)];
            word |= u64::from(code.bits) << length;
            length += u32::from(code.length);
        }
        bits.put(word, length);
    }
    for byte in rest {
        let code = codes[usize::from(*byte)];
        bits.put(code.bits.into(), code.length.into());
    }
}

/// Lengths of the codes of Huffman for these frequencies; where one would be above `longest`, those of [`shorten`], which
/// need not be the best. Equal frequencies count in the order of their symbols. One symbol alone has a code of one bit.
fn lengths<const N: usize>(frequencies: &[u32; N], longest: usize) -> [u8; N] {
    let mut order: Vec<usize> = (0..N).filter(|symbol| frequencies[*symbol] > 0).collect();
    order.sort_by_key(|symbol| (frequencies[*symbol], *symbol));
    let mut lengths = [0; N];
    let mut counts = depths(&order.iter().map(|symbol| frequencies[*symbol]).collect::<Vec<_>>());
    shorten(&mut counts, longest);
    // The rarest have the longest codes.
    let mut rarest = order.iter();
    for (length, count) in counts.iter().enumerate().rev() {
        for symbol in rarest.by_ref().take(*count) {
            lengths[*symbol] = length as u8;
        }
    }
    lengths
}

/// How many leaves the tree of Huffman has at each depth. Frequencies ascend.
fn depths(frequencies: &[u32]) -> Vec<usize> {
    let n = frequencies.len();
    if n < 2 {
        return vec![0, n];
    }
    // Leaves, then inner nodes in the order in which they are made, which is that of their weights.
    let mut weights: Vec<u64> = frequencies.iter().map(|count| u64::from(*count)).collect();
    let mut parents = vec![0; 2 * n - 1];
    let (mut leaf, mut inner) = (0, n);
    for made in n..2 * n - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let is_leaf = leaf < n && (inner >= made || weights[leaf] <= weights[inner]);
            let taken = if is_leaf { &mut leaf } else { &mut inner };
            weight += weights[*taken];
            parents[*taken] = made;
            *taken += 1;
        }
        weights.push(weight);
    }
    let mut depth = vec![0; 2 * n - 1];
    let mut counts = Vec::new();
    for node in (0..2 * n - 2).rev() {
        depth[node] = depth[parents[node]] + 1;
        if node < n {
            counts.resize(counts.len().max(depth[node] + 1), 0);
            counts[depth[node]] += 1;
        }
    }
    counts
}

/// Makes no code longer than allowed: what is too deep moves up, and shorter codes give way for it.
fn shorten(counts: &mut Vec<usize>, longest: usize) {
    let deep: usize = counts.iter().skip(longest + 1).sum();
    if deep == 0 {
        return;
    }
    counts.truncate(longest + 1);
    counts[longest] += deep;
    // In units of the longest code: the codes may take one whole tree.
    let taken = |counts: &[usize]| -> usize {
        counts.iter().enumerate().skip(1).map(|(length, n)| n << (longest - length)).sum()
    };
    while taken(counts) > 1 << longest {
        // A leaf becomes a node with two: itself, and one of the deepest, which makes room for one code of these.
        let Some(length) = (1..longest).rev().find(|length| counts[*length] > 0) else { return };
        counts[longest] -= 1;
        counts[length] -= 1;
        counts[length + 1] += 2;
    }
}

/// The codes that belong to lengths (RFC 1951, section 3.2.2), with the bits turned round as they are written.
fn codes<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut next = [0_u16; LONGEST + 2];
    for length in 1..=LONGEST {
        let shorter = lengths.iter().filter(|one| usize::from(**one) == length).count() as u16;
        next[length + 1] = (next[length] + shorter) << 1;
    }
    lengths.map(|length| {
        if length == 0 {
            return Code::default();
        }
        let code = &mut next[usize::from(length)];
        let bits = code.reverse_bits() >> (16 - u32::from(length));
        *code += 1;
        Code { bits, length }
    })
}

/// Writes what tells a reader the codes: those of literals, and two for distances, of which there are none. Some readers
/// do not like fewer.
fn describe(lengths: &[u8; SYMBOLS], bits: &mut BitWriter) {
    let mut told: Vec<(u8, u64, u32)> = Vec::new();
    let mut rest = &[&lengths[..], &[1, 1]].concat()[..];
    while let Some((first, after)) = rest.split_first() {
        let zeros = rest.iter().take(138).take_while(|length| **length == 0).count();
        let (symbol, extra, width, taken) = match zeros {
            0..3 => (*first, 0, 0, 1),
            3..11 => (17, zeros - 3, 3, zeros),
            _ => (18, zeros - 11, 7, zeros),
        };
        told.push((symbol, extra as u64, width));
        rest = &after[taken - 1..];
    }
    let mut frequencies = [0; 19];
    for (symbol, ..) in &told {
        frequencies[usize::from(*symbol)] += 1;
    }
    let of_lengths = self::lengths(&frequencies, LONGEST_OF_LENGTHS);
    let last = ORDER.iter().rposition(|symbol| of_lengths[*symbol] > 0).unwrap_or(0).max(3);
    bits.put(0, 5);
    bits.put(1, 5);
    bits.put(last as u64 - 3, 4);
    for symbol in &ORDER[..=last] {
        bits.put(of_lengths[*symbol].into(), 3);
    }
    let codes = codes(&of_lengths);
    for (symbol, extra, width) in told {
        let code = codes[usize::from(symbol)];
        bits.put(code.bits.into(), code.length.into());
        bits.put(extra, width);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{hex, noise, text};
    use super::*;
    use std::io::Read;

    /// Unpacks with two readers, which must take all of it.
    fn inflated(packed: &[u8], length: usize) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut reader = flate2::bufread::DeflateDecoder::new(packed);
        reader.read_to_end(&mut plain).unwrap();
        assert!(reader.into_inner().is_empty(), "nothing is left");
        let mut again = vec![0; length];
        let read = libdeflater::Decompressor::new().deflate_decompress(packed, &mut again).unwrap();
        assert!(read == length && again == plain, "two readers agree");
        plain
    }

    fn check(input: &[u8]) -> usize {
        let packed = deflate(input, Vec::new());
        assert!(inflated(&packed, input.len()) == input);
        packed.len()
    }

    #[test]
    fn all_that_is_packed_can_be_unpacked() {
        let all: Vec<u8> = (0..=255).collect();
        for length in [1, 2, 3, 4, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77] {
            for bytes in [hex(length), noise(length), text(length), vec![0xff; length]] {
                check(&bytes);
            }
        }
        check(&all);
        check(b"ab");
        // Frequencies of Fibonacci make the deepest tree.
        let mut skewed = Vec::new();
        let (mut a, mut b) = (1, 1);
        for byte in 0..22 {
            skewed.extend(std::iter::repeat_n(byte, a));
            (a, b) = (b, a + b);
        }
        check(&skewed[..BLOCK.min(skewed.len())]);
    }

    #[test]
    fn codes_are_as_short_as_entropy_allows() {
        // Four bits, but for one digit of sixteen, which shares its place with the end of the block.
        let packed = check(&hex(10 * BLOCK));
        let least = 10 * (BLOCK / 2 + BLOCK / 16 / 8);
        assert!((least - 500..least + 1000).contains(&packed), "{packed} {least}");
        let letters: Vec<u8> = noise(BLOCK).into_iter().map(|byte| byte % 64).collect();
        let packed = check(&letters);
        assert!((BLOCK * 3 / 4..BLOCK * 3 / 4 + 400).contains(&packed), "{packed}");
        assert!(check(&vec![7; BLOCK]) < BLOCK / 8 + 50);
    }

    #[test]
    fn no_code_is_longer_than_allowed_and_none_is_wasted() {
        let mut fibonacci = [0_u32; 40];
        let (mut a, mut b) = (1, 1);
        for frequency in &mut fibonacci {
            *frequency = a;
            (a, b) = (b, a + b);
        }
        for longest in [6, 7, 15, 39] {
            let lengths = lengths(&fibonacci, longest);
            let taken: u64 =
                lengths.iter().map(|length| 1 << (longest - usize::from(*length))).sum();
            assert_eq!(taken, 1 << longest, "the code is complete");
            assert!(lengths.is_sorted_by(|a, b| a >= b), "the rarer the longer");
            assert_eq!(usize::from(lengths[0]), longest);
        }
        assert_eq!(lengths(&[0, 5, 0], 15), [0, 1, 0]);
        assert_eq!(lengths(&[1, 1, 1, 1], 15), [2, 2, 2, 2]);
        assert_eq!(lengths(&[1, 1, 2, 4], 15), [3, 3, 2, 1]);
    }
}
