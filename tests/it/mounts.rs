//! `RUN --mount` and the places that mounts need: who waits for whom, and what others may see.

use crate::support::rungs::RUNGS;
use crate::support::{World, program};

/// The same locked cache twice in one RUN waited for its own lock, and two RUNs with two caches could wait for each
/// other: each mount took its lock when its turn came. Found in review.
#[test]
fn locked_caches_never_wait_for_themselves() {
    for world in World::each() {
        let world = world.with_base();
        let twice = "--mount=type=cache,id=c,target=/x,sharing=locked \
                     --mount=type=cache,id=c,target=/y,sharing=locked";
        let said = world.build(&format!("FROM base\nRUN {twice} echo 1 > /x/f; cat /y/f\n"), &[]);
        assert!(said.stderr.contains("#1 1\n"), "{}", said.stderr);
        said.ok();
    }
}

/// Of two mounts of one cache.
const SHARINGS: [(&str, &str); 6] = [
    ("private", "locked"),
    ("locked", "private"),
    ("private", "shared"),
    ("shared", "locked"),
    ("shared", "shared"),
    ("locked", "locked"),
];

/// Mounts of one cache with different `sharing` opened its lock twice, and waited for themselves for ever: `private` and
/// `locked`, without mounts `private` and `shared`, too. With `--cache-from` the second mount took the empty directory of
/// the first away. Found in review.
#[test]
fn mounts_of_one_cache_in_one_run_are_one_directory() {
    for rung in RUNGS {
        let Some(world) = rung.world() else { continue };
        let world = world.with_base();
        for (at, (one, two)) in SHARINGS.into_iter().enumerate() {
            let mount = |target: &str, sharing: &str| {
                format!("--mount=type=cache,id=c{at},target={target},sharing={sharing}")
            };
            let (x, y) = (mount("/x", one), mount("/y", two));
            let text = format!("FROM base\nRUN {x} {y} echo {one} {two} > /x/f; cat /y/f\n");
            let said = rung.build(&world, &text, &["--cache-from", "type=local,src=none"]);
            assert!(said.stderr.contains(&format!("#1 {one} {two}\n")), "{rung:?}: {said:?}");
            said.ok();
        }
    }
}

/// A RUN held the only place among the running steps while it waited for the stage that fills its cache. Found in
/// review.
#[test]
fn a_cache_that_a_stage_fills_is_waited_for_before_running() {
    for world in World::each() {
        let world = world.with_base();
        let said = world.build(
            "FROM base AS seed\nRUN mkdir /q && echo seeded > /q/f\n\
             FROM base\nRUN --mount=type=cache,target=/c,from=seed,source=/q cat /c/f\n",
            &["--jobs", "1"],
        );
        assert!(said.stderr.contains("#2 seeded\n"), "{}", said.stderr);
        said.ok();
    }
}

/// Two RUNs that both found no cache each made one, and the second took the place of the first as long as that was
/// empty: the first RUN failed (`move_mount: no such file or directory`), or its files were lost. Found by the tests of
/// emulated builds.
#[test]
fn runs_that_begin_a_cache_together_share_it() {
    const RUNS: usize = 6;
    for world in World::each() {
        let world = world.with_base();
        for round in 0..8 {
            let cache = format!("--mount=type=cache,id=round-{round},target=/c");
            let stages = (0..RUNS).map(|number| {
                format!("FROM base AS s{number}\nRUN {cache} touch /c/{number} /done-{number}\n")
            });
            let copies =
                (0..RUNS).map(|number| format!("COPY --from=s{number} /done-{number} /\n"));
            let text: String = stages.chain(["FROM base\n".to_owned()]).chain(copies).collect();
            let said =
                world.build(&format!("{text}RUN {cache} ls /c | tr -d '\\n'\n"), &["--jobs", "6"]);
            assert!(said.stderr.contains(" 012345\n"), "{}", said.stderr);
            said.ok();
        }
    }
}

/// Directories made for a mount's target took the umask of whoever builds, so that USER could not pass through them.
/// Found in review.
#[test]
fn the_callers_umask_does_not_reach_mount_targets() {
    for world in World::each() {
        let world = world.with_base();
        world.file(
            "Dockerfile",
            "FROM base\nUSER 1\nRUN --mount=type=tmpfs,target=/q/r ls -ld /q/r/.\n",
        );
        let script = "umask 077; exec \"$0\" build --progress plain context";
        let said = world.command("sh").args(["-c", script]).arg(program()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

/// Without anybody to allow it, a Dockerfile could ask for all capabilities. Found in review.
#[test]
fn a_run_cannot_ask_for_all_capabilities() {
    let world = World::new().with_base();
    let said = world.build("FROM base\nRUN true\nRUN --security=insecure id\n", &[]);
    assert_eq!(
        said.failed(1),
        "\
error: security.insecure is not allowed
  --> Dockerfile:3:1
   |
 3 | RUN --security=insecure id
   | ^^^^^^^^^^^^^^^^^^^^^^^^^^
help: if you trust this Dockerfile, allow it: `--allow security.insecure`
"
    );
}

/// A target inside another mount had no place to stand on, and a mount in the wrong order hid the one before it. Found
/// by comparison with BuildKit.
#[test]
fn mounts_stand_inside_others_in_any_order() {
    for world in World::each() {
        let world = world.with_base();
        world.file("f", "f\n");
        let said = world.build(
            "FROM base\nRUN mkdir -p /s /t/in\n\
             RUN --mount=type=cache,target=/s/node/modules --mount=target=/s,rw ls /s /s/node && touch /s/node/modules/x\n\
             RUN --mount=target=/t/in --mount=type=tmpfs,target=/t ls /t /t/in/f\n\
             RUN --mount=type=tmpfs,target=/t --mount=target=/t/a/file,source=f cat /t/a/file\n\
             RUN --mount=type=tmpfs,target=/dev/shm/x touch /dev/shm/x/y && ls /dev/shm\n\
             RUN find /s /t; ls /dev/shm\n",
            &["-t", "app"],
        );
        let printed: Vec<&str> = said
            .stderr
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(number, text)| {
                number.starts_with('#') && !text.starts_with("DONE") && !text.starts_with('[')
            })
            .map(|(_, text)| text)
            .collect();
        let expected = [
            "/s:",
            "Dockerfile",
            "f",
            "node",
            "",
            "/s/node:",
            "modules",
            "/t/in/f",
            "",
            "/t:",
            "in",
            "f",
            "x",
            "/s",
            "/t",
            "/t/in",
        ];
        assert_eq!(printed, expected, "{:?}", world.who());
        world.validate("app");
        said.ok();
    }
}

/// What a cache holds is written by other builds: links in it lead nowhere but into the root file system.
#[test]
fn mount_points_in_a_cache_never_leave_the_root() {
    for world in World::each() {
        let world = world.with_base();
        let out = world.path("escape");
        let cache = "--mount=type=cache,id=escape,target=/c";
        world
            .build(&format!("FROM base\nRUN {cache} ln -s {} /c/abs && ln -s ../../../../../../../.. /c/up && ln -s /proc/1/root /c/magic\n", world.path("").display()), &[])
            .ok();
        for target in [
            "/c/abs/escape/in",
            "/c/up/escape-of-nativebuild/in",
            "/c/magic/escape-of-nativebuild/in",
        ] {
            world.build(
                &format!("FROM base\nRUN {cache} --mount=type=tmpfs,target={target} true\n"),
                &[],
            );
            assert!(!out.exists(), "{target}");
            assert!(!std::path::Path::new("/escape-of-nativebuild").exists(), "{target}");
        }
    }
}

#[test]
fn a_read_only_mount_without_the_target_of_another_is_told() {
    for world in World::each() {
        let world = world.with_base();
        let said = world.build(
            "FROM base\nRUN mkdir /s\nRUN --mount=target=/s --mount=type=cache,target=/s/modules true\n",
            &[],
        );
        let text = said.failed(3);
        assert!(
            text.contains(
                "making the mount target /s/modules, which the read-only mount around it lacks \
                 (make it in what is mounted, or add `rw`)"
            ) && text.contains("Dockerfile:3:1"),
            "{text}"
        );
    }
}
