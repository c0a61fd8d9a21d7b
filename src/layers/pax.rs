//! PAX extended header records: `LENGTH KEY=VALUE\n`, LENGTH counting itself. Strict in both directions, and bounded:
//! neither one header nor all global ones together hold more than [`MAX_EXTENDED`] bytes, and reading them takes no
//! longer than sorting them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Largest extended header or long name, and the most that all global headers may say together.
pub(super) const MAX_EXTENDED: u64 = 1 << 20;

/// Records of one header, and of all global ones together. A file of Linux has fewer extended attributes: their names
/// fit into 64 KiB.
const MAX_RECORDS: usize = 16_384;

/// Key prefix of extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Keys and values in the order of the header.
pub(super) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// One record.
pub(super) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    // Space, equals sign and line end.
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    let mut out = (rest + digits).to_string().into_bytes();
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

/// All records of an extended header; the error says what is wrong with it.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, String> {
    let mut records = Records::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or("record has no length")?;
        let length = &bytes[..space];
        let canonical = length.first().is_some_and(|b| (b'1'..=b'9').contains(b))
            && length.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(length).ok().and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|_| canonical).ok_or("record has a bad length")?;
        let record = bytes.get(space + 1..length).ok_or("record is longer than its header")?;
        let record = record.strip_suffix(b"\n").ok_or("record has the wrong length")?;
        let equals = record.iter().position(|b| *b == b'=').ok_or("record has no key")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("record has a bad key".to_owned());
        }
        if !key.starts_with(XATTR) && value.contains(&0) {
            return Err(format!("record `{}` contains a NUL", String::from_utf8_lossy(key)));
        }
        if records.len() == MAX_RECORDS {
            return Err(format!("it has more than {MAX_RECORDS} records"));
        }
        records.push((key.to_vec(), value.to_vec()));
        bytes = &bytes[length..];
    }
    match twice(&records) {
        Some(key) => Err(format!("record `{}` is there twice", String::from_utf8_lossy(key))),
        None => Ok(records),
    }
}

/// A key that two records have.
fn twice(records: &Records) -> Option<&[u8]> {
    let mut keys: Vec<&[u8]> = records.iter().map(|(key, _)| &key[..]).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// What global headers say of all entries that follow. The last record of a key counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Global {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of all keys and values.
    bytes: usize,
}

impl Global {
    /// Adds those of a further header; the error says what is wrong with them.
    pub(super) fn add(&mut self, records: Records) -> Result<(), String> {
        for (key, value) in records {
            let of_key = key.len();
            self.bytes += of_key + value.len();
            if let Some(before) = self.records.insert(key, value) {
                self.bytes -= of_key + before.len();
            }
        }
        if self.records.len() > MAX_RECORDS {
            return Err(format!("global headers have more than {MAX_RECORDS} records together"));
        }
        if self.bytes as u64 > MAX_EXTENDED {
            return Err(format!("global headers have more than {MAX_EXTENDED} bytes together"));
        }
        Ok(())
    }
}

/// The records that hold for one entry: its own, and the global ones that these do not replace.
#[derive(Debug)]
pub(super) struct InForce {
    own: Records,
    global: Rc<Global>,
}

impl InForce {
    pub(super) fn new(own: Records, global: &Rc<Global>) -> Self {
        Self { own, global: Rc::clone(global) }
    }

    /// Value of a record. An empty one takes a record back.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let own = self.own.iter().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value);
        let found = own.or_else(|| self.global.records.get(key.as_bytes()))?;
        Some(&found[..]).filter(|value| !value.is_empty())
    }

    /// A decimal number.
    pub(super) fn decimal(&self, key: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| plain);
        number.map(Some).ok_or_else(|| format!("PAX `{key}` is not a number"))
    }

    /// Seconds and nanoseconds of a time, a decimal fraction that may be negative.
    pub(super) fn time(&self, key: &str) -> Result<Option<(i64, u32)>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
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

    /// Whether the entry has a record of its own whose key begins so.
    pub(super) fn has_own(&self, prefix: &[u8]) -> bool {
        self.own.iter().any(|(key, value)| key.starts_with(prefix) && !value.is_empty())
    }

    /// Extended attributes by their names; these may have empty values.
    pub(super) fn xattrs(&self) -> BTreeMap<&[u8], &[u8]> {
        let from: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(XATTR), Bound::Unbounded);
        let global = self.global.records.range::<[u8], _>(from);
        let mut all: BTreeMap<&[u8], &[u8]> =
            global.map_while(|(key, value)| attribute(key, value)).collect();
        all.extend(self.own.iter().filter_map(|(key, value)| attribute(key, value)));
        all
    }
}

/// Name and value of the attribute that a record is.
fn attribute<'r>(key: &'r [u8], value: &'r [u8]) -> Option<(&'r [u8], &'r [u8])> {
    Some((key.strip_prefix(XATTR)?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"k", b"v"), b"6 k=v\n");
        assert_eq!(record(b"path", b"abc"), b"12 path=abc\n");
        // 9 → 10 digits of length: the longer count must hold for itself.
        for size in 0..2000 {
            let text = record(b"k", &vec![b'v'; size]);
            assert_eq!(parse(&text).unwrap(), vec![(b"k".to_vec(), vec![b'v'; size])]);
        }
    }

    #[test]
    fn bad_records_are_refused_with_the_reason() {
        let check = |text: &str, reason: &str| {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), reason, "{text:?}");
        };
        check("x", "record has no length");
        check("06 k=v\n", "record has a bad length");
        check("-6 k=v\n", "record has a bad length");
        check("99999999999999999999999 k=v\n", "record has no length");
        check("999999999999999999 k=v\n", "record is longer than its header");
        check("7 k=v\n", "record is longer than its header");
        check("5 k=v\n", "record has the wrong length");
        check("1 k=v\n", "record is longer than its header");
        check("5 kv\n", "record has no key");
        check("5 =v\n", "record has a bad key");
        check("6 k=v\n6 k=w\n", "record `k` is there twice");
        check("6 k=\0\n", "record `k` contains a NUL");
        check("6 k=v\n6 l=v\n6 k=w\n", "record `k` is there twice");
    }

    /// Short records with these keys.
    fn short(keys: std::ops::Range<usize>) -> Vec<u8> {
        keys.flat_map(|key| record(format!("{key:x}").as_bytes(), b"")).collect()
    }

    /// Each was compared with all before it: a header of 1 MiB took minutes. Found in review.
    #[test]
    fn one_header_has_so_many_records_and_no_more() {
        assert_eq!(parse(&short(0..MAX_RECORDS)).unwrap().len(), MAX_RECORDS);
        let error = parse(&short(0..20_000)).unwrap_err();
        assert_eq!(error, "it has more than 16384 records");
        let again = [short(0..9000), record(b"0", b"")].concat();
        assert_eq!(parse(&again).unwrap_err(), "record `0` is there twice");
    }

    /// Every one of them was kept, 1 MiB a header. Found in review.
    #[test]
    fn all_global_headers_together_say_no_more_than_one_may() {
        let half = vec![b'v'; MAX_EXTENDED as usize / 2 - 1];
        let one = |key: &[u8]| vec![(key.to_vec(), half.clone())];
        let mut global = Global::default();
        // What is replaced does not count.
        for key in [b"a", b"b", b"a", b"b"] {
            global.add(one(key)).unwrap();
        }
        let error = global.add(vec![(b"c".to_vec(), Vec::new())]).unwrap_err();
        assert_eq!(error, "global headers have more than 1048576 bytes together");
        let mut global = Global::default();
        global.add(parse(&short(0..MAX_RECORDS)).unwrap()).unwrap();
        global.add(parse(&short(0..9)).unwrap()).unwrap();
        let error = global.add(one(b"x")).unwrap_err();
        assert_eq!(error, "global headers have more than 16384 records together");
    }

    #[test]
    fn records_of_an_entry_go_before_global_ones() {
        let records = |text: &[(&str, &str)]| -> Records {
            let bytes = |text: &str| text.as_bytes().to_vec();
            text.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
        };
        let mut global = Global::default();
        let said = [("uid", "1"), ("gid", "2"), ("SCHILY.xattr.a", "3"), ("SCHILY.xattr.b", "4")];
        global.add(records(&said)).unwrap();
        global.add(records(&[("gid", "5"), ("comment", "6"), ("mtime", "")])).unwrap();
        let own = records(&[("uid", ""), ("SCHILY.xattr.b", ""), ("SCHILY.xattr.c", "7")]);
        let records = InForce::new(own, &Rc::new(global));
        let values = ["uid", "gid", "mtime", "comment"].map(|key| records.get(key));
        assert_eq!(values, [None, Some(&b"5"[..]), None, Some(&b"6"[..])]);
        let xattrs = records.xattrs().into_iter();
        let xattrs = xattrs.map(|(name, value)| [name, b"=", value].concat());
        assert_eq!(xattrs.collect::<Vec<_>>(), [&b"a=3"[..], b"b=", b"c=7"]);
        assert_eq!([&b"SCHILY."[..], b"uid"].map(|prefix| records.has_own(prefix)), [true, false]);
    }

    #[test]
    fn times_are_floored_to_seconds_and_nanoseconds() {
        let check = |text: &str, expect: Option<(i64, u32)>| {
            let records = vec![(b"mtime".to_vec(), text.as_bytes().to_vec())];
            let records = InForce::new(records, &Rc::default());
            assert_eq!(records.time("mtime").ok().flatten(), expect, "{text}");
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
