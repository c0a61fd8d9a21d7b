//! Builder flags: `--name`, `--name=value` between the keyword and the arguments.
//!
//! Cutting them off the line is one thing ([`cut`]), knowing which an instruction has another ([`Flags`]).
//! dockerfile.md §1.1 "Instruction split".

use super::{ast::Word, node::Node, suggest};
use crate::error::{Error, Result};
use std::ops::Range;

/// A flag as cut off the line: unquoted text, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawFlag {
    /// Name without dashes.
    pub(super) name: String,
    /// What follows the first `=`, if there is one.
    pub(super) value: Option<String>,
    /// The whole word in the logical line.
    pub(super) range: Range<usize>,
    /// The value in the logical line; empty at the end of the word when there is none.
    pub(super) value_range: Range<usize>,
}

/// Cuts leading flags off `text[range]`; gives them and where the arguments begin.
///
/// Quotes and the escape character are removed. A lone `--` ends the flags and is dropped.
pub(super) fn cut(text: &str, range: Range<usize>, escape: char) -> (Vec<RawFlag>, usize) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        let rest = &text[at..range.end];
        at += rest.len() - rest.trim_start().len();
        if !text[at..range.end].starts_with("--") {
            return (flags, at);
        }
        let flag = word(text, at..range.end, escape);
        at = flag.range.end;
        if flag.name.is_empty() && flag.value.is_none() {
            return (flags, at);
        }
        flags.push(flag);
    }
}

/// One flag word, which starts with `--`.
fn word(text: &str, range: Range<usize>, escape: char) -> RawFlag {
    let mut name = String::new();
    let mut value: Option<String> = None;
    let mut value_start = None;
    let mut quote: Option<char> = None;
    let mut end = range.end;
    let mut chars = text[range.start + 2..range.end].char_indices();
    while let Some((at, c)) = chars.next() {
        let at = range.start + 2 + at;
        let c = match c {
            c if quote.is_none() && c.is_whitespace() => {
                end = at;
                break;
            }
            c if quote == Some(c) => {
                quote = None;
                continue;
            }
            '\'' | '"' if quote.is_none() => {
                quote = Some(c);
                continue;
            }
            c if c == escape => match chars.next() {
                Some((_, escaped)) => escaped,
                None => continue,
            },
            c => c,
        };
        match &mut value {
            Some(value) => value.push(c),
            None if c == '=' => {
                value = Some(String::new());
                value_start = Some(at + 1);
            }
            None => name.push(c),
        }
    }
    let value_range = value_start.unwrap_or(end)..end;
    RawFlag { name, value, range: range.start..end, value_range }
}

/// What values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or `true` or `false`.
    Bool,
    /// One value; the flag may be given once.
    Text,
    /// One value each time it is given.
    List,
}

/// The checked flags of one instruction.
#[derive(Debug)]
pub(super) struct Flags<'a> {
    node: &'a Node<'a>,
}

impl<'a> Flags<'a> {
    /// Checks the flags of `node` against those that its instruction knows.
    pub(super) fn check(node: &'a Node<'a>, known: &[(&str, Takes)]) -> Result<Self> {
        for (index, flag) in node.flags.iter().enumerate() {
            let Some((name, takes)) = known.iter().find(|(name, _)| *name == flag.name) else {
                return Err(unknown(node, flag, known));
            };
            let place = flag.range.clone();
            if *takes != Takes::List && node.flags[..index].iter().any(|other| other.name == *name)
            {
                return Err(node.error(place, format!("duplicate flag specified: --{name}")));
            }
            match (takes, flag.value.as_deref()) {
                (Takes::Bool, Some("")) | (Takes::Text | Takes::List, None) => {
                    let message = format!("missing a value on flag: --{name}");
                    return Err(node.error(place, message).hint(format!("write `--{name}=VALUE`")));
                }
                (Takes::Bool, Some(value)) if parse_bool(value).is_none() => {
                    let message =
                        format!("expecting boolean value for flag --{name}, not: {value}");
                    return Err(node
                        .error(flag.value_range.clone(), message)
                        .hint(format!("write `--{name}` or `--{name}=false`")));
                }
                _ => {}
            }
        }
        Ok(Self { node })
    }

    /// Value of a [`Takes::Bool`] flag, when given.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        let flag = self.given(name).next()?;
        flag.value.as_deref().map_or(Some(true), parse_bool)
    }

    /// Value of a [`Takes::Text`] flag, when given; may be empty.
    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.given(name).next().map(|flag| self.word(flag))
    }

    /// As [`Flags::text`], but an empty value counts as not given.
    pub(super) fn filled(&self, name: &str) -> Option<Word> {
        self.text(name).filter(|word| !word.text.is_empty())
    }

    /// All values of a [`Takes::List`] flag.
    pub(super) fn list(&self, name: &str) -> Vec<Word> {
        self.given(name).map(|flag| self.word(flag)).collect()
    }

    fn given<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'a RawFlag> + 'n {
        self.node.flags.iter().filter(move |flag| flag.name == name)
    }

    fn word(&self, flag: &RawFlag) -> Word {
        let span = self.node.span(flag.value_range.clone());
        Word { text: flag.value.clone().unwrap_or_default(), span }
    }
}

fn unknown(node: &Node<'_>, flag: &RawFlag, known: &[(&str, Takes)]) -> Error {
    let end = flag.value.as_ref().map_or(flag.range.end, |_| flag.value_range.start - 1);
    let place = flag.range.start..end;
    let error = node.error(place, format!("unknown flag: --{}", flag.name));
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let keyword = node.keyword();
    if let Some(name) = suggest::nearest(&flag.name, &names) {
        return error.hint(format!("did you mean `--{name}`?"));
    }
    if keyword == "ONBUILD" {
        return error;
    }
    if names.is_empty() {
        return error.hint(format!(
            "{keyword} has no flags; write `{keyword} -- --{}` if it is an argument",
            flag.name
        ));
    }
    error.hint(format!("{keyword} has the flags `--{}`", names.join("`, `--")))
}

fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, Option<&str>)], rest: &str) {
        let (flags, at) = cut(text, 0..text.len(), '\\');
        let flags: Vec<_> =
            flags.iter().map(|flag| (flag.name.as_str(), flag.value.as_deref())).collect();
        assert_eq!(flags, expect, "{text:?}");
        assert_eq!(&text[at..], rest, "{text:?}");
    }

    #[test]
    fn flags_are_cut_off_and_unquoted() {
        check("--a --b=c d", &[("a", None), ("b", Some("c"))], "d");
        check(r#"--a="b c" d"#, &[("a", Some("b c"))], "d");
        check(r#""--a" d"#, &[], r#""--a" d"#);
        check(r"--a=b\ c d", &[("a", Some("b c"))], "d");
        check(r#"--a='b\'c"d' e"#, &[("a", Some("b'c\"d"))], "e");
        check("--a= b", &[("a", Some(""))], "b");
        check("--a=b=c", &[("a", Some("b=c"))], "");
        check("-- --weird /d/", &[], " --weird /d/");
        check("--a --", &[("a", None)], "");
        check("-a b", &[], "-a b");
        check("a --b", &[], "a --b");
        check("--a=\u{e9}\\", &[("a", Some("\u{e9}"))], "");
        check("", &[], "");
        check("--=x", &[("", Some("x"))], "");
    }

    #[test]
    fn value_ranges_are_those_of_the_line() {
        let text = r#"--from="a b" x"#;
        let (flags, _) = cut(text, 0..text.len(), '\\');
        assert_eq!((&flags[0].range, &flags[0].value_range), (&(0..12), &(7..12)));
    }
}
