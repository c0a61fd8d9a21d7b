//! Builds with emulated RUNs as a whole: side by side, interrupted and killed; and the handlers of the host stay as they
//! are meanwhile.

use crate::emulation::worlds;
use crate::support::processes::{Marker, mounts_below, wait_until_gone};
use crate::support::{Said, Who, World, peer, program};
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

/// Every platform fills its cache from its own stage.
#[test]
fn a_cache_with_a_seed_belongs_to_the_platform_of_the_seed() {
    let dockerfile = "FROM foreign AS seed\nRUN mkdir /seed && uname -m > /seed/machine\n\
        FROM foreign\n\
        RUN --mount=type=cache,target=/c,id=seeded,from=seed,source=/seed cat /c/machine > /machine\n";
    for (world, dir) in worlds() {
        let args = ["-t", "app", "--platform", "s390x,arm64", "--qemu-dir", &dir];
        world.build(dockerfile, &args).ok();
        world.validate("app");
        for (platform, machine) in [("linux/s390x", "s390x\n"), ("linux/arm64", "aarch64\n")] {
            assert_eq!(world.read("app", platform, "machine"), machine, "{platform}");
        }
        assert_eq!(world.build(dockerfile, &args).done(), 0);
    }
}

/// What is mounted on the host's /sys is not shown to a RUN in the emulators' user namespace, where it would be root.
#[test]
fn file_systems_on_the_hosts_sys_are_not_seen() {
    for (world, dir) in worlds() {
        if world.who() != Who::Root || !peer("unshare") {
            continue;
        }
        world.file("Dockerfile", "FROM foreign\nRUN ls /sys/kernel > /seen; cat /sys/kernel/secret >> /seen 2>&1; true\n");
        let script = "mount -t tmpfs -o mode=700 none /sys/kernel && echo secret > /sys/kernel/secret && exec \"$@\"";
        let mut command = world.command("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command.arg(program()).args(["build", "--platform", "s390x", "-t", "app"]);
        command.args(["--qemu-dir", &dir]).arg(world.context());
        Said::of(command.output().unwrap()).ok();
        let seen = world.read("app", "linux/s390x", "seen");
        assert!(!seen.contains("secret\n"), "{seen}");
        assert!(seen.contains("No such file"), "{seen}");
    }
}
