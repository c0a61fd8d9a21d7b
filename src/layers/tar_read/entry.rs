//! What a header and its records say of one member, as an entry of an image.
//!
//! Nothing is guessed: what two readers could understand differently is an error. Paths are cleaned here, and those that
//! lead out or are longer than the limits are refused.

use super::bad;
use super::header::Fields;
use super::limits::Limits;
use crate::error::{Error, Result};
use crate::layers::beneath::shown;
use crate::layers::pax::InForce;
use crate::layers::whiteout::{self, Whiteout};
use crate::layers::{Entry, EntryKind, ImagePath};

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Relative path without `.`, `..` and empty components; empty for the root. A whiteout keeps its own name.
    pub path: ImagePath,
    /// Path as written.
    pub original: Vec<u8>,
    /// What it is; a hard link's target is cleaned like the path.
    pub entry: Entry,
    /// What the name means in a layer.
    pub whiteout: Option<Whiteout>,
}

impl TarEntry {
    /// A member whose body has `size` bytes.
    pub(super) fn new(
        names: Names,
        size: u64,
        fields: &Fields,
        records: &InForce,
        limits: &Limits,
    ) -> Result<Self> {
        let fail = |reason: String| bad(&names.name, reason);
        let path = clean(&names.name, limits).map_err(fail)?;
        let kind = kind(&names, size, fields, limits).map_err(fail)?;
        let has_body = matches!(kind, EntryKind::File { .. });
        if !has_body && size != 0 {
            return Err(fail(format!("it has no content, but its header says {size} bytes")));
        }
        let entry = metadata(fields, records, kind).map_err(fail)?;
        let whiteout = whiteout_of(&path).map_err(|error| fail(error.message().to_owned()))?;
        Ok(Self { path, original: names.name, entry, whiteout })
    }
}

/// Names of a member as they are written.
pub(super) struct Names {
    pub(super) name: Vec<u8>,
    /// Target of a link.
    link: Vec<u8>,
}

impl Names {
    /// Out of all places where they can be; the long ones are GNU's.
    pub(super) fn new(
        fields: &Fields,
        records: &InForce,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Self> {
        let name = one_name("path", records, long_name, &fields.name)?;
        let link = one_name("linkpath", records, long_link, &fields.link)?;
        let of_sparse = records.get("GNU.sparse.name").map(<[u8]>::to_vec);
        Ok(Self { name: of_sparse.unwrap_or(name), link })
    }
}

/// The name out of PAX record, GNU long name and header field; two long forms at once are ambiguous.
fn one_name(key: &str, records: &InForce, long: Option<Vec<u8>>, short: &[u8]) -> Result<Vec<u8>> {
    match (records.get(key), long) {
        (Some(_), Some(long)) => Err(bad(&long, format!("it has a GNU and a PAX `{key}`"))),
        (Some(pax), None) => Ok(pax.to_vec()),
        (None, Some(long)) => Ok(long),
        (None, None) => Ok(short.to_vec()),
    }
}

/// Bytes that the archive holds of a member, a sparse map among them.
pub(super) fn stored_size(fields: &Fields, records: &InForce) -> Result<u64, String> {
    let written =
        u64::try_from(fields.size).map_err(|_| "size in the header is negative".to_owned())?;
    let Some(size) = records.decimal("size")? else { return Ok(written) };
    let size = u64::try_from(size).map_err(|_| "PAX `size` is negative".to_owned())?;
    // A writer that needs the record leaves the field 0, or cut to what fits; anything else hides entries.
    let honest = written == size || (size > 0o777_7777_7777 && written == 0);
    if !honest {
        return Err(format!("its header says {written} bytes, its PAX `size` {size}"));
    }
    Ok(size)
}

fn kind(names: &Names, size: u64, fields: &Fields, limits: &Limits) -> Result<EntryKind, String> {
    let Names { name, link } = names;
    let (major, minor) = fields.device;
    Ok(match fields.kind {
        0 if name.last() == Some(&b'/') => EntryKind::Directory,
        b'0' | b'7' | b'S' if name.last() == Some(&b'/') => {
            return Err("a file with the name of a directory".to_owned());
        }
        0 | b'0' | b'7' | b'S' => EntryKind::File { size },
        b'1' => {
            let target = clean(link, limits).map_err(|e| format!("link target: {e}"))?;
            if target.is_empty() {
                return Err("hard link without a target".to_owned());
            }
            EntryKind::Hardlink { target }
        }
        b'2' if link.is_empty() => return Err("symbolic link without a target".to_owned()),
        b'2' => EntryKind::Symlink { target: link.clone() },
        b'3' => EntryKind::CharDevice { major, minor },
        b'4' => EntryKind::BlockDevice { major, minor },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => {
            return Err(format!("entries of type `{}` are not known", other.escape_ascii()));
        }
    })
}

fn metadata(fields: &Fields, records: &InForce, kind: EntryKind) -> Result<Entry, String> {
    let owner = |key: &str, field: i64| {
        let id = records.decimal(key)?.unwrap_or(field);
        // The largest number means "nobody in particular" to the kernel.
        u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(format!("bad `{key}` {id}"))
    };
    let mut xattrs = records.xattrs();
    xattrs.retain(|name, _| !whiteout::is_private_xattr(name));
    let pair = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
    Ok(Entry {
        kind,
        mode: fields.mode,
        uid: owner("uid", fields.uid)?,
        gid: owner("gid", fields.gid)?,
        mtime: records.time("mtime")?.unwrap_or((fields.mtime, 0)),
        xattrs: xattrs.into_iter().map(pair).collect(),
    })
}

/// Takes away leading slashes, `.` and inner `..` as Docker does; a path that leads out is an error.
fn clean(path: &[u8], limits: &Limits) -> Result<ImagePath, String> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or("the path leads out of the root")?;
            }
            part => parts.push(part),
        }
    }
    if path.is_empty() {
        return Err("it has no name".to_owned());
    }
    if path.contains(&0) {
        return Err("the path contains a NUL".to_owned());
    }
    if parts.len() > limits.depth {
        return Err(format!("the path has more than {} components", limits.depth));
    }
    let clean = parts.join(&b'/');
    if clean.len() > limits.path_len {
        return Err(format!("the path is longer than {} bytes", limits.path_len));
    }
    if parts.iter().any(|part| part.len() > 255) {
        return Err("a component of the path is longer than 255 bytes".to_owned());
    }
    Ok(clean)
}

fn whiteout_of(path: &[u8]) -> Result<Option<Whiteout>> {
    let mut parts = path.split(|b| *b == b'/');
    let last = whiteout::parse(parts.next_back().unwrap_or_default())?;
    for parent in parts {
        match whiteout::parse(parent)? {
            None => {}
            // aufs kept files in its own directories.
            Some(Whiteout::Reserved) => return Ok(Some(Whiteout::Reserved)),
            Some(_) => {
                let what = shown(parent);
                return Err(Error::integrity(format!("whiteout {what} is used as a directory")));
            }
        }
    }
    Ok(last)
}
