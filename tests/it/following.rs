//! A RUN after another is given to a process that was made while that went on: it finds what the first one finds.

use crate::sandbox::{each, output, printed};
use crate::support::rungs::{RUNGS, SINGLE};

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
