//! Nix's base 32: its own alphabet without `e`, `o`, `u` and `t`, the last five bits first, no padding.
//!
//! The text of n bytes has ⌈8n/5⌉ digits: 32 for the 20 bytes of a store path, 52 for a SHA-256.

/// Digits by value.
const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Value of each byte as a digit, or [`NO_DIGIT`].
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

const NO_DIGIT: u8 = 0xff;

/// True for the 32 bytes that are digits.
pub fn is_digit(byte: u8) -> bool {
    VALUES[usize::from(byte)] != NO_DIGIT
}

/// Number of digits of so many bytes.
pub fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Bytes as digits.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |at: usize| {
        let (byte, bit) = (at * 5 / 8, at * 5 % 8);
        let low = u16::from(bytes[byte]);
        let high = u16::from(bytes.get(byte + 1).copied().unwrap_or(0));
        char::from(ALPHABET[usize::from(((high << 8 | low) >> bit) & 0x1f)])
    };
    (0..encoded_len(bytes.len())).rev().map(digit).collect()
}

/// Digits as so many bytes; `None` for another length, another alphabet, or bits beyond the last byte.
pub fn decode(digits: &[u8], bytes: usize) -> Option<Vec<u8>> {
    if digits.len() != encoded_len(bytes) {
        return None;
    }
    let mut out = vec![0_u8; bytes];
    for (at, digit) in digits.iter().rev().enumerate() {
        let value = VALUES[usize::from(*digit)];
        if value == NO_DIGIT {
            return None;
        }
        let (byte, bit) = (at * 5 / 8, at * 5 % 8);
        let spread = u16::from(value) << bit;
        out[byte] |= (spread & 0xff) as u8;
        match (out.get_mut(byte + 1), (spread >> 8) as u8) {
            (Some(next), high) => *next |= high,
            (None, 0) => {}
            (None, _) => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use proptest::prelude::*;

    #[test]
    fn a_sha256_has_the_text_that_nix_hash_gives() {
        // `printf hello > f; nix-hash --type sha256 --flat --base32 f`
        let hash: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&Digest::of(b"hello").hex()[at..at + 2], 16).unwrap())
            .collect();
        let text = "094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic";
        assert_eq!(encode(&hash), text);
        assert_eq!(decode(text.as_bytes(), 32), Some(hash));
    }

    #[test]
    fn what_is_no_text_of_so_many_bytes_is_refused() {
        let text = encode(&[0xff; 32]);
        assert_eq!(decode(&text.as_bytes()[1..], 32), None);
        assert_eq!(decode(text.to_uppercase().as_bytes(), 32), None);
        assert_eq!(decode(&[b'e'; 52], 32), None);
        assert_eq!(decode(&[b'z'; 52], 32), None, "four bits too many are set");
        assert_eq!(decode(b"", 0), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes(), bytes.len()), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..70), size in 0_usize..50) {
            if let Some(bytes) = decode(&text, size) {
                prop_assert_eq!(encode(&bytes).into_bytes(), text);
            }
        }
    }
}
