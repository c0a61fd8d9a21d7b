//! `contents`: items, each of exactly one kind; here the trees, `dir` and `tar`.

use super::reader::{Field, Fields, Reader};
use super::{
    Content, ContentKind, DirContent, DirSymlinks, TarContent, closure, keys, preset, single,
};
use crate::yaml::Entry;

/// All items, in order.
pub(super) fn read(reader: &mut Reader, field: &Field) -> Vec<Content> {
    let items = reader.items(field).unwrap_or_default();
    let contents: Vec<Content> = items.iter().filter_map(|field| item(reader, field)).collect();
    single::check_twice(reader, &contents);
    contents
}

fn item(reader: &mut Reader, field: &Field) -> Option<Content> {
    let name = kind(reader, field)?;
    let known = match name {
        "dir" => keys::DIR,
        "tar" => keys::TAR,
        "closure" => keys::CLOSURE_ITEM,
        "file" => keys::FILE_ITEM,
        "symlink" => keys::SYMLINK_ITEM,
        "directory" => keys::DIRECTORY_ITEM,
        _ => keys::PRESET_ITEM,
    };
    let fields = reader.fields(field, known)?;
    let inner = fields.get(name)?;
    let kind = match name {
        "dir" => ContentKind::Dir(dir(reader, &fields, &inner)?),
        "tar" => ContentKind::Tar(tar(reader, &fields, &inner)?),
        "closure" => ContentKind::Closure(closure::read(reader, &inner)?),
        "file" => ContentKind::File(single::file(reader, &inner)?),
        "symlink" => ContentKind::Symlink(single::symlink(reader, &inner)?),
        "directory" => ContentKind::Directory(single::directory(reader, &inner)?),
        _ => ContentKind::Preset(preset::read(reader, &inner)),
    };
    Some(Content { span: field.node.span, kind })
}

/// The one kind of an item. What is unknown beside a kind is noted by who reads the kind's keys.
fn kind(reader: &mut Reader, field: &Field) -> Option<&'static str> {
    let entries = reader.problems.entries(&field.node, &field.what)?;
    let given = |entry: &&Entry| keys::KINDS.contains(&entry.name()) && !entry.value.is_null();
    let kinds: Vec<&Entry> = entries.iter().filter(given).collect();
    match kinds[..] {
        [one] => return keys::KINDS.iter().find(|kind| **kind == one.name()).copied(),
        [first, second, ..] => {
            let (first, name) = (first.name(), second.name());
            let message = format!("`{}` has two kinds: `{first}` and `{name}`", field.what);
            reader.wrong(second.key.span, message, "make two items of it");
        }
        [] => {
            let strange: Vec<&Entry> =
                entries.iter().filter(|entry| !keys::ITEM.contains(&entry.name())).collect();
            for entry in &strange {
                reader.problems.unknown_key(entry, &field.what, keys::KINDS);
            }
            if strange.is_empty() {
                let message = format!("`{}` does not say what it is", field.what);
                let hint = format!("give it one of {}", keys::KINDS.join(", "));
                reader.wrong(field.node.span, message, &hint);
            }
        }
    }
    None
}

fn dir(reader: &mut Reader, fields: &Fields, inner: &Field) -> Option<DirContent> {
    let path = reader.host_path(inner);
    let (to, dir_symlinks) = target(reader, fields);
    let mut flag =
        |key: &str| fields.get(key).and_then(|field| reader.boolean(&field)).unwrap_or_default();
    let (xattrs, hardlinks, owners) = (flag("xattrs"), flag("hardlinks"), flag("owners"));
    let expand =
        fields.get("sourceSymlinks").and_then(|field| reader.word(&field, keys::SOURCE_SYMLINKS));
    let expand = expand.unwrap_or_default();
    Some(DirContent { path: path?, to, dir_symlinks, expand, xattrs, hardlinks, owners })
}

fn tar(reader: &mut Reader, fields: &Fields, inner: &Field) -> Option<TarContent> {
    let path = reader.host_path(inner);
    let (to, dir_symlinks) = target(reader, fields);
    Some(TarContent { path: path?, to, dir_symlinks })
}

/// `to` and `dirSymlinks`.
fn target(reader: &mut Reader, fields: &Fields) -> (String, DirSymlinks) {
    let to = fields.get("to").and_then(|field| reader.image_path(&field));
    let links = fields.get("dirSymlinks").and_then(|field| reader.word(&field, keys::DIR_SYMLINKS));
    (to.map_or_else(|| "/".to_owned(), |to| to.value), links.unwrap_or(DirSymlinks::FollowBase))
}
