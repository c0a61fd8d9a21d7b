//! PAX extended header records: `LENGTH KEY=VALUE\n`, LENGTH counting itself. Strict in both directions.

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
        let text = String::from_utf8_lossy(key);
        if records.iter().any(|(other, _)| other == key) {
            return Err(format!("record `{text}` is there twice"));
        }
        if !key.starts_with(XATTR) && value.contains(&0) {
            return Err(format!("record `{text}` contains a NUL"));
        }
        records.push((key.to_vec(), value.to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
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
    }
}
