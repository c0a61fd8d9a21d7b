//! What people keep beside the files that they build, and what becomes of it: their logs, their stores, results of earlier
//! builds. Testers found all of this by following the documents in a project of their own.

use crate::support::processes::{self, Marker};
use crate::support::{Said, World, program};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

fn worlds() -> impl Iterator<Item = World> {
    World::each().into_iter().map(World::with_base)
}

/// `nativebuild build . > build.log 2>&1` wrote to what it copied, and failed each time.
#[test]
fn what_a_build_says_may_go_into_its_context() {
    for world in worlds() {
        let text = "FROM base\nCOPY . /c/\nRUN ls /c > /seen\n";
        world.file("f", "f").file("Dockerfile", text);
        let build = |to: &str| {
            let file = File::create(world.context().join(to)).unwrap();
            let mut command = world.command(program());
            command.args(["build", "--progress", "plain", "-t", "app", "context"]);
            command.stderr(file.try_clone().unwrap()).stdout(file);
            let said = Said::of(command.output().unwrap());
            let log = fs::read_to_string(world.context().join(to)).unwrap();
            assert_eq!(said.code, 0, "{log}");
            log
        };
        build("a [1]*.log");
        let listing = || {
            let mut lines = world.listing("app");
            lines.retain(|line| line.starts_with("c/"));
            lines
        };
        let own = format!("c/Dockerfile file 644 0:0 {}", text.len());
        let plain = [&own, "c/f file 644 0:0 1"];
        assert_eq!(listing(), plain);
        fs::remove_file(world.context().join("a [1]*.log")).unwrap();
        assert_eq!(build("b.log").matches("CACHED").count(), 2);
        // One of an earlier build is a file like any other.
        let old = fs::metadata(world.context().join("b.log")).unwrap().len();
        build("c.log");
        let named = File::create(world.context().join("named")).unwrap();
        let text = "FROM scratch\nCOPY named /\n";
        world.file("named.Dockerfile", text);
        let mut command = world.command(program());
        command.args(["build", "-f", "context/named.Dockerfile", "context"]).stdout(named);
        let said = Said::of(command.output().unwrap()).failed(1);
        assert!(said.contains("\n cause: the output of the build itself goes there\n"), "{said}");
        for name in ["named", "named.Dockerfile"] {
            fs::remove_file(world.context().join(name)).unwrap();
        }
        assert_eq!(
            listing(),
            [plain[0], &format!("c/b.log file 644 0:0 {old}"), plain[1]],
            "{:?}",
            world.who()
        );
        world.validate("app");
    }
}

/// Whether it is one is not asked of what a COPY takes.
#[test]
fn what_is_no_cache_is_copied_whatever_it_is_called() {
    for world in worlds() {
        world.file("src/a", "a").file("f", "f");
        for wrong in ["src", "f"] {
            let from = format!("type=local,src={}", world.context().join(wrong).display());
            let text =
                format!("FROM base\nCOPY . /c/\nRUN test -e /c/src/a && cat /c/f # {wrong}\n");
            let said = world.build(&text, &["--cache-from", &from]);
            assert_eq!(said.stderr.matches("warning: ").count(), 1, "{said:?}");
            said.ok();
        }
    }
}

/// When a step before it had to run, a COPY was looked up where our own files can be read whatever their permissions are; the
/// same build once more failed.
#[test]
fn permissions_of_the_context_count_whatever_is_cached() {
    let Some(world) = World::user() else { return };
    let world = world.with_base();
    world.file("secret", "s").file("dir/f", "f");
    let plain = "FROM base\nRUN echo 1 > /k\n";
    let mount = "RUN --mount=type=bind,target=/m true\n";
    for (name, rest) in [
        ("secret", "COPY secret /\n"),
        ("secret", "COPY . /\n"),
        ("dir", "COPY . /\n"),
        ("dir/f", "COPY --from=o dir/* /\n"),
        ("secret", mount),
    ] {
        let path = world.context().join(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let named = format!("o={}", world.context().display());
        for ids in ["range", "single"] {
            let flags = ["--ids", ids, "--build-context", &named];
            let build = |text: &str, more: &str| {
                world.build(text, &[&flags[..], &[more]].concat()).failed(1)
            };
            let text = format!("{plain}{rest}");
            let first = build(&text, "--no-cache");
            world.build(plain, &flags).ok();
            let again = build(&text, "--pull=never");
            let error = |said: &str| said[said.find("error: ").unwrap()..].to_owned();
            assert_eq!(error(&first), error(&again));
            assert!(first.contains("permission denied"), "{first}");
        }
        fs::set_permissions(&path, before).unwrap();
    }
    world.build(&format!("{plain}COPY . /\n{mount}"), &[]).ok();
}

#[test]
fn a_store_that_is_the_context_is_refused() {
    for world in worlds() {
        world.file("Dockerfile", "FROM scratch\nCOPY . /\n");
        let (store, file) = (world.store(), world.context().join("Dockerfile"));
        let said = world.run([OsStr::new("build"), "-f".as_ref(), file.as_ref(), store.as_ref()]);
        let said = said.failed(1);
        let line = format!("error: the build context {} is the store itself\n", store.display());
        assert!(said.contains(&line), "{said}");
    }
}

/// All went well but RUN: the path was lost on the way to the process that it is for.
#[test]
fn a_store_may_have_a_name_that_is_no_text() {
    for world in worlds() {
        let store = world.path("").join(OsStr::from_bytes(b"st\xff re\n"));
        world.file("a", "a");
        let text = "FROM base\nRUN echo 1 > /r\nRUN --mount=type=cache,target=/c --mount=type=bind,target=/m cat /m/a /r > /s\n";
        world.file("Dockerfile", text);
        let run = |args: &[&str]| {
            let mut command = world.command(program());
            command.args(args).env("NATIVEBUILD_ROOT", &store);
            Said::of(command.output().unwrap())
        };
        run(&["image", "import", "base", "base.tar"]).ok();
        run(&["build", "--progress", "plain", "-t", "app", "context"]).ok();
        assert_eq!(run(&["build", "--progress", "plain", "context"]).done(), 0);
        run(&["image", "validate", "app"]).ok();
        // The files of a user's store belong to other ids.
        run(&["prune", "--all"]).ok();
    }
}

/// A build whose second command is at work.
fn at_work(world: &World, marker: &Marker, args: &[&str]) -> Child {
    let text = format!("FROM base\nRUN echo 1 > /r\nRUN echo at work; sleep {marker}\n");
    world.file("Dockerfile", text);
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain"]).args(args).arg("context");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(" at work")));
    // Nobody waits for who reads.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// timeout(1) sends one signal to the program and one to its group; the second was taken for impatience.
#[test]
fn two_signals_at_once_are_one() {
    for world in worlds() {
        let marker = Marker::new();
        let mut child = at_work(&world, &marker, &["--timings", "times.json"]);
        for _both in 0..2 {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(143));
        processes::wait_until_gone(&marker);
        let times = fs::read_to_string(world.path("times.json")).unwrap();
        assert!(times.contains("\"result\": \"failed\""), "{times}");
        let left = fs::read_dir(world.store().join("tmp")).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.starts_with("run-")).collect();
        assert_eq!(left, [""; 0], "{:?}", world.who());
    }
}

/// The kernel makes a directory that nobody may enter, and it stayed when the build was killed.
#[test]
fn a_store_can_be_removed_by_hand_after_a_build_was_killed() {
    for world in worlds() {
        let marker = Marker::new();
        let mut child = at_work(&world, &marker, &[]);
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        processes::wait_until_gone(&marker);
        let removed = world.command("rm").arg("-r").arg(world.store()).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
        assert!(!world.store().exists());
    }
}

/// `deploy $(cat id)` deployed the image of the build before.
#[test]
fn a_build_that_fails_leaves_no_id_of_an_earlier_one() {
    let world = World::new().with_base();
    let id = world.path("id");
    let args = ["--iidfile", id.to_str().unwrap()];
    world.build("FROM base\n", &args).ok();
    let first = fs::read_to_string(&id).unwrap();
    assert!(first.starts_with("sha256:"));
    world.build("FROM base\nRUN false\n", &args).failed(1);
    assert!(!id.exists());
    world.build("FROM base\n", &args).ok();
    world.build("FROM base\n", &[&args[..], &["--print-plan"]].concat()).ok();
    assert_eq!(fs::read_to_string(&id).unwrap(), first);
    // What is no file stays.
    let null = ["--iidfile", "/dev/null"];
    world.build("FROM base\n", &null).ok();
    assert!(fs::metadata("/dev/null").is_ok_and(|found| !found.is_file()));
}
