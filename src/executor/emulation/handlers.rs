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
    /// `P`: argv[0] is passed on.
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
        if !self.enabled || self.offset + self.magic.len() > COMPARED {
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
/// every rootfs), `P` (argv[0] arrives) and `C` (set-uid works). `None` when the path cannot be said in such a line.
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
mod tests {
    use super::super::arch::{self, ARCHITECTURES};
    use super::super::probe_elf;
    use super::*;
    use crate::oci::platform::Platform;
    use std::fs as files;

    const S390X: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/s390x-binfmt-P\nflags: POF\noffset 0\n\
        magic 7f454c4602020100000000000000000000020016\nmask fffffffffffffffcfffffffffffffffffffeffff\n";

    fn s390x() -> &'static Architecture {
        arch::of(&Platform::new("linux", "s390x", "")).unwrap()
    }

    /// What the kernel would show after it took a line.
    fn taken(line: &str) -> Handler {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, name, "M", "", magic, mask, interpreter, flags] = fields[..] else {
            panic!("{line}");
        };
        let hex = |field: &str| field.replace("\\x", "");
        let text = format!(
            "enabled\ninterpreter {interpreter}\nflags: {flags}\noffset 0\nmagic {}\nmask {}\n",
            hex(magic),
            hex(mask)
        );
        Handler::parse(name, text.as_bytes()).unwrap()
    }

    #[test]
    fn an_entry_of_the_kernel_is_read() {
        let found = Handler::parse("qemu-s390x", S390X.as_bytes()).unwrap();
        assert_eq!(
            found,
            Handler {
                name: "qemu-s390x".to_owned(),
                enabled: true,
                interpreter: "/usr/libexec/qemu-binfmt/s390x-binfmt-P".into(),
                flags: Flags { argv0: true, open_program: true, credentials: false, fixed: true },
                offset: 0,
                magic: s390x().header().to_vec(),
                mask: Some(
                    b"\xff\xff\xff\xff\xff\xff\xff\xfc\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff"
                        .to_vec()
                ),
            }
        );
        assert!(found.matches(&probe_elf::build(s390x())));
        let disabled = S390X.replace("enabled", "disabled");
        let disabled = Handler::parse("qemu-s390x", disabled.as_bytes()).unwrap();
        assert!(!disabled.matches(&probe_elf::build(s390x())));
    }

    #[test]
    fn text_that_is_no_entry_is_left_out() {
        let table: &[&str] = &[
            "",
            "enabled",
            "enabled\n",
            "enabled\ninterpreter /usr/bin/python3.11\nflags: \nextension .py\n",
            "enabled\ninterpreter /x\nflags: F\noffset 300\nmagic 7f\n",
            "enabled\ninterpreter /x\nflags: F\noffset -1\nmagic 7f\n",
            "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f4\n",
            "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic +f\n",
            "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic \n",
            "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f45\nmask ff\n",
            "enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f45\nmusk ffff\n",
            "enabled\ninterpreter /x\nnl\nflags: F\noffset 0\nmagic 7f45\n",
            "perhaps\ninterpreter /x\nflags: F\noffset 0\nmagic 7f45\n",
            "enabled\ninterpreter /x\nflags: \u{fffd}\noffset 99999999999999999999\nmagic 7f\n",
        ];
        for text in table {
            assert_eq!(Handler::parse("x", text.as_bytes()), None, "{text:?}");
        }
        let long =
            format!("enabled\ninterpreter /x\nflags: \noffset 0\nmagic {}\n", "7f".repeat(257));
        assert_eq!(Handler::parse("x", long.as_bytes()), None);
    }

    #[test]
    fn magic_is_compared_as_the_kernel_does() {
        let handler = |offset, magic: &[u8], mask: Option<&[u8]>| Handler {
            name: "x".to_owned(),
            enabled: true,
            interpreter: "/x".into(),
            flags: Flags::default(),
            offset,
            magic: magic.to_vec(),
            mask: mask.map(<[u8]>::to_vec),
        };
        assert!(handler(2, b"cd", None).matches(b"abcdef"));
        assert!(!handler(2, b"ce", None).matches(b"abcdef"));
        assert!(handler(2, b"ce", Some(b"\xff\xfe")).matches(b"abcdef"));
        assert!(handler(2, b"cD", Some(b"\xff\xdf")).matches(b"abcdef"));
        // A file shorter than the magic is compared with zeros.
        assert!(handler(2, b"c\0", None).matches(b"abc"));
        assert!(!handler(255, b"\0\0", None).matches(b"abc"));
        assert!(handler(254, b"\0\0", None).matches(b"abc"));
    }

    #[test]
    fn each_registration_takes_its_own_architecture_and_no_other() {
        for arch in ARCHITECTURES {
            let line = registration(arch, "/proc/self/fd/7").unwrap();
            let handler = taken(&line);
            assert!(handler.flags.fixed && handler.flags.argv0 && handler.flags.credentials);
            assert_eq!(handler.name, format!("nativebuild-{}", arch.goarch));
            let taken: Vec<&str> = ARCHITECTURES
                .iter()
                .filter(|other| handler.matches(&probe_elf::build(other)))
                .map(|other| other.goarch)
                .collect();
            assert_eq!(taken, [arch.goarch], "{line}");

            let mut program = probe_elf::build(arch);
            let kind = if arch.u16(1) == [1, 0] { 16 } else { 17 };
            for (value, matches) in [(1, false), (2, true), (3, true), (4, false)] {
                program[kind] = value;
                assert_eq!(handler.matches(&program), matches, "{} type {value}", arch.goarch);
            }
            program[kind] = 3;
            program[7] = 3; // ELFOSABI_GNU
            assert!(handler.matches(&program), "{}", arch.goarch);
        }
    }

    #[test]
    fn the_line_is_what_the_kernel_wants() {
        assert_eq!(
            registration(s390x(), "/proc/self/fd/7").unwrap(),
            r":nativebuild-s390x:M::\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16:\xff\xff\xff\xff\xff\xff\xff\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:/proc/self/fd/7:FPC"
        );
        for bad in ["", "/a:b", "/a\nb", "/a\\x3a", "/a\0", &"/long".repeat(26)] {
            assert_eq!(registration(s390x(), bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_mounted_binfmt_misc_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(list(&at("missing")), Registered::Unknown);
        assert_eq!(list(directory.path()), Registered::Unknown);

        files::write(at("register"), "").unwrap();
        assert_eq!(list(directory.path()), Registered::Unknown);
        files::write(at("status"), "disabled\n").unwrap();
        files::write(at("qemu-s390x"), S390X).unwrap();
        assert_eq!(list(directory.path()), Registered::Disabled);

        files::write(at("status"), "enabled\n").unwrap();
        files::write(at("odd"), [0xff; 100]).unwrap();
        files::write(at("huge"), vec![b'a'; 1 << 20]).unwrap();
        files::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("qemu-s390x", at("link")).unwrap();
        let own = Handler::parse("qemu-s390x", S390X.as_bytes()).unwrap();
        assert_eq!(list(directory.path()), Registered::Handlers(vec![own]));
    }
}
