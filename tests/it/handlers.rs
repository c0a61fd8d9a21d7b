//! Handlers that somebody registered on the host: used when they do all that is needed, else a binfmt_misc of our own
//! is, else they are used with warnings or the advice says what is wrong with them.
//!
//! The hosts are imitated, and have no emulator at the usual places.

use crate::emulation::worlds;
use crate::errors::normal;
use crate::support::outer::Outer;
use crate::support::{Said, World};
use std::path::Path;

const RUN: &str = "FROM foreign\nRUN uname -m > /machine\n";

/// Where handlers show up.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// Standard error with what differs from machine to machine replaced.
pub fn told(world: &World, said: &Said) -> String {
    let text = normal(world, said);
    let host = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let name = "qemu-s390x-static ";
    let lines = text.lines().map(|line| match line.split_once(name) {
        Some((before, rest)) if line.starts_with("emulation: ") => {
            let (version, rest) = rest.split_once(' ').unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{line}");
            format!("{before}{name}VERSION {rest}\n")
        }
        _ => format!("{}\n", line.replace(host, "HOST")),
    });
    lines.collect()
}

/// A host, and what is said when the only emulator is that of the handler.
struct Case {
    name: &'static str,
    host: Outer,
    complete: bool,
    alone: String,
}

/// A build that works, with these lines about how.
fn works(lines: &str) -> String {
    format!(
        "exit 0\nisolation: namespaces, ids: ID, network: host\n{lines}\
         #1 [stage-0 1/1] RUN uname -m > /machine\n#1 DONE TIME\n\
         built sha256:HEX as docker.io/library/app:latest\n"
    )
}

/// A build that nothing runs: why not, and what helps besides an emulator.
fn fails(cause: &str, help: &str) -> String {
    format!(
        "exit 3\nisolation: namespaces, ids: ID, network: host\n\
         error: this machine (HOST) cannot run commands for linux/s390x\n  \
         --> Dockerfile:2:1\n   |\n 2 | RUN uname -m > /machine\n   | ^^^^^^^^^^^^^^^^^^^^^^^\n \
         cause: {cause}\n \
         cause: there is no static qemu-s390x-static or qemu-s390x in /usr/bin, /bin, /usr/sbin, /sbin, /usr/local/bin\n\
         help: install a static qemu (Debian, Ubuntu: `apt-get install qemu-user-static`; Fedora: `dnf install qemu-user-static-s390x`), or name one with `--qemu-dir DIR` or `--qemu-image NAME`\n\
         {help}help: a stage that only compiles runs here with `FROM --platform=$BUILDPLATFORM`; COPY needs no emulator\n\
         help: the base image `foreign` is there for linux/386, HOST, linux/arm/v5, linux/arm/v7, linux/arm64, linux/mips64le, linux/ppc64le, linux/riscv64, linux/s390x\n"
    )
}

const ARGV0: &str =
    "warning: commands for s390x: the emulator loses argv[0] (programs such as busybox fail)\n";
const SET_UID: &str =
    "warning: commands for s390x: set-uid programs (su, sudo) keep their caller's rights\n";

fn cases(qemu: &Path) -> Option<Vec<Case>> {
    let host = || Outer::with_handlers().map(Outer::without_emulators);
    let with = |flags: &str| Some(host()?.handler("s390x", qemu, flags));
    let with_wrong =
        |path: &str, flags: &str| Some(host()?.handler("s390x", Path::new(path), flags));
    let line = "emulation: s390x by qemu-s390x-static VERSION (a handler of the host)\n";
    let switch = |entry: &str| {
        format!("help: switch it on, as root on the host: `echo 1 > {HANDLERS}/{entry}`\n")
    };
    let lacks = |path: &str| {
        format!(
            "the host's handler `qemu-s390x` lacks the flag F: its interpreter {path} would have to be in every image"
        )
    };
    let case = |name, host: Outer, complete, alone| Case { name, host, complete, alone };
    Some(vec![
        case("complete", with("OCFP")?, true, works(line)),
        case(
            "complete and hidden",
            with("CFP")?.then(&format!("mount -t tmpfs none {HANDLERS}")),
            true,
            works("emulation: s390x by an emulator (a handler of the host)\n"),
        ),
        case("without P and C", with("F")?, false, works(&format!("{line}{ARGV0}{SET_UID}"))),
        case("without C", with("PF")?, false, works(&format!("{line}{SET_UID}"))),
        case("without P", with("CF")?, false, works(&format!("{line}{ARGV0}"))),
        case("without F", with("OCP")?, false, fails(&lacks("DIR/qemu/qemu-s390x-static"), "")),
        case(
            "without F and with a wrong path",
            with_wrong("/usr/bin/gone", "OCP")?,
            false,
            fails(&lacks("/usr/bin/gone"), ""),
        ),
        case(
            "with another program",
            with_wrong("/bin/busybox", "CFP")?,
            false,
            fails("the host's handler `qemu-s390x` with /bin/busybox does not run it", ""),
        ),
        case(
            "disabled",
            with("OCFP")?.then(&format!("echo 0 > {HANDLERS}/qemu-s390x")),
            false,
            fails("the host's handler `qemu-s390x` is disabled", &switch("qemu-s390x")),
        ),
        case(
            "all disabled",
            with("OCFP")?.then(&format!("echo 0 > {HANDLERS}/status")),
            false,
            fails("the host's binfmt_misc is switched off", &switch("status")),
        ),
    ])
}

#[test]
fn a_complete_handler_is_used_and_else_our_own_instance() {
    for (world, dir) in worlds() {
        let Some(cases) = cases(&world.path("qemu/qemu-s390x-static")) else { return };
        let own = "emulation: s390x by qemu-s390x-static VERSION (own binfmt_misc)\n";
        for case in cases {
            let args = ["--no-cache", "-t", "app", "--platform", "s390x"];
            // What the user names wins over any handler.
            let named = [&args[..], &["--qemu-dir", &dir]].concat();
            let said = case.host.build(&world, RUN, &named);
            assert_eq!(told(&world, &said), works(own), "{}", case.name);
            let said = case.host.then("PATH=$PATH:$HOME/qemu").build(&world, RUN, &args);
            let expected = if case.complete { case.alone } else { works(own) };
            assert_eq!(told(&world, &said), expected, "{}", case.name);
            assert_eq!(world.read("app", "linux/s390x", "machine"), "s390x\n");
        }
        world.validate("app");
    }
}

#[test]
fn a_handler_alone_is_used_as_it_is_or_told_what_it_lacks() {
    for (world, _) in worlds() {
        let Some(cases) = cases(&world.path("qemu/qemu-s390x-static")) else { return };
        for case in cases {
            let args = ["--no-cache", "-t", "app", "--platform", "s390x"];
            let said = case.host.build(&world, RUN, &args);
            assert_eq!(told(&world, &said), case.alone, "{}", case.name);
            if said.code == 0 {
                assert_eq!(world.read("app", "linux/s390x", "machine"), "s390x\n");
                world.validate("app");
            }
        }
    }
}

#[test]
fn who_builds_and_what_emulates_does_not_change_the_digest() {
    let dockerfile = "FROM foreign AS tools\n\
        RUN mkdir /t && echo tool > /t/tool && chmod 4755 /t/tool && chown 33:44 /t && ln /t/tool /t/again\n\
        FROM foreign\n\
        RUN uname -a | cut -d ' ' -f 1 > /system && rm -r /usr/share/base/dir && ln -s /t /link && mkfifo /fifo\n\
        COPY --from=tools /t /t\n\
        USER daemon\n\
        RUN cp /etc/passwd /tmp/mine\n";
    let mut digests = Vec::new();
    for (world, dir) in worlds() {
        let [s390x, arm64] =
            ["s390x", "aarch64"].map(|name| world.path(&format!("qemu/qemu-{name}-static")));
        let args = ["--no-cache", "--source-date-epoch", "1700000000", "-t", "app"];
        let args = [&args[..], &["--platform", "s390x,arm64"]].concat();
        let named = [&args[..], &["--qemu-dir", &dir]].concat();
        digests.push(world.build(dockerfile, &named).ok().trim().to_owned());
        world.validate("app");
        let Some(host) = Outer::with_handlers() else { return };
        let host = host.without_emulators().handler("s390x", &s390x, "CFP");
        let host = host.then("PATH=$PATH:$HOME/qemu");
        // One by the host, one by us; then both by the host.
        let said = host.build(&world, dockerfile, &args);
        assert!(said.stderr.contains("(own binfmt_misc)"), "{}", said.stderr);
        assert!(said.stderr.contains("(a handler of the host)"), "{}", said.stderr);
        digests.push(said.ok().trim().to_owned());
        let host = host.handler("aarch64", &arm64, "CFP");
        let said = host.build(&world, dockerfile, &args);
        assert!(!said.stderr.contains("(own binfmt_misc)"), "{}", said.stderr);
        digests.push(said.ok().trim().to_owned());
    }
    for digest in &digests {
        assert_eq!(*digest, digests[0], "{digests:?}");
    }
}
