//! Finding an emulator for an architecture, and making it independent of the place where it was found.
//!
//! [`search`] takes the first program that can work and keeps the reasons against the others, for the error message.
//! It must be linked statically: the kernel starts it inside the rootfs, where the libraries of this machine are
//! not. [`into_memory`] copies it into a sealed file in memory, so that no rootfs has to show it.
//! Nothing is started here; the version is read out of the program's bytes.

use super::arch::Architecture;
use crate::sys::fs::{self, Kind};
use crate::sys::{SysError, SysResult, memory};
use memchr::memmem;
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where distributions and administrators put emulators.
pub const STANDARD_PLACES: &[&str] = &["/usr/local/bin", "/usr/bin"];

/// No emulator is larger; the usual size is 5 to 30 MiB.
const MAX_SIZE: u64 = 256 << 20;

/// What a search came to.
#[derive(Debug, Default)]
pub struct Search {
    /// The first program that can work.
    pub found: Option<Found>,
    /// Programs of the right name before it, and why not.
    pub rejected: Vec<Rejected>,
}

/// An emulator.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
}

/// A file that has the name of an emulator and cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub why: Unfit,
}

/// Why a file cannot be used as an emulator. Printed, it goes behind the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A directory or a device.
    NotRegular,
    /// Larger than any emulator.
    TooLarge,
    /// A script or a broken file.
    NotElf,
    /// For a machine of this name.
    Foreign(String),
    /// Needs libraries.
    Dynamic,
    /// Cannot be read, and what the kernel says.
    Unreadable(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegular => write!(f, "is no regular file"),
            Self::TooLarge => write!(f, "is larger than {} MiB", MAX_SIZE >> 20),
            Self::NotElf => write!(f, "is no ELF program"),
            Self::Foreign(machine) => write!(f, "is a program for {machine}, not for this machine"),
            Self::Dynamic => write!(f, "is dynamically linked"),
            Self::Unreadable(error) => write!(f, "is not readable: {error}"),
        }
    }
}

/// Looks for an emulator in directories, in order.
pub fn search(arch: &Architecture, directories: &[PathBuf]) -> Search {
    let mut search = Search::default();
    for directory in directories {
        // Of directories of PATH that are not there, or not ours to look into, there is nothing to tell.
        if rustix::fs::access(directory, rustix::fs::Access::EXEC_OK).is_err() {
            continue;
        }
        for name in arch.program_names() {
            let path = directory.join(name);
            let file = match fs::open_read_path(&path) {
                Ok(file) => file,
                Err(error) if [Errno::NOENT, Errno::NOTDIR].contains(&error.errno) => continue,
                Err(error) => {
                    search.rejected.push(Rejected { path, why: unreadable(error.into()) });
                    continue;
                }
            };
            match check(&file) {
                Ok(()) => {
                    search.found = Some(Found { path, file });
                    return search;
                }
                Err(why) => search.rejected.push(Rejected { path, why }),
            }
        }
    }
    search
}

/// Whether a file is a static program for this machine. Says nothing about what the program does.
pub fn check(file: &File) -> Result<(), Unfit> {
    let stat = fs::fstat(file).map_err(|error| unreadable(error.into()))?;
    if stat.kind != Kind::File {
        return Err(Unfit::NotRegular);
    }
    if stat.size > MAX_SIZE {
        return Err(Unfit::TooLarge);
    }
    let header = read_at(file, 0, 64)?;
    if header.len() < 20 || !header.starts_with(b"\x7fELF") {
        return Err(Unfit::NotElf);
    }
    if Architecture::host().is_some_and(|host| !host.is_header(&header)) {
        let other = Architecture::of_header(&header);
        let name = other.map_or("another machine", |other| other.goarch);
        return Err(Unfit::Foreign(name.to_owned()));
    }
    if is_static(file, &header)?.ok_or(Unfit::NotElf)? { Ok(()) } else { Err(Unfit::Dynamic) }
}

/// No PT_INTERP among the program headers, which a position-independent static program has none of either. `None` when
/// the file is cut off, or no program at all. The header must be one of this machine, so the byte order is ours.
fn is_static(file: &File, header: &[u8]) -> Result<Option<bool>, Unfit> {
    const ET_EXEC: u16 = 2;
    const ET_DYN: u16 = 3;
    const PT_INTERP: u32 = 3;
    // More than any linker makes; a file that claims thousands does not keep us busy.
    const MAX_SEGMENTS: u16 = 128;

    let half = |at: usize| header.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let long = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let (offset, size, count) = if header[4] == 2 {
        (long(32), half(54), half(56))
    } else {
        (word(28).map(u64::from), half(42), half(44))
    };
    let (Some(kind), Some(offset), Some(size), Some(count)) = (half(16), offset, size, count)
    else {
        return Ok(None);
    };
    if ![ET_EXEC, ET_DYN].contains(&kind) || count == 0 || count > MAX_SEGMENTS {
        return Ok(None);
    }
    for index in 0..count {
        let at = offset.saturating_add(u64::from(index) * u64::from(size));
        if at > MAX_SIZE {
            return Ok(None);
        }
        match <[u8; 4]>::try_from(read_at(file, at, 4)?) {
            Ok(kind) if u32::from_ne_bytes(kind) == PT_INTERP => return Ok(Some(false)),
            Ok(_) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(true))
}

/// The version as the emulator itself would print it, for example `7.2.22 (Debian 1:7.2+dfsg-7)`.
pub fn version(arch: &Architecture, file: &File) -> Option<String> {
    const BLOCK: usize = 1 << 20;
    // Longer than the text that is looked for, so that it is whole in one of two blocks.
    const OVERLAP: usize = 256;
    let before = format!("qemu-{} version ", arch.qemu).into_bytes();
    let finder = memmem::Finder::new(&before);
    let mut block = vec![0; BLOCK + OVERLAP];
    for offset in (0..MAX_SIZE).step_by(BLOCK) {
        let size = fill_block(&mut AtOffset { file, offset }, &mut block).ok()?;
        let text = |start: usize| {
            let text = &block[start + before.len()..size];
            let text = text.iter().take(OVERLAP).take_while(|byte| **byte != b'\n');
            String::from_utf8(text.copied().collect()).ok()
        };
        let printable = |text: &String| {
            let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            plain && !text.is_empty() && before.len() + text.len() < OVERLAP
        };
        // One that begins in the overlap is whole in the next block.
        let own = |start: &usize| *start < BLOCK || size < block.len();
        let found = finder.find_iter(&block[..size]).filter(own);
        let version = found.filter_map(text).find(printable);
        if version.is_some() || size < block.len() {
            return version;
        }
    }
    None
}

/// Reads until a block is full or the file ends.
fn fill_block(reader: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut size = 0;
    while size < block.len() {
        match reader.read(&mut block[size..]) {
            Ok(0) => break,
            Ok(count) => size += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}

/// A sealed copy in memory that can be executed, mode 0755, close-on-exec. The file's offset does not matter.
pub fn into_memory(file: &File) -> SysResult<OwnedFd> {
    let copy = memory::program(NAME)?;
    fill(&copy, AtOffset { file, offset: 0 }.take(MAX_SIZE)).map_err(|error| SysError {
        call: "copying the emulator".to_owned(),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    memory::seal(&copy)?;
    Ok(copy.into())
}

/// Name of the copies, seen in /proc.
const NAME: &str = "emulator";

fn fill(mut copy: &File, mut reader: impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                copy.write_all(&buffer[..count])?;
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a file from a place of its own, whoever else moves the file's offset.
struct AtOffset<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for AtOffset<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Up to `size` bytes, fewer only at the end of the file.
fn read_at(file: &File, offset: u64, size: usize) -> Result<Vec<u8>, Unfit> {
    let mut bytes = Vec::new();
    let reader = AtOffset { file, offset };
    reader.take(size as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn unreadable(error: io::Error) -> Unfit {
    Unfit::Unreadable(said(&error))
}

/// What the kernel said, in the style of our messages.
fn said(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests;
