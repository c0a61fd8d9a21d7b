//! Reading tars that we did not write: strict, streaming, bounded.
//!
//! In: the bytes of an uncompressed tar. Out: one [`TarEntry`] after the other with its body. Understood: v7, ustar, PAX
//! (local and global), GNU long names, base-256 numbers, GNU sparse files (old form and PAX 1.0). Whatever two readers
//! could understand differently is an error that names the entry: sizes that disagree, bodies of things that have none,
//! bad records, bytes after the end. Nothing here touches a file system.
//! pax of POSIX.1-2017; image-spec layer.md.

mod blocks;
mod entry;
mod header;
mod limits;
mod sparse;

pub use entry::TarEntry;
pub use limits::Limits;

use super::beneath::shown;
use super::pax::{self, Global, InForce, MAX_EXTENDED, Records};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use blocks::{Blocks, Body};
use entry::Names;
use header::{BLOCK, Fields};
use limits::Demand;
use sparse::{SPARSE, Stored};
use std::io::{self, BufReader, Read};
use std::rc::Rc;

/// Keys of records that name or size one entry.
const OF_ONE: [&[u8]; 3] = [b"path", b"linkpath", b"size"];

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
        demand: Demand::new(limits),
        global: Rc::default(),
    };
    while let Some(Member { entry, stored }) = archive.next_member()? {
        let mut body = Body::new(&mut archive.blocks, stored.pieces, stored.size);
        visit(&entry, &mut body)?;
        io::copy(&mut body, &mut io::sink())
            .and_then(|_| archive.blocks.skip_padding(stored.bytes))
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
    demand: Demand,
    /// What global headers said, shared with the entry that is being read.
    global: Rc<Global>,
}

struct Member {
    entry: TarEntry,
    stored: Stored,
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
            let place = format!("archive is damaged after {} entries", self.demand.entries);
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
                _ => return self.member(&fields, extended, &block).map(Some),
            }
            self.demand.count().map_err(|reason| bad(&header::text(&block[..100]), reason))?;
        }
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
        fields: &Fields,
        extended: Extended,
        block: &[u8; BLOCK],
    ) -> Result<Member> {
        let records = InForce::new(extended.pax.unwrap_or_default(), &self.global);
        let names = Names::new(fields, &records, extended.name, extended.link)?;
        let fail = |reason: String| bad(&names.name, reason);
        self.demand.count().map_err(fail)?;
        let bytes = entry::stored_size(fields, &records).map_err(fail)?;
        let head = (fields, block);
        let stored = sparse::read(&mut self.blocks, &names.name, bytes, head, &records)?;
        let read = self.blocks.consumed.saturating_add(stored.bytes);
        self.demand.expand(stored.size, read).map_err(fail)?;
        let entry = TarEntry::new(names, stored.size, fields, &records, &self.demand.limits)?;
        Ok(Member { entry, stored })
    }
}
