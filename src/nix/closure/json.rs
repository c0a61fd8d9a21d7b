//! The JSON forms of a closure.
//!
//! A list of objects with `path` stands under a key of a derivation's `.attrs.json`, or by itself in what older
//! `nix path-info --json` prints; newer ones print an object with the path as key, and version 2 of that format has it
//! below `info`, with paths and references as `<hash>-<name>`. Hashes may have any form; fields that are not known are
//! left out.

use super::PathInfo;
use crate::error::{Error, Result};
use crate::nix::{StorePath, base32, nar_hash, shown};
use serde_json::{Map, Value};

/// Reads any of the forms.
pub(super) fn parse(bytes: &[u8], key: Option<&str>) -> Result<Vec<PathInfo>> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::integrity("the graph of store paths is not JSON").cause(error))?;
    let graph = match (&value, key) {
        (Value::Object(fields), Some(key)) => fields.get(key).ok_or_else(|| no_key(key, fields))?,
        (Value::Object(fields), None) => only_graph(&value, fields)?,
        (_, None) => &value,
        (_, Some(key)) => {
            let message = format!("the graph of store paths has no key `{key}`: it is a list");
            return Err(Error::integrity(message));
        }
    };
    let infos = match graph {
        Value::Array(items) => list(items)?,
        Value::Object(items) => map(items)?,
        _ => return Err(Error::integrity("the graph of store paths is neither list nor object")),
    };
    if infos.is_empty() {
        return Err(Error::integrity("the graph of store paths is empty"));
    }
    Ok(infos)
}

fn no_key(key: &str, fields: &Map<String, Value>) -> Error {
    let error = Error::integrity(format!("there is no `{key}` with a graph of store paths"));
    let graphs = graphs(fields);
    if graphs.is_empty() {
        return error.hint("`exportReferencesGraph.NAME = [ … ];` of a derivation with `__structuredAttrs = true;` makes one");
    }
    error.hint(format!("there is {}", quoted(&graphs)))
}

/// Keys whose value looks like a graph.
fn graphs(fields: &Map<String, Value>) -> Vec<&str> {
    let has_path = |item: &Value| item.get("path").is_some_and(Value::is_string);
    let is_graph = |value: &Value| {
        value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(has_path))
    };
    fields.iter().filter(|(_, value)| is_graph(value)).map(|(key, _)| key.as_str()).collect()
}

fn quoted(keys: &[&str]) -> String {
    keys.iter().map(|key| shown(key.as_bytes())).collect::<Vec<_>>().join(", ")
}

/// What is meant without a key: an object that is a graph itself, or the only graph in it.
fn only_graph<'a>(value: &'a Value, fields: &'a Map<String, Value>) -> Result<&'a Value> {
    // A derivation may have attributes of the same names, but all of its strings and lists are other types.
    let versioned = fields.get("version").is_some_and(Value::is_u64);
    if let Some(info) = fields.get("info").filter(|info| versioned && info.is_object()) {
        return Ok(info);
    }
    if fields.keys().next().is_some_and(|key| store_path(key).is_ok()) {
        return Ok(value);
    }
    match &graphs(fields)[..] {
        [only] => Ok(&fields[*only]),
        [] => Err(Error::integrity("no graph of store paths is in the JSON")
            .hint("a graph is a list of objects with `path` and `references`")),
        several => Err(Error::integrity("there is more than one graph of store paths")
            .hint(format!("name one of {}", quoted(several)))),
    }
}

fn list(items: &[Value]) -> Result<Vec<PathInfo>> {
    let read = |(at, item): (usize, &Value)| {
        let place = |error: Error| error.wrap(format!("entry {} of the graph", at + 1));
        let fields = fields(item).map_err(place)?;
        let path = fields.get("path").and_then(Value::as_str);
        let path = path.ok_or_else(|| place(Error::integrity("it has no `path`")))?;
        info(store_path(path).map_err(place)?, fields)
    };
    items.iter().enumerate().map(read).collect()
}

fn map(items: &Map<String, Value>) -> Result<Vec<PathInfo>> {
    let read = |(key, item): (&String, &Value)| {
        let path = store_path(key)?;
        if item.is_null() {
            return Err(not_valid(&path));
        }
        info(
            path,
            fields(item).map_err(|error| {
                error.wrap(format!("entry {} of the graph", shown(key.as_bytes())))
            })?,
        )
    };
    items.iter().map(read).collect()
}

fn fields(item: &Value) -> Result<&Map<String, Value>> {
    item.as_object().ok_or_else(|| Error::integrity("it is no object"))
}

fn not_valid(path: &StorePath) -> Error {
    Error::integrity(format!("`{path}` was not valid in the store that was asked"))
}

/// A whole path, or its last component.
fn store_path(text: &str) -> Result<StorePath> {
    if text.starts_with('/') {
        StorePath::parse(text.as_bytes())
    } else {
        StorePath::from_base(text.as_bytes())
    }
}

fn info(path: StorePath, fields: &Map<String, Value>) -> Result<PathInfo> {
    if fields.get("valid") == Some(&Value::Bool(false)) {
        return Err(not_valid(&path));
    }
    let mut info = PathInfo::new(path.clone());
    let place = |error: Error| error.wrap(format!("`{path}` in the graph"));
    // `null` is the same as nothing.
    let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let bad = |name: &str| place(Error::integrity(format!("its `{name}` is of another type")));
    if let Some(value) = field("narHash") {
        let hash = hash(value).ok_or_else(|| bad("narHash"))?;
        info.nar_hash = Some(nar_hash::parse(&hash).map_err(place)?);
    }
    if let Some(value) = field("narSize") {
        info.nar_size = Some(value.as_u64().ok_or_else(|| bad("narSize"))?);
    }
    let references = field("references").ok_or_else(|| bad("references"))?;
    for value in references.as_array().ok_or_else(|| bad("references"))? {
        let text = value.as_str().ok_or_else(|| bad("references"))?;
        info.references.push(store_path(text).map_err(place)?);
    }
    if let Some(value) = field("deriver") {
        let text = value.as_str().ok_or_else(|| bad("deriver"))?;
        info.deriver = Some(store_path(text).map_err(place)?.to_string());
    }
    if let Some(value) = field("ca") {
        info.ca = Some(content_address(value).ok_or_else(|| bad("ca"))?);
    }
    Ok(info)
}

/// A hash is a string, or an object with its algorithm and its digits.
fn hash(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let digits = text("hash")?;
    // In the form `sri` the digits are the whole text.
    Some(match text("format") {
        Some("sri") => digits.to_owned(),
        _ => format!("{}:{digits}", text("algorithm")?),
    })
}

/// A content address is a string, or an object with its method and its hash.
fn content_address(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let digest = nar_hash::parse(&hash(value.get("hash")?)?).ok()?;
    let digits = base32::encode(&digest.bytes());
    match value.get("method")?.as_str()? {
        "nar" => Some(format!("fixed:r:sha256:{digits}")),
        "flat" => Some(format!("fixed:sha256:{digits}")),
        "text" => Some(format!("text:sha256:{digits}")),
        _ => None,
    }
}
