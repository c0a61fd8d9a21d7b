//! Bytes for tests of what packs them.

/// Bytes without any order, always the same.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_be_bytes()).take(length).collect()
}

/// Numbers in their order.
pub(super) fn text(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|number| format!("{number:x} ").into_bytes()).take(length).collect()
}

/// Digits in no order.
pub(super) fn hex(length: usize) -> Vec<u8> {
    noise(length).into_iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect()
}
