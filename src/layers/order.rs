//! What the bytes of a unit are in, some order or none: the part of `layer-format 4` that chooses how they are packed.
//!
//! Deflate codes by frequency and refers back. Whether either gains anything is told by whole numbers: are the bytes that
//! occur about equally frequent, are they all 256, and do words of eight come again. Most content is done with at the
//! first. Shorter words are not counted: a sample of what would be letters is packed both ways instead.

use super::letters;
use std::io;

/// Bytes that are judged together.
pub(super) const UNIT: usize = 64 << 10;
/// Parts of a unit of which the beginning is counted.
const PARTS: usize = 16;
/// Bytes at the start of each part whose frequencies are counted.
const COUNTED: usize = 512;
/// Positions in a unit where words are compared with each other: one in so many.
const SPARSE: u64 = 64;
/// Words that occur twice, from which on deflate has something to gain from what looks like noise.
const REPEATS: usize = 8;
/// The same of letters, which are about one in thirteen of those that are compared.
const REPEATS_OF_LETTERS: usize = 80;

/// The part of a unit that is packed both ways.
const SAMPLE: std::ops::Range<usize> = 28 << 10..36 << 10;
/// Letters may come out longer by one part in so many.
const LONGER: usize = 32;

/// How a unit is to be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// With all that deflate can do.
    Plain,
    /// Not at all.
    Noise,
    /// By the frequency of bytes alone.
    Letters,
}

/// Judges a unit. `plain` gives how long bytes are when they are packed with all that deflate can do.
pub(super) fn order(
    unit: &[u8],
    plain: impl FnOnce(&[u8]) -> io::Result<usize>,
) -> io::Result<Order> {
    if unit.len() != UNIT {
        return Ok(Order::Plain);
    }
    let counts = Counts::of(unit);
    // In tenths of what there would be if all were equally frequent.
    if !counts.are_flat(counts.kinds, 13) {
        return Ok(Order::Plain);
    }
    let repeats = repeats(unit);
    if repeats < REPEATS && counts.are_flat(256, 11) {
        return Ok(Order::Noise);
    }
    if repeats == REPEATS_OF_LETTERS {
        return Ok(Order::Plain);
    }
    let sample = &unit[SAMPLE];
    let by_frequency = letters::deflate(sample, Vec::new()).len();
    let plain = plain(sample)?;
    Ok(if by_frequency <= plain + plain / LONGER { Order::Letters } else { Order::Plain })
}

/// Frequencies of bytes in the beginnings of the parts.
struct Counts {
    total: u64,
    /// Sum of their squares.
    squares: u64,
    /// How many bytes occur.
    kinds: u64,
}

impl Counts {
    fn of(unit: &[u8]) -> Self {
        let mut of = [0; 256];
        for part in unit.chunks_exact(UNIT / PARTS) {
            for byte in &part[..COUNTED] {
                of[usize::from(*byte)] += 1;
            }
        }
        let squares = of.iter().map(|count| count * count).sum();
        let kinds = of.iter().filter(|count| **count > 0).count() as u64;
        Self { total: (PARTS * COUNTED) as u64, squares, kinds }
    }

    /// Whether the sum of the squares is at most so many tenths of what it would be for so many bytes that are equally
    /// frequent.
    fn are_flat(&self, kinds: u64, tenths: u64) -> bool {
        self.squares * kinds * 10 <= self.total * self.total * tenths
    }
}

/// How many words of eight bytes occur a second time, of those that are looked at; no more than is enough. Which are
/// depends on the bytes there, so that two copies are looked at in the same places. In a run of one byte that would be all
/// of them or none, so words at multiples of eight whose halves are equal count beside those.
fn repeats(unit: &[u8]) -> usize {
    const SLOTS: usize = 2048;
    let mut seen = [0_u64; SLOTS];
    let (eights, _) = unit.as_chunks::<8>();
    let mut twice = eights.iter().filter(|word| word[..4] == word[4..]).count();
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
            if twice >= REPEATS_OF_LETTERS {
                break;
            }
        }
        seen[slot] = word;
    }
    twice.min(REPEATS_OF_LETTERS)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{hex, noise, text};
    use super::*;

    fn order(unit: &[u8]) -> Order {
        super::order(unit, |sample| crate::layers::gzip::packed_size(sample, 4)).unwrap()
    }

    #[test]
    fn noise_is_noise() {
        assert_eq!(order(&noise(UNIT)), Order::Noise);
        let packed = crate::layers::gzip::pack(&hex(1 << 20), 9).unwrap();
        assert_eq!(order(&packed[100_000..][..UNIT]), Order::Noise, "of what is packed already");
        assert_eq!(order(&noise(UNIT - 1)), Order::Plain, "too few");
        assert_eq!(order(&noise(UNIT + 1)), Order::Plain, "too many");
    }

    #[test]
    fn letters_in_no_order_are_letters() {
        let alphabet = |kinds: u8| -> Vec<u8> {
            noise(2 * UNIT).into_iter().filter(|b| *b < kinds).cycle().take(UNIT).collect()
        };
        // 64 letters, as of base64; all of them with breaks of lines; fewer than all that there are.
        let base64: Vec<u8> = noise(UNIT).into_iter().map(|byte| b'A' + byte % 64).collect();
        let mut lines = base64.clone();
        lines.iter_mut().skip(76).step_by(77).for_each(|byte| *byte = b'\n');
        let digits: Vec<u8> = noise(UNIT).into_iter().map(|byte| b'0' + byte % 10).collect();
        for (what, unit) in [
            ("base64", base64),
            ("lines", lines),
            ("digits", digits),
            ("hex", hex(UNIT)),
            ("128", alphabet(128)),
        ] {
            assert_eq!(order(&unit), Order::Letters, "{what}");
        }
    }

    #[test]
    fn what_has_any_order_is_plain() {
        let from = |make: &dyn Fn(usize) -> u8| (0..UNIT).map(make).collect::<Vec<u8>>();
        let random = noise(UNIT);
        let digits: Vec<u8> = noise(6 * UNIT).into_iter().map(|b| b'0' + b % 10).collect();
        // Numbers between 0 and 1: what comes before the digits is always the same.
        let fractions: Vec<u8> = noise(UNIT)
            .chunks(6)
            .flat_map(|six| {
                [&b"0."[..], &six.iter().map(|b| b'0' + b % 10).collect::<Vec<_>>(), b","].concat()
            })
            .take(UNIT)
            .collect();
        let words: Vec<Vec<u8>> = hex(40_000).chunks(10).map(<[u8]>::to_vec).collect();
        let few: Vec<u8> =
            (0..UNIT).flat_map(|at| words[usize::from(random[at])].clone()).take(UNIT).collect();
        // What comes again is shorter than the words that are counted.
        let five = |at: usize| digits[5 * at..][..5].to_vec();
        let links: Vec<u8> = (0..UNIT)
            .flat_map(|at| [five(at / 5), b" ".to_vec(), five(9000 + at), b"\n".to_vec()].concat())
            .take(UNIT)
            .collect();
        let twice: Vec<u8> =
            (0..UNIT).flat_map(|at| [five(at / 2), b"\n".to_vec()].concat()).take(UNIT).collect();
        let sevens: Vec<u8> = (0..UNIT)
            .flat_map(|at| {
                let word =
                    (usize::from(random[2 * at]) * 256 + usize::from(random[2 * at + 1])) % 800;
                random[7 * word..][..7].iter().map(|byte| b'a' + byte % 26).collect::<Vec<_>>()
            })
            .take(UNIT)
            .collect();
        let filled = |between: &[u8]| {
            let fill = |at: usize| if at % 4096 < 512 { between[at] } else { 0xff };
            (0..UNIT).map(fill).collect::<Vec<u8>>()
        };
        for (what, unit) in [
            ("text", text(UNIT)),
            ("zeros", vec![0; UNIT]),
            ("a counter", from(&|at| (at % 256) as u8)),
            ("a period", noise(20_000).into_iter().cycle().take(UNIT).collect()),
            ("a period of digits", hex(20_000).into_iter().cycle().take(UNIT).collect()),
            ("skewed", from(&|at| if random[at] < 32 { 0 } else { random[at] })),
            ("skewed letters", from(&|at| b'a' + (random[at] % 32).min(20))),
            (
                "pairs",
                from(&|at| {
                    if at % 2 == 0 {
                        b'0' + random[at] % 16
                    } else {
                        b'0' + random[at - 1].wrapping_add(1) % 16
                    }
                }),
            ),
            ("fractions", fractions),
            ("a few words", few),
            ("links in order of their sources", links),
            ("lines that come twice", twice),
            ("words of seven letters", sevens),
            ("fill between letters", filled(&hex(UNIT))),
            ("fill between noise", filled(&random)),
        ] {
            assert_eq!(order(&unit), Order::Plain, "{what}");
        }
    }
}
