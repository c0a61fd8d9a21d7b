//! A RUN that wants out, under each isolation: whatever it does, nothing outside changes or is read.
//!
//! Outside is a directory beside the store with a canary in it, and a process of the same user with a secret in its
//! environment.

use crate::hostile::state;
use crate::support::leaks::leaks;
use crate::support::processes::{self, Marker};
use crate::support::rungs::{RUNGS, Rung};
use crate::support::{Said, World, long};
use std::fs;
use std::process::{Child, Stdio};

const SECRET: &str = "canary-in-the-environment";

/// One rung with what must stay as it is.
struct Scene {
    rung: Rung,
    world: World,
    before: Vec<String>,
}

impl Scene {
    fn all() -> impl Iterator<Item = Self> {
        RUNGS.iter().filter_map(|rung| {
            let world = rung.world()?.with_base();
            fs::create_dir_all(world.path("outside/dir")).unwrap();
            fs::write(world.path("outside/canary"), "alive").unwrap();
            fs::write(world.path("outside/dir/canary"), "alive, too").unwrap();
            world.give();
            let before = state(&world.path("outside"));
            Some(Self { rung: *rung, world, before })
        })
    }

    /// Builds steps on the base, with the directory outside for `OUT`, and gives what the commands printed. Nothing
    /// outside has changed.
    #[track_caller]
    fn attack(&self, steps: &str) -> Vec<String> {
        let said = self.build(steps);
        assert_eq!(said.code, 0, "{:?}: {}", self.rung, said.stderr);
        let text = |line: &str| {
            let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
            let own = text.starts_with('[') || text == "CACHED" || text.starts_with("DONE ");
            (number.parse::<u32>().is_ok() && !own).then(|| text.to_owned())
        };
        said.stderr.lines().filter_map(text).collect()
    }

    #[track_caller]
    fn build(&self, steps: &str) -> Said {
        let outside = self.world.path("outside");
        let steps = steps.replace("OUT", outside.to_str().unwrap());
        let args = ["--no-cache", "-t", "app"];
        let said = self.rung.build(&self.world, &format!("FROM base\n{steps}"), &args);
        assert_eq!(state(&outside), self.before, "{:?}: {}", self.rung, said.stderr);
        said
    }

    /// What the image has that the base has not, but for these directories.
    fn added(&self) -> Vec<String> {
        let base = self.world.listing("base");
        self.world.listing("app").into_iter().filter(|line| !base.contains(line)).collect()
    }
}

#[test]
fn links_lead_nowhere_else() {
    for scene in Scene::all() {
        let steps = "RUN ln -s OUT /abs && ln -s ../../../../../../../..OUT /up && ln -s abs /chain\n\
                     WORKDIR /abs/new\nRUN echo x > file\nWORKDIR /up\nRUN echo x > canary\n\
                     COPY Dockerfile /chain/copied\nCOPY Dockerfile /abs/\n\
                     RUN --mount=type=cache,target=/abs/cache --mount=type=tmpfs,target=/up/tmp --mount=type=bind,target=/chain/bind \
                     touch /abs/cache/x /up/tmp/x && ls /abs /chain/bind\n";
        let seen = scene.attack(steps);
        let expected = [
            "/abs:",
            "Dockerfile",
            "bind",
            "cache",
            "canary",
            "copied",
            "new",
            "tmp",
            "",
            "/chain/bind:",
            "Dockerfile",
        ];
        assert_eq!(seen, expected, "{:?}", scene.rung);
    }
}

#[test]
fn sources_of_mounts_stay_inside() {
    for scene in Scene::all() {
        let up = "../../../../../../../..OUT";
        let seen = scene.attack(&format!(
            "RUN --mount=type=cache,id={up},target=/c touch /c/canary /c/x && ls -A /c\n\
             RUN --mount=type=cache,id=l,target=/c ln -s OUT /c/link && ln -s {up} /c/up\n"
        ));
        assert_eq!(seen, ["canary", "x"], "{:?}", scene.rung);
        for source in ["link", "up", "../../outside"] {
            let steps = format!(
                "RUN --mount=type=cache,id=l,source={source},target=/c touch /c/pwned; ls /c\n"
            );
            let said = scene.build(&steps);
            assert!(
                !said.stderr.contains("canary\n"),
                "{:?} {source}: {}",
                scene.rung,
                said.stderr
            );
        }
        scene.world.file("sub/inside", "");
        std::os::unix::fs::symlink(scene.world.path("outside"), scene.world.path("context/l"))
            .unwrap();
        for source in ["l", "sub/../../outside"] {
            let said = scene.build(&format!(
                "RUN --mount=type=bind,source={source},target=/b ls /b; cat /b/canary\n"
            ));
            assert!(!said.stderr.contains("alive"), "{:?} {source}: {}", scene.rung, said.stderr);
        }
    }
}

/// A step swaps a link in a cache again and again while others mount what it leads to.
#[test]
fn a_link_that_is_swapped_while_it_is_mounted_leads_nowhere_else() {
    let turns = if long() { 100_000 } else { 2_000 };
    for scene in Scene::all() {
        let swap = format!(
            "FROM base AS swap\nRUN --mount=type=cache,id=r,target=/c mkdir -p /c/sub && ln -s sub /c/l; \
             i=0; while [ $i -lt {turns} ]; do ln -sfn OUT /c/l; ln -sfn sub /c/l; i=$((i+1)); done\n"
        );
        let mount =
            "RUN --mount=type=cache,id=r,source=l,target=/m touch /m/pwned; echo $((0)) > /done\n";
        let first = "RUN --mount=type=cache,id=r,target=/c mkdir -p /c/sub && ln -sfn sub /c/l\n";
        scene.build(first);
        for _ in 0..3 {
            scene.build(&format!(
                "{first}{swap}FROM base\nCOPY --from=swap /etc /e\n{mount}{mount}"
            ));
        }
    }
}

/// Descriptors of the builder are not for commands, and no working directory leads to one.
#[test]
fn no_descriptor_of_the_builder_is_open_in_a_command() {
    for scene in Scene::all() {
        let seen = scene.attack("RUN ls /proc/self/fd 2>/dev/null | grep -v '^3$'; echo end\n");
        let chroot = scene.rung.flags.contains(&"chroot");
        let expected = if chroot { vec!["end"] } else { vec!["0", "1", "2", "end"] };
        assert_eq!(seen, expected, "{:?}", scene.rung);
        for dir in
            ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/root", "/proc/self/root/../../.."]
        {
            let said = scene.build(&format!(
                "WORKDIR {dir}\nRUN pwd; ls; cat ../../OUT/canary .OUT/canary; true\n"
            ));
            assert!(!said.stderr.contains("alive"), "{:?} {dir}: {}", scene.rung, said.stderr);
        }
    }
}

/// What the sandbox puts into the tree is taken out of the tree, and of nothing else.
#[test]
fn a_command_that_moves_directories_away_changes_nothing_outside() {
    for scene in Scene::all() {
        for dir in ["/etc", "/dev", "/proc", "/sys"] {
            scene.build(&format!(
                "RUN mv {dir} /gone; ln -s OUT {dir}; rm -rf {dir}/hosts {dir}/null {dir}/canary; true\n\
                 RUN rm -rf {dir}; ln -s OUT {dir}; ls {dir}; mkdir {dir}/x; true\n"
            ));
        }
        scene.build(
            "RUN --mount=type=cache,target=/a/b/c mv /a/b /gone; rm -rf /a; ln -s OUT /a; true\n",
        );
        let again = "RUN --mount=type=cache,target=/a/b/c --mount=type=bind,target=/x/y touch /a/b/c/new && ls /a/b/c /x/y\n";
        let seen = scene.attack(again);
        assert_eq!(seen, ["/a/b/c:", "new", "", "/x/y:", "Dockerfile"], "{:?}", scene.rung);
        assert_eq!(scene.added(), Vec::<String>::new(), "{:?}", scene.rung);
    }
}

#[test]
fn what_is_written_into_the_sandbox_own_files_is_not_in_the_image() {
    for scene in Scene::all() {
        let fill = "for f in /etc/resolv.conf /etc/hosts /dev/shm/x /dev/x /proc/x /proc/version /sys/x /dev/pts/x; do echo evil > $f; done 2>/dev/null; true";
        scene.attack(&format!("RUN {fill}\n"));
        assert_eq!(scene.added(), Vec::<String>::new(), "{:?}", scene.rung);
        // An image that has its own keeps them.
        scene.attack("COPY Dockerfile /etc/resolv.conf\nCOPY Dockerfile /etc/hosts\n");
        let base = scene.world.listing("app");
        scene.attack(&format!(
            "COPY Dockerfile /etc/resolv.conf\nCOPY Dockerfile /etc/hosts\nRUN {fill}\n"
        ));
        let kept =
            |line: &String| line.starts_with("etc/resolv.conf") || line.starts_with("etc/hosts");
        let sizes = |list: &[String]| list.iter().filter(|line| kept(line)).count();
        assert_eq!(sizes(&scene.world.listing("app")), sizes(&base), "{:?}", scene.rung);
    }
}

/// A process of the same user, with something in its environment.
fn victim(world: &World, marker: &Marker) -> Child {
    let mut command = world.command("sleep");
    command.arg(marker.to_string()).env("CANARY", SECRET);
    command.stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn processes_outside_are_neither_killed_nor_read() {
    for scene in Scene::all() {
        let marker = Marker::new();
        let mut victim = victim(&scene.world, &marker);
        let pid = victim.id();
        let steps = format!(
            "RUN kill -9 {pid} 2>/dev/null; kill -9 -{pid} 2>/dev/null; \
             cat /proc/{pid}/environ /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c canary-in; \
             cat /proc/{pid}/root/OUT/canary /proc/{pid}/cwd/outside/canary /proc/1/root/OUT/canary 2>/dev/null; \
             for p in /proc/[0-9]*; do echo x > $p/root/OUT/pwned; ls $p/fd/ $p/cwd/; done 2>/dev/null | grep -c outside; true\n"
        );
        let seen = scene.attack(&steps);
        assert_eq!(seen, ["0", "0"], "{:?}", scene.rung);
        assert_eq!(victim.try_wait().unwrap(), None, "{:?}: it was killed", scene.rung);
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
}

#[test]
fn variables_of_the_builder_are_nowhere_in_a_command() {
    for scene in Scene::all() {
        let dockerfile = "FROM base\nRUN env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c MARKER; true\n";
        scene.world.file("Dockerfile", dockerfile);
        let mut command = scene.world.command(crate::support::program());
        command.env("MARKER", SECRET).args([
            "build",
            "--progress",
            "plain",
            "--no-cache",
            "-t",
            "app",
        ]);
        let said =
            Said::of(command.args(scene.rung.flags).arg(scene.world.context()).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(
            !said.stderr.contains(SECRET) && said.stderr.contains("\n#1 0\n"),
            "{}",
            said.stderr
        );
        assert_eq!(leaks(&scene.world, SECRET), Vec::<String>::new(), "{:?}", scene.rung);
    }
}

/// A process whose working directory lies outside of its root directory can climb: first it changes its root to a
/// directory, then another process moves its working directory out of that.
const CLIMB: &str = r"RUN mkdir -p /a/b /a/bin && cp /bin/busybox /a/bin/ && cp /bin/busybox /a/bin/sh
RUN <<END
chroot /a /bin/sh -c 'cd /b && echo > /ready; while [ ! -e /go ]; do :; done; \
	i=0; while [ $i -lt 40 ]; do cd -P ..; i=$((i+1)); done; \
	busybox cat ./OUT/canary; echo pwned > ./OUT/pwned; busybox ls ./OUT; busybox rm ./OUT/canary; echo climbed' 2>/dev/null &
while [ ! -e /a/ready ]; do :; done
mv /a/b /c
echo > /a/go
wait
END
";

#[test]
fn climbing_out_of_a_changed_root_directory_reaches_nothing() {
    for scene in Scene::all() {
        assert_eq!(scene.attack(CLIMB), ["climbed"], "{:?}", scene.rung);
    }
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    for scene in Scene::all() {
        let marker = Marker::new();
        let steps = format!(
            "RUN (trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; sleep {marker} & setsid sleep {marker}' &) & \
             i=0; while [ $i -lt 20 ]; do setsid sleep {marker} & i=$((i+1)); done; echo started\n\
             RUN echo next\n"
        );
        assert_eq!(scene.attack(&steps), ["started", "next"], "{:?}", scene.rung);
        processes::wait_until_gone(&marker);
        assert_eq!(processes::mounts_below(&scene.world.path("")), Vec::<String>::new());
    }
}

/// Found by reading, and by trying: each directory was removed inside the call that removed the one around it, until the
/// stack was full.
#[test]
fn directories_deeper_than_any_path_are_refused_and_removed() {
    // 18,000 of them, though no path is longer than the kernel takes.
    let steps = "RUN set -e; p=$(seq 1500 | sed 's/.*/d/' | tr '\\n' /); mkdir t; \
                 for i in $(seq 12); do mkdir -p a/$p; mv t a/$p/; mv a t; done\n";
    for scene in Scene::all() {
        let said = scene.build(steps);
        assert_eq!(said.code, 3, "{:?}: {}", scene.rung, said.stderr);
        let expected = "error: a path is longer than 4095 bytes: `t/d/d/d/";
        assert!(said.stderr.contains(expected), "{:?}: {}", scene.rung, said.stderr);
        scene.world.run(["prune", "--all"]).ok();
        let left = fs::read_dir(scene.world.store().join("snapshots")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.retain(|name| name != "districts");
        left.sort();
        assert_eq!(left, ["chains", "empty"], "{:?}", scene.rung);
    }
}

#[test]
fn secrets_are_in_no_layer_log_or_store() {
    for scene in Scene::all() {
        fs::write(scene.world.path("token"), "a-secret-of-the-test").unwrap();
        scene.world.give();
        for end in ["true", "exit 3"] {
            let dockerfile = format!(
                "FROM base\nRUN --mount=type=secret,id=t,target=/etc/t,required --mount=type=secret,id=t,env=T \
                 test -s /etc/t && test -n \"$T\" && cp /etc/t /dev/shm/copy && wc -c < /etc/t; {end}\n"
            );
            let args = ["--no-cache", "--secret", "id=t,src=token", "-t", "app"];
            let said = scene.rung.build(&scene.world, &dockerfile, &args);
            assert!(said.stderr.contains("#1 20\n"), "{:?} {}", scene.rung, said.stderr);
            assert_eq!(
                leaks(&scene.world, "a-secret-of-the-test"),
                Vec::<String>::new(),
                "{:?}",
                scene.rung
            );
        }
    }
}

#[test]
fn a_device_node_cannot_be_opened_whoever_made_it() {
    for scene in Scene::all() {
        // The node of a RUN, one that an earlier step left, and one that comes in an archive.
        let tar = crate::support::base::tar_with_device("brought", (1, 5));
        scene.world.file("nodes.tar", tar);
        let read = "for f in /made /left /in/brought; do [ -e $f ] && head -c 4 $f 2>/dev/null | wc -c; done";
        let printed = scene.attack(&format!(
            "RUN mknod /left c 1 5\nADD nodes.tar /in/\nRUN mknod /made c 1 5; {read}; true\n"
        ));
        assert_eq!(printed, ["0", "0", "0"], "{:?}", scene.rung);
        scene.world.validate("app");
        let nodes: Vec<String> =
            scene.world.listing("app").into_iter().filter(|line| line.contains(" char ")).collect();
        assert_eq!(nodes.len(), 3, "{:?}: {nodes:?}", scene.rung);
    }
}
