//! `name`, `tag` and `tagFrom`.
//!
//! The repository is put into lower case, as Nix does it, and with a warning; host, port and tag stay as they are.

use super::reader::{Field, Fields, Reader};
use super::{Placed, Tag, keys};
use crate::{error::ErrorKind, oci::reference::Reference};

/// Name and tag as they are to be used.
pub(super) fn read(reader: &mut Reader, fields: &Fields) -> (Option<Placed<String>>, Tag) {
    let (name, tag_in_name) = fields.get("name").and_then(|field| name(reader, &field)).unzip();
    let tag_in_name = tag_in_name.flatten();
    let given = fields.raw("tag");
    if let (Some(inside), Some(field)) = (&tag_in_name, &given) {
        let message = format!("the tag is given twice: here, and as `{inside}` in `name`");
        reader.wrong(field.key, message, "remove one of them");
    }
    let from = fields.get("tagFrom");
    let nix = from.as_ref().and_then(|field| reader.word(field, keys::TAG_FROM));
    let made = given.as_ref().is_some_and(|field| field.node.is_null());
    if let Some(field) = from.filter(|_| !made) {
        let message = "`tagFrom` says how a tag is made, and a tag is given";
        let message = if given.is_some() { message } else { "`tagFrom` needs `tag: null`" };
        reader.wrong(field.key, message, "write `tag: null`, or remove `tagFrom`");
    }
    let tag = match given {
        Some(_) if made && nix == Some(true) => Tag::Nix,
        Some(_) if made => Tag::Digest,
        Some(field) => Tag::Given(tag(reader, &field).unwrap_or_default()),
        None => Tag::Given(tag_in_name.unwrap_or_else(|| "latest".to_owned())),
    };
    (name, tag)
}

fn tag(reader: &mut Reader, field: &Field) -> Option<String> {
    let text = reader.short(field)?;
    match Reference::parse(&format!("x:{}", text.value)) {
        Ok(reference) if reference.digest.is_none() => reference.tag,
        _ => {
            let message = format!("`{}` is not a valid tag", crate::yaml::shorten(&text.value));
            let hint = "a tag has letters, digits, `_`, `.` and `-`, at most 128, and does not begin with `.` or `-`";
            reader.wrong(text.span, message, hint);
            None
        }
    }
}

/// The name in lower case and without the tag, and the tag in it.
fn name(reader: &mut Reader, field: &Field) -> Option<(Placed<String>, Option<String>)> {
    let Placed { value, span } = reader.short(field)?;
    if value.contains('@') {
        let message = "`name` may not have a digest, which only the finished image has";
        reader.wrong(span, message, "remove what begins with `@`");
        return None;
    }
    let start = value.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match value[start..].split_once(':') {
        Some((last, tag)) => (&value[..start + last.len()], Some(tag)),
        None => (value.as_str(), None),
    };
    let lower = lower(path);
    let whole = tag.map_or_else(|| lower.clone(), |tag| format!("{lower}:{tag}"));
    if let Err(error) = Reference::parse(&whole) {
        reader.problems.push(span, error.with_kind(ErrorKind::Package));
        return None;
    }
    if lower != path {
        reader.warn(span, &format!("`name` is put into lower case: `{path}` becomes `{lower}`"));
    }
    Some((Placed { value: lower, span }, tag.map(str::to_owned)))
}

/// All but the host in lower case.
fn lower(path: &str) -> String {
    match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            format!("{host}/{}", rest.to_lowercase())
        }
        _ => path.to_lowercase(),
    }
}
