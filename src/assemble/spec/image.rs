//! What the image stands on and is made for: `from`, `inherit`, its platform, owner, compression and annotations.

use super::reader::{Field, Fields, Reader};
use super::{From, Inherit, Owner, Placed, PlatformWish, keys};
use crate::{
    dockerfile::suggest,
    error::{Error, ErrorKind, Result},
    oci::{Digest, Platform, platform},
    yaml::shorten,
};
use std::collections::BTreeMap;

/// `from`.
pub(super) fn from(reader: &mut Reader, field: &Field) -> Option<From> {
    let fields = reader.fields(field, keys::FROM)?;
    let image = reader.required(&fields, "image").and_then(|field| reader.filled(&field));
    let platform =
        fields.get("platform").and_then(|field| checked(reader, &field, Platform::parse));
    let digest = fields.get("digest").and_then(|field| checked(reader, &field, Digest::parse));
    Some(From { image: image?, platform, digest })
}

/// A text that another room understands.
fn checked<T>(
    reader: &mut Reader,
    field: &Field,
    parse: impl Fn(&str) -> Result<T>,
) -> Option<Placed<T>> {
    let Placed { value, span } = reader.short(field)?;
    match parse(&value) {
        Ok(value) => Some(Placed { value, span }),
        Err(error) => {
            reader.problems.push(span, error.with_kind(ErrorKind::Package));
            None
        }
    }
}

/// `inherit`: a word, or names of members of the config.
pub(super) fn inherit(reader: &mut Reader, field: Option<Field>) -> Inherit {
    let Some(field) = field else { return Inherit::All };
    if Reader::is_scalar(&field) {
        let Some(word) = reader.text(&field) else { return Inherit::All };
        return match word.value.as_str() {
            "docker" => Inherit::All,
            "none" => Inherit::None,
            "env" => Inherit::Some(vec!["Env".to_owned()]),
            _ => {
                reader.unknown(&word, "inherit", keys::INHERIT);
                Inherit::All
            }
        };
    }
    let mut names: Vec<String> = Vec::new();
    for name in reader.texts(&field) {
        if !keys::CONFIG.contains(&name.value.as_str()) {
            reader.unknown(&name, "inherit[]", keys::CONFIG);
        } else if !names.contains(&name.value) {
            names.push(name.value);
        }
    }
    Inherit::Some(names)
}

/// `architecture`, `os` and `variant`.
pub(super) fn platform(reader: &mut Reader, fields: &Fields) -> PlatformWish {
    let mut known = |key: &str, names: &[&str]| {
        let text = fields.get(key).and_then(|field| reader.filled(&field))?;
        if names.contains(&text.value.as_str()) {
            return Some(text.value);
        }
        let other = Platform::new(&text.value, &text.value, "");
        let other =
            [other.os, other.architecture].into_iter().find(|n| names.contains(&n.as_str()));
        let near = other.as_deref().or_else(|| suggest::nearest(&text.value, names));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it may be {}", names.join(", ")),
        };
        reader.wrong(text.span, format!("unknown `{key}` `{}`", shorten(&text.value)), &hint);
        None
    };
    let architecture = known("architecture", platform::KNOWN_ARCH);
    let os = known("os", platform::KNOWN_OS);
    let variant = fields.get("variant").and_then(|field| variant(reader, &field));
    PlatformWish { architecture, os, variant }
}

fn variant(reader: &mut Reader, field: &Field) -> Option<String> {
    let text = reader.filled(field)?;
    if !text.value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
        let message = format!("`{}` is no variant of an architecture", shorten(&text.value));
        reader.wrong(text.span, message, "for example `v7`");
        return None;
    }
    Some(text.value)
}

/// `owner`.
pub(super) fn owner(reader: &mut Reader, field: &Field) -> Option<Owner> {
    let fields = reader.fields(field, keys::OWNER)?;
    Some(Owner {
        uid: fields.get("uid").and_then(|field| reader.id(&field)).unwrap_or_default(),
        gid: fields.get("gid").and_then(|field| reader.id(&field)).unwrap_or_default(),
        uname: fields.get("uname").and_then(|field| reader.owner_name(&field)),
        gname: fields.get("gname").and_then(|field| reader.owner_name(&field)),
    })
}

/// `compression`.
pub(super) fn compression(reader: &mut Reader, field: &Field) -> Option<(String, Option<i32>)> {
    let fields = reader.fields(field, keys::COMPRESSION)?;
    let (kind, levels) = match fields.get("kind") {
        Some(field) => {
            let levels = reader.word(&field, keys::COMPRESSIONS)?;
            (reader.text(&field)?.value, levels)
        }
        None => ("gzip".to_owned(), keys::GZIP_LEVELS),
    };
    let given = fields.get("level");
    let level = match (levels, given) {
        (None, None) => None,
        (None, Some(field)) => {
            let error = Error::package(format!("`{kind}` has no levels"));
            reader.problems.push(field.key, error.hint("remove `level`"));
            None
        }
        (Some((usual, ..)), None) => Some(usual),
        (Some((_, least, most)), Some(field)) => {
            let bounds = i128::from(least)..=i128::from(most);
            let level = reader.problems.integer(&field.node, &field.what, &bounds);
            level.and_then(|level| i32::try_from(level).ok())
        }
    };
    Some((kind, level))
}

/// `annotations`: texts by their names.
pub(super) fn annotations(reader: &mut Reader, field: &Field) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in reader.pairs(field) {
        if name.value.is_empty() {
            reader.problems.report(name.span, "an annotation must have a name");
        }
        if let Some(text) = reader.text(&value) {
            all.insert(name.value, text.value);
        }
    }
    all
}
