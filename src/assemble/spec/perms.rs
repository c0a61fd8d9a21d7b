//! `perms`: what certain paths are made to look like.

use super::reader::{Field, Reader};
use super::{PathPattern, Perm, keys};
use crate::layers::whiteout::is_private_xattr;
use crate::yaml::shorten;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;

/// Most bytes of an attribute's name and of its value: the kernel's.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 65536;

/// All items, in order.
pub(super) fn read(reader: &mut Reader, field: &Field) -> Vec<Perm> {
    let items = reader.items(field).unwrap_or_default();
    items.iter().filter_map(|item| perm(reader, item)).collect()
}

fn perm(reader: &mut Reader, field: &Field) -> Option<Perm> {
    let fields = reader.fields(field, keys::PERM)?;
    let path = reader.required(&fields, "path").and_then(|field| reader.image_path(&field));
    if fields.given(&keys::PERM[2..]).is_empty() {
        let hint = "give it `mode`, `uid`, `gid`, `uname`, `gname` or `xattrs`";
        reader.wrong(fields.span, format!("`{}` changes nothing", field.what), hint);
    }
    let regex = fields.get("regex").and_then(|field| reader.filled(&field));
    if let Some(regex) = &regex
        && let Err(error) = PathPattern::parse(&regex.value)
    {
        reader.problems.push(regex.span, error);
    }
    let mut id = |key: &str| fields.get(key).and_then(|field| reader.id(&field));
    let (uid, gid) = (id("uid"), id("gid"));
    let mut name = |key: &str| fields.get(key).and_then(|field| reader.owner_name(&field));
    let (uname, gname) = (name("uname"), name("gname"));
    let mode = fields.get("mode").and_then(|field| reader.mode(&field));
    let keep = fields.get("setuid").and_then(|field| reader.word(&field, keys::SETUID));
    Some(Perm {
        span: field.node.span,
        path: path?.value,
        regex,
        mode,
        uid,
        gid,
        uname,
        gname,
        keep_setuid: keep.unwrap_or_default(),
        xattrs: fields.get("xattrs").map(|field| xattrs(reader, &field)).unwrap_or_default(),
    })
}

fn xattrs(reader: &mut Reader, field: &Field) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (name, value) in reader.pairs(field) {
        let has_space =
            name.value.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if !has_space || name.value.len() > MAX_NAME || name.value.contains('\0') {
            let message = format!("`{}` is no name of an attribute", shorten(&name.value));
            reader.wrong(name.span, message, "for example `user.note` or `security.capability`");
            continue;
        }
        if is_private_xattr(name.value.as_bytes()) {
            let message = format!("`{}` cannot be in a layer", shorten(&name.value));
            let hint =
                "layers hold `user.*`, but no marks of overlayfs, `security.capability` and ACLs";
            reader.wrong(name.span, message, hint);
            continue;
        }
        if let Some(bytes) = xattr(reader, &value) {
            all.insert(name.value, bytes);
        }
    }
    all
}

/// As `getfattr` writes values: base64 after `0s`, hexadecimal after `0x`, else text.
fn xattr(reader: &mut Reader, field: &Field) -> Option<Vec<u8>> {
    let text = reader.text(field)?;
    let bytes = match text.value.as_bytes() {
        [b'0', b's' | b'S', digits @ ..] => STANDARD.decode(digits).ok(),
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits),
        text => Some(text.to_vec()),
    };
    let bytes = bytes.filter(|bytes| bytes.len() <= MAX_VALUE);
    if bytes.is_none() {
        let message =
            format!("`{}` is no value of an attribute: `{}`", field.what, shorten(&text.value));
        let hint = "write text, base64 after `0s`, or pairs of hexadecimal digits after `0x`; at most 65536 bytes";
        reader.wrong(text.span, message, hint);
    }
    bytes
}

fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}
