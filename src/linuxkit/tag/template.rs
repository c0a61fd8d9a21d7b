//! Tag templates: the part of Go's text/template that tags are made of.
//!
//! In goes the template and the package hash, out comes the tag's text. Known are literal text, `.Hash`,
//! `slice`, `printf` with `%s`, `%v` and `%.Ns`, pipes, strings, numbers, comments and trim markers; anything else
//! is an error that says so. As in Go, a field that is not there prints `<no value>`.

use crate::error::{Error, Result};

/// White space of the template language.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// The tag that `template` makes of `hash`.
pub fn render(template: &str, hash: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = template;
    let mut trims_next = false;
    loop {
        let (mut text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        if trims_next {
            text = text.trim_start_matches(SPACE);
        }
        let Some(action) = action else {
            out.push_str(text);
            return Ok(out);
        };
        let (trims_before, inner, trims_after, after) = cut_action(action)?;
        if trims_before {
            text = text.trim_end_matches(SPACE);
        }
        out.push_str(text);
        if let Some(inner) = inner {
            out.push_str(&pipeline(inner, hash)?.to_text());
        }
        trims_next = trims_after;
        rest = after;
    }
}

/// What follows `{{`: does it trim before, the action's text (none for a comment), does it trim after, the rest.
fn cut_action(text: &str) -> Result<(bool, Option<&str>, bool, &str)> {
    let trims_before = text.starts_with('-') && text[1..].starts_with(SPACE);
    let text = if trims_before { text[1..].trim_start_matches(SPACE) } else { text };
    let is_comment = text.starts_with("/*");
    let end = if is_comment {
        text.find("*/").map(|at| at + 2).ok_or_else(|| wrong("a comment has no `*/`"))?
    } else {
        end_of_action(text)?
    };
    let (inner, tail) = text.split_at(end);
    // The marker is the minus sign and the space before it, which stands in the action or after the comment.
    let trims_after = match tail.trim_start_matches(SPACE).strip_prefix("-}}") {
        Some(after) if inner.ends_with(SPACE) || tail.starts_with(SPACE) => Some(after),
        _ => None,
    };
    let after = trims_after.or_else(|| tail.strip_prefix("}}"));
    let after = after.ok_or_else(|| wrong("a comment is not followed by `}}`"))?;
    Ok((trims_before, (!is_comment).then_some(inner), trims_after.is_some(), after))
}

/// Where the action's own text ends: before `}}` or `-}}` outside strings.
fn end_of_action(text: &str) -> Result<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Ok(at),
            None if text[at..].starts_with("-}}") && text[..at].ends_with(SPACE) => return Ok(at),
            _ => {}
        }
    }
    Err(wrong("unclosed action: `{{` without `}}`"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(usize),
    Missing,
}

impl Value {
    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Missing => "<no value>".to_owned(),
        }
    }
}

/// `command | command`: each gets the value before it as its last argument.
fn pipeline(text: &str, hash: &str) -> Result<Value> {
    let words = words(text)?;
    let mut value = None;
    for command in words.split(|word| *word == "|") {
        value = Some(run_command(command, value, hash)?);
    }
    value.ok_or_else(|| wrong("missing value for command"))
}

fn run_command(words: &[&str], piped: Option<Value>, hash: &str) -> Result<Value> {
    let Some((first, others)) = words.split_first() else {
        return Err(wrong("missing value for command"));
    };
    if !matches!(*first, "slice" | "printf") {
        let value = operand(first, hash)?;
        if !others.is_empty() || piped.is_some() {
            return Err(wrong(format!("`{first}` takes no arguments")));
        }
        return Ok(value);
    }
    let mut arguments: Vec<Value> =
        others.iter().map(|word| operand(word, hash)).collect::<Result<_>>()?;
    arguments.extend(piped);
    if *first == "slice" { slice(&arguments) } else { printf(&arguments) }
}

fn operand(word: &str, hash: &str) -> Result<Value> {
    if let Some(name) = word.strip_prefix('.').filter(|name| is_name(name)) {
        let value = if name == "Hash" { Value::Text(hash.to_owned()) } else { Value::Missing };
        return Ok(value);
    }
    if let Some(raw) = word.strip_prefix('`') {
        return Ok(Value::Text(raw.trim_end_matches('`').to_owned()));
    }
    if let Some(quoted) = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        return unescape(quoted).map(Value::Text);
    }
    if word.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = word.parse()
    {
        return Ok(Value::Number(number));
    }
    Err(wrong(format!("`{word}` is not understood")))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Words of an action; a string is one word, quotes included.
fn words(text: &str) -> Result<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = text.trim_matches(SPACE);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '|' => 1,
            '`' => rest[1..].find('`').map_or(rest.len(), |at| at + 2),
            '"' => length_of_string(rest),
            _ => rest.find(|c| SPACE.contains(&c) || c == '|').unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(length);
        let quoted = first == '"' || first == '`';
        if quoted && !(after.is_empty() || after.starts_with(SPACE) || after.starts_with('|')) {
            return Err(wrong(format!("no space after the string `{word}`")));
        }
        words.push(word);
        rest = after.trim_start_matches(SPACE);
    }
    Ok(words)
}

fn length_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn unescape(text: &str) -> Result<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some(c @ ('"' | '\\')) => c,
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(wrong(format!("the escape `\\{other}` is not understood")));
                }
            },
            c => c,
        });
    }
    Ok(out)
}

/// `slice TEXT FROM TO`, by bytes, both numbers optional.
fn slice(arguments: &[Value]) -> Result<Value> {
    let (Some(Value::Text(text)), true) = (arguments.first(), arguments.len() <= 3) else {
        return Err(wrong("`slice` takes a text and one or two numbers"));
    };
    let mut ends = [0, text.len()];
    for (end, argument) in ends.iter_mut().zip(&arguments[1..]) {
        let Value::Number(number) = argument else {
            return Err(wrong("`slice` takes a text and one or two numbers"));
        };
        *end = *number;
    }
    let [from, to] = ends;
    if to > text.len() || from > to {
        let length = text.len();
        return Err(wrong(format!(
            "cannot slice `{text}` from {from} to {to}: its length is {length}"
        )));
    }
    let part =
        text.get(from..to).ok_or_else(|| wrong(format!("`slice` cuts a letter of `{text}`")))?;
    Ok(Value::Text(part.to_owned()))
}

/// `printf FORMAT ARGUMENT…` with one argument for each `%s`, `%v` or `%.Ns`, where N counts letters.
fn printf(arguments: &[Value]) -> Result<Value> {
    let Some((Value::Text(format), arguments)) = arguments.split_first() else {
        return Err(wrong("`printf` begins with a format"));
    };
    let mut arguments = arguments.iter();
    let mut out = String::new();
    let mut rest = format.as_str();
    while let Some((text, verb)) = rest.split_once('%') {
        out.push_str(text);
        if let Some(after) = verb.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let number = verb.strip_prefix('.').map(|verb| {
            let end = verb.find(|c: char| !c.is_ascii_digit()).unwrap_or(verb.len());
            verb.split_at(end)
        });
        let (limit, verb) = match number {
            // Without digits the precision is zero.
            Some((digits, verb)) => (digits.parse().unwrap_or(0), verb),
            None => (usize::MAX, verb),
        };
        let after = verb.strip_prefix(['s', 'v']);
        let argument = match arguments.next() {
            Some(Value::Text(argument)) => Some(argument),
            _ => None,
        };
        let (Some(after), Some(argument)) = (after, argument) else {
            let what = "`printf` knows `%s`, `%v` and `%.7s`, each with a text";
            return Err(wrong(format!("{what}; the format is `{format}`")));
        };
        out.extend(argument.chars().take(limit));
        rest = after;
    }
    out.push_str(rest);
    if arguments.next().is_some() {
        return Err(wrong(format!("`printf` got more than its format `{format}` takes")));
    }
    Ok(Value::Text(out))
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::image(format!("tag template: {what}")).hint(
        "a tag template is text with `{{.Hash}}`, `{{slice .Hash 0 7}}` or `{{printf \"%.7s\" .Hash}}`",
    )
}

#[cfg(test)]
mod tests {
    use super::render;

    const HASH: &str = "b5bffea0bce767f8d9e9635f20554e11b9a41d70";

    #[test]
    fn templates_give_what_go_gives() {
        let cases = [
            ("", ""),
            ("fixed", "fixed"),
            ("{{.Hash}}", HASH),
            ("{{ .Hash }}", HASH),
            ("v1-{{.Hash}}", "v1-b5bffea0bce767f8d9e9635f20554e11b9a41d70"),
            ("{{slice .Hash 0 7}}", "b5bffea"),
            ("{{slice .Hash 33}}-{{slice .Hash 1 4}}", "9a41d70-5bf"),
            ("{{slice .Hash}}", HASH),
            ("a {{- .Hash -}} b", "ab5bffea0bce767f8d9e9635f20554e11b9a41d70b"),
            ("a\n\t{{- slice .Hash 0 2 -}}\r\n b", "ab5b"),
            ("{{printf \"%.7s\" .Hash}}", "b5bffea"),
            ("{{.Hash | printf \"%s-%.3s%%\" \"x\"}}", "x-b5b%"),
            ("{{.Nothing}}", "<no value>"),
            ("{{/* a }} comment */}}x{{- /* b */ -}} y", "xy"),
            ("{{\"}}\"}}{{`{{`}}{{12}}", "}}{{12"),
            ("}} {", "}} {"),
            ("{{\"a\\\"\\\\\"}}", "a\"\\"),
            ("{{slice \"abc\" 1 | printf \"<%s>\"}}", "<bc>"),
        ];
        for (template, expected) in cases {
            let found = render(template, HASH);
            assert_eq!(found.map_err(|e| e.to_string()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error_that_says_what_is() {
        let format = "`printf` knows `%s`, `%v` and `%.7s`, each with a text; the format is";
        let cases = [
            ("{{.Hash", "unclosed action: `{{` without `}}`".to_owned()),
            ("{{/* x", "a comment has no `*/`".to_owned()),
            ("{{/* x */ y}}", "a comment is not followed by `}}`".to_owned()),
            ("{{}}", "missing value for command".to_owned()),
            ("{{.Hash |}}", "missing value for command".to_owned()),
            ("{{.}}", "`.` is not understood".to_owned()),
            ("{{.Hash.Short}}", "`.Hash.Short` is not understood".to_owned()),
            ("{{if .Hash}}x{{end}}", "`if` is not understood".to_owned()),
            ("{{len .Hash}}", "`len` is not understood".to_owned()),
            ("{{$x := 1}}", "`$x` is not understood".to_owned()),
            ("{{ /* x */ }}", "`/*` is not understood".to_owned()),
            ("{{printf `%v` (.Hash)}}", "`(.Hash)` is not understood".to_owned()),
            ("{{.Hash .Hash}}", "`.Hash` takes no arguments".to_owned()),
            ("{{\"a\"b}}", "no space after the string `\"a\"`".to_owned()),
            ("{{\"\\n\"}}", "the escape `\\n` is not understood".to_owned()),
            ("{{slice}}", "`slice` takes a text and one or two numbers".to_owned()),
            ("{{slice .No 1}}", "`slice` takes a text and one or two numbers".to_owned()),
            ("{{slice .Hash 1 2 3}}", "`slice` takes a text and one or two numbers".to_owned()),
            ("{{slice .Hash -1}}", "`-1` is not understood".to_owned()),
            ("{{slice \"ab\" 0 7}}", "cannot slice `ab` from 0 to 7: its length is 2".to_owned()),
            ("{{slice \"ab\" 2 1}}", "cannot slice `ab` from 2 to 1: its length is 2".to_owned()),
            ("{{slice \"é\" 1}}", "`slice` cuts a letter of `é`".to_owned()),
            (
                "{{slice .Hash 99999999999999999999}}",
                "`99999999999999999999` is not understood".to_owned(),
            ),
            ("{{printf \"%d\" .Hash}}", format!("{format} `%d`")),
            ("{{printf \"%s\"}}", format!("{format} `%s`")),
            ("{{printf \"%s\" .No}}", format!("{format} `%s`")),
            ("{{printf \"x\" .Hash}}", "`printf` got more than its format `x` takes".to_owned()),
        ];
        for (template, expected) in cases {
            let error = render(template, HASH).expect_err(template);
            assert_eq!(error.message(), format!("tag template: {expected}"), "{template}");
            assert_eq!(error.hints().len(), 1);
        }
    }
}
