//! Where the blocks of a gzip layer end: the part of `layer-format 4` that cuts the tar.
//!
//! A block is packed by itself, so what two layers have in common is packed once if both are cut alike around it. The tar
//! itself says where, and nothing else does:
//!
//! * The body of a file of 64 KiB or more is cut by itself, without header and padding: each MiB, and a rest of less than
//!   64 KiB stays with the block before it.
//! * All else is cut before such a body, at 1 MiB, and after an entry whose name says so (one in 16 does) once a block has
//!   512 KiB: a file more or less moves the ends of one block, seldom of two.
//! * What is no tar, or no more, is cut each MiB.

use super::pax;

/// Bytes of a block, but for the rest of a large body.
pub(super) const BLOCK: usize = 1 << 20;

/// Bodies from this size on are cut by themselves.
pub(super) const LARGE: u64 = 64 << 10;

/// A block of small entries has as many bytes before a name may end it.
const LEAST: usize = 512 << 10;

/// One name in so many does.
const NAMES: u32 = 16;

/// Most bytes of PAX records that are looked at.
const RECORDS: u64 = 64 << 10;

const HEADER: usize = 512;

/// Where in a tar a stream of bytes is.
#[derive(Debug)]
pub(super) struct Cuts {
    at: At,
    header: Vec<u8>,
    /// PAX records of the entry to come, when they are to be looked at.
    records: Option<Vec<u8>>,
    /// Size of the entry to come that they tell.
    size: Option<u64>,
    /// The entry ends a block that is long enough.
    marked: bool,
    /// Bytes of the block so far.
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Header,
    /// So many bytes of PAX records and the like, with padding.
    Records(u64),
    /// So many of a small body, with padding.
    Small(u64),
    /// So many of a large body, and of them of this block; then padding.
    Large(u64, u64, u64),
    /// What cannot be read.
    Lost,
}

impl Cuts {
    /// At the beginning of a tar.
    pub(super) fn of_tar() -> Self {
        Self::new(At::Header)
    }

    /// Of something that is cut each MiB.
    pub(super) fn even() -> Self {
        Self::new(At::Lost)
    }

    fn new(at: At) -> Self {
        Self { at, header: Vec::new(), records: None, size: None, marked: false, length: 0 }
    }

    /// How many of these bytes (there must be some) the block takes, at least one, and whether it ends with them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let here = match self.at {
            At::Header => (HEADER - self.header.len()) as u64,
            At::Records(left) | At::Small(left) | At::Large(_, left, _) => left,
            At::Lost => u64::MAX,
        };
        let room = match self.at {
            At::Large(..) => u64::MAX,
            _ => (BLOCK - self.length) as u64,
        };
        let count = (bytes.len() as u64).min(here).min(room) as usize;
        self.length += count;
        let ends = self.passed(&bytes[..count]) || self.length == BLOCK && !self.is_in_body();
        if ends {
            self.length = 0;
        }
        (count, ends)
    }

    /// Bytes that the block will still take, as far as that is known.
    pub(super) fn foreseen(&self) -> Option<usize> {
        match self.at {
            At::Large(_, here, _) => usize::try_from(here).ok(),
            _ => None,
        }
    }

    fn is_in_body(&self) -> bool {
        matches!(self.at, At::Large(..))
    }

    /// Goes past bytes that lie within one part; true when the block ends.
    fn passed(&mut self, bytes: &[u8]) -> bool {
        let count = bytes.len() as u64;
        match self.at {
            At::Header => {
                self.header.extend_from_slice(bytes);
                self.header.len() == HEADER && self.entry()
            }
            At::Records(left) => {
                if let Some(records) = &mut self.records {
                    records.extend_from_slice(bytes);
                }
                self.at = At::Records(left - count);
                if left == count {
                    if let Some(records) = self.records.take() {
                        self.size = told_size(&records);
                    }
                    self.at = At::Header;
                }
                false
            }
            At::Small(left) => {
                self.at = At::Small(left - count);
                left == count && self.end_of_entry()
            }
            At::Large(left, here, padding) => {
                let (left, here) = (left - count, here - count);
                self.at = match (left, here) {
                    (0, _) if padding > 0 => At::Small(padding),
                    (0, _) => At::Header,
                    (_, 0) => At::Large(left, piece(left), padding),
                    _ => At::Large(left, here, padding),
                };
                here == 0
            }
            At::Lost => false,
        }
    }

    /// A header is complete.
    fn entry(&mut self) -> bool {
        let header = std::mem::take(&mut self.header);
        let Some((kind, size)) = read(&header) else {
            self.at = At::Lost;
            return false;
        };
        let padded = |size: u64| size.checked_next_multiple_of(HEADER as u64);
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if kind == b'x' {
                self.size = None;
            }
            // Longer ones tell nothing, however they come.
            self.records = (kind == b'x' && (1..=RECORDS).contains(&size)).then(Vec::new);
            self.at = match padded(size) {
                Some(0) => At::Header,
                Some(size) => At::Records(size),
                None => At::Lost,
            };
            return false;
        }
        // These have no bodies, whatever their size says.
        let size = if (b'1'..=b'6').contains(&kind) { 0 } else { self.size.unwrap_or(size) };
        self.size = None;
        let Some(whole) = padded(size) else {
            self.at = At::Lost;
            return false;
        };
        if size >= LARGE {
            self.marked = false;
            self.at = At::Large(size, piece(size), whole - size);
            return true;
        }
        self.marked = ends_blocks(&header);
        self.at = At::Small(whole);
        whole == 0 && self.end_of_entry()
    }

    fn end_of_entry(&mut self) -> bool {
        self.at = At::Header;
        self.marked && self.length >= LEAST
    }
}

/// Bytes of the next block of a large body of which so many are left.
pub(super) fn piece(left: u64) -> u64 {
    if left < BLOCK as u64 + LARGE { left } else { BLOCK as u64 }
}

/// Type and size of an entry; `None` for what is no header.
fn read(header: &[u8]) -> Option<(u8, u64)> {
    let header = tar::Header::from_byte_slice(header);
    let bytes = header.as_bytes();
    let sum = |part: &[u8]| part.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let found = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
    // The block of zeros at the end has a sum that nothing has.
    if header.cksum().ok()? != found {
        return None;
    }
    Some((bytes[156], header.entry_size().ok()?))
}

/// Whether a name ends blocks.
fn ends_blocks(header: &[u8]) -> bool {
    let mut sum = libdeflater::Crc::new();
    sum.update(&header[..100]);
    sum.update(&header[345..500]);
    sum.sum().is_multiple_of(NAMES)
}

/// What PAX records, with padding, say of the size.
fn told_size(records: &[u8]) -> Option<u64> {
    let end = records.iter().rposition(|byte| *byte != 0)? + 1;
    let records = pax::parse(&records[..end]).ok()?;
    let (_, value) = records.into_iter().find(|(key, _)| key == b"size")?;
    std::str::from_utf8(&value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::samples::noise;
    use super::*;
    use crate::oci::Digest;
    use proptest::prelude::*;

    /// A tar of files with these names and sizes.
    fn tar_of(files: &[(String, usize)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, size) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(*size as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &vec![b'x'; *size][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Lengths of the blocks, when the bytes come in pieces of this length.
    fn blocks(mut cuts: Cuts, bytes: &[u8], step: usize) -> Vec<usize> {
        let (mut found, mut length) = (Vec::new(), 0);
        for mut part in bytes.chunks(step) {
            while !part.is_empty() {
                let (count, ends) = cuts.take(part);
                assert!(count > 0 && count <= part.len());
                part = &part[count..];
                length += count;
                if ends {
                    found.push(std::mem::take(&mut length));
                }
            }
        }
        found.extend(Some(length).filter(|length| *length > 0));
        assert_eq!(found.iter().sum::<usize>(), bytes.len());
        assert!(
            found.iter().all(|length| (1..BLOCK + LARGE as usize).contains(length)),
            "{found:?}"
        );
        found
    }

    fn of_tar(files: &[(&str, usize)]) -> Vec<usize> {
        let files: Vec<(String, usize)> =
            files.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        blocks(Cuts::of_tar(), &tar_of(&files), usize::MAX)
    }

    const LARGE_SIZE: usize = LARGE as usize;

    #[test]
    fn large_bodies_are_cut_by_themselves() {
        // Headers and the two blocks at the end.
        assert_eq!(of_tar(&[("a", LARGE_SIZE - 1)]), [512 + LARGE_SIZE + 1024]);
        assert_eq!(of_tar(&[("a", LARGE_SIZE)]), [512, LARGE_SIZE, 1024]);
        // Padding belongs to what follows.
        assert_eq!(
            of_tar(&[("a", LARGE_SIZE + 1), ("b", 0)]),
            [512, LARGE_SIZE + 1, 511 + 512 + 1024]
        );
        // A short rest stays with the block before it.
        let most = BLOCK + LARGE_SIZE - 1;
        assert_eq!(of_tar(&[("a", most)]), [512, most, 1 + 1024]);
        assert_eq!(of_tar(&[("a", most + 1)]), [512, BLOCK, LARGE_SIZE, 1024]);
        assert_eq!(of_tar(&[("a", 2 * BLOCK + 1)]), [512, BLOCK, BLOCK + 1, 511 + 1024]);
    }

    /// Of a name that does not fit, the size may be in records too: both are told before the body.
    #[test]
    fn records_are_no_bodies_and_may_tell_the_size() {
        let long = "n".repeat(300);
        let found = of_tar(&[(&long, LARGE_SIZE)]);
        assert_eq!(found[found.len() - 2..], [LARGE_SIZE, 1024]);
        // The size that records tell counts, even of a header that says nothing.
        let records = pax::record(b"size", LARGE_SIZE.to_string().as_bytes());
        let mut tar = member(b'x', records.len() as u64, &records);
        tar.extend(member(b'0', 0, &noise(LARGE_SIZE)));
        tar.resize(tar.len() + 1024, 0);
        assert_eq!(blocks(Cuts::of_tar(), &tar, 1000), [3 * 512, LARGE_SIZE, 1024]);
    }

    #[test]
    fn what_is_no_tar_is_cut_evenly() {
        let bytes = noise(2 * BLOCK + 5);
        for cuts in [Cuts::of_tar, Cuts::even] {
            assert_eq!(blocks(cuts(), &bytes, 4096), [BLOCK, BLOCK, 5]);
        }
        // Nor is what follows the end, or a header that is damaged.
        let mut tar = tar_of(&[("a".to_owned(), 100_000), ("b".to_owned(), 100_000)]);
        tar.resize(tar.len() + BLOCK, 0);
        let whole = blocks(Cuts::of_tar(), &tar, 999);
        assert_eq!(whole, [512, 100_000, 352 + 512, 100_000, 352 + 1024 + BLOCK - 1376, 1376]);
        let second = tar.len() - BLOCK - 1024 - 100_352 - 512;
        tar[second] ^= 1;
        assert_eq!(blocks(Cuts::of_tar(), &tar, 999)[..2], [512, 100_000]);
    }

    fn many() -> Vec<(String, usize)> {
        (0..2000).map(|at| (format!("dir/{at:04}"), at * 37 % 12_000)).collect()
    }

    const CUTS: &str = "6ed1c35bf234df33e8d5366f7d7f3fd1d4e0cc017b269a58b466e4de2a15652e";

    /// With other cuts every layer that users have cached or pushed would get a new digest: do not change what is expected,
    /// make a format 5.
    #[test]
    fn layer_format_4_cuts_for_ever_alike() {
        let mut files = many();
        for (at, size) in [(30, 100_000), (700, 5 << 20), (701, LARGE_SIZE), (702, LARGE_SIZE - 1)]
        {
            files[at].1 = size;
        }
        let found = blocks(Cuts::of_tar(), &tar_of(&files), usize::MAX);
        let text: Vec<String> = found.iter().map(usize::to_string).collect();
        assert_eq!((found.len(), Digest::of(text.join(" ").as_bytes()).hex()), (33, CUTS));
    }

    /// What a file more leaves as it was is what need not be packed again.
    #[test]
    fn a_file_more_changes_few_blocks() {
        let mut files = many();
        let cut = |files: &[(String, usize)]| {
            let tar = tar_of(files);
            let mut rest = &tar[..];
            let take = |length: usize| {
                let (block, left) = rest.split_at(length);
                rest = left;
                Digest::of(block)
            };
            blocks(Cuts::of_tar(), &tar, 1 << 16).into_iter().map(take).collect::<Vec<_>>()
        };
        let before = cut(&files);
        assert!((10..60).contains(&before.len()), "{}", before.len());
        files.insert(1000, ("dir/0999-new".to_owned(), 5000));
        let new: Vec<_> = cut(&files).into_iter().filter(|block| !before.contains(block)).collect();
        assert!((1..=2).contains(&new.len()), "{}", new.len());
    }

    /// One header and what belongs to it; the size need not be so.
    fn member(kind: u8, size: u64, body: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_cksum();
        let mut out = [header.as_bytes(), body].concat();
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    /// Found in review: whether a size was known depended on how the records came, and other headers made it forgotten.
    #[test]
    fn records_tell_the_size_or_not_however_they_come() {
        let told = |padding: usize, between: &[u8]| {
            let records = [
                pax::record(b"comment", &vec![b'c'; padding]),
                pax::record(b"size", LARGE_SIZE.to_string().as_bytes()),
            ]
            .concat();
            let tar = [
                member(b'x', records.len() as u64, &records),
                between.to_vec(),
                member(b'0', 0, &noise(LARGE_SIZE)),
                vec![0; 1024],
            ]
            .concat();
            let found = blocks(Cuts::of_tar(), &tar, usize::MAX);
            for step in [1, 511, 7680, 8192, 70_000] {
                assert_eq!(blocks(Cuts::of_tar(), &tar, step), found, "{step}");
            }
            found.contains(&LARGE_SIZE)
        };
        assert!(told(10, b""));
        assert!(told(65_000, b""));
        assert!(!told(66_000, b""));
        assert!(told(10, &member(b'L', 3, b"abc")));
        assert!(told(10, &member(b'g', 0, b"")));
        assert!(!told(10, &member(b'x', 0, b"")));
    }

    proptest! {
        #[test]
        fn headers_of_all_kinds_do_no_harm(
            members in prop::collection::vec(
                (prop::sample::select(&b"xgLK01S\0"[..]), any::<Option<u64>>(), 0_usize..200_000),
                0..8,
            ),
            damaged in any::<Option<(usize, u8)>>(),
            step in 1_usize..100_000,
        ) {
            let mut tar: Vec<u8> = members
                .iter()
                .flat_map(|(kind, size, body)| {
                    member(*kind, size.unwrap_or(*body as u64), &vec![b'x'; *body])
                })
                .collect();
            if let Some((at, byte)) = damaged && !tar.is_empty() {
                let at = at % tar.len();
                tar[at] ^= byte;
            }
            let found = blocks(Cuts::of_tar(), &tar, usize::MAX);
            prop_assert_eq!(blocks(Cuts::of_tar(), &tar, step), found);
        }

        #[test]
        fn blocks_do_not_depend_on_how_bytes_come(
            files in prop::collection::vec(("[a-z]{1,120}", 0_usize..3 << 20), 0..6),
            step in 1_usize..3 << 20,
            garbage in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let tar = [tar_of(&files), garbage].concat();
            prop_assert_eq!(
                blocks(Cuts::of_tar(), &tar, step),
                blocks(Cuts::of_tar(), &tar, usize::MAX),
            );
        }
    }
}
