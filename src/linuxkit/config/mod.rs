//! `config` of a build.yml to the value of the label `org.mobyproject.config`, byte for byte as Go writes it.
//!
//! In: a YAML node. Out: JSON text. [`schema`] is a table of all fields; the loop here checks the node against it and
//! writes on the way. What LinuxKit reads out of the label later is its own matter. linuxkit.md §1.2.

mod json;
mod schema;
#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::yaml::{Entry, Node, Problems, Scalar, Value, shorten};
use schema::{Field, Kind, Omit, Struct};
use std::collections::BTreeMap;

/// The label's text; `None` when the node is null, and when it is no mapping, which is then a problem.
pub(super) fn label(node: &Node, problems: &mut Problems) -> Option<String> {
    problems.entries(node, "config")?;
    let mut writer = Writer { problems, out: String::new() };
    writer.structure(node, &schema::IMAGE_CONFIG, "config");
    Some(writer.out)
}

struct Writer<'a> {
    problems: &'a mut Problems,
    out: String,
}

impl Writer<'_> {
    /// Writes a value. One that is null or wrong is written as Go's zero value of its type.
    fn value(&mut self, node: &Node, kind: &Kind, what: &str) {
        match kind {
            Kind::Text => {
                let text = self.problems.text(node, what).unwrap_or_default();
                json::push_text(&mut self.out, &text);
            }
            Kind::Bool => {
                let value = self.problems.boolean(node, what).unwrap_or_default();
                self.out.push_str(if value { "true" } else { "false" });
            }
            Kind::Int(least, most) => {
                let value = self.problems.integer(node, what, &(*least..=*most));
                self.out.push_str(&value.unwrap_or_default().to_string());
            }
            Kind::Any => self.any(node, what),
            Kind::List(element) => self.list(node, element, what),
            Kind::Map(element) => self.map(node, element, what),
            Kind::Struct(structure) => self.structure(node, structure, what),
        }
    }

    fn list(&mut self, node: &Node, element: &Kind, what: &str) {
        let what = format!("{what}[]");
        let items = self.problems.list(node, what.trim_end_matches("[]")).unwrap_or_default();
        // Go leaves out elements that are null, unless the element may be anything.
        let items = items.iter().filter(|item| matches!(element, Kind::Any) || !item.is_null());
        self.out.push('[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.value(item, element, &what);
        }
        self.out.push(']');
    }

    fn map(&mut self, node: &Node, element: &Kind, what: &str) {
        let entries = self.problems.entries(node, what).unwrap_or_default();
        let sorted: BTreeMap<&str, &Entry> =
            entries.iter().map(|entry| (entry.name(), entry)).collect();
        self.out.push('{');
        for (index, (name, entry)) in sorted.into_iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            json::push_text(&mut self.out, name);
            self.out.push(':');
            self.value(&entry.value, element, &format!("{what}.{}", shorten(name)));
        }
        self.out.push('}');
    }

    fn structure(&mut self, node: &Node, structure: &Struct, what: &str) {
        let entries = self.problems.entries(node, what).unwrap_or_default();
        let mut given: Vec<Option<&Node>> = vec![None; structure.fields.len()];
        self.assign(entries, structure, what, &mut given);
        self.out.push('{');
        let start = self.out.len();
        for (field, node) in structure.fields.iter().zip(given) {
            let what = format!("{what}.{}", structure.key(field));
            self.field(field, node, &what, start);
        }
        self.out.push('}');
    }

    /// Finds the field of each key.
    fn assign<'n>(
        &mut self,
        entries: &'n [Entry],
        structure: &Struct,
        what: &str,
        given: &mut [Option<&'n Node>],
    ) {
        for entry in entries {
            let name = entry.name();
            let found = structure.fields.iter().position(|field| structure.key(field) == name);
            if let Some(at) = found {
                given[at] = Some(&entry.value);
            } else if structure.embedded == Some(name) {
                let inner = self.problems.entries(&entry.value, &format!("{what}.{name}"));
                for entry in inner.unwrap_or_default() {
                    let embedded = ["major", "minor"].contains(&entry.name());
                    let at = structure.fields.iter().position(|field| field.name == entry.name());
                    match at.filter(|_| embedded) {
                        Some(at) => given[at] = Some(&entry.value),
                        None => self.problems.unknown_key(entry, what, &["major", "minor"]),
                    }
                }
            } else {
                let known: Vec<_> =
                    structure.fields.iter().map(|field| structure.key(field)).collect();
                let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
                self.problems.unknown_key(entry, what, &known);
            }
        }
    }

    fn field(&mut self, field: &Field, node: Option<&Node>, what: &str, start: usize) {
        let node = node.filter(|node| !node.is_null());
        if node.is_none() && field.omit != Omit::Never {
            return;
        }
        let before = self.out.len();
        if before > start {
            self.out.push(',');
        }
        json::push_text(&mut self.out, field.name);
        self.out.push(':');
        let value = self.out.len();
        match node {
            Some(node) => self.value(node, &field.kind, what),
            None => self.out.push_str(field.kind.zero()),
        }
        if field.omit == Omit::Empty && &self.out[value..] == field.kind.zero() {
            self.out.truncate(before);
        }
    }

    /// A value of any type keeps the one that YAML gives it.
    fn any(&mut self, node: &Node, what: &str) {
        match (node.scalar(), &node.value) {
            (Some(Scalar::Null), _) => self.out.push_str("null"),
            (Some(Scalar::Bool(value)), _) => self.out.push_str(&value.to_string()),
            (Some(Scalar::Int(value)), _) => self.out.push_str(&value.to_string()),
            (Some(Scalar::Float(value)), _) if value.is_finite() => {
                json::push_float(&mut self.out, value);
            }
            (Some(Scalar::Float(_)), _) => {
                self.problems.report(node.span, format!("`{what}` must be a finite number"));
            }
            (Some(Scalar::Text(text)), _) => json::push_text(&mut self.out, text),
            (None, Value::Map(entries)) => {
                for entry in entries {
                    if !matches!(entry.key.scalar(), Some(Scalar::Text(_))) {
                        let message =
                            format!("the keys of `{what}` must be text, not `{}`", entry.name());
                        let error = Error::package(message).hint("write the key in quotes");
                        self.problems.push(entry.key.span, error);
                    }
                }
                self.map(node, &Kind::Any, what);
            }
            (None, _) => self.list(node, &Kind::Any, what),
        }
    }
}
