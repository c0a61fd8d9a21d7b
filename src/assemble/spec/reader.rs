//! Values out of nodes, with their names for messages: mappings, lists, words, and texts.
//!
//! In: nodes. Out: values, or `None` after a problem was noted. A key whose value is null counts as absent, since
//! programs that write JSON leave such keys behind.

use super::Placed;
use crate::{
    dockerfile::suggest,
    error::Error,
    source::Span,
    yaml::{Entry, Node, Problems, Value, shorten},
};
use std::rc::Rc;

/// Longest name of an image, with its tag and digest, and more.
const MAX_SHORT: usize = 1000;

/// Notes what is wrong, and what is only strange.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) problems: Problems,
    pub(super) warnings: Vec<String>,
}

/// A value, and what messages call it.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) node: Rc<Node>,
    /// Place of the key; for an element of a list that of the element.
    pub(super) key: Span,
    /// For example `contents[0].file.mode`.
    pub(super) what: String,
}

/// A mapping whose keys are known.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) span: Span,
    what: String,
    entries: Vec<Entry>,
    known: &'static [&'static str],
}

impl Fields {
    /// The value of a key, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<Field> {
        self.raw(key).filter(|field| !field.node.is_null())
    }

    /// The value of a key, null too.
    pub(super) fn raw(&self, key: &str) -> Option<Field> {
        debug_assert!(self.known.contains(&key), "{key} is not in the table");
        let entry = self.entries.iter().find(|entry| entry.name() == key)?;
        Some(Field {
            node: Rc::clone(&entry.value),
            key: entry.key.span,
            what: below(&self.what, key),
        })
    }

    /// Whether a key can be there at all.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    /// The keys that have a value, out of some.
    pub(super) fn given(&self, keys: &[&'static str]) -> Vec<(&'static str, Field)> {
        keys.iter().filter_map(|key| Some((*key, self.get(key)?))).collect()
    }
}

/// Name of what is below another.
pub(super) fn below(what: &str, key: &str) -> String {
    if what.is_empty() { key.to_owned() } else { format!("{what}.{}", shorten(key)) }
}

impl Reader {
    pub(super) fn new(problems: Problems) -> Self {
        Self { problems, warnings: Vec::new() }
    }

    pub(super) fn wrong(&mut self, span: Span, message: impl Into<String>, hint: &str) {
        let error = Error::package(message);
        self.problems.push(span, if hint.is_empty() { error } else { error.hint(hint) });
    }

    /// Notes a warning, with its place in front.
    pub(super) fn warn(&mut self, span: Span, message: &str) {
        let source = self.problems.source();
        let (home, inside) = source.home(span);
        let (line, column) = home.line_column(inside.start);
        self.warnings.push(format!("{}:{line}:{column}: {message}", home.name()));
    }

    /// ` on line 3`, or ` in --set`, for messages about two places.
    pub(super) fn line(&self, span: Span) -> String {
        let (home, inside) = self.problems.source().home(span);
        let line = home.line(inside.start);
        if std::sync::Arc::ptr_eq(&home, self.problems.source()) {
            format!("on line {line}")
        } else {
            format!("in `{} {}`", home.name(), shorten(&String::from_utf8_lossy(home.text())))
        }
    }

    /// A mapping; unknown keys are noted.
    pub(super) fn fields(
        &mut self,
        field: &Field,
        known: &'static [&'static str],
    ) -> Option<Fields> {
        let entries = self.problems.entries(&field.node, &field.what)?;
        for entry in entries {
            if !known.contains(&entry.name()) {
                self.problems.unknown_key(entry, &field.what, known);
            }
        }
        Some(Fields {
            span: field.node.span,
            what: field.what.clone(),
            entries: entries.to_vec(),
            known,
        })
    }

    /// A key that must be there.
    pub(super) fn required(&mut self, fields: &Fields, key: &str) -> Option<Field> {
        let field = fields.get(key);
        if field.is_none() {
            let message = format!("`{}` is required", below(&fields.what, key));
            self.problems.report(fields.span, message);
        }
        field
    }

    /// At most one of some keys may be given: notes the others.
    pub(super) fn exclusive(&mut self, fields: &Fields, keys: &[&'static str]) {
        let given = fields.given(keys);
        let Some(((first, _), more)) = given.split_first() else { return };
        for (other, field) in more {
            let message = format!("`{first}` and `{other}` exclude each other");
            self.wrong(field.key, message, "remove one of them");
        }
    }

    /// Elements of a list; none may be null.
    pub(super) fn items(&mut self, field: &Field) -> Option<Vec<Field>> {
        let items = self.problems.list(&field.node, &field.what)?;
        let mut fields = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            let what = format!("{}[{index}]", field.what);
            if node.is_null() {
                self.problems.report(node.span, format!("`{what}` has no value"));
            } else {
                fields.push(Field { node: Rc::clone(node), key: node.span, what });
            }
        }
        Some(fields)
    }

    /// Entries of a mapping whose keys are the user's.
    pub(super) fn pairs(&mut self, field: &Field) -> Vec<(Placed<String>, Field)> {
        let entries = self.problems.entries(&field.node, &field.what).unwrap_or_default();
        let pair = |entry: &Entry| {
            let name = Placed { value: entry.name().to_owned(), span: entry.key.span };
            let what = below(&field.what, entry.name());
            (name, Field { node: Rc::clone(&entry.value), key: entry.key.span, what })
        };
        entries.iter().map(pair).collect()
    }

    /// A text as it was written, perhaps empty; it holds no NUL.
    pub(super) fn text(&mut self, field: &Field) -> Option<Placed<String>> {
        if field.node.is_null() {
            let message = format!("`{}` has no value", field.what);
            self.wrong(field.key, message, "for an empty text write `\"\"`");
            return None;
        }
        let value = self.problems.text(&field.node, &field.what)?;
        if value.contains('\0') {
            self.problems.report(field.node.span, format!("`{}` holds a NUL", field.what));
            return None;
        }
        Some(Placed { value, span: field.node.span })
    }

    /// A text that is not empty.
    pub(super) fn filled(&mut self, field: &Field) -> Option<Placed<String>> {
        let text = self.text(field)?;
        if text.value.is_empty() {
            self.problems.report(text.span, format!("`{}` is empty", field.what));
            return None;
        }
        Some(text)
    }

    /// A name that messages may repeat: not empty, and of bounded length.
    pub(super) fn short(&mut self, field: &Field) -> Option<Placed<String>> {
        let text = self.filled(field)?;
        if text.value.len() > MAX_SHORT {
            let message = format!("`{}` is longer than {MAX_SHORT} bytes", field.what);
            self.problems.report(text.span, message);
            return None;
        }
        Some(text)
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, field: &Field) -> Vec<Placed<String>> {
        let items = self.items(field).unwrap_or_default();
        items.iter().filter_map(|item| self.text(item)).collect()
    }

    pub(super) fn boolean(&mut self, field: &Field) -> Option<bool> {
        self.problems.boolean(&field.node, &field.what)
    }

    /// What one of some words stands for.
    pub(super) fn word<T: Clone>(&mut self, field: &Field, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(field)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.unknown(&text, &field.what, &known);
        }
        found.map(|(_, value)| value.clone())
    }

    /// Notes a word that is none of those known.
    pub(super) fn unknown(&mut self, text: &Placed<String>, what: &str, known: &[&str]) {
        let message = format!("`{what}` may not be `{}`", shorten(&text.value));
        let hint = match suggest::nearest(&text.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it may be {}", known.join(", ")),
        };
        self.wrong(text.span, message, &hint);
    }

    /// True when the value is a text and not a list or mapping.
    pub(super) fn is_scalar(field: &Field) -> bool {
        matches!(field.node.value, Value::Scalar { .. })
    }
}
