//! Finding emulators: where there are none, of the wrong kind, out of an image, and when none is needed.
//!
//! A machine without emulators is imitated, so that an installed qemu changes nothing.

use crate::emulation::{output, worlds};
use crate::errors::normal;
use crate::support::outer::Outer;
use crate::support::{Said, World, copy_program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const RUN: &str = "FROM foreign\nRUN uname -m > /machine\n";

const PLACE: &str =
    "  --> Dockerfile:2:1\n   |\n 2 | RUN uname -m > /machine\n   | ^^^^^^^^^^^^^^^^^^^^^^^\n";

fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

/// Standard error from the error on.
fn error_of(world: &World, said: &Said) -> String {
    let text = normal(world, said);
    text[text.find("error: ").unwrap_or(0)..].to_owned()
}

/// The error where no emulator of s390x was found, and why.
fn no_emulator(causes: &str, install: &str) -> String {
    format!(
        "error: this machine ({}) cannot run commands for linux/s390x\n{PLACE}\
         {causes}{install}help: a stage that only compiles runs here with `FROM --platform=$BUILDPLATFORM`; COPY needs no emulator\n\
         help: the base image `foreign` is there for linux/386, linux/amd64, linux/arm/v5, linux/arm/v7, linux/arm64, linux/mips64le, linux/ppc64le, linux/riscv64, linux/s390x\n",
        host()
    )
}

const ELSEWHERE: &str = " cause: there is no static qemu-s390x-static or qemu-s390x in /usr/bin, /bin, /usr/sbin, /sbin, /usr/local/bin\n";
const INSTALL: &str = "help: install a static qemu (Debian, Ubuntu: `apt-get install qemu-user-static`; Fedora: `dnf install qemu-user-static-s390x`), or name one with `--qemu-dir DIR` or `--qemu-image NAME`\n";

#[test]
fn a_missing_emulator_is_told_before_any_platform_is_begun() {
    for (world, _) in worlds() {
        let Some(outer) = Outer::with_handlers() else { return };
        let outer = outer.without_emulators();
        let platforms = format!("{},s390x", host());
        let said = outer.build(&world, RUN, &["--platform", &platforms]);
        assert_eq!((said.done(), said.cached()), (0, 0), "{}", said.stderr);
        let causes = " cause: the host has no handler for it\n cause: there is no static qemu-s390x-static or qemu-s390x in /usr/bin, /bin, /usr/sbin, /sbin, /usr/local/bin\n cause: this was for the platform linux/s390x\n";
        assert_eq!(error_of(&world, &said), no_emulator(causes, INSTALL));
        assert_eq!(said.code, 3);
    }
}

#[test]
fn a_program_that_cannot_be_an_emulator_is_named_with_the_reason() {
    for (world, good) in worlds() {
        let Some(outer) = Outer::with_handlers() else { return };
        let outer = outer.without_emulators();
        let dir = world.path("bad");
        let file = dir.join("qemu-s390x-static");
        let mut foreign = fs::read(format!("{good}/qemu-s390x-static")).unwrap();
        // e_machine of a PDP-10.
        foreign[18..20].copy_from_slice(&64_u16.to_ne_bytes());
        let bytes: [(&[u8], &str); 4] = [
            (b"#!/bin/sh\nexec qemu-s390x \"$@\"\n", "is no ELF program"),
            (&foreign[..], "is a program for another machine, not for this machine"),
            (&fs::read("/bin/sh").unwrap(), "is dynamically linked"),
            (&foreign[..17], "is no ELF program"),
        ];
        for (bytes, why) in bytes {
            let _first = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            fs::write(&file, bytes).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            world.give();
            let said = outer.build(&world, RUN, &["--platform", "s390x", "--qemu-dir", "bad"]);
            let causes = format!(
                " cause: the host has no handler for it\n cause: `--qemu-dir` has no static qemu-s390x-static or qemu-s390x\n cause: bad/qemu-s390x-static {why}\n{ELSEWHERE}"
            );
            assert_eq!(error_of(&world, &said), no_emulator(&causes, INSTALL));
        }
        copy_program(Path::new("/bin/busybox"), &file);
        world.give();
        let said = outer.build(&world, RUN, &["--platform", "s390x", "--qemu-dir", "bad"]);
        let causes = " cause: the host has no handler for it\n cause: bad/qemu-s390x-static does not run a program for linux/s390x\n";
        let other = "help: name another qemu than bad/qemu-s390x-static with `--qemu-dir DIR` or `--qemu-image NAME`\n";
        assert_eq!(error_of(&world, &said), no_emulator(causes, other));
        let said = world.run(["build", "--qemu-dir", "nowhere", "context"]).failed(2);
        assert_eq!(said, "error: `--qemu-dir nowhere` is no directory\n");
        // Another directory has a good one.
        let args = ["--platform", "s390x", "--qemu-dir", "bad", "--qemu-dir", &good];
        fs::write(&file, "no program").unwrap();
        outer.build(&world, RUN, &args).ok();
    }
}

#[test]
fn an_emulator_is_found_on_the_path() {
    for (world, _) in worlds() {
        let Some(outer) = Outer::new() else { return };
        let outer = outer.without_emulators().then("PATH=$PATH:$HOME/qemu");
        let said = outer.build(&world, RUN, &["--platform", "s390x", "-t", "app"]);
        assert!(said.stderr.contains("emulation: s390x by qemu-s390x-static "), "{}", said.stderr);
        said.ok();
        world.validate("app");
    }
}

#[test]
fn an_emulator_can_be_an_images() {
    for (world, good) in worlds() {
        let Some(outer) = Outer::new() else { return };
        let outer = outer.without_emulators();
        let world = world.with_base();
        world.file("qemu", fs::read(format!("{good}/qemu-s390x-static")).unwrap());
        let dockerfile = "FROM base\nCOPY --chmod=755 qemu /usr/bin/qemu-s390x\n";
        world.build(dockerfile, &["-t", "emulators"]).ok();
        let args = ["--platform", "s390x", "-t", "app", "--qemu-image"];
        let said = outer.build(&world, RUN, &[&args[..], &["emulators"]].concat());
        assert!(said.stderr.contains("emulation: s390x by qemu-s390x"), "{}", said.stderr);
        said.ok();
        world.validate("app");
        assert_eq!(world.read("app", "linux/s390x", "machine"), "s390x\n");
        let tree: Vec<String> = world.tree("app", "linux/s390x");
        assert!(!tree.iter().any(|line| line.contains("qemu")), "{tree:?}");

        let build = |image: &str| {
            let args = [&args[..], &[image, "--pull=never", "--no-cache"]].concat();
            outer.build(&world, RUN, &args)
        };
        let causes = format!(
            " cause: the host's handlers cannot be seen here, and none of them runs it\n cause: cannot use the image `base:latest` of `--qemu-image`\n cause: it has no qemu-s390x-static and no qemu-s390x\n{ELSEWHERE}"
        );
        assert_eq!(error_of(&world, &build("base")), no_emulator(&causes, INSTALL));
        // Before the isolation is entered: a slow registry must not hold up Ctrl-C.
        assert_eq!(
            crate::handlers::told(&world, &build("gone")),
            "exit 1\nerror: cannot use the image `gone:latest` of `--qemu-image`\n cause: image `gone:latest` is not in the store\nhelp: the store has `app:latest`, `base:latest`, `emulators:latest`, `foreign:latest`\n"
        );
        assert!(build("NOPE::").failed(2).starts_with("error: "), "no name");
    }
}

#[test]
fn steps_of_the_cache_need_no_emulator() {
    for (world, good) in worlds() {
        let Some(outer) = Outer::new() else { return };
        let outer = outer.without_emulators();
        let dockerfile = format!("{RUN}COPY Dockerfile /\n");
        let platforms = ["--platform", "s390x,arm64"];
        let args = [&platforms[..], &["--qemu-dir", &good]].concat();
        let first = world.build(&dockerfile, &args).ok();
        let said = outer.build(&world, &dockerfile, &platforms);
        assert_eq!((said.done(), said.cached()), (0, 4), "{}", said.stderr);
        assert_eq!(said.ok().trim(), first.trim());
        // A later COPY changes, the RUNs do not.
        let said =
            outer.build(&world, &format!("{dockerfile}COPY Dockerfile /again\n"), &platforms);
        assert_eq!((said.done(), said.cached()), (4, 2), "{}", said.stderr);
        said.ok();
    }
}

#[test]
fn a_crash_names_the_emulator_and_what_helps() {
    for (world, good) in worlds() {
        let dockerfile = "FROM foreign\nRUN kill -SEGV $$\n";
        let said = world.build(dockerfile, &["--platform", "s390x", "--qemu-dir", &good]);
        assert_eq!(said.code, 1);
        let crashed = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped";
        assert_eq!(output(&said), [crashed]);
        let text = error_of(&world, &said);
        let from = text.find("qemu-s390x-static ").unwrap() + "qemu-s390x-static ".len();
        let to = text.find(", which may").unwrap();
        assert!(text[from..to].starts_with(|first: char| first.is_ascii_digit()), "{text}");
        let text = format!("{}VERSION{}", &text[..from], &text[to..]);
        assert_eq!(
            text,
            format!(
                "error: process `/bin/sh -c kill -SEGV $$` did not complete successfully: exit code: 139\n  \
                   --> Dockerfile:2:1\n   |\n 2 | RUN kill -SEGV $$\n   | ^^^^^^^^^^^^^^^^^\n  | {crashed}\n \
                 cause: it was ended by signal 11\n \
                 cause: it ran under qemu-s390x-static VERSION, which may have crashed rather than the program\n  \
                 log: DIR/store/logs/run-ID.log\n\
                 help: try a newer qemu (`--qemu-dir`, `--qemu-image`), or do this step in a stage on the build platform: `FROM --platform=$BUILDPLATFORM`\n"
            )
        );
    }
}
