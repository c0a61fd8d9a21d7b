//! The tar form of a change stream, of `layer-format 1` to 3: the same changes give the same bytes, for ever.
//!
//! In: changes in canonical order, and the root that holds the file bodies. Out: ustar headers; PAX records only where
//! a header cannot say it, keys sorted; whole-second times; no names of users and groups; two zero blocks at the end.
//! A body that is not as long as its entry says is an error: the file changed while it was read.
//! image-spec layer.md; pax of POSIX.1-2017.

pub use super::times::TimePolicy;

use super::beneath::{self, shown};
use super::{Change, ChangeKind, Changes, Entry, EntryKind, pax, whiteout};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::sys::SysResultExt as _;
use crate::sys::fs;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::borrow::Borrow;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::BorrowedFd;

/// Largest value of a twelve-byte octal field.
const MAX_LONG: u64 = 0o777_7777_7777;
/// Largest value of an eight-byte octal field.
const MAX_SHORT: u32 = 0o777_7777;
const BLOCK: usize = 512;
pub(super) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes the bytes of the file at a path, as many as its entry says.
pub type WriteBody<'a> = dyn FnMut(&[u8], u64, &mut dyn Write) -> Result<()> + 'a;

/// Writes the layer of `changes`; bodies are read below `root`, no link followed.
pub fn write_layer(
    changes: impl IntoIterator<Item: Borrow<Change>>,
    root: BorrowedFd<'_>,
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    write_stream(changes, &mut |path, size, out| body(root, path, size, out), times, out)
}

/// The same with bodies from anywhere.
pub fn write_stream(
    changes: impl IntoIterator<Item: Borrow<Change>>,
    bodies: &mut WriteBody<'_>,
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    write_members(changes, bodies, b"", times, out)?;
    finish(out)
}

/// Writes trees one after the other, each below a directory of its name: the root file systems of several platforms.
pub fn write_trees(
    trees: &[(&str, &Changes, BorrowedFd<'_>)],
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    let above = Entry {
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: (times.epoch.unwrap_or_default(), 0),
        xattrs: Vec::new(),
    };
    for (name, changes, root) in trees {
        written(out.write_all(&header(name.as_bytes(), &above, times)?))?;
        let bodies: &mut WriteBody<'_> = &mut |path, size, out| body(*root, path, size, out);
        write_members(*changes, bodies, format!("{name}/").as_bytes(), times, out)?;
    }
    finish(out)
}

pub(super) fn written(result: std::io::Result<()>) -> Result<()> {
    result.or_error(ErrorKind::Environment, || "cannot write the layer".to_owned())
}

/// The two blocks at the end of an archive.
pub(super) fn finish(out: &mut dyn Write) -> Result<()> {
    written(out.write_all(&ZEROS[..2 * BLOCK]))
}

/// Writes members whose names start with `prefix`, which is empty or ends in a slash.
fn write_members(
    changes: impl IntoIterator<Item: Borrow<Change>>,
    bodies: &mut WriteBody<'_>,
    prefix: &[u8],
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    let below = |path: &[u8]| [prefix, path].concat();
    for change in changes {
        let change = change.borrow();
        check_name(&change.path)?;
        match &change.kind {
            ChangeKind::Deleted => written(out.write_all(&deletion(&below(&change.path))))?,
            ChangeKind::Present(entry) => {
                let head = match &entry.kind {
                    EntryKind::Hardlink { target } if !prefix.is_empty() => {
                        let kind = EntryKind::Hardlink { target: below(target) };
                        header(&below(&change.path), &Entry { kind, ..entry.clone() }, times)?
                    }
                    _ => header(&below(&change.path), entry, times)?,
                };
                written(out.write_all(&head))?;
                if let EntryKind::File { size } = entry.kind {
                    bodies(&change.path, size, out)?;
                    written(out.write_all(&ZEROS[..padding(size)]))?;
                }
            }
        }
    }
    Ok(())
}

/// Names that mean deletions cannot be those of files.
pub(super) fn check_name(path: &[u8]) -> Result<()> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    if !whiteout::is_reserved_name(name) {
        return Ok(());
    }
    let what = shown(path);
    Err(Error::environment(format!("{what} cannot be stored in a layer"))
        .cause(whiteout::RESERVED_NAMES)
        .hint("remove or rename it in the step that makes it"))
}

/// An empty file with nothing in its metadata; its time is 0, since a deletion has none.
pub(super) fn deletion(path: &[u8]) -> Vec<u8> {
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

fn header(path: &[u8], entry: &Entry, times: &TimePolicy) -> Result<Vec<u8>> {
    named_header(path, entry, times.apply(entry.mtime), Names::default())
}

/// A header that also tells the owners' names.
pub(super) fn named_header(
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

/// Opens a file that must have so many bytes; `path` is its name in messages.
pub(super) fn open_body(
    root: BorrowedFd<'_>,
    at: &[u8],
    path: &[u8],
    size: u64,
) -> Result<(File, fs::Stat)> {
    let read = || format!("cannot read {}", shown(path));
    let file = beneath::open_file(root, at).or_error(ErrorKind::Environment, read)?;
    let stat = fs::fstat(&file).or_error(ErrorKind::Environment, read)?;
    if stat.kind != fs::Kind::File || stat.size != size {
        return Err(changed(path));
    }
    Ok((file, stat))
}

/// The bytes of a file, without padding.
pub(super) fn body(
    root: BorrowedFd<'_>,
    path: &[u8],
    size: u64,
    out: &mut dyn Write,
) -> Result<()> {
    let (file, stat) = open_body(root, path, path, size)?;
    whole_body(&file, &stat, path, out)
}

/// The bytes of an open file, at its start, which must still have as many as `stat` says afterwards.
pub(super) fn whole_body(
    file: &File,
    stat: &fs::Stat,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<()> {
    file_body(file, stat, path, out)?;
    let read = || format!("cannot read {}", shown(path));
    if fs::fstat(file).or_error(ErrorKind::Environment, read)?.size != stat.size {
        return Err(changed(path));
    }
    Ok(())
}

/// The bytes of an open file, at its start, that has as many as `stat` says. Whether they changed meanwhile is the
/// caller's to see; `path` is for messages.
pub fn file_body(file: &File, stat: &fs::Stat, path: &[u8], out: &mut dyn Write) -> Result<()> {
    let size = stat.size;
    let read = || format!("cannot read {}", shown(path));
    let written = |result: std::io::Result<()>| {
        result.or_error(ErrorKind::Environment, || "cannot write the layer".to_owned())
    };
    let mut at = 0;
    let sparse = stat.blocks.saturating_mul(512) < size;
    while at < size {
        let (start, end) = if sparse {
            data_range(file, at, size).or_error(ErrorKind::Environment, read)?
        } else {
            (0, size)
        };
        written(zeros(start - at, out))?;
        copy(file, path, end - start, out)?;
        at = end;
    }
    Ok(())
}

pub(super) fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The next run of data at or after `at`, with the file's offset at its start; `(size, size)` when only a hole is left.
fn data_range(file: &File, at: u64, size: u64) -> std::io::Result<(u64, u64)> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => return Ok((size, size)),
        Err(errno) => return Err(errno.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?.clamp(start, size);
    let mut file = file;
    file.seek(std::io::SeekFrom::Start(start))?;
    Ok((start, if end == start { size } else { end }))
}

fn zeros(mut count: u64, out: &mut dyn Write) -> std::io::Result<()> {
    while count > 0 {
        let part = count.min(ZEROS.len() as u64) as usize;
        out.write_all(&ZEROS[..part])?;
        count -= part as u64;
    }
    Ok(())
}

pub(super) fn copy(mut file: &File, path: &[u8], mut left: u64, out: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0_u8; left.min(256 * 1024) as usize];
    while left > 0 {
        let want = left.min(buffer.len() as u64) as usize;
        let n = file
            .read(&mut buffer[..want])
            .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(path)))?;
        if n == 0 {
            return Err(changed(path));
        }
        out.write_all(&buffer[..n])
            .or_error(ErrorKind::Environment, || "cannot write the layer".to_owned())?;
        left -= n as u64;
    }
    Ok(())
}

fn changed(path: &[u8]) -> Error {
    Error::environment(format!("{} changed while it was read", shown(path)))
        .hint("something outside the build writes to its files; build again when it has stopped")
}
