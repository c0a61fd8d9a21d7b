//! What a RUN sees and what it cannot do, as root and as an ordinary user; and that nothing of it is left behind.

use crate::support::processes::{self, Marker};
use crate::support::{Said, Who, World, base};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader};

/// Two blocks of zeros: a tar without entries.
const EMPTY_LAYER: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// What the steps of a build printed, without the step's number; lines about steps are left out.
pub(crate) fn printed(said: &Said) -> Vec<String> {
    assert_eq!(said.code, 0, "{}", said.stderr);
    let line = |line: &str| {
        let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
        let own = text.starts_with('[') || text == "CACHED" || text.starts_with("DONE ");
        (number.parse::<u32>().is_ok() && !own).then(|| text.to_owned())
    };
    said.stderr.lines().filter_map(line).collect()
}

/// Builds on the small base and gives what its steps printed.
pub(crate) fn output(world: &World, steps: &str) -> Vec<String> {
    printed(&world.build(&format!("FROM base\n{steps}"), &["--no-cache", "-t", "app"]))
}

pub(crate) fn each() -> Vec<World> {
    World::each().into_iter().map(World::with_base).collect()
}

#[test]
fn a_command_finds_the_documented_surroundings() {
    for world in each() {
        let steps = "RUN hostname; cat /etc/hosts; umask; pwd; ls -1 /proc/$$/fd; \\\n\
                     grep -E '^(Cap|NoNew|Seccomp:|Groups)' /proc/self/status; readlink /proc/self/fd/0; cat\n";
        let expected = [
            "buildkitsandbox",
            "127.0.0.1 localhost buildkitsandbox",
            "::1 localhost ip6-localhost ip6-loopback",
            "0022",
            "/",
            "0",
            "1",
            "2",
            "Groups: 0 10 ",
            "CapInh: 0000000000000000",
            "CapPrm: 00000000a80425fb",
            "CapEff: 00000000a80425fb",
            "CapBnd: 00000000a80425fb",
            "CapAmb: 0000000000000000",
            "NoNewPrivs: 0",
            "Seccomp: 2",
            "/dev/null",
        ];
        assert_eq!(output(&world, steps), expected, "{:?}", world.who());
        world.validate("app");
    }
}

#[test]
fn the_environment_is_the_images_and_nothing_else() {
    for world in each() {
        let all = |user: &str| format!("{user}RUN [\"env\"]\n");
        let default =
            ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];
        assert_eq!(output(&world, &all("")), default);
        let app = output(&world, &all("ENV A=1 B=\"two words\"\nARG C=3\nUSER app\n"));
        let expected = [default[0], "A=1", "B=two words", "C=3", "HOME=/home"];
        assert_eq!(app, expected);
        assert_eq!(output(&world, &all("ENV HOME=/mine\nUSER 4711\n"))[1], "HOME=/mine");
        assert_eq!(output(&world, &all("USER 4711\n"))[1], "HOME=/");
    }
}

#[test]
fn own_files_of_a_command_are_not_in_the_layer() {
    for world in each() {
        let lines =
            output(&world, "RUN test -r /etc/resolv.conf && cat /proc/mounts | grep ' /etc/'\n");
        let kinds: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(kinds, ["/etc/hosts", "/etc/resolv.conf"]);
        assert!(lines.iter().all(|line| line.contains(" ro,")), "{lines:?}");
        assert_eq!(world.listing("app"), world.listing("base"));
        // Not even a time changed.
        assert_eq!(world.config("app")["rootfs"]["diff_ids"][1], EMPTY_LAYER);
    }
}

#[test]
fn what_a_step_makes_of_the_places_of_mounts_is_seen_by_the_next() {
    for world in each() {
        let steps = "RUN touch /x\nRUN touch /y\nRUN mkdir -p /etc/d && touch /etc/d/own\nRUN ls /etc/d; touch /z\n\
                     RUN grep -c ' /etc/' /proc/mounts; chmod 750 /etc\n\
                     RUN stat -c %a /etc; rm -r /etc/d\nRUN ls /etc | grep -c '^d$'; grep -c ' /etc/' /proc/mounts\n";
        let expected = ["own", "2", "750", "0", "2"];
        assert_eq!(output(&world, steps), expected, "{:?}", world.who());
        let before = world.listing("base");
        let new = world.listing("app");
        let new: Vec<&String> = new.iter().filter(|line| !before.contains(line)).collect();
        let expected =
            ["etc dir 750 0:0 0", "x file 644 0:0 0", "y file 644 0:0 0", "z file 644 0:0 0"];
        assert_eq!(new, expected, "{:?}", world.who());
        world.validate("app");
    }
}

#[test]
fn devices_are_the_six_and_no_others_can_be_opened() {
    for world in each() {
        let steps = "RUN cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty; ls; ls -l fd stdin ptmx | sed 's/.* \\([^ ]* -> \\)/\\1/'; \
                     echo x > /dev/null; head -c 3 /dev/zero | wc -c; [ -w /dev/shm ] && echo shm\n";
        let node = |name: &str, number: &str| format!("{name} character special file {number} 666");
        let mut expected = vec![
            node("null", "1:3"),
            node("zero", "1:5"),
            node("full", "1:7"),
            node("random", "1:8"),
            node("urandom", "1:9"),
            node("tty", "5:0"),
        ];
        let names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        expected.extend(names.split(' ').map(str::to_owned));
        let links =
            ["fd -> /proc/self/fd", "ptmx -> pts/ptmx", "stdin -> /proc/self/fd/0", "3", "shm"];
        expected.extend(links.map(str::to_owned));
        assert_eq!(output(&world, steps), expected, "{:?}", world.who());

        let steps = "RUN for dir in / /dev /dev/shm /tmp /proc /tt /cc; do \
                     mknod $dir/b b 7 0; cat $dir/b; rm -f $dir/b; \
                     mknod $dir/c c 1 5; head -c 1 $dir/c; rm -f $dir/c; done 2>&1 | sort -u; true\n";
        let steps = steps
            .replace("RUN ", "RUN --mount=type=tmpfs,target=/tt --mount=type=cache,target=/cc ");
        let lines = output(&world, &steps);
        let opened = |line: &&String| {
            !line.ends_with(": Permission denied")
                && !line.starts_with("mknod: ")
                && !line.contains("No such file")
        };
        let opened: Vec<&String> = lines.iter().filter(opened).collect();
        assert_eq!(opened, Vec::<&String>::new(), "{:?}", world.who());
        if world.who() == Who::Root {
            assert!(
                lines.contains(&"cat: can't open '//b': Permission denied".to_owned()),
                "{lines:#?}"
            );
            assert!(
                lines.contains(&"cat: can't open '/cc/b': Permission denied".to_owned()),
                "{lines:#?}"
            );
        } else {
            // They are files that record what they stand for.
            assert!(!lines.iter().any(|line| line.contains("//b")), "{lines:#?}");
        }
    }
}

#[test]
fn parts_of_proc_and_sys_are_hidden_or_read_only() {
    for world in each() {
        let steps = "RUN cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | wc -c; \
                     ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | grep -c .; \
                     (echo x > /proc/sys/kernel/hostname) 2>&1; \
                     umount /proc/kcore 2>&1; mount -t tmpfs x /tmp 2>&1; mount -o remount,rw /proc/sys 2>&1; \
                     hostname x 2>&1; unshare -U true 2>&1; mkdir /sys/kernel/x 2>/dev/null || echo no\n";
        let expected = [
            "0",
            "0",
            "/bin/sh: can't create /proc/sys/kernel/hostname: Read-only file system",
            "umount: can't unmount /proc/kcore: Operation not permitted",
            "mount: permission denied (are you root?)",
            "mount: permission denied (are you root?)",
            "hostname: sethostname: Operation not permitted",
            "unshare: unshare(0x10000000): Operation not permitted",
            "no",
        ];
        assert_eq!(output(&world, steps), expected, "{:?}", world.who());
    }
}

#[test]
fn networks_are_only_loopback_or_the_hosts() {
    let interfaces = |text: &str| -> Vec<String> {
        let mut names: Vec<String> = text
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .filter(|name| !name.contains(' ') && !name.is_empty())
            .collect();
        names.sort();
        names
    };
    for world in each() {
        let dockerfile = "FROM base\nRUN cat /proc/net/dev; ip addr show lo | grep -c 'UP.*LOWER_UP'; ip addr show lo | grep -c 127.0.0.1/8\n";
        let none = printed(&world.build(dockerfile, &["--network", "none"]));
        let up = &none[none.len() - 2..];
        assert_eq!(
            (interfaces(&none.join("\n")), up),
            (vec!["lo".to_owned()], &["1".to_owned(), "1".to_owned()][..])
        );
        let host = printed(&world.build(dockerfile, &["--network", "host"]));
        let outside = fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(interfaces(&host.join("\n")), interfaces(&outside));
        // The network of one RUN wins over that of the build.
        let own = dockerfile.replace("RUN ", "RUN --network=none ");
        let none = printed(&world.build(&own, &["--network", "host", "--no-cache"]));
        assert_eq!(interfaces(&none.join("\n")), ["lo"]);
    }
}

/// Nothing that the marker names runs, and nobody has a mount below the world's directory.
fn nothing_is_left(world: &World, marker: &Marker) {
    processes::wait_until_gone(marker);
    assert_eq!(processes::mounts_below(&world.path("")), Vec::<String>::new());
}

#[test]
fn background_processes_end_with_their_step() {
    for world in each() {
        let marker = Marker::new();
        let steps = format!(
            "RUN (trap '' TERM HUP INT; sleep {marker}) & setsid sleep {marker} & echo started\nRUN ps | grep -c '[s]leep {marker}'; true\n"
        );
        assert_eq!(output(&world, &steps), ["started", "0"]);
        nothing_is_left(&world, &marker);
        let said = world.build(&format!("FROM base\nRUN sleep {marker} & exit 4\n"), &[]);
        said.failed(1);
        nothing_is_left(&world, &marker);
        assert_eq!(
            fs::read_dir(world.store().join("tmp")).unwrap().count(),
            1,
            "only `rootfs` stays"
        );
    }
}

/// Starts a build whose RUN prints `ready` and then waits, lets `end` end it, and gives its exit code or signal.
fn interrupted(world: &World, marker: &Marker, signal: Signal) -> (Option<i32>, String) {
    use std::os::unix::process::ExitStatusExt;
    let dockerfile = format!(
        "FROM base\nRUN echo first > /first\n\
         RUN (trap '' TERM HUP INT; setsid sleep {marker}) & echo ready; sleep {marker}\n"
    );
    world.file("Dockerfile", dockerfile);
    let mut child = world
        .command(crate::support::program())
        .args(["build", "--progress", "plain", "-t", "never"])
        .arg(world.context())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.any(|line| line.unwrap().ends_with(" ready"));
    let running = processes::with(marker);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    assert!(ready && !running.is_empty());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    (status.code().or(status.signal().map(|signal| -signal)), rest.join("\n"))
}

#[test]
fn an_interrupted_build_leaves_nothing_and_can_be_repeated() {
    for world in each() {
        let marker = Marker::new();
        let (code, text) = interrupted(&world, &marker, Signal::INT);
        assert_eq!((code, text.as_str()), (Some(130), "#2 STOPPED\nerror: interrupted"));
        nothing_is_left(&world, &marker);
        let (code, _) = interrupted(&world, &marker, Signal::TERM);
        assert_eq!(code, Some(143));
        nothing_is_left(&world, &marker);
        let (code, text) = interrupted(&world, &marker, Signal::KILL);
        assert_eq!((code, text.as_str()), (Some(-9), ""));
        nothing_is_left(&world, &marker);
        assert_eq!(output(&world, "RUN echo first > /first\nRUN cat /first\n"), ["first"]);
        world.validate("app");
    }
}

#[test]
fn mount_points_are_not_in_the_layer() {
    for world in World::each() {
        let tar = world.path("bare.tar");
        fs::write(&tar, base::bare_tar()).unwrap();
        world.give();
        world.run(["image", "import", "bare", "bare.tar"]).ok();
        let said = world.build(
            "FROM bare\nRUN --mount=type=tmpfs,target=/a/b/c [\"/busybox\", \"ls\", \"/\", \"/a/b\", \"/etc\"]\n",
            &["-t", "app"],
        );
        let seen = "/: a busybox dev etc proc sys /a/b: c /etc: hosts resolv.conf";
        assert_eq!(printed(&said).join(" ").split_whitespace().collect::<Vec<_>>().join(" "), seen);
        assert_eq!(world.listing("app"), world.listing("bare"));
        let config = world.config("app");
        assert_eq!(config["rootfs"]["diff_ids"][1], EMPTY_LAYER);
        let steps = "FROM bare\nRUN [\"/busybox\", \"touch\", \"/etc/own\"]\nRUN [\"/busybox\", \"rm\", \"-r\", \"/sys\"]\n";
        let said = world.build(steps, &["-t", "app"]);
        assert!(said.code != 0, "a mount point cannot be removed");
        let said =
            world.build(steps.split("RUN [\"/busybox\", \"rm\"").next().unwrap(), &["-t", "app"]);
        said.ok();
        let mut expected = world.listing("bare");
        expected.extend(["etc dir 755 0:0 0".to_owned(), "etc/own file 644 0:0 0".to_owned()]);
        expected.sort();
        assert_eq!(world.listing("app"), expected);
        world.validate("app");
    }
}

#[test]
fn working_directories_follow_links_of_the_image() {
    for world in each() {
        let steps = "RUN mkdir -p /real && ln -s /real /link && ln -s ../../../../real /up\n\
                     WORKDIR /link/sub\nRUN pwd; touch here\nWORKDIR ../../up\nRUN pwd; ls\n";
        assert_eq!(output(&world, steps), ["/real/sub", "/real", "sub"]);
        let listing = world.listing("app");
        for line in
            ["link symlink 777 0:0 /real", "real/sub dir 755 0:0 0", "real/sub/here file 644 0:0 0"]
        {
            assert!(listing.iter().any(|found| found == line), "{line} in {listing:#?}");
        }
        world.validate("app");
    }
}

#[test]
fn large_outputs_are_shown_and_logged_whole() {
    for world in each() {
        let said =
            world.build("FROM base\nRUN yes 0123456789012345678 | head -n 100000; exit 5\n", &[]);
        let whole = "0123456789012345678\n".repeat(100_000);
        let shown: String = said
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("#1 0"))
            .fold(String::new(), |text, line| text + "0" + line + "\n");
        assert!(shown == whole, "{} of {} bytes shown", shown.len(), whole.len());
        let log = said.stderr.lines().find_map(|line| line.strip_prefix("  log: ")).unwrap();
        assert!(fs::read_to_string(log).unwrap() == whole, "the log is not the output");
        said.failed(1);
    }
}

#[test]
fn commands_are_started_as_they_are_written() {
    for world in each() {
        let steps = r#"RUN ["echo", "$HOME", "a  b", "\"q\""]
SHELL ["/bin/sh", "-exc"]
RUN echo one && \
    # a comment
    echo two
SHELL ["/bin/sh", "-c"]
RUN <<END
echo "from $0"
echo three
END
RUN <<"END"
#!/bin/cat
not a shell at all: $HOME
END
RUN cat <<one && cat <<two
1
one
2
two
RUN echo $((1+1)) $UNSET"$HOME" '$HOME'
"#;
        let expected = ["$HOME a  b \"q\"", "+ echo one", "one", "+ echo two", "two"];
        let found = output(&world, steps);
        assert_eq!(sorted(&found[..5]), sorted(&expected.map(str::to_owned)), "{found:#?}");
        assert_eq!(
            found[5..],
            [
                "from /bin/sh",
                "three",
                "#!/bin/cat",
                "not a shell at all: $HOME",
                "1",
                "2",
                "2 /root $HOME"
            ]
        );
    }
}

fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    lines
}

#[test]
fn users_and_groups_come_from_the_image() {
    for world in each() {
        let cases = [
            ("app", "1000 1000 1000 2000"),
            ("1000", "1000 1000 1000 2000"),
            ("app:extra", "1000 2000 2000"),
            ("app:10", "1000 10 10"),
            ("4711", "4711 0 0"),
            ("4711:4712", "4711 4712 4712"),
            ("0:0", "0 0 0"),
            ("nobody", "65534 65534 65534"),
        ];
        let mut steps = String::new();
        for (user, _) in cases {
            steps += &format!("USER {user}\nRUN echo $(id -u) $(id -g) $(id -G)\n");
        }
        assert_eq!(output(&world, &steps), cases.map(|(_, ids)| ids), "{:?}", world.who());
    }
}

#[test]
fn a_plain_user_holds_no_capabilities_and_owns_its_files() {
    for world in each() {
        let steps = "RUN mkdir -m 777 /d\nUSER app\nRUN grep CapEff /proc/self/status; id -u > /d/f; \
                     chown 0 /d/f 2>&1; su -c true 2>&1 | head -n 1\n";
        let found = output(&world, steps);
        assert_eq!(
            found[..2],
            ["CapEff: 0000000000000000", "chown: /d/f: Operation not permitted"]
        );
        let listing = world.listing("app");
        assert!(listing.contains(&"d/f file 644 1000:1000 5".to_owned()), "{listing:#?}");
    }
}

#[test]
fn mounts_of_a_command_are_there_and_gone() {
    for world in each() {
        world
            .file("dir/file", "of the context")
            .file("dir/hidden", "x")
            .file(".dockerignore", "dir/hidden\n");
        let steps = "RUN --mount=type=cache,target=/cache echo kept > /cache/a; stat -c %a:%u:%g /cache\n\
                     RUN --mount=type=cache,target=/cache cat /cache/a\n\
                     RUN --mount=type=cache,id=/cache,target=/elsewhere,ro cat /elsewhere/a; touch /elsewhere/b 2>&1 || true\n\
                     RUN --mount=type=tmpfs,target=/t,size=1m grep ' /t ' /proc/mounts | cut -d' ' -f3; \
                     head -c 2000000 /dev/zero > /t/big || echo full\n\
                     RUN --mount=type=bind,target=/b,source=dir ls /b; cat /b/file; echo; touch /b/file 2>&1 || true\n\
                     RUN --mount=type=bind,target=/b/f,source=dir/file,rw echo changed > /b/f; cat /b/f\n\
                     RUN --mount=type=bind,from=base,source=/etc,target=/e ls /e\n\
                     RUN ls -d /cache /elsewhere /t /b /e 2>/dev/null | wc -l\n";
        let found = output(&world, steps);
        let expected = [
            "755:0:0",
            "kept",
            "kept",
            "touch: /elsewhere/b: Read-only file system",
            "tmpfs",
            "full",
            "file",
            "of the context",
            "touch: /b/file: Read-only file system",
            "changed",
            "group",
            "passwd",
            "0",
        ];
        let found: Vec<&String> = found.iter().filter(|line| !line.starts_with("head: ")).collect();
        assert_eq!(found, expected, "{:?}", world.who());
        assert_eq!(world.listing("app"), world.listing("base"));
        assert_eq!(fs::read(world.context().join("dir/file")).unwrap(), b"of the context");
        world.validate("app");
    }
}

#[test]
fn process_1_does_not_show_the_builders_command_line() {
    for world in each() {
        let dockerfile =
            "FROM base\nRUN tr '\\0' ' ' < /proc/1/cmdline | grep -c -e build -e secret || true\n";
        let said = world.build(dockerfile, &["--build-arg", "TOKEN=secret"]);
        assert!(said.stderr.contains("#1 0\n"), "{}", said.stderr);
        said.ok();
    }
}

#[test]
fn a_host_has_the_name_that_a_build_argument_gives() {
    for world in each() {
        let steps = "FROM base\nRUN hostname; grep -c 'localhost h-1$' /etc/hosts\n";
        let named = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=h-1", "-t", "app"];
        assert_eq!(printed(&world.build(steps, &named)), ["h-1", "1"]);
        // It is part of what a RUN is.
        assert_eq!(world.build(steps, &named).cached(), 1);
        assert_eq!(world.build(steps, &["-t", "other"]).cached(), 0);
        let bad = world.build(steps, &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=a b"]);
        assert_eq!(bad.code, 2, "{}", bad.stderr);
    }
}

#[test]
fn a_working_directory_may_be_closed_to_the_user() {
    for world in each() {
        let steps =
            "RUN mkdir -m 700 /p && mkdir /p/w\nWORKDIR /p/w\nUSER nobody\nRUN pwd; id -u\n";
        assert_eq!(output(&world, steps), ["/p/w", "65534"]);
        world.validate("app");
    }
}
