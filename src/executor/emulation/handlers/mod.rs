//! What binfmt_misc has registered, and the line that registers an emulator of ours.
//!
//! [`list`] reads a mounted binfmt_misc and never writes. What it finds is only a first guess, since the interpreter
//! may be gone or broken: the proof is [`super::probe_elf`]. [`registration`] only makes the text. Files there
//! are small; anything odd is left out rather than believed.
//!
//! Follows the kernel's `fs/binfmt_misc.c`, which is stricter than its documentation in some places.

use super::arch::Architecture;
use crate::sys::{SysResult, fs};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// How much of a file the kernel compares (`BINPRM_BUF_SIZE`).
const COMPARED: usize = 256;

/// The kernel shows an entry within one page.
const MAX_ENTRY: u64 = 64 * 1024;

/// More entries than any machine has.
const MAX_ENTRIES: usize = 4096;

/// A binfmt_misc as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Not mounted there, hidden, or unreadable: nothing is known.
    Unknown,
    /// Mounted, and switched off as a whole.
    Disabled,
    /// Mounted and switched on: what is registered by magic bytes, sorted by name.
    Handlers(Vec<Handler>),
}

/// A handler that is found by magic bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Name of its file.
    pub name: String,
    /// Switched on.
    pub enabled: bool,
    /// Program that runs the program.
    pub interpreter: PathBuf,
    /// How it is started.
    pub flags: Flags,
    /// Where the magic bytes stand.
    pub offset: usize,
    /// Bytes to be found.
    pub magic: Vec<u8>,
    /// Which bits of them count, as long as `magic`; all when `None`.
    pub mask: Option<Vec<u8>>,
}

/// Flags of a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `P`: `argv[0]` is passed on.
    pub argv0: bool,
    /// `O`: the program is passed as an open file.
    pub open_program: bool,
    /// `C`: credentials are taken from the program, so that set-uid works.
    pub credentials: bool,
    /// `F`: the interpreter was opened when it was registered, so that it works in every rootfs.
    pub fixed: bool,
}

impl Flags {
    fn parse(letters: &str) -> Self {
        let has = |letter| letters.contains(letter);
        Self { argv0: has('P'), open_program: has('O'), credentials: has('C'), fixed: has('F') }
    }
}

impl Handler {
    /// True when the kernel would give it a program that begins so.
    pub fn matches(&self, program: &[u8]) -> bool {
        self.enabled && self.is_for(program)
    }

    /// True when it is registered for a program that begins so, switched on or not.
    pub fn is_for(&self, program: &[u8]) -> bool {
        if self.offset + self.magic.len() > COMPARED {
            return false;
        }
        // The kernel's buffer is filled up with zeros behind a short file.
        let byte = |at: usize| program.get(at).copied().unwrap_or(0);
        self.magic.iter().enumerate().all(|(at, magic)| {
            let mask = self.mask.as_ref().and_then(|mask| mask.get(at)).unwrap_or(&0xff);
            (byte(self.offset + at) ^ magic) & mask == 0
        })
    }

    /// From the text of an entry. `None` for handlers of file name extensions, and for text that is no entry.
    pub fn parse(name: &str, text: &[u8]) -> Option<Self> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let enabled = match lines.next()? {
            b"enabled" => true,
            b"disabled" => false,
            _ => return None,
        };
        // The kernel prints these lines in this order. An interpreter may hold a line end and pretend to be more.
        let interpreter = lines.next()?.strip_prefix(b"interpreter ")?.to_vec();
        let mut value = |key: &str| std::str::from_utf8(lines.next()?).ok()?.strip_prefix(key);
        let flags = Flags::parse(value("flags: ")?);
        let offset = value("offset ")?.parse().ok().filter(|offset| *offset <= COMPARED)?;
        let magic = bytes_of_hex(value("magic ")?)?;
        let mask = match lines.next() {
            None | Some(b"") => None,
            Some(line) => {
                Some(bytes_of_hex(std::str::from_utf8(line).ok()?.strip_prefix("mask ")?)?)
            }
        };
        let wrong_mask = mask.as_ref().is_some_and(|mask| mask.len() != magic.len());
        if wrong_mask || magic.is_empty() || magic.len() > COMPARED {
            return None;
        }
        let interpreter = PathBuf::from(OsString::from_vec(interpreter));
        Some(Self { name: name.to_owned(), enabled, interpreter, flags, offset, magic, mask })
    }
}

/// Reads the binfmt_misc that is mounted on a directory.
pub fn list(directory: &Path) -> Registered {
    try_list(directory).unwrap_or(Registered::Unknown)
}

fn try_list(directory: &Path) -> SysResult<Registered> {
    let directory = fs::open_dir_path(directory)?;
    // An empty directory is what is there when nothing is mounted.
    fs::lstat(&directory, b"register")?;
    if read(&directory, b"status")?.starts_with(b"disabled") {
        return Ok(Registered::Disabled);
    }
    let names = fs::list(&directory)?.into_iter();
    let handlers = names
        .filter(|name| name != b"register" && name != b"status")
        .take(MAX_ENTRIES)
        .filter_map(|name| {
            // It may have been removed meanwhile.
            let text = read(&directory, &name).ok()?;
            Handler::parse(&String::from_utf8_lossy(&name), &text)
        });
    Ok(Registered::Handlers(handlers.collect()))
}

fn read(directory: impl AsFd, name: &[u8]) -> SysResult<Vec<u8>> {
    let file = fs::open_read(directory, name)?;
    let mut text = Vec::new();
    file.take(MAX_ENTRY).read_to_end(&mut text).map_err(|error| crate::sys::SysError {
        call: "read".to_owned(),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    Ok(text)
}

fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// Name under which we register an architecture.
pub fn entry_name(arch: &Architecture) -> String {
    format!("nativebuild-{}", arch.goarch)
}

/// The kernel refuses longer lines.
const MAX_LINE: usize = 1920;

/// The kernel's documentation allows no longer interpreter.
const MAX_INTERPRETER: usize = 127;

/// The line to write into `register`, so that an emulator runs the programs of an architecture: flags `F` (it works in
/// every rootfs), `P` (`argv[0]` arrives) and `C` (set-uid works). `None` when the path cannot be said in such a line.
pub fn registration(arch: &Architecture, interpreter: &str) -> Option<String> {
    if interpreter.is_empty()
        || interpreter.len() > MAX_INTERPRETER
        || interpreter.contains([':', '\n', '\0', '\\'])
    {
        return None;
    }
    // Escaped throughout: a zero byte would end the field.
    let escaped = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"))
    };
    let line = format!(
        ":{}:M::{}:{}:{interpreter}:FPC",
        entry_name(arch),
        escaped(&arch.header()),
        escaped(&mask(arch))
    );
    (line.len() < MAX_LINE).then_some(line)
}

/// Which bits of [`Architecture::header`] tell an executable of the architecture.
fn mask(arch: &Architecture) -> [u8; 20] {
    let mut mask = [0xff; 20];
    // Programs that need something of GNU or of a newer C library say so in EI_OSABI and EI_ABIVERSION.
    mask[7] = 0;
    mask[8] = 0;
    // ET_EXEC is 2; ET_DYN, which position-independent programs have, is 3.
    mask[16..18].copy_from_slice(&arch.u16(0xfffe));
    mask
}

#[cfg(test)]
mod tests;
