//! One 512-byte header block: fields as they are written, nothing guessed.
//!
//! Every number is checked; a field that two readers could understand differently is an error, whose text says what is
//! wrong (the caller adds which entry).

pub(super) const BLOCK: usize = 512;

/// The fields of a header block that mean anything to us.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
}

/// True when a block is a tar header by its checksum.
pub(super) fn is_header(block: &[u8; BLOCK]) -> bool {
    checksum_matches(block) && block.iter().any(|b| *b != 0)
}

fn checksum_matches(block: &[u8; BLOCK]) -> bool {
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum();
    number(&block[148..156]) == Ok(i64::from(sum + 8 * u32::from(b' ')))
}

/// Reads a header block.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Fields, String> {
    if !checksum_matches(block) {
        return Err("header has the wrong checksum".to_owned());
    }
    let header = tar::Header::from_byte_slice(block).as_old();
    let field = |what: &str, bytes: &[u8]| {
        number(bytes).map_err(|reason| format!("{what} in the header is {reason}"))
    };
    let magic = &block[257..265];
    let (ustar, gnu) = (magic == b"ustar\x0000", magic == b"ustar  \0");
    let mut name = text(&header.name);
    if ustar {
        let prefix = text(&block[345..500]);
        if !prefix.is_empty() {
            name = [&prefix[..], b"/", &name].concat();
        }
    }
    let kind = header.linkflag[0];
    let mut device = (0, 0);
    if matches!(kind, b'3' | b'4') && (ustar || gnu) {
        let part = |what: &str, bytes: &[u8]| {
            u32::try_from(field(what, bytes)?).map_err(|_| format!("{what} is out of range"))
        };
        device = (part("major device number", &block[329..337])?, part("minor", &block[337..345])?);
    }
    let mode = field("mode", &header.mode)?;
    Ok(Fields {
        name,
        link: text(&header.linkname),
        kind,
        // Some writers put the file type above the permission bits.
        mode: u32::try_from(mode).map_err(|_| "mode is out of range".to_owned())? & 0o7777,
        uid: field("owner", &header.uid)?,
        gid: field("group", &header.gid)?,
        size: field("size", &header.size)?,
        mtime: field("mtime", &header.mtime)?,
        device,
    })
}

/// A name up to its first NUL.
pub(super) fn text(field: &[u8]) -> Vec<u8> {
    field.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits with blanks around, or GNU's base 256 (two's complement behind a set top bit).
pub(super) fn number(field: &[u8]) -> Result<i64, &'static str> {
    let first = field.first().copied().unwrap_or_default();
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i128 = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or("out of range")? + i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| "out of range");
    }
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| *b != b' ').unwrap_or(field.len());
    let end = field[start..].iter().position(blank).map_or(field.len(), |at| start + at);
    if !field[end..].iter().all(blank) {
        return Err("not a number");
    }
    field[start..end].iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => {
            value.checked_mul(8).map(|v| v + i64::from(digit - b'0')).ok_or("out of range")
        }
        _ => Err("not a number"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let check = |field: &[u8], expect: Result<i64, &str>| assert_eq!(number(field), expect);
        check(b"0000644\0", Ok(0o644));
        check(b"   644 \0", Ok(0o644));
        check(b"\0\0\0\0\0\0\0\0", Ok(0));
        check(b"77777777", Ok(0o77_777_777));
        check(b"\x80\0\0\0\0\0\0\x01", Ok(1));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(-2));
        check(b"\x80\0\0\x02\0\0\0\0\0\0\0\0", Err("out of range"));
        check(b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Ok(8 << 30));
        check(b"0000008\0", Err("not a number"));
        check(b"12 34\0\0\0", Err("not a number"));
        check(b"-000001\0", Err("not a number"));
    }
}
