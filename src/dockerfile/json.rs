//! The JSON form of arguments: a whole array of strings, or not JSON at all.
//!
//! Own scanner, because places of the elements are wanted, and because Go's reader, which sets the rules,
//! takes a lone surrogate where others refuse it. dockerfile.md §1.1.

use serde::de::IgnoredAny;
use std::ops::Range;

/// What the text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// Not a JSON array: the plain form.
    Other,
    /// A JSON array whose first element that is not a string stands here.
    NotStrings(Range<usize>),
    /// Strings with the ranges of their literals, quotes included.
    Strings(Vec<(String, Range<usize>)>),
}

/// Reads `text[range]`; ranges in the result are ranges of `text`.
pub(super) fn parse(text: &str, range: Range<usize>) -> Json {
    Scanner { text: &text[..range.end], at: range.start }.array().unwrap_or(Json::Other)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn array(&mut self) -> Option<Json> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.eat(b'[')?;
        let mut strings = Vec::new();
        let mut foreign = None;
        self.blanks();
        if self.eat(b']').is_none() {
            loop {
                self.blanks();
                let start = self.at;
                if self.peek() == Some(b'"') {
                    let value = self.string()?;
                    strings.push((value, start..self.at));
                } else {
                    self.skip_value()?;
                    foreign.get_or_insert(start..self.at);
                }
                self.blanks();
                if self.eat(b',').is_none() {
                    break;
                }
            }
            self.eat(b']')?;
        }
        self.blanks();
        if self.at != self.text.len() {
            return None;
        }
        Some(foreign.map_or(Json::Strings(strings), Json::NotStrings))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut values =
            serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.eat(b'"')?;
        let mut value = String::new();
        loop {
            let c = self.text[self.at..].chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return Some(value),
                '\\' => value.push(self.escaped()?),
                c if c < ' ' => return None,
                c => value.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                self.surrogates(unit)
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        self.at += 4;
        Some(value)
    }

    /// The character of a code unit; takes the second half of a pair with it.
    fn surrogates(&mut self, high: u32) -> char {
        if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
            let back = self.at;
            self.at += 2;
            if let Some(low) = self.unit().filter(|low| (0xdc00..0xe000).contains(low)) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
            self.at = back;
        }
        char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        match parse(text, 0..text.len()) {
            Json::Strings(list) => Some(list.into_iter().map(|(value, _)| value).collect()),
            _ => None,
        }
    }

    #[test]
    fn arrays_of_strings_are_read() {
        assert_eq!(strings(r#" ["a", "b c"] "#).unwrap(), ["a", "b c"]);
        assert_eq!(strings("[]").unwrap(), Vec::<String>::new());
        assert_eq!(strings("[ ]").unwrap(), Vec::<String>::new());
        assert_eq!(strings(r#"["\"\\\/\n\u00e9"]"#).unwrap(), ["\"\\/\n\u{e9}"]);
        assert_eq!(
            strings(r#"["\ud83d\ude00 \ud800x\ud800\u0041"]"#).unwrap(),
            ["😀 \u{fffd}x\u{fffd}A"]
        );
        assert_eq!(strings("[\"한\"]").unwrap(), ["한"]);
    }

    #[test]
    fn anything_else_is_the_plain_form() {
        for text in [
            "",
            "a",
            "['a']",
            "[]random",
            r#"["a",]"#,
            r#"["a" "b"]"#,
            r#"["a"] b"#,
            r#"["a"#,
            "[a]",
            "[,]",
            r#"["\x"]"#,
            r#"["\u12"]"#,
            "[\"\t\"]",
            "{}",
            "[",
        ] {
            assert_eq!(parse(text, 0..text.len()), Json::Other, "{text}");
        }
    }

    #[test]
    fn other_elements_are_pointed_at() {
        let check = |text: &str, range| {
            assert_eq!(parse(text, 0..text.len()), Json::NotStrings(range), "{text}");
        };
        check(r#"["a", 1]"#, 6..7);
        check("[null]", 1..5);
        check(r#"[["a"], "b"]"#, 1..6);
        check(r#"[{"a":[1]}]"#, 1..10);
        assert_eq!(parse(r#"["a", 1"#, 0..7), Json::Other);
        let deep = format!("[{}{}]", "[".repeat(60_000), "]".repeat(60_000));
        assert_ne!(parse(&deep, 0..deep.len()), Json::Strings(Vec::new()));
    }
}
