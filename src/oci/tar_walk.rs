//! Walks a tar's headers: names, types, sizes and places, without unpacking anything.
//!
//! Reads ustar, GNU long names and PAX records in bounded memory ([`EXTENSION_LIMIT`]), for finding members of an
//! archive and for checking layers. Checksums are verified. Sizes are honoured where PAX overrides them, so that
//! the walk never takes data for a header.

use crate::error::{Error, Result, ResultExt};
use std::io::{self, Read};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// A longer name or record list than this is refused.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// One member of a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name as written, with a possible trailing slash.
    pub path: Vec<u8>,
    /// Link target as written; empty when there is none.
    pub link: Vec<u8>,
    /// Type of the member.
    pub kind: EntryType,
    /// Bytes of data.
    pub size: u64,
    /// Where the data starts, counted from the start of the tar.
    pub offset: u64,
    /// True when the data is not the file's plain content.
    pub sparse: bool,
}

/// A source that can pass over bytes.
pub trait Skip: Read {
    /// Passes over `count` bytes; an error when there are fewer.
    fn skip(&mut self, count: u64) -> io::Result<()>
    where
        Self: Sized,
    {
        let passed = io::copy(&mut self.by_ref().take(count), &mut io::sink())?;
        if passed == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Skip for &[u8] {}
impl<R: Read> Skip for io::BufReader<R> {}

/// The walk over one tar.
#[derive(Debug)]
pub struct TarWalk<R> {
    inner: R,
    position: u64,
    /// Data and padding of the present member that were not passed yet.
    rest: u64,
    seen_any: bool,
}

impl<R: Skip> TarWalk<R> {
    /// Starts at the beginning of a tar.
    pub fn new(inner: R) -> Self {
        Self { inner, position: 0, rest: 0, seen_any: false }
    }

    /// The next member, `None` at the end of the archive (two zero blocks, or the end of the bytes).
    #[expect(
        clippy::should_implement_trait,
        reason = "an error ends the walk, unlike an iterator's item"
    )]
    pub fn next(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else {
                if extended.any {
                    return Err(damaged("a long name or record has no member after it"));
                }
                return Ok(None);
            };
            let size = header.entry_size().map_err(|_| damaged("a size is not a number"))?;
            match header.entry_type() {
                EntryType::GNULongName => extended.path = Some(self.text(size)?),
                EntryType::GNULongLink => extended.link = Some(self.text(size)?),
                EntryType::XHeader => extended.records(&self.data(size)?)?,
                EntryType::XGlobalHeader => {
                    self.data(size)?;
                    continue;
                }
                kind => return self.member(&header, kind, extended, size).map(Some),
            }
            extended.any = true;
        }
    }

    /// Reads on to the end of the bytes behind the tar, so that a digest sees all of them.
    pub fn finish(mut self) -> Result<()> {
        io::copy(&mut self.inner, &mut io::sink())
            .or_error(crate::error::ErrorKind::Integrity, || "cannot read a tar".to_owned())?;
        Ok(())
    }

    fn member(
        &mut self,
        header: &Header,
        kind: EntryType,
        extended: Extended,
        size: u64,
    ) -> Result<Member> {
        let size = extended.size.unwrap_or(size);
        // Only these have data behind the header, whatever the size field says.
        let has_data = !matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Directory
                | EntryType::Char
                | EntryType::Block
                | EntryType::Fifo
        );
        if kind == EntryType::GNUSparse {
            self.sparse_map(header)?;
        }
        let size = if has_data { size } else { 0 };
        self.rest = padded(size)?;
        Ok(Member {
            path: extended.path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: extended
                .link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
            kind,
            size,
            offset: self.position,
            sparse: kind == EntryType::GNUSparse || extended.sparse,
        })
    }

    /// The blocks of a GNU sparse map that follow its header.
    fn sparse_map(&mut self, header: &Header) -> Result<()> {
        let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while more {
            let mut block = [0; BLOCK as usize];
            self.read_exact(&mut block)?;
            more = block[504] == 1;
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let rest = std::mem::take(&mut self.rest);
        self.inner.skip(rest).map_err(cut_short)?;
        self.position += rest;
        let mut header = Header::new_old();
        if !self.read_block(header.as_mut_bytes())? {
            // QUIRK(tar): an archive may just stop instead of ending in two zero blocks.
            return if self.seen_any { Ok(None) } else { Err(damaged("it is empty")) };
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let wrong = || damaged("a header has the wrong checksum");
        let stated = header.cksum().map_err(|_| wrong())?;
        let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let bytes = header.as_bytes();
        if stated != sum(&bytes[..148]) + 8 * 32 + sum(&bytes[156..]) {
            return Err(wrong());
        }
        self.seen_any = true;
        Ok(Some(header))
    }

    /// False at a clean end.
    fn read_block(&mut self, block: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(damaged("it ends in the middle of a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cut_short(error)),
            }
        }
        self.position += block.len() as u64;
        Ok(true)
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes).map_err(cut_short)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn data(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_LIMIT {
            return Err(damaged("a name or record list is longer than 1 MiB"));
        }
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes)?;
        self.rest = padded(size)? - size;
        Ok(bytes)
    }

    fn text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut text = self.data(size)?;
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }
}

/// What the records before a member say about it.
#[derive(Debug, Default)]
struct Extended {
    any: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extended {
    /// PAX: `LENGTH KEY=VALUE\n`, LENGTH counting the whole record.
    fn records(&mut self, mut bytes: &[u8]) -> Result<()> {
        let wrong = || damaged("a PAX record is malformed");
        while !bytes.is_empty() && bytes[0] != 0 {
            let space = bytes.iter().take(8).position(|b| *b == b' ').ok_or_else(wrong)?;
            let length: usize = std::str::from_utf8(&bytes[..space])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(wrong)?;
            let record = bytes.get(space + 1..length).ok_or_else(wrong)?;
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" if !self.sparse => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
                    self.size = Some(text.parse().map_err(|_| wrong())?);
                }
                b"GNU.sparse.name" => {
                    self.sparse = true;
                    self.path = Some(value.to_vec());
                }
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

fn padded(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(BLOCK)
        .filter(|size| *size < 1 << 62)
        .ok_or_else(|| damaged("a member is larger than any file"))
}

fn damaged(why: &str) -> Error {
    Error::integrity(format!("not a well-formed tar: {why}"))
}

fn cut_short(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
        _ => Err::<(), _>(error)
            .or_error(crate::error::ErrorKind::Integrity, || "cannot read a tar".to_owned())
            .expect_err("made from an error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<(String, u64)>> {
        let mut walk = TarWalk::new(bytes);
        let mut all = Vec::new();
        while let Some(member) = walk.next()? {
            all.push((String::from_utf8_lossy(&member.path).into_owned(), member.size));
        }
        walk.finish()?;
        Ok(all)
    }

    fn sample() -> (Vec<u8>, Vec<(String, u64)>) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut expected = Vec::new();
        let names = ["a".to_owned(), "d/".repeat(90) + "long", "e".repeat(300)];
        for (count, name) in names.iter().enumerate() {
            let mut header = Header::new_gnu();
            let data = vec![b'x'; count * 700];
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, &data[..]).unwrap();
            expected.push((name.clone(), data.len() as u64));
        }
        tar.append_pax_extensions([("path", b"pax/name".as_slice()), ("size", b"3")]).unwrap();
        let mut header = Header::new_ustar();
        header.set_path("short").unwrap();
        header.set_size(0);
        header.set_cksum();
        // The size comes from the record: three bytes and their padding follow.
        tar.get_mut().extend_from_slice(header.as_bytes());
        tar.get_mut().extend_from_slice(b"abc");
        tar.get_mut().extend_from_slice(&[0; 509]);
        expected.push(("pax/name".to_owned(), 3));
        (tar.into_inner().unwrap(), expected)
    }

    #[test]
    fn long_names_and_records_are_understood() {
        let (bytes, expected) = sample();
        assert_eq!(walk(&bytes).unwrap(), expected);
        // Without the two zero blocks at the end it is still a tar.
        assert_eq!(walk(&bytes[..bytes.len() - 1024]).unwrap(), expected);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_a_walk_but_never_a_panic() {
        let (bytes, _) = sample();
        for cut in (0..bytes.len() - 1024).step_by(7) {
            assert!(walk(&bytes[..cut]).is_err() || cut % 512 == 0, "{cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x15;
            let mut walk = TarWalk::new(&flipped[..]);
            while let Ok(Some(_)) = walk.next() {}
        }
    }

    #[test]
    fn huge_records_and_sizes_are_refused_without_allocating() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = TarWalk::new(&header.as_bytes()[..]).next().unwrap_err();
        assert!(error.message().contains("longer than 1 MiB"), "{error}");
        header.set_entry_type(EntryType::Regular);
        header.set_size(u64::MAX);
        header.set_cksum();
        assert!(TarWalk::new(&header.as_bytes()[..]).next().is_err());
    }
}
