//! Reading tars that we did not write: strict, streaming, bounded.
//!
//! In: the bytes of an uncompressed tar. Out: one [`TarEntry`] after the other with its body. Understood: v7, ustar, PAX
//! (local and global), GNU long names, base-256 numbers, GNU sparse files (old form and PAX 1.0). Whatever two readers
//! could understand differently is an error that names the entry: sizes that disagree, bodies of things that have none,
//! bad records, bytes after the end. Nothing here touches a file system.
//! pax of POSIX.1-2017; image-spec layer.md.

use super::beneath::shown;
use super::pax::{self, Global, InForce, MAX_EXTENDED, Records};
use super::tar_blocks::{Blocks, Body};
use super::tar_header::{self as header, BLOCK, Fields, Pieces};
use super::whiteout::{self, Whiteout};
use super::{Entry, EntryKind, ImagePath};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use std::io::{self, BufReader, Read};
use std::rc::Rc;

/// Keys of records that name or size one entry.
const OF_ONE: [&[u8]; 3] = [b"path", b"linkpath", b"size"];
/// How keys begin that describe a sparse file.
const SPARSE: &[u8] = b"GNU.sparse.";
/// What a sparse archive may expand to before its ratio is looked at.
const RATIO_FLOOR: u64 = 4 << 30;

/// How much an archive may ask for. The defaults are far above any real image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of a path.
    pub path_len: usize,
    /// Bytes of all files together.
    pub total_bytes: Option<u64>,
    /// Expanded bytes for each byte read, once 4 GiB are passed.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            depth: 1024,
            path_len: super::beneath::MAX_PATH,
            total_bytes: Some(1 << 40),
            ratio: 500,
        }
    }
}

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

/// True when the first bytes of a file (at least 512) are a tar header.
pub fn looks_like_tar(start: &[u8]) -> bool {
    start.first_chunk::<BLOCK>().is_some_and(header::is_header)
}

/// Calls `visit` for each member in order; what it leaves of a body is skipped.
pub fn for_each(
    reader: impl Read,
    limits: &Limits,
    mut visit: impl FnMut(&TarEntry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut archive = Archive {
        blocks: Blocks { inner: BufReader::with_capacity(128 * 1024, reader), consumed: 0 },
        limits: *limits,
        global: Rc::default(),
        entries: 0,
        expanded: 0,
    };
    while let Some(member) = archive.next_member()? {
        let Member { entry, stored, pieces } = member;
        let size = match entry.entry.kind {
            EntryKind::File { size } => size,
            _ => 0,
        };
        let mut body = Body::new(&mut archive.blocks, pieces, size);
        visit(&entry, &mut body)?;
        io::copy(&mut body, &mut io::sink())
            .and_then(|_| archive.blocks.skip_padding(stored))
            .or_error(ErrorKind::Integrity, || named(&entry.original))?;
    }
    Ok(())
}

fn named(path: &[u8]) -> String {
    format!("archive entry {} is damaged", shown(path))
}

fn bad(path: &[u8], reason: impl std::fmt::Display) -> Error {
    Error::integrity(named(path)).cause(reason)
}

struct Archive<R> {
    blocks: Blocks<R>,
    limits: Limits,
    /// What global headers said, shared with the entry that is being read.
    global: Rc<Global>,
    entries: u64,
    expanded: u64,
}

struct Member {
    entry: TarEntry,
    /// Bytes that the archive holds for it, without padding and maps.
    stored: u64,
    pieces: Pieces,
}

/// What came before a header.
#[derive(Default)]
struct Extended {
    pax: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Archive<R> {
    fn next_member(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            let place = format!("archive is damaged after {} entries", self.entries);
            let block =
                self.blocks.next_block().or_error(ErrorKind::Integrity, || place.clone())?;
            let pending = |e: &Extended| e.pax.is_some() || e.name.is_some() || e.link.is_some();
            let Some(block) = block else {
                return Err(Error::integrity(place).cause("the archive is cut short"));
            };
            if block.iter().all(|b| *b == 0) {
                if pending(&extended) {
                    return Err(Error::integrity(place).cause("an extended header stands alone"));
                }
                return self.end().map(|()| None);
            }
            let fields =
                header::parse(&block).map_err(|reason| Error::integrity(place).cause(reason))?;
            match fields.kind {
                b'x' | b'g' | b'L' | b'K' => self.extended_header(&fields, &mut extended)?,
                // A volume's label.
                b'V' => {}
                _ => return self.member(fields, extended, &block).map(Some),
            }
            self.count(&fields_name(&block))?;
        }
    }

    fn count(&mut self, name: &[u8]) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let limit = self.limits.entries;
            return Err(bad(name, format!("the archive has more than {limit} entries")));
        }
        Ok(())
    }

    /// After the first zero block: at most zeros.
    fn end(&mut self) -> Result<()> {
        let message = || "archive is damaged at its end".to_owned();
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            let n = self.blocks.inner.read(&mut buffer).or_error(ErrorKind::Integrity, message)?;
            if n == 0 {
                return Ok(());
            }
            if buffer[..n].iter().any(|b| *b != 0) {
                return Err(Error::integrity(message()).cause("something follows the end mark"));
            }
        }
    }

    fn extended_header(&mut self, fields: &Fields, extended: &mut Extended) -> Result<()> {
        let size = u64::try_from(fields.size).ok().filter(|size| *size <= MAX_EXTENDED);
        let size = size.ok_or_else(|| bad(&fields.name, "extended header is too large"))?;
        let mut bytes =
            self.blocks.take(size).or_error(ErrorKind::Integrity, || named(&fields.name))?;
        let twice = match fields.kind {
            b'x' | b'g' => {
                let records = pax::parse(&bytes)
                    .map_err(|reason| bad(&fields.name, format!("extended header: {reason}")))?;
                if fields.kind == b'g' {
                    return self.global_header(fields, records);
                }
                extended.pax.replace(records).is_some()
            }
            kind => {
                if bytes.last() == Some(&0) {
                    bytes.pop();
                }
                if bytes.is_empty() || bytes.contains(&0) {
                    return Err(bad(&fields.name, "long name is not a path"));
                }
                let slot = if kind == b'L' { &mut extended.name } else { &mut extended.link };
                slot.replace(bytes).is_some()
            }
        };
        if twice {
            return Err(bad(&fields.name, "two extended headers of one kind"));
        }
        Ok(())
    }

    fn global_header(&mut self, fields: &Fields, records: Records) -> Result<()> {
        // One of these for all that follows cannot be meant well.
        let odd = |key: &[u8]| OF_ONE.contains(&key) || key.starts_with(SPARSE);
        if records.iter().any(|(key, _)| odd(key)) {
            return Err(bad(&fields.name, "global header names or sizes every entry"));
        }
        Rc::make_mut(&mut self.global).add(records).map_err(|reason| bad(&fields.name, reason))
    }

    fn member(
        &mut self,
        fields: Fields,
        extended: Extended,
        block: &[u8; BLOCK],
    ) -> Result<Member> {
        let records = InForce::new(extended.pax.unwrap_or_default(), &self.global);
        let sparse_name = records.get("GNU.sparse.name").map(<[u8]>::to_vec);
        let name = one_name("path", &records, extended.name, &fields.name)?;
        let link = one_name("linkpath", &records, extended.link, &fields.link)?;
        let name = sparse_name.unwrap_or(name);
        self.count(&name)?;
        let fail = |reason: String| bad(&name, reason);

        let stored = stored_size(&fields, &records).map_err(fail)?;
        let (stored, pieces, real) = match self.sparse(&fields, &records, stored, block, &name)? {
            Some(sparse) => sparse,
            None => (stored, vec![(0, stored)], stored),
        };
        self.expand(&name, real, stored)?;
        let path = clean(&name, &self.limits).map_err(fail)?;
        let kind = self.kind(&fields, &link, real, &name).map_err(fail)?;
        let has_body = matches!(kind, EntryKind::File { .. });
        if !has_body && real != 0 {
            return Err(fail(format!("it has no content, but its header says {real} bytes")));
        }
        let entry = metadata(&fields, &records, kind).map_err(fail)?;
        let whiteout = whiteout_of(&path).map_err(|error| fail(error.message().to_owned()))?;
        Ok(Member { entry: TarEntry { path, original: name, entry, whiteout }, stored, pieces })
    }

    fn kind(
        &self,
        fields: &Fields,
        link: &[u8],
        size: u64,
        name: &[u8],
    ) -> Result<EntryKind, String> {
        let (major, minor) = fields.device;
        Ok(match fields.kind {
            0 if name.last() == Some(&b'/') => EntryKind::Directory,
            b'0' | b'7' | b'S' if name.last() == Some(&b'/') => {
                return Err("a file with the name of a directory".to_owned());
            }
            0 | b'0' | b'7' | b'S' => EntryKind::File { size },
            b'1' => {
                let target = clean(link, &self.limits).map_err(|e| format!("link target: {e}"))?;
                if target.is_empty() {
                    return Err("hard link without a target".to_owned());
                }
                EntryKind::Hardlink { target }
            }
            b'2' if link.is_empty() => return Err("symbolic link without a target".to_owned()),
            b'2' => EntryKind::Symlink { target: link.to_vec() },
            b'3' => EntryKind::CharDevice { major, minor },
            b'4' => EntryKind::BlockDevice { major, minor },
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                return Err(format!("entries of type `{}` are not known", other.escape_ascii()));
            }
        })
    }

    /// Counts what a file will need; only sparse ones need more than they store.
    fn expand(&mut self, name: &[u8], size: u64, stored: u64) -> Result<()> {
        self.expanded = self.expanded.saturating_add(size);
        if let Some(limit) = self.limits.total_bytes.filter(|limit| self.expanded > *limit) {
            return Err(bad(name, format!("the archive expands to more than {limit} bytes")));
        }
        let read = self.blocks.consumed.saturating_add(stored);
        if self.expanded > RATIO_FLOOR.max(read.saturating_mul(self.limits.ratio)) {
            let ratio = self.limits.ratio;
            return Err(bad(name, format!("the archive expands more than {ratio} times")));
        }
        Ok(())
    }

    /// Stored bytes, pieces and real size of a sparse file; `None` for an ordinary one.
    fn sparse(
        &mut self,
        fields: &Fields,
        records: &InForce,
        stored: u64,
        block: &[u8; BLOCK],
        name: &[u8],
    ) -> Result<Option<(u64, Pieces, u64)>> {
        let fail = |reason: String| bad(name, reason);
        let marked = records.has_own(SPARSE);
        let next =
            |blocks: &mut Blocks<R>| blocks.expect().or_error(ErrorKind::Integrity, || named(name));
        let (left, pieces, real) = if fields.kind == b'S' && !marked {
            let (mut pieces, real, mut more) = header::old_sparse(block).map_err(fail)?;
            while more {
                let block = next(&mut self.blocks)?;
                more = header::more_sparse(&block, &mut pieces).map_err(fail)?;
            }
            (stored, pieces, real)
        } else if marked {
            let version = [records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")];
            let real = header::decimal(records, "GNU.sparse.realsize").map_err(fail)?;
            let real = real.and_then(|real| u64::try_from(real).ok());
            let (Some(real), [Some(b"1"), Some(b"0")]) = (real, version) else {
                return Err(fail("only sparse files of format 1.0 are supported".to_owned())
                    .hint("make the archive without sparse files"));
            };
            if !matches!(fields.kind, b'0' | 0) {
                return Err(fail("sparse, but not a file".to_owned()));
            }
            let mut lines = header::SparseLines::new();
            let mut left = stored;
            let pieces = loop {
                left = left
                    .checked_sub(BLOCK as u64)
                    .ok_or_else(|| fail("sparse map is longer than the entry".to_owned()))?;
                if let Some(pieces) = lines.block(&next(&mut self.blocks)?).map_err(fail)? {
                    break pieces;
                }
            };
            (left, pieces, real)
        } else {
            return Ok(None);
        };
        header::check_pieces(&pieces, real, left).map_err(fail)?;
        Ok(Some((left, pieces, real)))
    }
}

fn fields_name(block: &[u8; BLOCK]) -> Vec<u8> {
    block[..100].split(|b| *b == 0).next().unwrap_or_default().to_vec()
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

fn stored_size(fields: &Fields, records: &InForce) -> Result<u64, String> {
    let written =
        u64::try_from(fields.size).map_err(|_| "size in the header is negative".to_owned())?;
    let Some(size) = header::decimal(records, "size")? else { return Ok(written) };
    let size = u64::try_from(size).map_err(|_| "PAX `size` is negative".to_owned())?;
    // A writer that needs the record leaves the field 0, or cut to what fits; anything else hides entries.
    let honest = written == size || (size > 0o777_7777_7777 && written == 0);
    if !honest {
        return Err(format!("its header says {written} bytes, its PAX `size` {size}"));
    }
    Ok(size)
}

fn metadata(fields: &Fields, records: &InForce, kind: EntryKind) -> Result<Entry, String> {
    let owner = |key: &str, field: i64| {
        let id = header::decimal(records, key)?.unwrap_or(field);
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
        mtime: header::time(records, "mtime")?.unwrap_or((fields.mtime, 0)),
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
