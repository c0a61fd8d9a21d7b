//! What stands before a body: one ustar header, and a PAX header before it where that cannot say all.
//! pax of POSIX.1-2017; image-spec layer.md#whiteouts.

use super::BLOCK;
use crate::error::{Error, Result};
use crate::layers::beneath::shown;
use crate::layers::times::TimePolicy;
use crate::layers::{Entry, EntryKind, pax, whiteout};

/// Largest value of a twelve-byte octal field.
const MAX_LONG: u64 = 0o777_7777_7777;
/// Largest value of an eight-byte octal field.
const MAX_SHORT: u32 = 0o777_7777;

/// An empty file with nothing in its metadata; its time is 0, since a deletion has none.
pub(in crate::layers) fn deletion(path: &[u8]) -> Vec<u8> {
    let entry = Entry {
        kind: EntryKind::File { size: 0 },
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: Vec::new(),
    };
    let mut records = Vec::new();
    let header = ustar(&whiteout::emit(path), &entry, 0, &mut records);
    assemble(header, records)
}

/// A header whose time is what the policy makes of the entry's.
pub(super) fn header(path: &[u8], entry: &Entry, times: &TimePolicy) -> Result<Vec<u8>> {
    named_header(path, entry, times.apply(entry.mtime), Names::default())
}

/// A header that also tells the owners' names.
pub(in crate::layers) fn named_header(
    path: &[u8],
    entry: &Entry,
    mtime: i64,
    names: Names<'_>,
) -> Result<Vec<u8>> {
    let mut records = Vec::new();
    for (name, value) in &entry.xattrs {
        if name.contains(&b'=') {
            let (what, name) = (shown(path), shown(name));
            return Err(Error::environment(format!(
                "extended attribute {name} of {what} cannot be stored in a layer"
            ))
            .cause("its name contains `=`"));
        }
        records.push(([pax::XATTR, name].concat(), value.clone()));
    }
    let mut name = path.to_vec();
    if entry.kind == EntryKind::Directory {
        name.push(b'/');
    }
    let mut header = ustar(&name, entry, mtime, &mut records);
    names.put(&mut header, &mut records);
    Ok(assemble(header, records))
}

/// Names of owner and group, which a layer need not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'a> {
    /// Of the owner.
    pub user: Option<&'a str>,
    /// Of the group.
    pub group: Option<&'a str>,
}

impl Names<'_> {
    fn put(self, header: &mut tar::Header, records: &mut pax::Records) {
        let fields = header.as_ustar_mut().expect("a ustar header");
        let mut put = |key: &str, name: Option<&str>, field: &mut [u8; 32]| {
            let Some(name) = name else { return };
            if name.is_ascii() && name.len() < field.len() {
                field[..name.len()].copy_from_slice(name.as_bytes());
            } else {
                records.push((key.as_bytes().to_vec(), name.as_bytes().to_vec()));
            }
        };
        put("uname", self.user, &mut fields.uname);
        put("gname", self.group, &mut fields.gname);
        header.set_cksum();
    }
}

/// The main header; what does not fit goes to `records`.
fn ustar(name: &[u8], entry: &Entry, mtime: i64, records: &mut pax::Records) -> tar::Header {
    let mut long =
        |key: &str, value: &[u8]| records.push((key.as_bytes().to_vec(), value.to_vec()));
    let mut header = tar::Header::new_ustar();
    let fields = header.as_ustar_mut().expect("new_ustar makes a ustar header");
    let (prefix, rest) = split_name(name).unwrap_or_else(|| {
        long("path", name);
        (Vec::new(), fallback_name(name))
    });
    fields.prefix[..prefix.len()].copy_from_slice(&prefix);
    fields.name[..rest.len()].copy_from_slice(&rest);
    let (kind, link, size, device) = match &entry.kind {
        EntryKind::File { size } => (tar::EntryType::Regular, &[][..], *size, (0, 0)),
        EntryKind::Directory => (tar::EntryType::Directory, &[][..], 0, (0, 0)),
        EntryKind::Symlink { target } => (tar::EntryType::Symlink, &target[..], 0, (0, 0)),
        EntryKind::Hardlink { target } => (tar::EntryType::Link, &target[..], 0, (0, 0)),
        EntryKind::CharDevice { major, minor } => {
            (tar::EntryType::Char, &[][..], 0, (*major, *minor))
        }
        EntryKind::BlockDevice { major, minor } => {
            (tar::EntryType::Block, &[][..], 0, (*major, *minor))
        }
        EntryKind::Fifo => (tar::EntryType::Fifo, &[][..], 0, (0, 0)),
    };
    if link.len() > fields.linkname.len() || !link.is_ascii() {
        long("linkpath", link);
        let short = fallback_name(link);
        fields.linkname[..short.len()].copy_from_slice(&short);
    } else {
        fields.linkname[..link.len()].copy_from_slice(link);
    }
    let mut fit = |key: &str, value: i64, max: u64| match u64::try_from(value) {
        Ok(value) if value <= max => value,
        _ => {
            long(key, value.to_string().as_bytes());
            0
        }
    };
    let uid = fit("uid", entry.uid.into(), MAX_SHORT.into());
    let gid = fit("gid", entry.gid.into(), MAX_SHORT.into());
    let size = fit("size", i64::try_from(size).unwrap_or(i64::MAX), MAX_LONG);
    let mtime = fit("mtime", mtime, MAX_LONG);
    header.set_entry_type(kind);
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_size(size);
    header.set_mtime(mtime);
    let fields = header.as_ustar_mut().expect("still a ustar header");
    // Linux device numbers have 12 and 20 bits, the fields 21.
    fields.set_device_major(device.0.min(MAX_SHORT));
    fields.set_device_minor(device.1.min(MAX_SHORT));
    header.set_cksum();
    header
}

/// Prefix and name fields of an ASCII name that fits into them.
fn split_name(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= 100 {
        return Some((Vec::new(), name.to_vec()));
    }
    // The first slash that leaves a short enough rest; the final slash of a directory leaves none.
    let from = name.len().checked_sub(101)?;
    let at = from + name[from..name.len() - 1].iter().position(|b| *b == b'/')?;
    (at > 0 && at <= 155).then(|| (name[..at].to_vec(), name[at + 1..].to_vec()))
}

/// What a reader without PAX gets to see: cut, ASCII, and never with a final slash, which would mean a directory.
fn fallback_name(name: &[u8]) -> Vec<u8> {
    let ascii = name.iter().map(|b| if b.is_ascii() { *b } else { b'_' });
    let mut short: Vec<u8> = ascii.take(100).collect();
    while short.last() == Some(&b'/') {
        short.pop();
    }
    short
}

fn assemble(main: tar::Header, mut records: pax::Records) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        records.sort();
        let text: Vec<u8> =
            records.iter().flat_map(|(key, value)| pax::record(key, value)).collect();
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().expect("new_ustar makes a ustar header");
        let name = b"PaxHeaders.0/entry";
        fields.name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&text);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(main.as_bytes());
    out
}
