//! A builder that is killed, at many moments and under each isolation: nothing is left, and the next build is right.

use crate::hostile::state;
use crate::support::processes::{self, Marker};
use crate::support::rungs::{RUNGS, Rung};
use crate::support::{World, long, program};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Several commands with all kinds of mounts, each of which leaves a process behind.
fn dockerfile(marker: &Marker) -> String {
    let daemon = format!("(trap '' TERM HUP INT; setsid sleep {marker}) &");
    format!(
        "FROM base\n\
         RUN {daemon} echo 1; mkdir /d && echo 1 > /d/f; chown 33:34 /d/f\n\
         RUN --mount=type=cache,target=/c --mount=type=bind,target=/b --mount=type=tmpfs,target=/t \
         --mount=type=secret,id=s,target=/etc/s {daemon} echo 2; cat /c/kept; cp /b/Dockerfile /copy; echo 3; touch /t/x; echo 4\n\
         COPY --chown=5:6 Dockerfile /d/\n\
         RUN {daemon} rm -r /usr/share; echo 5; mkdir /usr/share; mv /bin/yes /bin/no; echo 6\n"
    )
}

struct Scene {
    rung: Rung,
    world: World,
    marker: Marker,
    digest: String,
    outside: Vec<String>,
}

/// Files of the world but those of the store.
fn outside(world: &World) -> Vec<String> {
    ["context", "out", "tmp"].iter().flat_map(|name| state(&world.path(name))).collect()
}

impl Scene {
    fn new(rung: &Rung) -> Option<Self> {
        let world = rung.world()?.with_base();
        fs::create_dir(world.path("tmp")).unwrap();
        fs::write(world.path("token"), "a-secret-of-the-test").unwrap();
        let marker = Marker::new();
        world.file("Dockerfile", dockerfile(&marker));
        world.give();
        let mut scene =
            Self { rung: *rung, world, marker, digest: String::new(), outside: Vec::new() };
        let keep = "FROM base\nRUN --mount=type=cache,target=/c echo kept > /c/kept\n";
        rung.build(&scene.world, keep, &["-t", "keep"]).ok();
        scene.world.file("Dockerfile", dockerfile(&scene.marker));
        scene.outside = outside(&scene.world);
        scene.digest = scene.whole();
        Some(scene)
    }

    fn command(&self) -> Command {
        let mut command = self.world.command(program());
        command.args(["build", "--progress", "plain", "--no-cache", "--secret", "id=s,src=token"]);
        command.args(["--source-date-epoch", "1700000000", "-t", "app"]).args(self.rung.flags);
        command.arg(self.world.context()).env("TMPDIR", self.world.path("tmp"));
        command
    }

    /// A build to its end, which gives the digest.
    fn whole(&self) -> String {
        let output = self.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains(" kept\n"), "{:?}: {text}", self.rung);
        self.world.run(["image", "digest", "app"]).ok()
    }

    /// Kills the builder, or its whole group, behind the given line; true when the build was over before.
    fn killed_behind(&self, line: usize, group: bool) -> bool {
        let mut command = self.command();
        let mut child =
            command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let over = lines.nth(line).is_none();
        let pid = Pid::from_child(&child);
        let kill = if group { kill_process_group } else { kill_process };
        kill(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
        drop(lines);
        self.nothing_is_left();
        over
    }

    fn nothing_is_left(&self) {
        processes::wait_until_gone(&self.marker);
        let mounts = processes::mounts_below(&self.world.path(""));
        assert_eq!(mounts, Vec::<String>::new(), "{:?}", self.rung);
        assert_eq!(outside(&self.world), self.outside, "{:?}", self.rung);
    }

    /// The next build is as if nothing had happened, and all can be removed.
    fn all_is_well(&self) {
        assert_eq!(self.whole(), self.digest, "{:?}", self.rung);
        let leaks = crate::support::leaks::leaks(&self.world, "a-secret-of-the-test");
        assert_eq!(leaks, Vec::<String>::new(), "{:?}", self.rung);
        self.world.run(["image", "rm", "app", "keep", "base"]).ok();
        // What stays when the list of images is being written; `prune` did not know it. Found by killing.
        fs::write(self.world.store().join("images/.tmp-left"), "{").unwrap();
        self.world.run(["prune", "--all"]).ok();
        let left: Vec<String> = state(&self.world.store())
            .into_iter()
            .filter_map(|line| Some(line.split_once("/store/")?.1.split(' ').next()?.to_owned()))
            .filter(|name| {
                !name.starts_with("locks/")
                    && !is_district(name)
                    && !MADE_WHEN_NEEDED.contains(&name.as_str())
            })
            .collect();
        assert_eq!(left, EMPTY_STORE, "{:?}", self.rung);
    }
}

/// Whether it is the directory of districts, which ext4 has, or an empty one.
fn is_district(name: &str) -> bool {
    let below = name.strip_prefix("snapshots/districts");
    below.is_some_and(|rest| rest.matches('/').count() < 2)
}

/// What a build may make and `prune` leaves: empty directories, and remembered digests of files.
const MADE_WHEN_NEEDED: [&str; 5] =
    ["cache/blocks", "cache/explain", "cache/files", "cache/files.recent", "tmp/rootfs"];

/// What stays when everything was removed.
const EMPTY_STORE: [&str; 17] = [
    "cache",
    "cache/steps",
    "images",
    "images/.lock",
    "images/blobs",
    "images/blobs/sha256",
    "images/index.json",
    "images/oci-layout",
    "locks",
    "logs",
    "mounts",
    "snapshots",
    "snapshots/chains",
    "snapshots/empty",
    "tmp",
    "trash",
    "version",
];

#[test]
fn a_builder_killed_behind_any_line_leaves_nothing() {
    for rung in RUNGS {
        let Some(scene) = Scene::new(rung) else { continue };
        for (line, group) in [(0, false), (2, true), (3, false), (5, true), (6, false), (9, false)]
        {
            scene.killed_behind(line, group);
        }
        scene.all_is_well();
    }
}

#[test]
fn a_builder_killed_at_any_moment_leaves_nothing() {
    if !long() {
        return;
    }
    for rung in RUNGS {
        let Some(scene) = Scene::new(rung) else { continue };
        for line in 0.. {
            if scene.killed_behind(line, line % 2 == 1) {
                break;
            }
        }
        // Denser at the beginning, where most happens.
        for moment in 0..200_u64 {
            let mut child =
                scene.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(moment * moment * 17));
            let _over = kill_process(Pid::from_child(&child), Signal::KILL);
            child.wait().unwrap();
            scene.nothing_is_left();
        }
        scene.all_is_well();
    }
}
