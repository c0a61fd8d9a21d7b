//! Builds for several platforms in which nothing foreign runs: what is built, how often, and out of which base.

use crate::errors::normal;
use crate::support::processes::{Marker, wait_until_gone};
use crate::support::{Said, World, program};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const EPOCH: [&str; 2] = ["--source-date-epoch", "1700000000"];

/// Copies alone.
const COPIES: &str = "FROM multi\nCOPY Dockerfile /\nLABEL done=yes\n";

fn host() -> String {
    format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" })
}

/// Standard error from the error on.
fn error_of(world: &World, said: &Said) -> String {
    let text = normal(world, said);
    text[text.find("error: ").unwrap_or(0)..].to_owned()
}

#[test]
fn spellings_and_repetitions_of_a_list_give_one_image() {
    let world = World::new().with_platforms("multi", &["linux/arm64", "linux/s390x"]);
    let digest = |args: &[&str]| {
        let all = [&EPOCH[..], &["-t", "app"], args].concat();
        let digest = world.build(COPIES, &all).ok();
        world.validate("app");
        digest
    };
    let one = digest(&["--platform", "linux/arm64"]);
    assert_eq!(world.raw("app")["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    for args in [
        &["--platform", "linux/arm64,linux/arm64/v8,aarch64"][..],
        &["--platforms", "arm64", "--platform", "Linux/AArch64"],
    ] {
        assert_eq!(digest(args), one, "{args:?}");
    }
    let two = digest(&["--platform", "linux/arm64,linux/s390x"]);
    assert_eq!(world.platforms("app"), ["linux/arm64", "linux/s390x"]);
    for args in [
        &["--platforms", "s390x,aarch64,linux/s390x"][..],
        &["--platform", "linux/s390x", "--platform", "linux/arm64"],
        &["--platform", " linux/s390x , linux/arm64 "],
    ] {
        assert_eq!(digest(args), two, "{args:?}");
    }
}

#[test]
fn variables_and_sources_are_those_of_each_platform() {
    let dockerfile = r#"
FROM --platform=$BUILDPLATFORM base AS words
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS BUILDARCH
RUN echo "$TARGETPLATFORM = $TARGETOS $TARGETARCH $TARGETVARIANT on $BUILDPLATFORM = $BUILDOS $BUILDARCH" > /words
FROM --platform=$BUILDPLATFORM multi AS here
FROM --platform=$TARGETPLATFORM multi
COPY --from=words /words /
COPY --from=here /platform /here
COPY --from=multi /platform /there
ARG TARGETARCH
ENV ARCH=$TARGETARCH
"#;
    let host = host();
    let arch = host.trim_start_matches("linux/");
    for world in World::each() {
        let all = ["linux/s390x", "linux/arm/v6", &host];
        let world = world.with_base().with_platforms("multi", &all);
        let args = ["-t", "app", "--platform", &all.join(",")];
        world.build(dockerfile, &args).ok();
        world.validate("app");
        for (platform, words) in [
            ("linux/s390x", "linux s390x "),
            ("linux/arm/v6", "linux arm v6"),
            (&host, &format!("linux {arch} ")),
        ] {
            let read = |path| world.read("app", platform, path);
            let expected = format!("{platform} = {words} on {host} = linux {arch}\n");
            assert_eq!(read("words"), expected);
            assert_eq!(read("here"), format!("{host}\n"));
            assert_eq!([read("there"), read("platform")], [0, 1].map(|_| format!("{platform}\n")));
            let config = world.inspect("app", platform)["config"].take();
            let env = words.split(' ').nth(1).unwrap();
            assert_eq!(config["config"]["Env"][1], format!("ARCH={env}"), "{config}");
            assert_eq!(config["architecture"], env);
        }
    }
}

#[test]
fn the_base_is_the_exact_one_and_else_the_next_lower_variant() {
    let world = World::new()
        .with_platforms("low", &["linux/arm/v5", "linux/arm/v6"])
        .with_platforms("all", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64"]);
    for (base, wanted, chosen) in [
        ("low", "linux/arm/v7", "linux/arm/v6"),
        ("low", "linux/arm/v5", "linux/arm/v5"),
        ("low", "linux/arm64", "linux/arm/v6"),
        ("all", "linux/arm", "linux/arm/v7"),
        ("all", "linux/arm/v6", "linux/arm/v6"),
        ("all", "linux/arm64", "linux/arm64"),
    ] {
        let dockerfile = format!("FROM {base}\nCOPY --from={base} /platform /copied\n");
        world.build(&dockerfile, &["-t", "app", "--platform", wanted]).ok();
        world.validate("app");
        for path in ["platform", "copied"] {
            let found = world.read("app", wanted, path);
            assert_eq!(found, format!("{chosen}\n"), "{base} {wanted} {path}");
        }
    }
}

#[test]
fn what_does_not_depend_on_the_target_is_done_once() {
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS same\n\
                      RUN od -An -N8 -tx1 /dev/urandom > /random\n\
                      FROM --platform=$BUILDPLATFORM base AS other\n\
                      RUN od -An -N8 -tx1 /dev/urandom > /random\n\
                      ARG TARGETARCH\n\
                      RUN echo $TARGETARCH >> /random\n\
                      FROM multi\n\
                      COPY --from=same /random /same\n\
                      COPY --from=other /random /other\n";
    let all = ["linux/arm64", "linux/ppc64le", "linux/s390x"];
    for world in World::each() {
        let world = world.with_base().with_platforms("multi", &all);
        let list = all.join(",");
        let args = ["-t", "app", "--platform", &list];
        let random = |path: &str| all.map(|platform| world.read("app", platform, path));
        let said = world.build(dockerfile, &args);
        // Four RUNs begin with the same step; then there are three other RUNs, and two COPYs for each target.
        assert_eq!((said.done(), said.cached()), (10, 3), "{}", said.stderr);
        said.ok();
        let first = random("same");
        assert_eq!(first, [0, 1, 2].map(|_| first[0].clone()));
        let ends = ["arm64", "ppc64le", "s390x"].map(|arch| format!("{}{arch}\n", first[0]));
        assert_eq!(random("other"), ends);

        let said = world.build(dockerfile, &args);
        assert_eq!((said.done(), said.cached()), (0, 13), "{}", said.stderr);
        let said = world.build(dockerfile, &[&args[..], &["--no-cache"]].concat());
        assert_eq!((said.done(), said.cached()), (10, 3), "{}", said.stderr);
        let again = random("same");
        assert_eq!(again, [0, 1, 2].map(|_| again[0].clone()));
        assert_ne!(again, first);
        world.validate("app");
    }
}

#[test]
fn copies_for_foreign_platforms_ask_for_no_emulator() {
    for world in World::each() {
        let world = world.with_platforms("multi", &["linux/arm64", "linux/s390x"]);
        world.file("Dockerfile", format!("{COPIES}WORKDIR /w\nADD Dockerfile .\n"));
        // Nothing on PATH but what makes the isolation of an ordinary user.
        let path = world.path("bin");
        fs::create_dir(&path).unwrap();
        for name in ["newuidmap", "newgidmap"] {
            symlink(Path::new("/usr/bin").join(name), path.join(name)).unwrap();
        }
        let mut command = world.command(program());
        command.args(["build", "--progress", "plain", "--platform", "arm64,s390x", "-t", "app"]);
        let output = command.arg(world.context()).env("PATH", path).output().unwrap();
        let said = Said::of(output);
        assert_eq!(
            (said.done(), said.stderr.contains("emulation:")),
            (6, false),
            "{}",
            said.stderr
        );
        said.ok();
        world.validate("app");
        assert_eq!(world.read("app", "linux/s390x", "platform"), "linux/s390x\n");
    }
}

#[test]
fn a_platform_that_fails_is_named_and_the_others_are_stopped() {
    for world in World::each() {
        let world = world.with_base();
        let marker = Marker::new();
        // The pipe lets the one fail only once the other runs.
        let dockerfile = format!(
            "FROM --platform=$BUILDPLATFORM base AS work\nARG TARGETARCH\n\
             RUN --mount=type=cache,target=/c mkfifo /c/p; case $TARGETARCH in arm64) read x < /c/p; exit 3;; *) echo > /c/p; sleep {marker};; esac\n\
             FROM scratch\nCOPY --from=work /etc/passwd /\n"
        );
        let said = world.build(&dockerfile, &["--jobs", "2", "--platform", "arm64,s390x"]);
        wait_until_gone(&marker);
        let stopped = said.stderr.lines().filter(|line| line.ends_with(" STOPPED")).count();
        assert_eq!(stopped, 1, "{}", said.stderr);
        let run = dockerfile.lines().nth(2).unwrap();
        let under = "^".repeat(run.len());
        let command = run.split_once("/c ").unwrap().1;
        let mkfifo = "mkfifo: /c/p: File exists";
        let found = error_of(&world, &said).replace(&format!("  | {mkfifo}\n"), "");
        let found: Vec<&str> = found.lines().filter(|line| !line.starts_with("  log: ")).collect();
        assert_eq!(
            found.join("\n"),
            format!(
                "error: process `/bin/sh -c {command}` did not complete successfully: exit code: 3\n  \
                   --> Dockerfile:3:1\n   |\n 3 | {run}\n   | {under}\n \
                 cause: this was for the platform {}->arm64",
                host()
            )
        );
    }
}

#[test]
fn what_cannot_be_built_is_told_before_anything_is_done() {
    let world = World::new().with_base().with_platforms("multi", &["linux/arm64", "linux/s390x"]);
    let windows = "FROM scratch\nCOPY Dockerfile /\nRUN [\"cmd\"]\n";
    let host = host();
    for (dockerfile, platforms, expected) in [
        (
            COPIES,
            "linux/arm64,linux/z80",
            "error: unknown architecture `z80` in platform `linux/z80`\n\
             help: known architectures: 386, amd64, arm, arm64, loong64, mips, mips64, mips64le, mipsle, ppc64, ppc64le, riscv64, s390x, wasm\n",
        ),
        (
            COPIES,
            "linux/arm64,,",
            "error: `` is no platform: expected `os/arch[/variant]`\n\
             help: for example linux/amd64, linux/arm64, linux/arm/v7, linux/arm/v6, linux/386, linux/riscv64, linux/s390x, linux/ppc64le, linux/loong64\n",
        ),
        (
            COPIES,
            "linux/arm64,windows/amd64",
            "error: one build cannot be for two operating systems: `linux/arm64` and `windows/amd64`\n\
             help: build one after the other; `nativebuild image import --add` joins their platforms\n",
        ),
        (
            COPIES,
            "linux/arm64,linux/ppc64le",
            "error: cannot use the image `multi`\n  --> Dockerfile:1:6\n   |\n 1 | FROM multi\n   |      ^^^^^\n \
             cause: the image is not made for `linux/ppc64le`\nhelp: there are: linux/arm64, linux/s390x\n",
        ),
        (
            windows,
            "windows/amd64",
            &format!(
                "error: this machine ({host}) cannot run commands for windows/amd64\n  --> Dockerfile:3:1\n   |\n \
                 3 | RUN [\"cmd\"]\n   | ^^^^^^^^^^^\n cause: commands for windows need windows\n\
                 help: an image for it can be made with FROM, COPY and ADD alone\n"
            ),
        ),
    ] {
        let said = world.build(dockerfile, &["--platform", platforms]);
        assert_eq!((said.done(), said.cached()), (0, 0), "{}", said.stderr);
        assert_eq!(error_of(&world, &said), expected, "{platforms}");
    }
    let copies = windows.split("RUN").next().unwrap();
    world.build(copies, &["--platform", "windows/amd64", "-t", "app"]).ok();
    world.validate("app");
    assert_eq!(world.platforms("app"), ["windows/amd64"]);
}

#[test]
fn a_shared_step_that_fails_is_not_tried_again() {
    let platforms = ["linux/arm64", "linux/s390x", &host()];
    let world = World::new().with_base().with_platforms("multi", &platforms);
    let dockerfile = "FROM --platform=$BUILDPLATFORM base AS build\nRUN echo tried; false\n\
        ARG TARGETARCH\nRUN echo $TARGETARCH > /arch\nFROM multi\nCOPY --from=build /arch /\n";
    for jobs in ["1", "8"] {
        let platforms = platforms.join(",");
        let args = ["--no-cache", "--jobs", jobs, "--platform", &platforms];
        let said = world.build(dockerfile, &args);
        let tried = said.stderr.lines().filter(|line| line.ends_with("] tried")).count();
        assert_eq!((tried, said.code), (1, 1), "{}", said.stderr);
    }
}
