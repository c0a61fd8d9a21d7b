//! Collects what is wrong with a text, and reads typed values out of nodes.
//!
//! Readers give `None` for a value that is not there (null), as Go does, and for a wrong one, after noting it.
//! `what` is the name of the value in messages, for example `config.runtime`.

use super::{Entry, Node, Scalar, Value};
use crate::{
    dockerfile::suggest,
    error::{Error, Result},
    source::{SourceFile, Span},
};
use std::{ops::RangeInclusive, rc::Rc, sync::Arc};

/// More problems than these are not shown: what follows is rarely news.
const MAX_PROBLEMS: usize = 20;

/// Longest piece of the text that a message repeats.
const MAX_SHOWN: usize = 60;

/// The errors of one text.
#[derive(Debug)]
pub(crate) struct Problems {
    source: Arc<SourceFile>,
    /// Each with the offset that it is sorted by.
    errors: Vec<(usize, Error)>,
}

impl Problems {
    pub(crate) fn new(source: &Arc<SourceFile>) -> Self {
        Self { source: Arc::clone(source), errors: Vec::new() }
    }

    pub(crate) fn source(&self) -> &Arc<SourceFile> {
        &self.source
    }

    /// True when no more problems are taken, and looking for hints is in vain.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_PROBLEMS
    }

    /// Notes an error at a place. A further text is a word that somebody added: it is shown whole.
    pub(crate) fn push(&mut self, span: Span, error: Error) {
        if self.is_full() {
            return;
        }
        let (home, _) = self.source.home(span);
        let added = !Arc::ptr_eq(&home, &self.source);
        let error = if added {
            let word = String::from_utf8_lossy(home.text());
            error.cause(format!("given by `{} {}`", home.name(), shorten(&word)))
        } else {
            error
        };
        self.errors.push((span.start, error.at(&self.source, span)));
    }

    /// Notes a message at a place.
    pub(crate) fn report(&mut self, span: Span, message: impl Into<String>) {
        if !self.is_full() {
            self.push(span, Error::package(message));
        }
    }

    /// All that was noted, in the order of the text, as one error.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.errors.sort_by_key(|(start, _)| *start);
        let errors = self.errors.into_iter().map(|(_, error)| error).collect();
        Error::several(errors).map_or(Ok(()), Err)
    }

    fn mismatch(&mut self, node: &Node, what: &str, wanted: &str) {
        let what = if what.is_empty() { "the file".to_owned() } else { format!("`{what}`") };
        self.report(node.span, format!("{what} must be {wanted}, not {}", describe(node)));
    }

    /// The text of a scalar as it was written: `0666` stays `0666`.
    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Scalar { .. } if node.is_null() => None,
            Value::Scalar { text, .. } => Some(text.clone()),
            Value::List(_) | Value::Map(_) => {
                self.mismatch(node, what, "text");
                None
            }
        }
    }

    /// True or false; the words of YAML 1.1 too, when they are not quoted.
    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        let plain = matches!(node.value, Value::Scalar { plain: true, .. });
        match node.scalar() {
            Some(Scalar::Null) => return None,
            Some(Scalar::Bool(value)) => return Some(value),
            Some(Scalar::Text("y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON")) if plain => {
                return Some(true);
            }
            Some(Scalar::Text("n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF")) if plain => {
                return Some(false);
            }
            _ => {}
        }
        let message = format!("`{what}` must be true or false, not {}", describe(node));
        let error = Error::package(message);
        let quoted = matches!(node.value, Value::Scalar { plain: false, .. });
        let error = if quoted { error.hint("write it without quotes") } else { error };
        self.push(node.span, error);
        None
    }

    /// A whole number within bounds. `1e3` is one too.
    pub(crate) fn integer(
        &mut self,
        node: &Node,
        what: &str,
        bounds: &RangeInclusive<i128>,
    ) -> Option<i128> {
        let value = match node.scalar() {
            Some(Scalar::Null) => return None,
            Some(Scalar::Int(value)) => value,
            // Every number that a field takes is far below 2^100, where the cast saturates nothing.
            Some(Scalar::Float(value)) if value.fract() == 0.0 && value.abs() < 1e30 => {
                value as i128
            }
            _ => {
                self.mismatch(node, what, "a whole number");
                return None;
            }
        };
        if !bounds.contains(&value) {
            let message = format!("`{what}` must be from {} to {}", bounds.start(), bounds.end());
            self.report(node.span, message);
            return None;
        }
        Some(value)
    }

    /// Elements of a list.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Rc<Node>]> {
        match &node.value {
            Value::List(items) => return Some(items),
            _ if node.is_null() => {}
            Value::Scalar { text, .. } if text.len() <= MAX_SHOWN => {
                let message = format!("`{what}` must be a list, not {}", describe(node));
                let hint = format!("for a list of one element write `[{text}]`");
                self.push(node.span, Error::package(message).hint(hint));
            }
            _ => self.mismatch(node, what, "a list"),
        }
        None
    }

    /// A list of texts with their places; elements that are null are not there, as in Go.
    pub(crate) fn texts(&mut self, node: &Node, what: &str) -> Option<Vec<(String, Span)>> {
        let items = self.list(node, what)?;
        let what = format!("{what}[]");
        let text = |item: &Rc<Node>| Some((self.text(item, &what)?, item.span));
        Some(items.iter().filter_map(text).collect())
    }

    /// Entries of a mapping. `what` is empty for the whole file.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => return Some(entries),
            _ if node.is_null() => {}
            _ => self.mismatch(node, what, "a mapping of keys to values"),
        }
        None
    }

    /// Notes a key that nobody knows. `inside` is the name of the mapping, empty at the top.
    pub(crate) fn unknown_key(&mut self, entry: &Entry, inside: &str, known: &[&str]) {
        if self.is_full() {
            return;
        }
        let mut message = format!("unknown key `{}`", shorten(entry.name()));
        if !inside.is_empty() {
            message.push_str(&format!(" in `{inside}`"));
        }
        let error = match suggest::nearest(entry.name(), known) {
            Some(near) => Error::package(message).hint(format!("did you mean `{near}`?")),
            None => Error::package(message).hint(format!("known keys are {}", known.join(", "))),
        };
        self.push(entry.key.span, error);
    }
}

/// What a node is, for messages.
fn describe(node: &Node) -> String {
    let shown = match &node.value {
        Value::List(_) => return "a list".to_owned(),
        Value::Map(_) => return "a mapping".to_owned(),
        Value::Scalar { text, .. } => shorten(text),
    };
    match node.scalar() {
        Some(Scalar::Int(_) | Scalar::Float(_)) => format!("the number `{shown}`"),
        Some(Scalar::Bool(_)) => format!("`{shown}`"),
        _ => format!("the text `{shown}`"),
    }
}

/// The beginning of a text, for messages.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
