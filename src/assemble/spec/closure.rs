//! `closure`: Nix store paths, and where their references are known from.

use super::reader::{Field, Fields, Reader};
use super::{ClosureContent, ClosureLink, Placed, References, keys};
use crate::{error::ErrorKind, nix::StorePath, yaml::shorten};

/// The item.
pub(super) fn read(reader: &mut Reader, field: &Field) -> Option<ClosureContent> {
    let fields = reader.fields(field, keys::CLOSURE)?;
    let paths = reader.required(&fields, "paths").map(|field| paths(reader, &field));
    let references = references(reader, &fields);
    let link = fields.get("link").and_then(|field| reader.word(&field, keys::CLOSURE_LINK));
    let include = fields.get("store").and_then(|field| reader.word(&field, keys::STORE));
    let root = fields.get("root").and_then(|field| reader.host_path(&field));
    Some(ClosureContent {
        paths: paths?,
        references: references?,
        link: link.unwrap_or(ClosureLink::Symlink),
        include: include.unwrap_or(true),
        root,
    })
}

fn paths(reader: &mut Reader, field: &Field) -> Vec<Placed<String>> {
    let items = reader.items(field).unwrap_or_default();
    if items.is_empty() && reader.problems.list(&field.node, &field.what).is_some() {
        reader.problems.report(field.node.span, format!("`{}` is empty", field.what));
    }
    items.iter().filter_map(|item| store_path(reader, item)).collect()
}

/// A path of the store itself: neither the store nor anything in the path.
fn store_path(reader: &mut Reader, field: &Field) -> Option<Placed<String>> {
    let Placed { value, span } = reader.short(field)?;
    match StorePath::of_inside(value.as_bytes()) {
        Ok((path, rest)) if rest.is_empty() => {
            return Some(Placed { value: path.as_str().to_owned(), span });
        }
        Ok((path, _)) => {
            let message = format!("`{}` is inside a store path", shorten(&value));
            reader.wrong(span, message, &format!("write `{path}`"));
        }
        Err(error) => reader.problems.push(span, error.with_kind(ErrorKind::Package)),
    }
    None
}

fn references(reader: &mut Reader, fields: &Fields) -> Option<References> {
    let scan = fields.get("scan").map(|field| (reader.boolean(&field), field.key));
    reader.exclusive(fields, &["graph", "registration"]);
    let file = fields.get("graph").or_else(|| fields.get("registration"));
    if let (Some((Some(true), span)), Some(_)) = (scan, &file) {
        let other = if fields.get("graph").is_some() { "graph" } else { "registration" };
        let message = format!("`{other}` and `scan` exclude each other");
        reader.wrong(span, message, "remove one of them");
    }
    let graph = fields.get("graph");
    let key = fields.get("graphKey");
    if let (None, Some(field)) = (&graph, &key) {
        let message = "`graphKey` names a member of the file that `graph` names";
        reader.wrong(field.key, message, "give `graph`, or remove `graphKey`");
    }
    let key = key.and_then(|field| reader.filled(&field)).map(|key| key.value);
    if let Some(field) = graph {
        return Some(References::Graph(reader.host_path(&field)?, key));
    }
    match fields.get("registration") {
        Some(field) => Some(References::Registration(reader.host_path(&field)?)),
        None => Some(References::Scan),
    }
}
