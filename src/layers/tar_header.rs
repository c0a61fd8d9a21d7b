//! One 512-byte header block, and the sparse maps of GNU: fields as they are written, nothing guessed.
//!
//! Every number is checked; a field that two readers could understand differently is an error, whose text says what is
//! wrong (the caller adds which entry).

use super::pax::InForce;

pub(super) const BLOCK: usize = 512;

/// Most pieces of one sparse file.
const MAX_PIECES: usize = 1 << 20;

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

/// Where the data of a sparse file belongs: offset and length, ascending.
pub(super) type Pieces = Vec<(u64, u64)>;

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

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits with blanks around, or GNU's base 256 (two's complement behind a set top bit).
fn number(field: &[u8]) -> Result<i64, &'static str> {
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

/// The first pieces of an old GNU sparse header, the real size, and whether more blocks of pieces follow.
pub(super) fn old_sparse(block: &[u8; BLOCK]) -> Result<(Pieces, u64, bool), String> {
    let real = number(&block[483..495]).ok().and_then(|n| u64::try_from(n).ok());
    let real = real.ok_or("sparse file has a bad size")?;
    let mut pieces = Pieces::new();
    add_pieces(&mut pieces, &block[386..482])?;
    Ok((pieces, real, block[482] != 0))
}

/// Further pieces of an old GNU sparse header, and whether still more follow.
pub(super) fn more_sparse(block: &[u8; BLOCK], pieces: &mut Pieces) -> Result<bool, String> {
    add_pieces(pieces, &block[..504])?;
    Ok(block[504] != 0)
}

fn add_pieces(pieces: &mut Pieces, table: &[u8]) -> Result<(), String> {
    for pair in table.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        let read = |field: &[u8]| number(field).ok().and_then(|n| u64::try_from(n).ok());
        let (offset, length) = (read(&pair[..12]), read(&pair[12..]));
        let piece = offset.zip(length).ok_or("sparse map has a bad number")?;
        pieces.push(piece);
    }
    if pieces.len() > MAX_PIECES {
        return Err("sparse file has too many pieces".to_owned());
    }
    Ok(())
}

/// Reads the decimal lines of a PAX 1.0 sparse map: a count, then offset and length of each piece.
pub(super) struct SparseLines {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl SparseLines {
    pub(super) fn new() -> Self {
        Self { numbers: Vec::new(), digits: Vec::new() }
    }

    /// Takes one block; the pieces when it was the last one.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> Result<Option<Pieces>, String> {
        for byte in block {
            match byte {
                b'0'..=b'9' if self.digits.len() < 19 => self.digits.push(*byte),
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.digits).parse();
                    self.numbers.push(line.map_err(|_| "sparse map has a bad number")?);
                    self.digits.clear();
                }
                _ => return Err("sparse map has a bad number".to_owned()),
            }
            if let Some((count, pieces)) = self.numbers.split_first() {
                if *count > MAX_PIECES as u64 {
                    return Err("sparse file has too many pieces".to_owned());
                }
                if pieces.len() as u64 == count * 2 {
                    let pairs = pieces.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                    return Ok(Some(pairs.collect()));
                }
            }
        }
        Ok(None)
    }
}

/// Checks that pieces ascend, fit into the file and hold exactly the stored bytes.
pub(super) fn check_pieces(pieces: &Pieces, real: u64, stored: u64) -> Result<(), String> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for (offset, length) in pieces {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= real);
        end = next.ok_or("sparse map has overlapping or misplaced pieces")?;
        sum += length;
    }
    if sum != stored {
        return Err(format!("sparse map holds {sum} bytes, the entry {stored}"));
    }
    Ok(())
}

/// A decimal number of a PAX record.
pub(super) fn decimal(records: &InForce, key: &str) -> Result<Option<i64>, String> {
    let Some(value) = records.get(key) else { return Ok(None) };
    let text = std::str::from_utf8(value).unwrap_or_default();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain);
    number.map(Some).ok_or_else(|| format!("PAX `{key}` is not a number"))
}

/// Seconds and nanoseconds of a PAX time, a decimal fraction that may be negative.
pub(super) fn time(records: &InForce, key: &str) -> Result<Option<(i64, u32)>, String> {
    let Some(value) = records.get(key) else { return Ok(None) };
    let bad = || format!("PAX `{key}` is not a time");
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) {
        return Err(bad());
    }
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    let nanos: u32 = format!("{part:0<9.9}").parse().map_err(|_| bad())?;
    Ok(Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

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

    #[test]
    fn times_are_floored_to_seconds_and_nanoseconds() {
        let check = |text: &str, expect: Option<(i64, u32)>| {
            let records = vec![(b"mtime".to_vec(), text.as_bytes().to_vec())];
            let records = InForce::new(records, &Rc::default());
            assert_eq!(time(&records, "mtime").ok().flatten(), expect, "{text}");
        };
        check("12", Some((12, 0)));
        check("12.5", Some((12, 500_000_000)));
        check("12.0000000019", Some((12, 1)));
        check("-1", Some((-1, 0)));
        check("-1.5", Some((-2, 500_000_000)));
        check("-0.25", Some((-1, 750_000_000)));
        for bad in ["", ".5", "1e3", "+1", "1.5.5", "--1", "99999999999999999999"] {
            check(bad, None);
        }
    }
}
