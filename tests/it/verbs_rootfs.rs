//! `nativebuild with-rootfs`: a program of this machine on an image's tree, and the layer of what it changed.

use crate::support::{Who, World, base, peer, program};
use crate::verbs_diff::put_on;
use crate::verbs_export::LAYERS;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn images(world: World) -> World {
    let world = world.with_base();
    world.build(LAYERS, &["-t", "app"]).ok();
    world
}

/// Nothing in `tmp` of the store, and nothing mounted below the world.
fn clean(world: &World) {
    let mut left: Vec<_> = fs::read_dir(world.path("store/tmp")).unwrap().flatten().collect();
    // On which builds attach their trees.
    left.retain(|entry| entry.file_name() != "rootfs");
    assert!(left.is_empty(), "{left:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(world.path("").to_str().unwrap()));
}

const FORMS: [&[&str]; 2] = [&[], &["--snapshots", "whole"]];

#[test]
fn the_tree_is_what_export_writes_and_cannot_be_written() {
    for world in World::each() {
        let world = images(world);
        world.run(["export", "app", "-o", "out/app.tar"]).ok();
        let wanted = base::list_tar(&fs::read(world.path("out/app.tar")).unwrap());
        world.run(["image", "copy", "app", "oci:out/l:x"]).ok();
        for (form, image) in FORMS.into_iter().zip(["app", "oci:out/l:x"]) {
            let script = "cd $NATIVEBUILD_ROOTFS && test $PWD = $(dirname $PWD)/mnt && test ! -e ../layer && \
                          tar -c --format=ustar --numeric-owner --no-xattrs --sort=name $(ls -A)";
            let mut command = world.command(program());
            command.args(["with-rootfs", image]).args(form).args(["--", "sh", "-c", script]);
            let said = command.output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            let found = base::list_tar(&said.stdout);
            let devices = |line: &&String| !line.starts_with("null ");
            // The names of one file are in another order, and an ordinary user's device node is a file of ours.
            let plain = |lines: &[String]| -> Vec<String> {
                let no_links = lines.iter().filter(devices).filter(|line| !line.contains(" link "));
                no_links.filter(|line| !line.starts_with("bin/")).cloned().collect()
            };
            assert_eq!(plain(&found), plain(&wanted));
            assert_eq!(found.len(), wanted.len());
            let touch = [&["with-rootfs", image], form, &["--", "touch", "mnt/x"]].concat();
            let said = world.run(touch).failed(1);
            assert!(said.contains("Read-only file system"), "{said}");
        }
        clean(&world);
    }
}

/// Deletions, a directory made again, one replaced by a file, a device, a hard link.
const CHANGE: &str = "set -e; cd mnt; rm d/a; rm -r usr/share/doc; rm -r home; mkdir home; echo x > home/x; \
                      rm -r var; echo file > var; echo new > d/new; ln d/new e2; test \"$1\" = user || mknod zero c 1 5";

#[test]
fn changes_become_a_layer_that_makes_the_same_tree() {
    for world in World::each() {
        let world = images(world);
        let user = if world.who() == Who::User { "user" } else { "root" };
        let before = world.run(["export", "app", "-o", "-"]).ok().len();
        let mut layers = Vec::new();
        let single: &[&[&str]] = match world.who() {
            Who::User => &[&["--ids", "single"], &["--ids", "single", "--snapshots", "whole"]],
            Who::Root => &[],
        };
        for form in FORMS.iter().chain(single).copied() {
            let start = ["with-rootfs", "app", "--rw", "--layer", "out/layer.tar"];
            let around = [
                "--pre",
                "mkdir layer/pre && echo pre > layer/pre/file",
                "--post",
                "test ! -e mnt/e && echo post",
            ];
            let end = ["--", "sh", "-c", CHANGE, "sh", user];
            let said = world.run([&start[..], form, &around, &end].concat());
            assert_eq!((said.code, said.stdout.as_str()), (0, "post\n"), "{}", said.stderr);
            let layer = fs::read(world.path("out/layer.tar")).unwrap();
            put_on(&world, "app", &layer);
            assert_eq!(
                world.run(["image", "validate", "docker-archive:out/stacked.tar"]).ok(),
                "valid\n"
            );
            world.run(["export", "docker-archive:out/stacked.tar", "-o", "out/after.tar"]).ok();
            let found = base::list_tar(&fs::read(world.path("out/after.tar")).unwrap());
            for line in [
                "pre/file file 644 0:0 4",
                "home/x file 644 0:0 2",
                "var file 644 0:0 5",
                "e2 link 644 0:0 d/new",
                "d/new file 644 0:0 4",
            ] {
                assert!(found.iter().any(|found| found == line), "{line} {found:?}");
            }
            let gone = ["d/a ", "usr/share/doc", "var/"];
            assert!(
                !found.iter().any(|line| gone.iter().any(|gone| line.starts_with(gone))),
                "{found:?}"
            );
            let device = found.iter().any(|line| line.starts_with("zero char "));
            assert_eq!(device, user == "root");
            let rest =
                ["--rw", "--layer", "-", "--pre", around[1], "--", "sh", "-c", CHANGE, "sh", user];
            let mut command = world.command(program());
            let piped =
                command.args(["with-rootfs", "app"]).args(form).args(rest).output().unwrap();
            assert!(piped.status.success());
            assert_eq!(base::list_tar(&piped.stdout), base::list_tar(&layer));
            layers.push(base::list_tar(&layer));
        }
        for other in &layers[1..] {
            assert_eq!(layers[0], *other);
        }
        for line in ["d/.wh.a file 0 0:0 0", "usr/share/.wh.doc file 0 0:0 0"] {
            assert!(layers[0].iter().any(|found| found == line), "{:?}", layers[0]);
        }
        // The image is as it was.
        assert_eq!(world.run(["export", "app", "-o", "-"]).ok().len(), before);
        world.validate("app");
        clean(&world);
    }
}

#[test]
fn the_exit_code_is_the_programs_and_what_follows_is_left_out() {
    for world in World::each() {
        let world = images(world);
        let run = |args: &[&str]| world.run([&["with-rootfs", "app"], args].concat());
        assert_eq!(run(&["--", "sh", "-c", "exit 7"]).code, 7);
        assert_eq!(run(&["--", "sh", "-c", "kill -9 $$"]).code, 137);
        let args = [
            "--rw",
            "--layer",
            "out/no.tar",
            "--post",
            "echo no",
            "--",
            "sh",
            "-c",
            "echo yes; exit 3",
        ];
        let said = run(&args);
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (3, "yes\n", ""));
        assert!(!world.path("out/no.tar").exists());
        assert_eq!((run(&["--pre", "exit 9", "--", "echo", "no"])).code, 9);
        assert_eq!(
            // A directory of PATH may be closed to the user, so not by its name alone.
            run(&["--", "/no/such"]).failed(2),
            "error: cannot start `/no/such`\n cause: No such file or directory (os error 2)\n"
        );
        // What the program mounts in its directory is seen by nobody, and is not removed with it.
        if world.who() == Who::Root {
            let precious = world.path("out/precious");
            fs::create_dir(&precious).unwrap();
            fs::write(precious.join("file"), "").unwrap();
            let script = format!("mkdir m && mount --bind {} m && ls m", precious.display());
            assert_eq!(run(&["--", "sh", "-c", &script]).ok(), "file\n");
            assert!(precious.join("file").exists());
        }
        clean(&world);
    }
}

/// A signal is the program's; a killed builder takes everything with it but directories, which `prune` takes.
#[test]
fn nothing_outlives_it_however_it_ends() {
    if !peer("kill") {
        return;
    }
    for world in World::each() {
        let world = images(world);
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            let script =
                "trap 'echo told; exit 5' TERM; sleep 1000 & echo $! $$; while :; do wait; done";
            let mut command = world.command(program());
            command.args(["with-rootfs", "app", "--rw", "--", "sh", "-c", script]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(child.id() as i32).unwrap(),
                if signal == libc::SIGTERM {
                    rustix::process::Signal::TERM
                } else {
                    rustix::process::Signal::KILL
                },
            )
            .unwrap();
            let code = child.wait().unwrap().code();
            // The pipe is closed when the last of them is dead.
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
            if signal == libc::SIGTERM {
                assert_eq!((code, rest.as_str()), (Some(5), "told\n"));
                clean(&world);
            }
            for pid in line.split_whitespace() {
                let alive = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                assert!(!alive.contains("sleep") && !alive.contains("trap"), "{alive}");
            }
        }
        world.run(["prune"]).ok();
        clean(&world);
    }
}

/// Where nothing can be mounted the tree is a copy behind a link.
#[test]
fn it_works_in_default_containers() {
    for name in ["docker run", "podman run", "Kubernetes, restricted"] {
        let place = crate::support::environment::named(name);
        let Some(world) = place.world() else { return };
        let tar = world.path("base.tar");
        fs::write(&tar, base::busybox_tar()).unwrap();
        place.give(&world);
        place.run(&world, &["image", "import", "base", tar.to_str().unwrap()]).ok();
        let script = "rm -r mnt/usr && echo x > $NATIVEBUILD_ROOTFS/x && test -e mnt/bin/busybox";
        let start = ["with-rootfs", "base", "--rw", "--layer", "out/l.tar"];
        let around = [
            "--pre",
            "test ! -e mnt/bin && echo pre > layer/pre",
            "--post",
            "test ! -e mnt/x",
            "--",
        ];
        let said = place.run(&world, &[&start[..], &around, &["sh", "-c", script]].concat());
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{name}: {}", said.stderr);
        let listed = base::list_tar(&fs::read(world.path("out/l.tar")).unwrap());
        let wanted = [".wh.usr file 0 0:0 0", "pre file 644 0:0 4", "x file 644 0:0 2"];
        assert_eq!(listed, wanted, "{name}");
    }
}
