//! What a certificate says, for messages and for dates: a reader of the few fields of X.509 that are shown
//! (RFC 5280 §4.1).
//!
//! In: DER; out: subject, issuer and validity, or `None` for what is no certificate. Nothing is trusted because of what
//! is read here but the dates of a certificate that the user trusts byte for byte.

use super::super::failure::printable;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
/// A name in a message, in characters.
const MAX_NAME: usize = 200;

/// Fields of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// `CN=…, O=…`.
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Subject and issuer are the same bytes.
    pub(crate) names_itself: bool,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    /// The public key's bits, without what kind of key it is; empty when it has none.
    pub(crate) key: Vec<u8>,
}

impl Certificate {
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let mut fields = Fields(Fields(der).expect(SEQUENCE)?);
        let mut fields = Fields(fields.expect(SEQUENCE)?);
        let first = fields.next()?;
        if first.0 == VERSION {
            // What followed is the serial number; without a version it was the first.
            fields.next()?;
        }
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?;
        let mut validity = Fields(fields.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        let key = fields.expect(SEQUENCE).and_then(key_bits);
        Some(Self {
            subject: name(subject)?,
            issuer: name(issuer)?,
            names_itself: subject == issuer,
            not_before,
            not_after,
            key: key.unwrap_or_default().to_vec(),
        })
    }
}

/// The bits of a public key, out of the content of a SubjectPublicKeyInfo.
fn key_bits(content: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(content);
    fields.expect(SEQUENCE)?;
    fields.expect(BIT_STRING)
}

/// The same out of a whole SubjectPublicKeyInfo.
pub(crate) fn key_of(info: &[u8]) -> Option<&[u8]> {
    Fields(info).expect(SEQUENCE).and_then(key_bits)
}

/// `2026-01-31T12:00:00Z`.
pub(crate) fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Elements of DER, one behind the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

/// A distinguished name, the most particular part first.
fn name(der: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut sets = Fields(der);
    while !sets.0.is_empty() {
        let mut pairs = Fields(sets.expect(SET)?);
        while !pairs.0.is_empty() {
            let mut pair = Fields(pairs.expect(SEQUENCE)?);
            let kind = attribute(pair.expect(OBJECT_ID)?);
            let (_, value) = pair.next()?;
            parts.push(format!("{kind}={}", String::from_utf8_lossy(value)));
        }
    }
    parts.reverse();
    Some(if parts.is_empty() {
        "(no name)".to_owned()
    } else {
        printable(&parts.join(", "), MAX_NAME)
    })
}

/// X.520 attributes that are usual in certificates.
fn attribute(id: &[u8]) -> &'static str {
    match id {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        _ => "?",
    }
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let date = Date::new(year, two(0)?, two(2)?).ok()?;
    let time = Time::new(two(4)?, two(6)?, two(8)?, 0).ok()?;
    let zoned = DateTime::from_parts(date, time).to_zoned(TimeZone::UTC).ok()?;
    (rest.len() == 10).then(|| zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82];
        out.extend((content.len() as u16).to_be_bytes());
        out.extend(content);
        out
    }

    fn common_name(text: &str) -> Vec<u8> {
        let pair = [element(OBJECT_ID, &[0x55, 4, 3]), element(0x0c, text.as_bytes())].concat();
        element(SEQUENCE, &element(SET, &element(SEQUENCE, &pair)))
    }

    fn key_info() -> Vec<u8> {
        element(SEQUENCE, &[element(SEQUENCE, &[]), element(BIT_STRING, &[0, 7, 8])].concat())
    }

    fn certificate(version: bool, times: [(u8, &str); 2]) -> Vec<u8> {
        let times = times.map(|(tag, text)| element(tag, text.as_bytes())).concat();
        let mut fields = if version { element(VERSION, &[2, 1, 2]) } else { Vec::new() };
        fields.extend(element(2, &[1]));
        fields.extend(element(SEQUENCE, &[]));
        fields.extend(common_name("issu\u{1b}er"));
        fields.extend(element(SEQUENCE, &times));
        fields.extend(common_name("subject"));
        fields.extend(key_info());
        element(SEQUENCE, &element(SEQUENCE, &fields))
    }

    #[test]
    fn fields_are_read() {
        let times = [(UTC_TIME, "991231235959Z"), (GENERALIZED_TIME, "20500101000000Z")];
        for version in [true, false] {
            let read = Certificate::read(&certificate(version, times)).unwrap();
            assert_eq!((&*read.subject, &*read.issuer), ("CN=subject", "CN=issu er"));
            assert!(!read.names_itself);
            assert_eq!((&*read.key, key_of(&key_info())), (&[0, 7, 8][..], Some(&[0, 7, 8][..])));
            assert_eq!(date(read.not_before), "1999-12-31T23:59:59Z");
            assert_eq!(date(read.not_after), "2050-01-01T00:00:00Z");
        }
    }

    #[test]
    fn what_is_cut_or_odd_is_no_certificate() {
        let good = [(UTC_TIME, "260101000000Z"); 2];
        let whole = certificate(true, good);
        for end in 0..whole.len() {
            assert_eq!(Certificate::read(&whole[..end]), None, "{end}");
        }
        for text in ["260101000000", "2601010000Z", "261301000000Z", "26é101000000Z", "", "Z"] {
            let odd = certificate(true, [(UTC_TIME, text), good[1]]);
            assert_eq!(Certificate::read(&odd), None, "{text}");
        }
        assert_eq!(Certificate::read(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
