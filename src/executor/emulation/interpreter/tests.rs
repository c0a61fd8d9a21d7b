//! Emulators that can be used and those that cannot, and what happens to the bytes of one.

use super::super::arch::{self, ARCHITECTURES};
use super::super::probe_elf;
use super::*;
use crate::oci::platform::Platform;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

fn s390x() -> &'static Architecture {
    arch::of(&Platform::new("linux", "s390x", "")).unwrap()
}

/// A static program of this machine.
fn good() -> Vec<u8> {
    probe_elf::build(Architecture::host().unwrap())
}

/// The same with its second program header, the stack's, made a PT_INTERP.
fn dynamic() -> Vec<u8> {
    let mut program = good();
    let stack = 0x6474_e551_u32.to_ne_bytes();
    let at = program.windows(4).position(|bytes| bytes == stack).unwrap();
    program[at..at + 4].copy_from_slice(&3_u32.to_ne_bytes());
    program
}

fn unknown_machine() -> Vec<u8> {
    let mut program = good();
    program[18..20].copy_from_slice(&[0x99, 0x99]);
    program
}

fn written(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn the_first_usable_program_wins_and_the_others_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let stat = "qemu-s390x-static";
    let sparse = File::create(written(&at("e"), stat, b"")).unwrap();
    sparse.set_len((256 << 20) + 1).unwrap();
    std::fs::create_dir_all(at("d").join(stat)).unwrap();
    std::fs::create_dir_all(at("f")).unwrap();
    symlink(stat, at("f").join(stat)).unwrap();
    symlink("nowhere", at("f").join("qemu-s390x")).unwrap();
    let rejected = [
        (written(&at("a"), stat, b"#!/bin/sh\n"), "is no ELF program"),
        (written(&at("a"), "qemu-s390x", &dynamic()), "is dynamically linked"),
        (
            written(&at("b"), stat, &probe_elf::build(s390x())),
            "is a program for s390x, not for this machine",
        ),
        (
            written(&at("c"), stat, &unknown_machine()),
            "is a program for another machine, not for this machine",
        ),
        (at("d").join(stat), "is no regular file"),
        (at("e").join(stat), "is larger than 256 MiB"),
        (at("f").join(stat), "is not readable: too many levels of symbolic links"),
    ];
    written(&at("real"), "program", &good());
    std::fs::create_dir_all(at("g")).unwrap();
    symlink("../real/program", at("g").join("qemu-s390x")).unwrap();
    written(&at("h"), stat, &good());

    let places: Vec<PathBuf> =
        ["missing", "a/qemu-s390x", "a", "b", "c", "d", "e", "f", "g", "h"].map(at).into();
    let search = search(s390x(), &places);
    assert_eq!(search.found.unwrap().path, at("g").join("qemu-s390x"));
    let explained: Vec<(PathBuf, String)> =
        search.rejected.into_iter().map(|one| (one.path, one.why.to_string())).collect();
    assert_eq!(explained, rejected.map(|(path, why)| (path, why.to_owned())));
}

#[test]
fn nothing_is_found_in_no_place() {
    let search = search(s390x(), &[]);
    assert!(search.found.is_none() && search.rejected.is_empty());
}

#[test]
fn broken_programs_are_refused() {
    let cut = |size: usize| good()[..size].to_vec();
    let patched = |at: usize, bytes: &[u8]| {
        let mut program = good();
        program[at..at + bytes.len()].copy_from_slice(bytes);
        program
    };
    let wide = Architecture::host().unwrap().class as u8 == 2;
    let (offset, count) = if wide { (32, 56) } else { (28, 44) };
    let table = [
        (cut(0), Unfit::NotElf),
        (cut(19), Unfit::NotElf),
        (cut(40), Unfit::NotElf),
        (cut(70), Unfit::NotElf),
        (patched(16, &1_u16.to_ne_bytes()), Unfit::NotElf),
        (patched(offset, &[0xff; 4]), Unfit::NotElf),
        (patched(count, &[0xff; 2]), Unfit::NotElf),
        (patched(count, &[0; 2]), Unfit::NotElf),
        (dynamic(), Unfit::Dynamic),
        (b"\x7fELF".repeat(100), Unfit::Foreign("another machine".to_owned())),
    ];
    let directory = tempfile::tempdir().unwrap();
    let refused = |program: &[u8]| {
        let path = written(directory.path(), "program", program);
        check(&File::open(path).unwrap()).unwrap_err()
    };
    for (program, why) in table {
        assert_eq!(refused(&program), why, "{} bytes", program.len());
    }
    if wide {
        let far = patched(offset, &u64::MAX.to_ne_bytes());
        assert_eq!(refused(&far), Unfit::NotElf);
    }
}

#[test]
fn copies_are_whole_sealed_and_executable() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "program", &good());
    let mut source = File::open(path).unwrap();
    // The copy begins at the start, wherever the offset stands.
    source.read_to_end(&mut Vec::new()).unwrap();
    let copy = File::from(into_memory(&source).unwrap());
    assert_eq!(read_at(&copy, 0, 4096).unwrap(), good());
    let refused = copy.set_len(0).unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::PERM));
    assert_eq!(fs::fstat(&copy).unwrap().mode, 0o755);
    let program = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let code = Command::new(program).status().unwrap().code();
    // The probe adds its user id to the first byte of argv[0].
    let wanted = (u32::from(b'/') + rustix::process::geteuid().as_raw()) & 0xff;
    assert_eq!(code, Some(wanted as i32));
}

#[test]
fn a_version_is_found_wherever_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let text = b"\0qemu-s390x version 9.1.0 (vendor 1:9.1)\nCopyright";
    let block = 1 << 20;
    for before in [0, 1, block - 60, block - 10, block - 1, block, block + 255, 3 * block + 7] {
        let mut content = vec![b'q'; before];
        content.extend_from_slice(text);
        let file = File::open(written(directory.path(), "program", &content)).unwrap();
        assert_eq!(version(s390x(), &file).as_deref(), Some("9.1.0 (vendor 1:9.1)"), "{before}");
        let arm64 = arch::of(&Platform::new("linux", "arm64", "")).unwrap();
        assert_eq!(version(arm64, &file), None, "{before}");
    }
    let endless = [b"qemu-s390x version ".to_vec(), vec![b'9'; 1000]].concat();
    for odd in [&b"qemu-s390x version \n"[..], b"qemu-s390x version \x1b[2J\n", b"", &endless] {
        let file = File::open(written(directory.path(), "program", odd)).unwrap();
        assert_eq!(version(s390x(), &file), None, "{odd:?}");
    }
}

#[test]
fn installed_emulators_say_the_version_that_was_read() {
    let places: Vec<PathBuf> = STANDARD_PLACES.iter().map(PathBuf::from).collect();
    for arch in ARCHITECTURES {
        let Some(found) = search(arch, &places).found else {
            eprintln!("SKIPPED: no static emulator for {}", arch.goarch);
            continue;
        };
        let copy = into_memory(&found.file).unwrap();
        let program = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let output = Command::new(program).arg("--version").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let version = version(arch, &found.file).unwrap();
        assert_eq!(said.lines().next(), Some(&*format!("qemu-{} version {version}", arch.qemu)));
    }
}
