//! Strings and numbers as ssh writes them (RFC 4251 §5); pure.

/// A string with its length in front.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing that is written here comes near 4 GiB.
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// A positive number without needless zeros in front.
pub(super) fn put_number(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut bytes = without_zeros(bytes).to_vec();
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    put_string(out, &bytes);
}

pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

pub(super) fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_u32(bytes)?;
    rest.split_at_checked(length as usize)
}

pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

/// The remainder of `number` by `modulus`, both big-endian; `None` for a modulus of zero.
pub(super) fn remainder(number: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let modulus = without_zeros(modulus);
    if modulus.is_empty() {
        return None;
    }
    // One byte more, so that doubling cannot overflow.
    let width = modulus.len() + 1;
    let mut padded = vec![0];
    padded.extend(modulus);
    let mut rest = vec![0_u8; width];
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = (byte >> bit) & 1;
            for digit in rest.iter_mut().rev() {
                let doubled = u16::from(*digit) << 1 | u16::from(carry);
                *digit = doubled as u8;
                carry = (doubled >> 8) as u8;
            }
            if rest >= padded {
                subtract(&mut rest, &padded);
            }
        }
    }
    Some(without_zeros(&rest).to_vec())
}

/// `number -= other`; both of one length, `other` not larger.
fn subtract(number: &mut [u8], other: &[u8]) {
    let mut borrow = false;
    for (digit, take) in number.iter_mut().rev().zip(other.iter().rev()) {
        let (less, first) = digit.overflowing_sub(*take);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        *digit = less;
        borrow = first || second;
    }
}

/// `number - 1`, big-endian; zero stays zero.
pub(super) fn minus_one(number: &[u8]) -> Vec<u8> {
    let mut less = number.to_vec();
    let mut one = vec![0; number.len()];
    if let Some(last) = one.last_mut() {
        *last = 1;
    }
    if without_zeros(number).is_empty() {
        return less;
    }
    subtract(&mut less, &one);
    less
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positive_and_short() {
        let number = |bytes: &[u8]| {
            let mut out = Vec::new();
            put_number(&mut out, bytes);
            out
        };
        assert_eq!(number(&[0, 0, 1]), [0, 0, 0, 1, 1]);
        assert_eq!(number(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(number(&[0]), [0, 0, 0, 0]);
    }

    #[test]
    fn strings_that_are_cut_are_no_strings() {
        assert_eq!(take_string(&[0, 0, 0, 2, 7, 8, 9]), Some((&[7, 8][..], &[9][..])));
        assert_eq!(take_string(&[0, 0, 0, 2, 7]), None);
        assert_eq!(take_string(&[0xff; 8]), None);
        assert_eq!(take_u32(&[0, 0]), None);
    }

    #[test]
    fn remainders_are_those_of_plain_numbers() {
        let pairs =
            [(0, 1), (7, 7), (1_000_003, 17), (u64::MAX, 3), (u64::MAX - 4, u64::MAX), (255, 256)];
        for (number, modulus) in pairs {
            let wanted = (number % modulus).to_be_bytes();
            let found = remainder(&number.to_be_bytes(), &modulus.to_be_bytes()).unwrap();
            assert_eq!(found, without_zeros(&wanted), "{number} {modulus}");
        }
        assert_eq!(remainder(&[1], &[0, 0]), None);
        assert_eq!(minus_one(&[1, 0]), [0, 255]);
        assert_eq!(minus_one(&[0]), [0]);
    }
}
