//! Entries as the kernel words them, odd ones, and our own lines against every architecture.

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
    let long = format!("enabled\ninterpreter /x\nflags: \noffset 0\nmagic {}\n", "7f".repeat(257));
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
