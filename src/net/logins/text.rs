//! JSON that stays as its owner wrote it: where the members of objects are, and edits that leave all other bytes alone.
//!
//! In: the text of a file; out: members with their places, and the text after an edit. The grammar is checked once, by
//! serde_json; what is looked for afterwards only has to be found in a text that is known to be whole.

use serde::de::IgnoredAny;
use std::ops::Range;

/// A text that is one JSON value.
#[derive(Clone, Debug)]
pub(super) struct Text(String);

/// A member of an object.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    /// From its key to the end of its value.
    whole: Range<usize>,
    pub(super) value: Range<usize>,
}

/// What a text is not: the line, counted from 1, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) line: usize,
    pub(super) why: String,
}

impl Text {
    /// Checks the grammar. A text of nothing but blanks is an object without members.
    pub(super) fn parse(text: String) -> Result<Self, Flaw> {
        if text.trim().is_empty() {
            return Ok(Self("{}\n".to_owned()));
        }
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => {
                // Errors of the grammar show nothing of the text.
                let why = error.to_string();
                let why = why.split(" at line ").next().unwrap_or_default();
                Err(Flaw { line: error.line(), why: format!("it is no JSON: {why}") })
            }
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The line of a place, counted from 1.
    pub(super) fn line(&self, place: &Range<usize>) -> usize {
        1 + self.0[..place.start].bytes().filter(|byte| *byte == b'\n').count()
    }

    /// The whole value.
    pub(super) fn root(&self) -> Range<usize> {
        let start = self.blanks(0);
        start..self.end_of_value(start)
    }

    /// The members of an object in their order; `None` when it is none.
    pub(super) fn members(&self, object: &Range<usize>) -> Option<Vec<Member>> {
        if self.byte(object.start) != b'{' {
            return None;
        }
        let mut found = Vec::new();
        let mut at = self.blanks(object.start + 1);
        while self.byte(at) == b'"' {
            let start = at;
            let end = self.end_of_value(start);
            let key = self.string(&(start..end))?;
            // Past the colon, which stands there in a whole text.
            let value = self.blanks(self.blanks(end) + 1);
            let value = value..self.end_of_value(value);
            at = self.blanks(value.end);
            if self.byte(at) == b',' {
                at = self.blanks(at + 1);
            }
            found.push(Member { key, whole: start..value.end, value });
        }
        Some(found)
    }

    /// A member by its key; of several the last, as everywhere.
    pub(super) fn member(&self, object: &Range<usize>, key: &str) -> Option<Member> {
        self.members(object)?.into_iter().rev().find(|member| member.key == key)
    }

    /// The string that a value is.
    pub(super) fn string(&self, value: &Range<usize>) -> Option<String> {
        serde_json::from_str(&self.0[value.clone()]).ok()
    }

    /// Puts a member into the object behind `section` of the root, making both where they are missing. `fields` are what
    /// the new value, an object, has.
    pub(super) fn put(&mut self, section: &str, key: &str, fields: &[(&str, &str)]) {
        let unit = self.indent();
        let root = self.root();
        if self.member(&root, section).is_none_or(|found| self.members(&found.value).is_none()) {
            self.set(&root, section, "{}", unit.as_deref(), 1);
        }
        let Some(found) = self.member(&self.root(), section) else { return };
        let value = object(fields, unit.as_deref(), 2);
        self.set(&found.value, key, &value, unit.as_deref(), 2);
    }

    /// Takes members out of an object.
    pub(super) fn remove(&mut self, section: Option<&str>, gone: impl Fn(&str) -> bool) -> usize {
        let mut count = 0;
        loop {
            let root = self.root();
            let object = match section {
                Some(name) => self.member(&root, name).map(|found| found.value),
                None => Some(root),
            };
            let Some(object) = object else { return count };
            let members = self.members(&object).unwrap_or_default();
            let Some(at) = members.iter().position(|member| gone(&member.key)) else {
                return count;
            };
            count += 1;
            let range = match (at.checked_sub(1), members.get(at + 1)) {
                (Some(before), _) => members[before].whole.end..members[at].whole.end,
                (None, Some(next)) => members[at].whole.start..next.whole.start,
                (None, None) => object.start + 1..object.end - 1,
            };
            self.0.replace_range(range, "");
        }
    }

    /// How the root indents its members; `None` when all is in one line.
    fn indent(&self) -> Option<String> {
        let root = self.root();
        let first = self.blanks(root.start + 1);
        let between = &self.0[root.start + 1..first];
        match between.rsplit_once('\n') {
            Some((_, indent)) if self.byte(first) == b'"' => Some(indent.to_owned()),
            _ if self.byte(first) == b'}' => Some("\t".to_owned()),
            _ => None,
        }
    }

    /// Sets a member of an object whose members stand `level` deep.
    fn set(
        &mut self,
        object: &Range<usize>,
        key: &str,
        value: &str,
        unit: Option<&str>,
        level: usize,
    ) {
        let members = self.members(object).unwrap_or_default();
        if let Some(found) = members.iter().rev().find(|member| member.key == key) {
            return self.0.replace_range(found.value.clone(), value);
        }
        let colon = if unit.is_some() { ": " } else { ":" };
        let member = format!("{}{}{colon}{value}", line(unit, level), quoted(key));
        if let Some(last) = members.last() {
            return self.0.insert_str(last.whole.end, &format!(",{member}"));
        }
        let whole = format!("{{{member}{}}}", line(unit, level.saturating_sub(1)));
        self.0.replace_range(object.clone(), &whole);
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.as_bytes().get(at).copied().unwrap_or_default()
    }

    /// The next place that is no blank.
    fn blanks(&self, at: usize) -> usize {
        let rest = self.0.as_bytes().get(at..).unwrap_or_default();
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        at + rest.iter().take_while(|byte| blank(byte)).count()
    }

    /// The place behind the value that begins here.
    fn end_of_value(&self, start: usize) -> usize {
        let (mut depth, mut in_string) = (0_usize, false);
        let mut bytes = self.0.bytes().enumerate().skip(start);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' if in_string => {
                    bytes.next();
                    continue;
                }
                b'"' => in_string = !in_string,
                _ if in_string => continue,
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => {
                    return at;
                }
                b'}' | b']' => depth -= 1,
                _ => continue,
            }
            if depth == 0 && !in_string {
                return at + 1;
            }
        }
        self.0.len()
    }
}

fn object(fields: &[(&str, &str)], unit: Option<&str>, level: usize) -> String {
    if fields.is_empty() {
        return "{}".to_owned();
    }
    let colon = if unit.is_some() { ": " } else { ":" };
    let field = |(key, value): &(&str, &str)| {
        format!("{}{}{colon}{}", line(unit, level + 1), quoted(key), quoted(value))
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!("{{{}{}}}", fields.join(","), line(unit, level))
}

fn line(unit: Option<&str>, level: usize) -> String {
    unit.map_or_else(String::new, |unit| format!("\n{}", unit.repeat(level)))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn text(text: &str) -> Text {
        Text::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn members_are_found_where_they_are() {
        let found = text(
            " {\"a\" : [1, {\"x\": \"}\"}], \"b\\u0041\":\"q\\\"\\\\\",\n\"c\":{ } , \"d\": -1.5e3 ,\"a\":null}\n",
        );
        let members = found.members(&found.root()).unwrap();
        let shown: Vec<(&str, &str)> =
            members.iter().map(|m| (m.key.as_str(), &found.0[m.value.clone()])).collect();
        assert_eq!(
            shown,
            [
                ("a", "[1, {\"x\": \"}\"}]"),
                ("bA", "\"q\\\"\\\\\""),
                ("c", "{ }"),
                ("d", "-1.5e3"),
                ("a", "null")
            ]
        );
        assert_eq!(found.string(&members[1].value).unwrap(), "q\"\\");
        assert_eq!(found.line(&members[2].value), 2);
        assert_eq!(&found.0[found.member(&found.root(), "a").unwrap().value], "null");
        assert!(text("[{}]").members(&(0..4)).is_none());
        assert_eq!(text("  \n").as_str(), "{}\n");
        assert_eq!(text("17").root(), 0..2);
    }

    #[test]
    fn a_flaw_has_a_line_and_shows_nothing_of_the_text() {
        for (bad, line, why) in [
            ("{\n\"a\": \"secret\"\n\"b\": 1}", 3, "it is no JSON: expected `,` or `}`"),
            ("{\"a\": secret}", 1, "it is no JSON: expected value"),
            ("{\n\n", 3, "it is no JSON: EOF while parsing an object"),
            ("{} secret", 1, "it is no JSON: trailing characters"),
        ] {
            let flaw = Text::parse(bad.to_owned()).unwrap_err();
            assert_eq!(flaw, Flaw { line, why: why.to_owned() }, "{bad}");
        }
    }

    #[test]
    fn what_is_put_in_looks_like_the_rest() {
        let put = |before: &str, fields: &[(&str, &str)]| {
            let mut text = text(before);
            text.put("auths", "h", fields);
            text.0
        };
        let auth = [("auth", "x\"")];
        assert_eq!(
            put("", &auth),
            "{\n\t\"auths\": {\n\t\t\"h\": {\n\t\t\t\"auth\": \"x\\\"\"\n\t\t}\n\t}\n}\n"
        );
        assert_eq!(put("{\"a\":1}", &auth), r#"{"a":1,"auths":{"h":{"auth":"x\""}}}"#);
        assert_eq!(
            put("{\n  \"z\": [1,  2],\n  \"auths\": {\n    \"g\": {}\n  },\n  \"a\": {}\n}", &[]),
            "{\n  \"z\": [1,  2],\n  \"auths\": {\n    \"g\": {},\n    \"h\": {}\n  },\n  \"a\": {}\n}"
        );
        assert_eq!(
            put(r#"{"auths":{"h":{"identitytoken":"old"}},"b":1}"#, &auth),
            r#"{"auths":{"h":{"auth":"x\""}},"b":1}"#
        );
        assert_eq!(put(r#"{"auths":null}"#, &[]), r#"{"auths":{"h":{}}}"#);
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = "[".repeat(1 << 18) + &"]".repeat(1 << 18);
        let found = text(&format!("{{\"a\": {deep}, \"b\": 1}}"));
        assert_eq!(found.members(&found.root()).unwrap().len(), 2);
        assert!(Text::parse("[".repeat(1 << 18)).is_err());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever a file holds, an edit changes what it is to change and nothing else.
        #[test]
        fn edits_keep_everything_else(
            mut all in prop::collection::btree_map("[a-z]{1,3}|.{0,3}", json(), 0..4),
            logins in prop::collection::btree_map("[a-z]{1,2}", json(), 0..4),
            key in "[a-z]{1,2}|.{0,4}",
            auth in ".{0,6}",
            pretty in any::<bool>(),
        ) {
            all.insert("auths".to_owned(), Value::Object(logins.into_iter().collect()));
            let mut wanted = Value::Object(all.into_iter().collect());
            let before = if pretty { format!("{wanted:#}") } else { wanted.to_string() };
            let mut text = text(&before);
            text.put("auths", &key, &[("auth", &auth)]);
            wanted["auths"][&key] = serde_json::json!({"auth": auth});
            prop_assert_eq!(serde_json::from_str::<Value>(text.as_str()).unwrap(), wanted.clone());
            text.remove(Some("auths"), |known| known == key);
            wanted["auths"].as_object_mut().unwrap().remove(&key);
            prop_assert_eq!(serde_json::from_str::<Value>(text.as_str()).unwrap(), wanted);
        }
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest() {
        let mut all =
            text("{\"auths\": {\"a\": {}, \"h\":{\"auth\":\"x\"},\n \"b\": 1}, \"z\": 0}");
        assert_eq!(all.remove(Some("auths"), |key| key == "h"), 1);
        assert_eq!(all.as_str(), "{\"auths\": {\"a\": {},\n \"b\": 1}, \"z\": 0}");
        assert_eq!(all.remove(Some("auths"), |key| key == "a"), 1);
        assert_eq!(all.as_str(), "{\"auths\": {\"b\": 1}, \"z\": 0}");
        assert_eq!(all.remove(Some("auths"), |_| true), 1);
        assert_eq!(all.as_str(), "{\"auths\": {}, \"z\": 0}");
        assert_eq!(all.remove(Some("gone"), |_| true), 0);
        assert_eq!(all.remove(None, |key| key == "z"), 1);
        assert_eq!(all.as_str(), "{\"auths\": {}}");
    }
}
