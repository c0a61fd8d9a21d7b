//! The spec: text → [`Spec`], or every mistake with its place (assemble-trust.md A7).
//!
//! In: a [`SourceFile`] in YAML or JSON, which is YAML too, and the words of `--set`. Out: a [`Spec`] with its defaults
//! filled in, and warnings. No file is read and no program asked: whether what the text names exists is seen later.
//! Whatever the text says costs bounded time and memory.

mod closure;
mod config;
mod contents;
mod image;
mod keys;
mod layers;
mod model;
mod name;
mod pattern;
mod perms;
mod preset;
mod reader;
mod run;
mod set;
mod single;
#[cfg(test)]
mod tests;
mod time;
mod values;

pub use model::*;
pub use pattern::PathPattern;

use crate::{
    error::{Error, Result},
    layers::compress::GZIP_LEVEL,
    source::{SourceFile, Span},
    yaml::{self, Node, Problems, Scalar},
};
use reader::{Field, Fields, Reader};
use std::sync::Arc;

/// The published JSON Schema of specs. It knows all keys and words, but not everything that is checked here.
pub const SCHEMA: &str = include_str!("../../../docs/assemble.schema.json");

/// Version of the format that this program reads.
const VERSION: i128 = 1;

/// Reads a spec with the words of `--set` put in. All mistakes come back as one error (see [`Error::several`]); next to
/// the spec there are warnings, each with its place in front.
///
/// [`Spec::source`] is the given text with the words as further ones, so that every span of the spec finds its text.
pub fn parse(source: &Arc<SourceFile>, set: &[String]) -> Result<(Spec, Vec<String>)> {
    let source = set::joined(source, set);
    let mut problems = Problems::new(&source);
    let tree = yaml::parse(&mut problems)?;
    let tree = set::apply(tree, &mut problems);
    let Some(root) = tree.filter(|tree| !tree.is_null()) else {
        problems.finish()?;
        let error = Error::package("the spec is empty").at(&source, Span::new(0, 0));
        return Err(error.hint("begin with `version: 1`"));
    };
    if let Some(error) = other_version(&root, &source) {
        return Err(error);
    }
    let mut reader = Reader::new(problems);
    let top = Field { key: root.span, node: root, what: String::new() };
    let spec = reader.fields(&top, keys::TOP).map(|fields| read(&mut reader, &fields, &source));
    let Reader { problems, warnings } = reader;
    problems.finish()?;
    let spec = spec.ok_or_else(|| Error::internal("a spec without mistakes that is no mapping"))?;
    Ok((spec, warnings))
}

/// What another version may hold is not known, so its version is all that is said about it.
fn other_version(root: &Node, source: &Arc<SourceFile>) -> Option<Error> {
    let yaml::Value::Map(entries) = &root.value else { return None };
    let entry = entries.iter().find(|entry| entry.name() == "version")?;
    match entry.value.scalar() {
        Some(Scalar::Int(version)) if version != VERSION => {
            let message = format!("version {version} of the spec is not known, only {VERSION}");
            let error = Error::package(message).at(source, entry.value.span);
            Some(if version > VERSION {
                error.hint("a newer nativebuild may know it")
            } else {
                error
            })
        }
        _ => None,
    }
}

fn read(reader: &mut Reader, fields: &Fields, source: &Arc<SourceFile>) -> Spec {
    version(reader, fields);
    if let Some(field) = fields.get("checksum") {
        reader.warn(field.key, "`checksum` has no meaning any more and is ignored");
    }
    let (name, tag) = name::read(reader, fields);
    let contents = fields.get("contents").map(|field| contents::read(reader, &field));
    let compression =
        fields.get("compression").and_then(|field| image::compression(reader, &field));
    let created = fields.get("created").and_then(|field| time::moment(reader, &field));
    let mtime = fields.get("mtime").and_then(|field| time::file_time(reader, &field));
    Spec {
        source: Arc::clone(source),
        name,
        tag,
        from: fields.get("from").and_then(|field| image::from(reader, &field)),
        inherit: image::inherit(reader, fields.get("inherit")),
        platform: image::platform(reader, fields),
        config: fields.get("config").map(|field| config::read(reader, &field)).unwrap_or_default(),
        author: fields.get("author").and_then(|field| Some(reader.filled(&field)?.value)),
        contents: contents.unwrap_or_default(),
        perms: fields.get("perms").map(|field| perms::read(reader, &field)).unwrap_or_default(),
        scripts: run::scripts(reader, fields),
        run: run::read(reader, fields.get("run")),
        owner: fields
            .get("owner")
            .and_then(|field| image::owner(reader, &field))
            .unwrap_or_default(),
        created: created.unwrap_or(time::DEFAULT),
        mtime: mtime.unwrap_or(FileTime::Same(time::DEFAULT)),
        layers: layers::read(reader, fields),
        compression: compression
            .unwrap_or_else(|| ("gzip".to_owned(), Some(i32::from(GZIP_LEVEL)))),
        nix_database: fields
            .get("nixDatabase")
            .and_then(|field| layers::nix_database(reader, &field)),
        annotations: fields
            .get("annotations")
            .map(|field| image::annotations(reader, &field))
            .unwrap_or_default(),
        history: fields
            .get("history")
            .and_then(|field| reader.word(&field, keys::HISTORY))
            .unwrap_or(HistoryWish::PerLayer),
    }
}

fn version(reader: &mut Reader, fields: &Fields) {
    match fields.get("version") {
        None => reader.wrong(fields.span, "`version` is required", "begin with `version: 1`"),
        Some(field) if !matches!(field.node.scalar(), Some(Scalar::Int(_))) => {
            let message = "`version` must be the number 1";
            reader.wrong(field.node.span, message, "write `version: 1`");
        }
        Some(_) => {}
    }
}
