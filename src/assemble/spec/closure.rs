//! `closure`: Nix store paths, and where their references are known from.

use super::reader::{Field, Fields, Reader};
use super::{ClosureContent, ClosureLink, Placed, References, keys};
use crate::yaml::shorten;

/// Where store paths are.
const STORE: &str = "/nix/store/";

/// Digits of the hash in a store path's name, and the letters that Nix writes it with.
const HASH_DIGITS: usize = 32;
const BASE32: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Longest name of a file.
const MAX_NAME: usize = 255;

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
    let path = reader.filled(field)?;
    let name = path.value.strip_prefix(STORE).map(|name| name.trim_end_matches('/'));
    let shown = shorten(&path.value);
    match name {
        Some(name) if is_store_name(name) => {
            Some(Placed { value: format!("{STORE}{name}"), span: path.span })
        }
        Some(name) if name.split_once('/').is_some_and(|(name, _)| is_store_name(name)) => {
            let whole = name.split('/').next().unwrap_or_default();
            let message = format!("`{shown}` is inside a store path");
            reader.wrong(path.span, message, &format!("write `{STORE}{whole}`"));
            None
        }
        _ => {
            let message = format!("`{shown}` is not a store path");
            let hint =
                "a store path is `/nix/store/HASH-NAME`, with a hash of 32 letters and digits";
            reader.wrong(path.span, message, hint);
            None
        }
    }
}

/// `HASH-NAME` as Nix writes it.
pub(super) fn is_store_name(name: &str) -> bool {
    let Some((hash, rest)) = name.split_at_checked(HASH_DIGITS) else { return false };
    let rest = rest.strip_prefix('-').unwrap_or_default();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
    hash.bytes().all(|b| BASE32.contains(&b))
        && !rest.is_empty()
        && rest.bytes().all(allowed)
        && name.len() <= MAX_NAME
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
