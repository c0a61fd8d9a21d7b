//! What the calls of the `stat` family write, with some fields replaced.
//!
//! In: an open file and what to say differently; out: the bytes of the structure that the caller's convention has. The
//! file is looked at from this process, which sees what the caller would: both are in the same user namespace, or in ones
//! with the same ids.

#![allow(unsafe_code, reason = "structures of the kernel are written as bytes")]
#![allow(clippy::unnecessary_cast, reason = "fields have other types on other machines")]

use rustix::fs::{self as rfs, AtFlags, StatxFlags};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// What differs from what the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permission bits, major and minor number of a device.
    pub node: Option<(u32, u32, u32)>,
}

/// Layout of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The machine's own `struct stat`.
    Native,
    /// `struct stat64` of a 32-bit program.
    Compat64,
    /// The old `struct stat` of a 32-bit program, with 16-bit ids.
    CompatOld,
}

/// Alignment of 64-bit numbers in the structures of 32-bit programs: 4 for i386, 8 for arm.
const COMPAT_ALIGN: usize = if cfg!(target_arch = "x86_64") { 4 } else { 8 };

/// A structure of `stat`, `fstat` and so on.
pub fn fill(file: impl AsFd, shape: Shape, over: &Override) -> Result<Vec<u8>, Errno> {
    let mut stat = rfs::fstat(file)?;
    stat.st_uid = over.uid;
    stat.st_gid = over.gid;
    if let Some((mode, major, minor)) = over.node {
        stat.st_mode = mode as _;
        stat.st_rdev = rfs::makedev(major, minor) as _;
        stat.st_size = 0;
        stat.st_blocks = 0;
    }
    match shape {
        Shape::Native => {
            let start = (&raw const stat).cast::<u8>();
            // SAFETY: `stat` was written by the kernel as a whole, padding included, and lives until the copy is made.
            let bytes = unsafe { std::slice::from_raw_parts(start, size_of_val(&stat)) };
            Ok(bytes.to_vec())
        }
        Shape::Compat64 => Ok(compat64(&stat, COMPAT_ALIGN)),
        Shape::CompatOld => compat_old(&stat),
    }
}

/// The structure of `statx` with the fields that `mask` asks for.
pub fn fill_statx(
    file: impl AsFd,
    flags: u32,
    mask: u32,
    over: &Override,
) -> Result<Vec<u8>, Errno> {
    let sync = AtFlags::from_bits_retain(flags & 0x6000);
    let mask = StatxFlags::from_bits_retain(mask);
    let mut stat = rfs::statx(file, "", AtFlags::EMPTY_PATH | sync, mask)?;
    stat.stx_uid = over.uid;
    stat.stx_gid = over.gid;
    if let Some((mode, major, minor)) = over.node {
        stat.stx_mode = mode as u16;
        (stat.stx_rdev_major, stat.stx_rdev_minor) = (major, minor);
        stat.stx_size = 0;
        stat.stx_blocks = 0;
    }
    let start = (&raw const stat).cast::<u8>();
    // SAFETY: `stat` was written by the kernel as a whole, padding included, and lives until the copy is made.
    let bytes = unsafe { std::slice::from_raw_parts(start, size_of_val(&stat)) };
    Ok(bytes.to_vec())
}

/// Fields one after the other, each at a multiple of its size or of `align`.
struct Fields {
    bytes: Vec<u8>,
    align: usize,
}

impl Fields {
    fn short(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&(value.min(0xffff) as u16).to_ne_bytes());
        self
    }

    fn word(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&(value as u32).to_ne_bytes());
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        let aligned = self.bytes.len().next_multiple_of(self.align);
        self.bytes.resize(aligned, 0);
        self.bytes.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn times(&mut self, stat: &rfs::Stat) -> &mut Self {
        self.word(stat.st_atime as u64).word(stat.st_atime_nsec as u64);
        self.word(stat.st_mtime as u64).word(stat.st_mtime_nsec as u64);
        self.word(stat.st_ctime as u64).word(stat.st_ctime_nsec as u64)
    }
}

fn compat64(stat: &rfs::Stat, align: usize) -> Vec<u8> {
    let mut fields = Fields { bytes: Vec::with_capacity(104), align };
    fields.long(stat.st_dev as u64).word(0).word(stat.st_ino as u64);
    fields.word(stat.st_mode.into()).word(stat.st_nlink as u64);
    fields.word(stat.st_uid.into()).word(stat.st_gid.into());
    fields.long(stat.st_rdev as u64).word(0);
    fields.long(stat.st_size as u64).word(stat.st_blksize as u64);
    fields.long(stat.st_blocks as u64).times(stat).long(stat.st_ino as u64);
    fields.bytes
}

fn compat_old(stat: &rfs::Stat) -> Result<Vec<u8>, Errno> {
    if stat.st_size as u64 > 0x7fff_ffff || stat.st_ino as u64 > u32::MAX.into() {
        return Err(Errno::OVERFLOW);
    }
    let mut fields = Fields { bytes: Vec::with_capacity(64), align: 4 };
    fields.word(stat.st_dev as u64).word(stat.st_ino as u64);
    fields.short(stat.st_mode as u32).short(stat.st_nlink as u32);
    fields.short(short_id(stat.st_uid)).short(short_id(stat.st_gid));
    fields.word(stat.st_rdev as u64).word(stat.st_size as u64);
    fields.word(stat.st_blksize as u64).word(stat.st_blocks as u64).times(stat).word(0).word(0);
    Ok(fields.bytes)
}

/// Ids that do not fit into 16 bits are shown as the overflow id.
fn short_id(id: u32) -> u32 {
    if id > 0xffff { 65534 } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Override = Override { uid: 33, gid: 70_000, node: None };

    #[test]
    fn the_machines_own_structure_has_the_ids() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let bytes = fill(&file, Shape::Native, &OVER).unwrap();
        let plain = rfs::fstat(&file).unwrap();
        assert_eq!(bytes.len(), size_of::<rfs::Stat>());
        let at = std::mem::offset_of!(rfs::Stat, st_uid);
        assert_eq!(bytes[at..at + 8], [33_u32.to_ne_bytes(), 70_000_u32.to_ne_bytes()].concat());
        let at = std::mem::offset_of!(rfs::Stat, st_ino);
        assert_eq!(bytes[at..at + 8], plain.st_ino.to_ne_bytes());
    }

    #[test]
    fn structures_of_32_bit_programs_have_their_sizes() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let stat = rfs::fstat(&file).unwrap();
        assert_eq!((compat64(&stat, 4).len(), compat64(&stat, 8).len()), (96, 104));
        let i386 = compat64(&stat, 4);
        assert_eq!(i386[44..52], (stat.st_size as u64).to_ne_bytes());
        assert_eq!(i386[88..96], stat.st_ino.to_ne_bytes());
        let mut small = stat;
        (small.st_size, small.st_ino, small.st_uid) = (7, 5, 70_000);
        let old = compat_old(&small).unwrap();
        assert_eq!((old.len(), &old[12..14]), (64, &65534_u16.to_ne_bytes()[..]));
        small.st_size = 1 << 40;
        assert_eq!(compat_old(&small), Err(Errno::OVERFLOW));
    }

    #[test]
    fn a_placeholder_looks_like_its_device() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let over = Override { uid: 0, gid: 6, node: Some((0o20660, 8, 1)) };
        let bytes = fill_statx(&file, 0, 0x7ff, &over).unwrap();
        assert_eq!(bytes.len(), 256);
        assert_eq!(bytes[28..30], 0o20660_u16.to_ne_bytes());
        assert_eq!(bytes[0x80..0x88], [8_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
    }
}
