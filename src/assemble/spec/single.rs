//! Single things of `contents`: `file`, `symlink` and `directory`; and two of them at one path.

use super::reader::{Field, Fields, Reader};
use super::{
    Content, ContentKind, DirectoryContent, FileContent, FileText, Single, SymlinkContent, keys,
};
use crate::yaml::shorten;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::HashMap;

/// `file`: its bytes are given in one of three ways.
pub(super) fn file(reader: &mut Reader, field: &Field) -> Option<FileContent> {
    const WAYS: &[&str] = &["text", "base64", "source"];
    let fields = reader.fields(field, keys::FILE)?;
    let single = single(reader, &fields);
    reader.exclusive(&fields, WAYS);
    let given = fields.given(WAYS).into_iter().next();
    let Some((way, field)) = given else {
        let message = format!("`{}` does not say what is in it", field.what);
        reader.wrong(
            fields.span,
            message,
            "give `text`, `base64` or `source`; `text: \"\"` is an empty file",
        );
        return None;
    };
    let text = match way {
        // It may hold NUL, so it is not read as other texts are.
        "text" => reader.problems.text(&field.node, &field.what).map(FileText::Text),
        "base64" => base64(reader, &field).map(FileText::Bytes),
        _ => reader.host_path(&field).map(FileText::Source),
    };
    Some(FileContent { single: single?, text: text? })
}

/// Bytes; white space between the digits means nothing, so that long texts can be folded.
fn base64(reader: &mut Reader, field: &Field) -> Option<Vec<u8>> {
    let text = reader.text(field)?;
    let digits: String = text.value.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(digits).ok();
    if bytes.is_none() {
        let message = format!("`{}` is not base64: `{}`", field.what, shorten(&text.value));
        reader.problems.report(text.span, message);
    }
    bytes
}

/// `symlink`.
pub(super) fn symlink(reader: &mut Reader, field: &Field) -> Option<SymlinkContent> {
    let fields = reader.fields(field, keys::SYMLINK)?;
    let single = single(reader, &fields);
    let target = reader.required(&fields, "target").and_then(|field| reader.filled(&field));
    Some(SymlinkContent { single: single?, target: target?.value })
}

/// `directory`.
pub(super) fn directory(reader: &mut Reader, field: &Field) -> Option<DirectoryContent> {
    let fields = reader.fields(field, keys::DIRECTORY)?;
    single(reader, &fields).map(|single| DirectoryContent { single })
}

fn single(reader: &mut Reader, fields: &Fields) -> Option<Single> {
    let path = reader.required(fields, "path").and_then(|field| reader.path_below_root(&field));
    let has_mode = fields.knows("mode");
    let mode = has_mode.then(|| fields.get("mode")).flatten();
    let mode = mode.and_then(|field| reader.mode(&field));
    let uid = fields.get("uid").and_then(|field| reader.id(&field));
    let gid = fields.get("gid").and_then(|field| reader.id(&field));
    Some(Single { path: path?, mode, uid, gid })
}

/// Notes every two single things that have one path and are not the same: the second would hide the first.
pub(super) fn check_twice(reader: &mut Reader, contents: &[Content]) {
    let mut first: HashMap<&str, &Content> = HashMap::new();
    for content in contents {
        let Some(single) = single_of(&content.kind) else { continue };
        let Some(other) = first.insert(&single.path.value, content) else { continue };
        let (Some(before), false) = (single_of(&other.kind), same(&other.kind, &content.kind))
        else {
            continue;
        };
        let message = format!("`{}` is given twice, and differently", shorten(&single.path.value));
        let hint = format!("it was given {}: remove one of them", reader.line(before.path.span));
        reader.wrong(single.path.span, message, &hint);
    }
}

fn single_of(kind: &ContentKind) -> Option<&Single> {
    match kind {
        ContentKind::File(file) => Some(&file.single),
        ContentKind::Symlink(link) => Some(&link.single),
        ContentKind::Directory(directory) => Some(&directory.single),
        _ => None,
    }
}

/// Whether two things of one path are the same but for their places.
fn same(one: &ContentKind, other: &ContentKind) -> bool {
    let owner = |kind| single_of(kind).map(|single| (single.mode, single.uid, single.gid));
    let same_thing = match (one, other) {
        (ContentKind::File(one), ContentKind::File(other)) => match (&one.text, &other.text) {
            (FileText::Source(one), FileText::Source(other)) => one.value == other.value,
            (one, other) => bytes(one).is_some() && bytes(one) == bytes(other),
        },
        (ContentKind::Symlink(one), ContentKind::Symlink(other)) => one.target == other.target,
        (ContentKind::Directory(_), ContentKind::Directory(_)) => true,
        _ => false,
    };
    same_thing && owner(one) == owner(other)
}

fn bytes(text: &FileText) -> Option<&[u8]> {
    match text {
        FileText::Text(text) => Some(text.as_bytes()),
        FileText::Bytes(bytes) => Some(bytes),
        FileText::Source(_) => None,
    }
}
