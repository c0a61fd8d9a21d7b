//! A RUN after another is given to a process that was made while that went on: it finds what the first one finds.

use crate::sandbox::{each, output, printed};
use crate::support::processes::{self, Marker};
use crate::support::rungs::{RUNGS, SINGLE};
use crate::support::{Said, World, program};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Everything that the process, its mounts and its network could tell about how they came to be. What the kernel counts
/// (ids and devices of mounts) is left out, and the root, which is another tree in each step.
const LOOK: &str = "hostname; umask; pwd; id; ulimit -a; env; ls /proc/self/fd | wc -l; \
    grep -E '^(Cap|NoNew|Seccomp|Groups|Sig[PBIC]|Shd)' /proc/self/status; \
    sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/ [^ ]*(own-[0-9])/ \\1/; s/,inode64//' /proc/self/mountinfo | grep -vE '^[^ ]+ / ' | sort; \
    stat -c '%n %F %a %u:%g %t:%T' / /dev /dev/* /proc /sys /dev/shm/. /dev/mqueue/.; ls /sys /sys/class/net; \
    cut -d: -f1 /proc/net/dev; cat /proc/sys/kernel/hostname /etc/hosts; wc -c < /proc/keys; ls /sys/firmware | wc -l; \
    touch /dev/mine /dev/shm/mine; touch /proc/sys/mine /sys/mine 2>&1 | sort";

/// What each of some steps printed behind its mark.
fn parts(lines: &[String]) -> Vec<&[String]> {
    let parts: Vec<&[String]> = lines.split(|line| line == "mark").skip(1).collect();
    assert!(parts.iter().all(|part| part.len() > 50), "{parts:?}");
    parts
}

#[test]
fn a_later_command_finds_what_the_first_finds() {
    let ways = [RUNGS, SINGLE].concat();
    // In a changed root there is nothing to look at but the tree.
    let ways = ways.iter().filter(|way| !way.flags.contains(&"chroot"));
    for (way, world) in ways.filter_map(|way| Some((way, way.world()?.with_base()))) {
        let step = |number: usize| format!("RUN touch /f{number}; echo mark; {LOOK}\n");
        let dockerfile = format!("FROM base\n{}", (0..4).map(step).collect::<String>());
        let flags = [way.flags, &["--no-cache", "-t", "app"]].concat();
        let lines = printed(&world.build(&dockerfile, &flags));
        let found = parts(&lines);
        assert_eq!(found.len(), 4, "{lines:?}");
        for later in &found[1..] {
            assert_eq!(*later, found[0], "{way:?}");
        }
        world.validate("app");
    }
}

#[test]
fn one_that_needs_something_else_gets_it() {
    for world in each() {
        let network = |number: usize| if number.is_multiple_of(2) { "" } else { "--network=none" };
        let processes = "grep NSpid /proc/self/status; set -- /proc/[0-9]*; echo $#";
        let step =
            |number: usize| format!("RUN {} echo mark; {LOOK}; {processes}\n", network(number));
        let dockerfile = format!("FROM base\n{}", (0..6).map(step).collect::<String>());
        let lines = printed(&world.build(&dockerfile, &["--network", "host", "--no-cache"]));
        let found = parts(&lines);
        assert_ne!(found[0], found[1], "{:?}", world.who());
        for (at, later) in found.iter().enumerate().skip(2) {
            assert_eq!(*later, found[at % 2], "{at} {:?}", world.who());
        }
        let steps = "RUN true\nRUN --mount=type=tmpfs,target=/dev/t grep -c ' /dev/t ' /proc/mounts\n\
                     RUN grep -c ' /dev/t ' /proc/mounts; ls /dev/t 2>&1 || true\nUSER app\nRUN id -un; pwd\nWORKDIR /tmp\nRUN pwd\n\
                     RUN <<E\n#!/bin/sh\nls /dev/pipes | wc -l\nE\nRUN ls /dev/pipes 2>&1 || true\n";
        let no_mount = "ls: /dev/t: No such file or directory";
        let no_pipes = "ls: /dev/pipes: No such file or directory";
        let expected = ["1", "0", no_mount, "app", "/", "/tmp", "1", no_pipes];
        assert_eq!(output(&world, steps), expected, "{:?}", world.who());
        let caps = "grep CapEff /proc/self/status; grep -c ' /proc/acpi ' /proc/mounts || true";
        let steps = format!(
            "FROM base\nRUN {caps}\nRUN --security=insecure {caps}\nRUN {caps}\nRUN {caps}\n"
        );
        let flags = ["--allow", "security.insecure", "--no-cache"];
        let lines = printed(&world.build(&steps, &flags));
        let own = lines[2..4].to_vec();
        assert_ne!(own, lines[..2], "{:?}", world.who());
        assert_eq!(lines, [&lines[..2], &own, &lines[..2], &lines[..2]].concat());
    }
}

#[test]
fn one_that_fails_says_the_same() {
    for world in each() {
        let error = |steps: &str| {
            let said = world.build(&format!("FROM base\n{steps}\n"), &["--no-cache"]);
            let from = said.stderr.find("error: ").unwrap_or_else(|| panic!("{}", said.stderr));
            let lines = said.stderr[from..].lines().filter(|line| !line.contains(".log"));
            // Where it is: one line further down.
            let lines = lines.filter(|line| !line.starts_with("  --> "));
            let lines = lines.map(|line| line.trim_start_matches([' ', '2', '3']).to_owned());
            (said.code, lines.collect::<Vec<_>>())
        };
        for (command, cause) in [
            ("RUN echo lost; exit 7", "exit code: 7"),
            ("RUN kill -9 $$", "exit code: 137"),
            ("RUN exec nowhere", "exit code: 127"),
            ("RUN [\"nowhere\"]", "`nowhere` is in no directory of PATH"),
            ("RUN [\"/etc/passwd\"]", "`/etc/passwd` may not be executed"),
        ] {
            let (code, first) = error(command);
            assert!(first.join("\n").contains(cause), "{first:?}");
            assert_eq!(error(&format!("RUN true\n{command}")), (code, first), "{:?}", world.who());
        }
    }
}

/// What `found` gives, as soon as it gives anything.
fn wait_for<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{what} does not come");
        std::thread::yield_now();
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Builds; as soon as the first command sleeps, the process that waits for the second is killed.
fn build_without_the_next(world: &World, marker: &Marker) -> Said {
    let args = ["build", "--progress", "plain", "--no-cache", "-t", "app"];
    let mut command = world.command(program());
    command.args(args).arg(world.context()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let sleeps =
        wait_for("the command", || processes::with(marker).into_iter().find(|pid| is_sleep(*pid)));
    // It is a child of the shell, that of process 1, that of the spawner, which has the next one too.
    let first = processes::parent(processes::parent(sleeps));
    let spawner = processes::parent(first);
    let next = wait_for("the next process", || {
        processes::children(spawner).into_iter().find(|pid| *pid != first)
    });
    kill(next);
    // On a busy machine it would still be there for the command, which dies with it then.
    assert!(processes::ends(next));
    kill(sleeps);
    Said::of(child.wait_with_output().unwrap())
}

/// Not the shell, which has the marker among its arguments too.
fn is_sleep(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim() == "sleep"
}

#[test]
fn one_that_is_killed_before_its_command_came_is_replaced() {
    for world in each() {
        let marker = Marker::new();
        let text = format!(
            "FROM base\nRUN exec 2> /dev/null; touch /one; sleep {marker} || echo killed\nRUN ls /one; touch /two\nRUN ls /one /two; {LOOK}\n"
        );
        world.file("Dockerfile", text);
        world.give();
        let lines = printed(&build_without_the_next(&world, &marker));
        let from = lines.iter().position(|line| line == "killed").unwrap();
        assert_eq!(lines[from..from + 4], ["killed", "/one", "/one", "/two"], "{:?}", world.who());
        assert!(lines.len() > from + 50, "{lines:?}");
        world.validate("app");
    }
}

/// What a process that was left behind writes until it is killed is in the layer as it is in the tree.
#[test]
fn what_still_writes_is_dead_before_its_files_are_read() {
    for world in each() {
        let step = |number: usize| {
            format!(
                "RUN (trap '' TERM HUP; while :; do echo $(cat /proc/uptime) >> /log{number}; done) & \
                 while ! [ -s /log{number} ]; do :; done; touch /done{number}\n"
            )
        };
        let steps: String = (0..6).map(step).collect();
        let copies = "RUN for n in 0 1 2 3 4 5; do wc -c < /log$n > /size$n; done; cat /size*\n";
        let lines = output(&world, &format!("{steps}{copies}"));
        let listing = world.listing("app");
        for (number, size) in lines.iter().enumerate() {
            let line = format!("log{number} file 644 0:0 {size}");
            assert!(listing.contains(&line), "{line} {:?}: {listing:?}", world.who());
        }
        assert_eq!(lines.len(), 6);
        world.validate("app");
    }
}
