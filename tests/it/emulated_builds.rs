//! Builds with emulated RUNs as a whole: side by side, interrupted and killed; and the handlers of the host stay as they
//! are meanwhile.

use crate::emulation::worlds;
use crate::support::processes::{Marker, mounts_below, wait_until_gone};
use crate::support::{World, program};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

const PLATFORMS: [&str; 4] = ["--platform", "s390x,arm64", "--jobs", "2"];

/// One platform waits in a pipe for the other; that a RUN of each is there at the same time is thus sure.
fn meeting(then: &str) -> String {
    format!(
        "FROM foreign\nARG TARGETARCH\n\
         RUN --mount=type=cache,target=/c mkfifo /c/p 2>/dev/null; \
         case $TARGETARCH in arm64) read x < /c/p;; *) echo > /c/p;; esac; {then}\n"
    )
}

/// The binfmt_misc of this very machine: names, modes and contents. It is only read.
fn handlers_of_the_host() -> Vec<(String, u32, Vec<u8>)> {
    let entries = fs::read_dir(Path::new("/proc/sys/fs/binfmt_misc"));
    let mut found: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // `register` cannot be read by anyone.
            let content = fs::read(entry.path()).unwrap_or_default();
            (name, entry.metadata().unwrap().mode(), content)
        })
        .collect();
    found.sort();
    found
}

/// Starts a build, does something while both platforms run a command, sends a signal; gives what the build ended with.
fn ended(
    world: &World,
    dir: &str,
    signal: Signal,
    meanwhile: impl FnOnce(),
) -> (Option<i32>, Option<i32>) {
    let marker = Marker::new();
    world.file("Dockerfile", meeting(&format!("echo ready; sleep {marker}")));
    let mut command = world.command(program());
    command.args(["build", "--no-cache", "--progress", "plain", "--qemu-dir", dir]);
    command.args(PLATFORMS).arg(world.context());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    while said.iter().filter(|line: &&String| line.ends_with("] ready")).count() < 2 {
        let Some(line) = lines.next() else { panic!("it ended by itself: {said:#?}") };
        said.push(line);
    }
    meanwhile();
    kill_process(Pid::from_child(&child), signal).unwrap();
    said.extend(lines);
    let status = child.wait().unwrap();
    wait_until_gone(&marker);
    (status.code(), status.signal())
}

#[test]
fn platforms_are_emulated_side_by_side() {
    for (world, dir) in worlds() {
        let dockerfile = meeting("uname -m > /machine");
        let args = [&PLATFORMS[..], &["-t", "app", "--qemu-dir", &dir]].concat();
        let said = world.build(&dockerfile, &args);
        assert_eq!((said.done(), said.cached()), (2, 0), "{}", said.stderr);
        said.ok();
        world.validate("app");
        for (platform, machine) in [("linux/s390x", "s390x\n"), ("linux/arm64", "aarch64\n")] {
            assert_eq!(world.read("app", platform, "machine"), machine);
        }
    }
}

#[test]
fn a_build_that_ends_in_the_middle_leaves_no_processes_and_no_mounts() {
    for (world, dir) in worlds() {
        for (signal, expected) in
            [(Signal::INT, (Some(130), None)), (Signal::KILL, (None, Some(9)))]
        {
            assert_eq!(ended(&world, &dir, signal, || ()), expected, "{:?}", world.who());
            assert_eq!(mounts_below(&world.path("")), Vec::<String>::new());
        }
        let args = [&PLATFORMS[..], &["-t", "app", "--qemu-dir", &dir]].concat();
        world.build(&meeting(":"), &args).ok();
        world.validate("app");
    }
}

#[test]
fn handlers_of_the_host_are_the_same_before_during_and_after() {
    let before = handlers_of_the_host();
    for (world, dir) in worlds() {
        let during = || assert_eq!(handlers_of_the_host(), before);
        ended(&world, &dir, Signal::INT, during);
        assert_eq!(handlers_of_the_host(), before);
        let args = ["--platform", "s390x", "--qemu-dir", &dir];
        world.build("FROM foreign\nRUN uname -m\n", &args).ok();
        assert_eq!(handlers_of_the_host(), before);
    }
}
