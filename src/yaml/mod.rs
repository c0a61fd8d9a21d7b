//! YAML text to a tree of nodes with places: the only file that knows the YAML crate.
//!
//! In: a [`SourceFile`]. Out: the first document as [`Node`]s, or nothing when the file has none. What the text
//! means as a build.yml is decided elsewhere. Anchors and `<<` are resolved here, as Go's yaml.v3 does (linuxkit.md
//! §1.1). Hostile texts cost no more than the limits below: a node that is used twice is shared, and counts each time.

mod graft;
mod problems;
mod scalar;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use graft::{Step, graft};
pub(crate) use problems::{Problems, shorten};
pub(crate) use scalar::Scalar;

use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};
use std::{rc::Rc, sync::Arc};
use tree::Tree;

/// Longest text taken; a real build.yml has a few hundred bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Deepest nesting, with what aliases stand for.
const MAX_DEPTH: usize = 64;

/// One value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// Bytes that the value stands for when every alias is written out, roughly.
    weight: usize,
    depth: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// The text after unescaping; `plain` when its form says what it means (`12`, `yes`), as for `12` and not `"12"`.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key with its value. Keys are scalars, and no two of a mapping are equal.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Rc<Node>,
    pub(crate) value: Rc<Node>,
}

impl Entry {
    /// Text of the key.
    pub(crate) fn name(&self) -> &str {
        match &self.key.value {
            Value::Scalar { text, .. } => text,
            Value::List(_) | Value::Map(_) => "",
        }
    }
}

impl Node {
    /// What a scalar means when no type is asked for; `None` for lists and mappings.
    pub(crate) fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(scalar::resolve(text)),
            Value::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// True for `~`, `null`, and no value at all.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.scalar(), Some(Scalar::Null))
    }
}

/// Reads the first document. Mistakes that leave a tree (an equal key) go to `problems`; the rest is an error.
pub(crate) fn parse(problems: &mut Problems) -> Result<Option<Rc<Node>>> {
    let source = Arc::clone(problems.source());
    let (text, start) = text_of(&source)?;
    parse_text(problems, text, start)
}

/// Reads what stands at `from` in a further text of the source, whose spans begin at `base`.
pub(crate) fn parse_further(
    problems: &mut Problems,
    further: &Arc<SourceFile>,
    from: usize,
    base: usize,
) -> Result<Option<Rc<Node>>> {
    let (text, start) = text_of(further)?;
    let text = text.get(from.saturating_sub(start)..).unwrap_or_default();
    parse_text(problems, text, base + from)
}

/// `start` is the offset of the text's first byte.
fn parse_text(problems: &mut Problems, text: &str, start: usize) -> Result<Option<Rc<Node>>> {
    let source = Arc::clone(problems.source());
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut tree = Tree::new(problems);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| malformed(&source, start, &error))?;
        let bytes = |marker: granit_parser::Marker| start + marker.byte_offset().unwrap_or(0);
        let span = Span::new(bytes(span.start), bytes(span.end));
        match event {
            Event::DocumentEnd => break,
            Event::Scalar(text, style, anchor, tag) => {
                let plain = is_plain(style, tag.as_deref());
                tree.check_tag(span, tag.as_deref(), Kind::Scalar);
                let value = Value::Scalar { text: text.into_owned(), plain };
                tree.leaf(span, anchor, value)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                tree.check_tag(span, tag.as_deref(), Kind::List);
                tree.open(span, anchor, false)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                tree.check_tag(span, tag.as_deref(), Kind::Map);
                tree.open(span, anchor, true)?;
            }
            Event::SequenceEnd | Event::MappingEnd => tree.close()?,
            Event::Alias(anchor) => tree.alias(span, anchor)?,
            _ => {}
        }
    }
    Ok(tree.finish())
}

/// The first document as JSON, for files whose form serde knows; nothing but strings as keys. No document is `null`.
pub(crate) fn to_json(source: &Arc<SourceFile>) -> Result<serde_json::Value> {
    let mut problems = Problems::new(source);
    let root = parse(&mut problems)?;
    problems.finish()?;
    Ok(root.map_or(serde_json::Value::Null, |root| json_of(&root)))
}

/// Nodes are bounded in depth and, with what aliases stand for, in weight.
fn json_of(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::List(list) => Json::Array(list.iter().map(|node| json_of(node)).collect()),
        Value::Map(entries) => {
            let pair = |entry: &Entry| (entry.name().to_owned(), json_of(&entry.value));
            Json::Object(entries.iter().map(pair).collect())
        }
        Value::Scalar { text, .. } => match node.scalar() {
            Some(Scalar::Null) => Json::Null,
            Some(Scalar::Bool(value)) => Json::Bool(value),
            Some(Scalar::Int(value)) => {
                i64::try_from(value).map_or_else(|_| text.clone().into(), Json::from)
            }
            Some(Scalar::Float(value)) => Json::from(value),
            Some(Scalar::Text(_)) | None => text.clone().into(),
        },
    }
}

/// The text without a byte order mark, and where it starts.
fn text_of(source: &Arc<SourceFile>) -> Result<(&str, usize)> {
    let bytes = source.text();
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", bytes.len());
        return Err(Error::package(message).at(source, Span::new(0, 0)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Error::package("the file is not UTF-8 text").at(source, Span::new(at, at + 1))
    })?;
    // JSON forbids fewer of them: what stands in its strings can be read all the same.
    let is_json = text.trim_start().starts_with('{');
    let allowed = |c: char| is_json && ('\u{7f}'..='\u{9f}').contains(&c);
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_forbidden(*c) && !allowed(*c)) {
        let message = format!("control character U+{:04X} in the text", u32::from(c));
        return Err(Error::package(message).at(source, Span::new(at, at + c.len_utf8())));
    }
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    Ok((&text[start..], start))
}

/// Characters that YAML texts may not hold unescaped.
fn is_forbidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    List,
    Map,
}

/// Whether a scalar's form decides what it means: unquoted and not called text by a tag, or called something else.
fn is_plain(style: ScalarStyle, tag: Option<&Tag>) -> bool {
    match tag.map(|tag| tag.core_suffix()) {
        None => style == ScalarStyle::Plain,
        // `!` alone, and a foreign tag, which is an error anyway.
        Some(None) => false,
        Some(Some(name)) => name != "str",
    }
}

fn malformed(source: &Arc<SourceFile>, start: usize, error: &ScanError) -> Error {
    let at = start + error.marker().byte_offset().unwrap_or(0);
    let span = Span::new(at, at + 1);
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return Error::package(format!("nested deeper than {MAX_DEPTH}")).at(source, span);
    }
    let shown = Error::package("the file is not valid YAML").cause(error.info()).at(source, span);
    let (home, inside) = source.home(span);
    let line = home.line_text(home.line(inside.start));
    if line.trim_start_matches(' ').starts_with('\t') && error.info().contains("tab") {
        return shown.hint("indent with spaces; YAML takes no tabs there");
    }
    match error.kind() {
        ErrorKind::MappingValueNotAllowed => shown.hint("put text that holds `: ` in quotes"),
        ErrorKind::UnexpectedCharacter { character } => {
            shown.hint(format!("put text that starts with `{character}` in quotes"))
        }
        _ => shown,
    }
}
