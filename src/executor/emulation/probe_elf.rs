//! A tiny executable of any architecture, and what its exit code says about how this machine runs such programs.
//!
//! Tables of handlers only promise; a program that ran is proof. The file is to be mode 4755, owned by uid 1, and
//! started by uid 0 with [`ARGV0`] as `argv[0]`; it exits with `argv[0][0] + geteuid()`. So one code tells three things:
//! that it ran, that `argv[0]` arrived (busybox needs it), that set-uid programs get their owner's rights (sudo and su
//! need it). The kernel sees an ordinary static program: aligned for pages up to 64 KiB, no executable stack.

use super::arch::{Architecture, Class};

/// The `argv[0]` to start the probe with; its first byte is 42.
pub const ARGV0: &str = "*";

/// Owner of the probe's file.
pub const OWNER: u32 = 1;

/// Where the file is mapped: a multiple of every page size, and above `vm.mmap_min_addr`.
const BASE: u32 = 0x40_0000;

const PAGE: u32 = 0x1_0000;

/// The executable, less than a page.
pub fn build(arch: &Architecture) -> Vec<u8> {
    let code = arch.probe.bytes();
    let (header_size, segment_size) = match arch.class {
        Class::Elf32 => (52u16, 32u16),
        Class::Elf64 => (64, 56),
    };
    let start = u32::from(header_size) + 2 * u32::from(segment_size);
    let size = start + code.len() as u32;

    let mut file = arch.header().to_vec();
    file.extend(arch.u32(1)); // e_version
    file.extend(arch.word(BASE + start)); // e_entry
    file.extend(arch.word(u32::from(header_size))); // e_phoff
    file.extend(arch.word(0)); // e_shoff
    file.extend(arch.u32(arch.flags));
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    for value in [header_size, segment_size, 2, 0, 0, 0] {
        file.extend(arch.u16(value));
    }
    file.extend(segment(arch, &Segment { kind: PT_LOAD, rights: 5, at: BASE, size, align: PAGE }));
    // Without it some kernels make the stack executable, which hardened ones then refuse.
    file.extend(segment(
        arch,
        &Segment { kind: PT_GNU_STACK, rights: 6, at: 0, size: 0, align: 16 },
    ));
    file.extend(code);
    file
}

const PT_LOAD: u32 = 1;
const PT_GNU_STACK: u32 = 0x6474_e551;

struct Segment {
    kind: u32,
    rights: u32,
    at: u32,
    size: u32,
    align: u32,
}

/// A program header; the two classes order the fields differently.
fn segment(arch: &Architecture, segment: &Segment) -> Vec<u8> {
    let kind = arch.u32(segment.kind).to_vec();
    let rights = arch.u32(segment.rights).to_vec();
    let (offset, at, size) = (arch.word(0), arch.word(segment.at), arch.word(segment.size));
    let align = arch.word(segment.align);
    // Virtual and physical address, size in the file and in memory.
    let place = [offset, at.clone(), at, size.clone(), size];
    match arch.class {
        Class::Elf32 => [vec![kind], place.to_vec(), vec![rights, align]].concat().concat(),
        Class::Elf64 => [vec![kind, rights], place.to_vec(), vec![align]].concat().concat(),
    }
}

/// How programs of an architecture run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// They run.
    pub runs: bool,
    /// They get the `argv[0]` that they were started with.
    pub argv0: bool,
    /// Set-uid programs get the rights of their owner.
    pub setuid: bool,
}

impl Verdict {
    /// From the exit code of a probe that was started as the module says.
    pub fn of_exit_code(code: i32) -> Self {
        let star = i32::from(ARGV0.as_bytes()[0]);
        // A handler that loses argv[0] puts the path there, and that is absolute.
        let slash = i32::from(b'/');
        let owner = OWNER as i32;
        Self {
            runs: [star, star + owner, slash, slash + owner].contains(&code),
            argv0: [star, star + owner].contains(&code),
            setuid: [star + owner, slash + owner].contains(&code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch::ARCHITECTURES;
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::Command;

    /// What a probe without the set-uid bit answers.
    fn expected() -> i32 {
        ((42 + rustix::process::geteuid().as_raw()) & 0xff) as i32
    }

    fn written(directory: &std::path::Path, arch: &Architecture) -> PathBuf {
        let path = directory.join(arch.goarch);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(&path)
            .unwrap();
        file.write_all(&build(arch)).unwrap();
        path
    }

    #[test]
    fn every_probe_runs_under_qemu() {
        let directory = tempfile::tempdir().unwrap();
        for arch in ARCHITECTURES {
            let [program, _] = arch.program_names();
            let path = written(directory.path(), arch);
            let Ok(ended) = Command::new(&program).args(["-0", ARGV0]).arg(path).status() else {
                eprintln!("SKIPPED: {program} is missing");
                continue;
            };
            assert_eq!(ended.code(), Some(expected()), "{program}: {ended}");
        }
    }

    #[test]
    fn the_probes_of_this_machine_run_without_help() {
        let host = Architecture::host().unwrap();
        for arch in ARCHITECTURES {
            if arch.goarch != host.goarch && !arch.compat_of.contains(&host.goarch) {
                continue;
            }
            // From memory: a file that was just written may still be open for writing in a child of another test.
            let mut file = crate::sys::memory::program("probe").unwrap();
            file.write_all(&build(arch)).unwrap();
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            match Command::new(&path).arg0(ARGV0).status() {
                Ok(ended) => assert_eq!(ended.code(), Some(expected()), "{}: {ended}", arch.goarch),
                Err(error) if arch.goarch != host.goarch => {
                    eprintln!("SKIPPED: no {} on this kernel: {error}", arch.goarch);
                }
                Err(error) => panic!("{}: {error}", arch.goarch),
            }
        }
    }

    #[test]
    fn probes_are_small_and_aligned() {
        for arch in ARCHITECTURES {
            let file = build(arch);
            let start = if arch.class == Class::Elf64 { 176 } else { 116 };
            assert_eq!(file[..20], arch.header(), "{}", arch.goarch);
            assert_eq!(file[start..], arch.probe.bytes(), "{}", arch.goarch);
            assert!(file.len() <= 256 && start % 4 == 0, "{}: {}", arch.goarch, file.len());
        }
    }

    #[test]
    fn exit_codes_have_meanings() {
        let verdict = |runs, argv0, setuid| Verdict { runs, argv0, setuid };
        let table = [
            (43, verdict(true, true, true)),
            (42, verdict(true, true, false)),
            (48, verdict(true, false, true)),
            (47, verdict(true, false, false)),
            (0, verdict(false, false, false)),
            (1, verdict(false, false, false)),
            (126, verdict(false, false, false)),
            (139, verdict(false, false, false)),
            (-1, verdict(false, false, false)),
        ];
        for (code, wanted) in table {
            assert_eq!(Verdict::of_exit_code(code), wanted, "{code}");
        }
    }
}
