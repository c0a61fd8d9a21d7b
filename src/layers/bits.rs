//! Bits, the lowest first, as deflate wants them.

/// Appends bits to bytes.
#[derive(Debug)]
pub(super) struct BitWriter {
    out: Vec<u8>,
    /// Bits that are no whole byte yet; fewer than eight between calls.
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// After these bytes.
    pub(super) fn new(out: Vec<u8>) -> Self {
        Self { out, pending: 0, count: 0 }
    }

    /// Makes room for so many bytes.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Appends the lowest `count` bits, at most 56; those above must be 0.
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.pending |= bits << self.count;
        self.count += count;
        let whole = self.count / 8;
        self.out.extend_from_slice(&self.pending.to_le_bytes());
        self.out.truncate(self.out.len() - 8 + whole as usize);
        self.pending >>= whole * 8;
        self.count %= 8;
    }

    /// All bytes; what is missing of the last one is 0.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push(self.pending as u8);
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_one_after_the_other_the_lowest_first() {
        let mut bits = BitWriter::new(vec![0xaa]);
        for (value, count) in [(1, 1), (0, 0), (0b10, 2), (0x1f, 5), (0x12_3456_789a_bcde, 53)] {
            bits.put(value, count);
        }
        assert_eq!(bits.finish(), [0xaa, 0b1111_1101, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12]);
        assert!(BitWriter::new(Vec::new()).finish().is_empty());
        let mut all: Vec<(u64, u32)> = (0..56).map(|count| ((1_u64 << count) - 1, count)).collect();
        all.push((u64::MAX >> 8, 56));
        let mut bits = BitWriter::new(Vec::new());
        let mut expected = Vec::new();
        for (value, count) in all {
            bits.put(value, count);
            expected.extend((0..count).map(|at| value >> at & 1));
        }
        let packed = bits.finish();
        let found = (0..expected.len()).map(|at| u64::from(packed[at / 8] >> (at % 8) & 1));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
