//! Faults of the machine: killed builds, full disks, damaged stores, builds side by side. Nothing is lost and no wrong image is
//! made: afterwards the same build gives the same digest as in a store that nothing happened to.

use crate::errors::{normal, transcript};
use crate::remote::{git, repositories};
use crate::support::http::{Page, Web};
use crate::support::processes::{self, Marker};
use crate::support::{Said, World, peer, program};
use nativebuild::oci::Digest;
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Several kinds of steps; with the epoch its digest is always the same.
const DOCKERFILE: &str = "FROM base AS one\n\
     RUN echo 1 > /one; seq 2000 > /numbers\n\
     RUN rm -r /usr/share/doc; mkdir -p /a/b; echo deep > /a/b/file\n\
     FROM base\n\
     WORKDIR /app\n\
     COPY file /app/\n\
     RUN --mount=type=tmpfs,target=/t echo x > /t/x; ln /app/file /app/other\n\
     COPY --from=one /numbers /a /all/\n\
     RUN rm /app/file && for i in 1 2 3; do echo line $i; done\n";

const ARGS: [&str; 6] = ["--source-date-epoch", "1700000000", "--network", "none", "-t", "app"];

fn world(world: World) -> World {
    let world = world.with_base();
    world.file("file", "content").file("Dockerfile", DOCKERFILE);
    world
}

fn build(world: &World) -> Said {
    world.build(DOCKERFILE, &ARGS)
}

/// The digest that every build of the Dockerfile must have.
fn undisturbed(user: World) -> String {
    build(&world(user)).ok()
}

fn start(world: &World, args: &[&str]) -> Child {
    world
        .command(program())
        .args(["build", "--progress", "plain"])
        .args(args)
        .arg(world.context())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// True for names of blobs that are whole; unfinished ones are dotted.
fn blobs(world: &World) -> Vec<PathBuf> {
    let dir = world.store().join("images/blobs/sha256");
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect();
    found.sort();
    found
}

fn hashed(path: &PathBuf) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Sends a signal after so many lines of progress; false when there were not so many.
fn end_at_line(world: &World, line: usize, signal: Signal) -> bool {
    let mut child = start(world, &ARGS);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let seen = lines.by_ref().take(line).count();
    let pid = rustix::process::Pid::from_child(&child);
    // It may have ended by itself; it was not waited for, so the number is still its own.
    rustix::process::kill_process(pid, signal).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    let told = (status.code(), status.signal());
    let good = match signal {
        Signal::KILL => [(None, Some(9)), (Some(0), None)].contains(&told),
        _ => [(Some(130), None), (None, Some(2)), (Some(0), None)].contains(&told),
    };
    assert!(good, "{signal:?} after {line} lines: {status:?}\n{rest:#?}");
    seen == line
}

#[test]
fn a_build_ended_at_any_line_leaves_a_store_that_is_good() {
    for (reference, other) in World::each().into_iter().zip(World::each()) {
        let expected = undisturbed(reference);
        let world = world(other);
        let mut line = 0;
        while end_at_line(&world, line, Signal::INT) & end_at_line(&world, line, Signal::KILL) {
            for blob in blobs(&world) {
                assert_eq!(blob.file_name().unwrap().to_str().unwrap(), hashed(&blob));
            }
            line += 1;
        }
        assert!(line > 5, "{line}");
        assert_eq!(build(&world).ok(), expected, "{:?}", world.who());
        world.validate("app");
        let again = world.build(DOCKERFILE, &[&["--no-cache"], &ARGS[..]].concat());
        assert_eq!(again.ok(), expected, "{:?}", world.who());
        assert_eq!(processes::mounts_below(&world.path("")), Vec::<String>::new());
    }
}

/// Kills on events of the store's directories: finer than lines.
#[test]
fn a_build_killed_at_any_new_file_leaves_a_store_that_is_good() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use rustix::process::{PidfdFlags, pidfd_open};
    for (reference, other) in World::each().into_iter().zip(World::each()) {
        let expected = undisturbed(reference);
        let world = world(other);
        build(&world).ok();
        for events in 1..16 {
            let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
            for dir in [
                "snapshots",
                "cache/steps",
                "images/blobs/sha256",
                "images",
                "tmp",
                "locks",
                "cache",
            ] {
                let path = world.store().join(dir);
                fs::create_dir_all(&path).unwrap();
                inotify::add_watch(&watch, &path, WatchFlags::CREATE | WatchFlags::MOVED_TO)
                    .unwrap();
            }
            world.give();
            let mut child = start(&world, &[&["--no-cache"], &ARGS[..]].concat());
            let mut space = [std::mem::MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&watch, &mut space);
            let pid = rustix::process::Pid::from_child(&child);
            let ended = pidfd_open(pid, PidfdFlags::empty()).unwrap();
            for _ in 0..3 * events {
                let mut ready =
                    [PollFd::new(&watch, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
                poll(&mut ready, None).unwrap();
                if ready[0].revents().is_empty() {
                    break;
                }
                reader.next().unwrap();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        world.run(["image", "rm", "app"]).ok();
        assert_eq!(build(&world).ok(), expected, "{:?}", world.who());
        world.validate("app");
    }
}

#[test]
fn builds_side_by_side_in_one_store_do_not_disturb_each_other() {
    for (reference, other) in World::each().into_iter().zip(World::each()) {
        let expected = undisturbed(reference);
        let world = world(other);
        let another = DOCKERFILE.replace("echo 1 > /one", "echo 2 > /one");
        fs::write(world.context().join("Another"), &another).unwrap();
        let file = world.context().join("Another");
        let file = file.to_str().unwrap();
        let other_args =
            ["-f", file, "--source-date-epoch", "1", "--network", "none", "-t", "other"];
        let children: Vec<Child> = (0..6)
            .map(|n| if n % 3 == 2 { start(&world, &other_args) } else { start(&world, &ARGS) })
            .collect();
        let said: Vec<(String, String)> = children
            .into_iter()
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                let text = String::from_utf8(output.stderr).unwrap();
                assert!(output.status.success(), "{text}");
                (String::from_utf8(output.stdout).unwrap(), text)
            })
            .collect();
        for n in [0, 1, 3, 4] {
            assert_eq!(said[n].0, expected, "{}", said[n].1);
        }
        assert_eq!(said[2].0, said[5].0);
        assert_ne!(said[2].0, expected);
        for name in ["app", "other"] {
            world.validate(name);
        }
    }
}

#[test]
fn a_full_disk_is_told_and_the_store_stays_good() {
    let Some(world) = World::root() else { return };
    let world = world_in_small_store(world);
    let script = format!(
        "set -e; mount -t tmpfs -o size=12m tmpfs {store}; chmod 755 {store}\n\
         {program} image import base base.tar\n\
         for name in run layer copy planned; do\n\
         echo \"== $name\" >&2; {program} build --progress plain -t $name context-$name && exit 99; echo \"exit $?\" >&2\n\
         done\n\
         echo == afterwards >&2; {program} build --progress plain -t small context-small\n\
         {program} image validate small; {program} image ls | cut -d' ' -f1\n",
        store = world.store().display(),
        program = program().display()
    );
    let args = ["-m", "--propagation", "private", "sh", "-c", &script];
    let output = world.command("unshare").args(args).output().unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let names: Vec<&str> = said.stdout.lines().skip(2).collect();
    assert_eq!(names, ["valid", "NAME", "base:latest", "small:latest"], "{}", said.stderr);
    transcript("full-disk", &normal(&world, &said));
}

fn world_in_small_store(world: World) -> World {
    fs::write(world.path("base.tar"), crate::support::base::busybox_tar()).unwrap();
    for (name, dockerfile) in [
        ("run", "FROM base\nRUN head -c 20m /dev/urandom > /big 2>/dev/null\n"),
        ("layer", "FROM base\nRUN head -c 5m /dev/urandom > /big\n"),
        ("copy", "FROM base\nCOPY big /\nRUN true\n"),
        ("planned", "FROM base\nCOPY noise /\n"),
        ("small", "FROM base\nRUN echo small > /small\n"),
    ] {
        let context = world.path(&format!("context-{name}"));
        fs::create_dir(&context).unwrap();
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    }
    fs::write(world.path("context-copy/big"), vec![b'x'; 20 << 20]).unwrap();
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..20 << 20).map(|_| next()).collect();
    fs::write(world.path("context-planned/noise"), noise).unwrap();
    world
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let Some(world) = World::user() else { return };
    world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let mut found = String::new();
    let mut fails = |what: &str| {
        let said = world.run(["build", world.context().to_str().unwrap()]);
        found += &format!("== {what}\n{}\n", normal(&world, &said));
        assert_eq!(said.code, 3, "{what}");
    };
    let mode = |bits: u32| {
        fs::set_permissions(world.store(), fs::Permissions::from_mode(bits)).unwrap();
    };
    mode(0o555);
    fails("an empty directory that may not be written");
    mode(0o000);
    fails("a directory that may not be entered");
    mode(0o755);
    fs::remove_dir(world.store()).unwrap();
    fs::write(world.store(), "a file").unwrap();
    fails("a file");
    fs::remove_file(world.store()).unwrap();
    fs::create_dir(world.store()).unwrap();
    fs::write(world.store().join("version"), "2\n").unwrap();
    world.give();
    fails("a newer store");
    fs::remove_file(world.store().join("version")).unwrap();
    fs::create_dir(world.store().join("tmp")).unwrap();
    fs::write(world.store().join("tmp/thesis.txt"), "mine").unwrap();
    world.give();
    fails("a directory of other files");
    assert_eq!(world.run(["prune"]).code, 3);
    assert_eq!(fs::read_dir(world.store()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(world.store().join("tmp/thesis.txt")).unwrap(), "mine");
    fs::remove_dir_all(world.store().join("tmp")).unwrap();
    let nowhere = world.path("nowhere");
    let said = world.run(["prune", "--root", nowhere.to_str().unwrap()]);
    found += &format!("== prune where nothing is\n{}\n", normal(&world, &said));
    assert!(!nowhere.exists());
    world.run(["build", world.context().to_str().unwrap()]).ok();
    transcript("unusable-stores", &found);
}

/// Some damage done by hand.
type Damage = fn(&World);

fn each_file(world: &World, dir: &str, change: impl Fn(&PathBuf)) {
    let entries = fs::read_dir(world.store().join(dir)).unwrap();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!paths.is_empty(), "{dir} is empty");
    for path in paths {
        change(&path);
    }
}

/// Layers that the build made, by path: not those of the base image.
fn own_layers(world: &World) -> Vec<PathBuf> {
    let layers = |name: &str| -> Vec<String> {
        let text = world.run(["image", "inspect", "--json", name]).ok();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let layers = value["manifest"]["layers"].as_array().unwrap().clone();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap()[7..].to_owned()).collect()
    };
    let base = layers("base");
    let own = layers("app").into_iter().filter(|layer| !base.contains(layer));
    own.map(|layer| world.store().join("images/blobs/sha256").join(layer)).collect()
}

const DAMAGES: [(&str, Damage); 12] = [
    ("a layer is missing", |world| fs::remove_file(&own_layers(world)[1]).unwrap()),
    ("all layers are missing", |world| {
        for path in own_layers(world) {
            fs::remove_file(path).unwrap();
        }
    }),
    ("a layer is cut short", |world| fs::write(&own_layers(world)[0], "cut").unwrap()),
    ("a layer is empty", |world| fs::write(own_layers(world).last().unwrap(), "").unwrap()),
    ("a layer is garbage of the same size", |world| {
        let path = own_layers(world).pop().unwrap();
        let size = fs::metadata(&path).unwrap().len() as usize;
        fs::write(path, vec![0x5a; size]).unwrap();
    }),
    ("step records are garbage", |world| {
        each_file(world, "cache/steps", |path| fs::write(path, "{\"version\":1,").unwrap());
    }),
    ("step records are of another version", |world| {
        each_file(world, "cache/steps", |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replacen("\"version\":1", "\"version\":9", 1)).unwrap();
        });
    }),
    ("the cache is gone", |world| fs::remove_dir_all(world.store().join("cache")).unwrap()),
    ("snapshots are gone", |world| {
        let removed = Command::new("rm").arg("-rf").arg(world.store().join("snapshots")).status();
        assert!(removed.unwrap().success());
    }),
    ("descriptions of snapshots are garbage", |world| {
        each_file(world, "snapshots", |path| {
            if fs::remove_file(path.join("meta")).is_ok() {
                symlink("garbage", path.join("meta")).unwrap();
            }
        });
    }),
    ("snapshots are of another boot and not synced, and their files are gone", |world| {
        each_file(world, "snapshots", |path| {
            let meta = path.join("meta");
            let Ok(text) = fs::read_link(&meta) else { return };
            let text = text.to_str().unwrap();
            // Garbage of the damage before stays where it is.
            let Some(boot) = text.split(':').nth(2) else { return };
            fs::remove_file(&meta).unwrap();
            symlink(text.replace(boot, "ffffffffffff"), meta).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
            let emptied = Command::new("find")
                .arg(path.join("fs"))
                .args(["-mindepth", "1", "-delete"])
                .status();
            assert!(emptied.unwrap().success());
        });
    }),
    ("config and manifest are missing", |world| {
        let text = world.run(["image", "inspect", "--json", "app"]).ok();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for digest in [&value["manifest_digest"], &value["manifest"]["config"]["digest"]] {
            let path =
                world.store().join("images/blobs/sha256").join(&digest.as_str().unwrap()[7..]);
            fs::remove_file(path).unwrap();
        }
    }),
];

#[test]
fn a_damaged_store_heals() {
    for (reference, other) in World::each().into_iter().zip(World::each()) {
        let expected = undisturbed(reference);
        let world = world(other);
        for (number, (name, damage)) in DAMAGES.into_iter().enumerate() {
            assert_eq!(build(&world).ok(), expected);
            damage(&world);
            let layout = world.path("out/layout");
            let spec = format!("type=oci,tar=false,dest={}", layout.display());
            // An output reads every blob; later steps need the trees of the earlier ones.
            let mut args = ARGS.to_vec();
            args.extend(["-o", &spec]);
            let said = world.build(DOCKERFILE, &args);
            assert_eq!(said.code, 0, "{name} ({:?}):\n{}", world.who(), said.stderr);
            assert_eq!(said.ok(), expected, "{name} ({:?})", world.who());
            world.validate("app");
            world.validate(layout.to_str().unwrap());
            fs::remove_dir_all(layout).unwrap();
            damage(&world);
            let later =
                format!("{DOCKERFILE}RUN : {number}; cat /all/numbers | wc -l; ls /all/b\n");
            let said = world.build(&later, &ARGS[..4]);
            assert_eq!(said.code, 0, "{name} ({:?}):\n{}", world.who(), said.stderr);
            assert!(said.stderr.contains(" 2000\n"), "{name}: {}", said.stderr);
        }
    }
}

/// The stage that needs the damaged layer fails, and with it one that waits for that stage; both are built again.
#[test]
fn damage_that_no_stamp_shows_heals_in_several_stages() {
    for world in World::each() {
        let world = world.with_base();
        let text = |more: &str| {
            format!(
                "FROM base AS a\nRUN echo 1 > /one\n{more}\
                 FROM base\nCOPY --from=a /one /copied\nRUN cat /copied > /all\n"
            )
        };
        world.build("FROM base\nRUN echo 1 > /one\n", &["-t", "app"]).ok();
        for path in own_layers(&world) {
            let seen = fs::metadata(&path).unwrap();
            fs::write(&path, vec![0x5a; seen.len() as usize]).unwrap();
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(seen.modified().unwrap()).unwrap();
        }
        let removed = Command::new("rm").arg("-rf").arg(world.store().join("snapshots")).status();
        assert!(removed.unwrap().success());
        let said = world.build(&text("RUN echo 2 >> /one\n"), &["-t", "later"]);
        assert_eq!(said.code, 0, "{:?}: {}", world.who(), said.stderr);
        assert!(said.stderr.contains("; making it again"), "{:?}: {}", world.who(), said.stderr);
        world.validate("later");
        let made = world.build("FROM later\nRUN cat /all\n", &["--progress", "plain"]);
        assert!(made.stderr.contains(" 1\n") && made.stderr.contains(" 2\n"), "{}", made.stderr);
    }
}

/// The bug: after any error about content the whole store was read and what was damaged in it removed, whatever it belonged
/// to; for that the build was carried out again, and what could not be read took the place of the error. A review found it.
#[test]
fn an_error_about_content_is_told_whatever_else_is_damaged() {
    for world in World::each() {
        let world = self::world(world);
        build(&world).ok();
        let layer = own_layers(&world).pop().unwrap();
        let garbage = vec![0x5a; fs::metadata(&layer).unwrap().len() as usize];
        fs::write(&layer, &garbage).unwrap();
        // As if it had been pruned when it was about to be read.
        let gone = layer.with_file_name("0".repeat(64));
        std::os::unix::fs::symlink("nowhere", &gone).unwrap();
        let web = Web::start();
        web.put("/f", Page::new("text"));
        let url = web.url("/f");
        let (wanted, found) = (Digest::of(b"other"), Digest::of(b"text"));
        let text = format!("FROM base\nADD --checksum={wanted} {url} /f\n");
        let said = world.build(&text, &[]).failed(1);
        assert!(said.contains(&format!("{url} has the wrong content\n")), "{said}");
        assert!(said.contains(&format!(" cause: expected {wanted}, found {found}\n")), "{said}");
        assert!(!said.contains("making it again"), "{said}");
        assert_eq!(web.log(), ["GET /f 200"]);
        assert_eq!(fs::read(&layer).unwrap(), garbage);
        assert_eq!(fs::read_link(&gone).unwrap(), PathBuf::from("nowhere"));
    }
}

#[test]
fn damage_that_cannot_be_healed_is_told() {
    let world = world(World::new());
    build(&world).ok();
    let mut found = String::new();
    let index = world.store().join("images/index.json");
    let good = fs::read(&index).unwrap();
    let mut fails = |what: &str, args: &[&str]| {
        let said = world.run(args);
        found += &format!("== {what}\n{}\n", normal(&world, &said));
        assert_eq!(said.code, 1, "{what}");
    };
    let context = world.context();
    let again = ["build", "--no-cache", "--progress", "quiet", context.to_str().unwrap()];
    fs::write(&index, "garbage").unwrap();
    fails("index.json is garbage", &again);
    fails("index.json is garbage, and images are listed", &["image", "ls"]);
    fs::write(&index, &good[..good.len() / 2]).unwrap();
    fails("index.json is cut short", &again);
    fs::write(&index, good).unwrap();
    world.run(again).ok();
    let text = world.run(["image", "inspect", "--json", "base"]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layer = value["manifest"]["layers"][0]["digest"].as_str().unwrap();
    let layer = world.store().join("images/blobs/sha256").join(&layer[7..]);
    let bytes = fs::read(&layer).unwrap();
    fs::write(&layer, vec![0x5a; bytes.len()]).unwrap();
    fs::remove_dir_all(world.store().join("snapshots")).unwrap();
    fails("the layer of the base image is garbage", &again);
    fs::write(&layer, &bytes[..bytes.len() / 2]).unwrap();
    fails("the layer of the base image is cut short", &again);
    fs::remove_file(&layer).unwrap();
    fails("the layer of the base image is missing", &again);
    fs::write(&layer, bytes).unwrap();
    world.run(again).ok();
    transcript("damaged-store", &found);
}

/// A store in use is not pruned; when its build is gone, it is, and the images stay.
#[test]
fn a_store_in_use_is_pruned_of_what_nobody_uses() {
    prune_beside_a_build(|_| ());
}

/// What a build makes after the clock was set back looks older than the build.
#[test]
fn a_store_in_use_is_kept_though_the_clock_was_set_back() {
    prune_beside_a_build(|world| {
        let leases = fs::read_dir(world.store().join("locks/use")).unwrap();
        let ahead = std::time::SystemTime::now() + std::time::Duration::from_hours(1);
        let mut leases =
            leases.map(|lease| fs::File::options().append(true).open(lease.unwrap().path()));
        let lease = leases.next().unwrap().unwrap();
        assert!(leases.next().is_none());
        lease.set_modified(ahead).unwrap();
    });
}

fn prune_beside_a_build(before_that: fn(&World)) {
    for world in World::each() {
        let world = self::world(world);
        let expected = build(&world).ok();
        // On a fast machine one build is within the tolerance of clocks of the next, which then keeps all that it left.
        let before = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
        for record in fs::read_dir(world.store().join("cache/steps")).unwrap() {
            let record = fs::File::options().append(true).open(record.unwrap().path()).unwrap();
            record.set_modified(before).unwrap();
        }
        let marker = Marker::new();
        let waiting = format!("FROM base\n{}RUN cat /one\n", waits(&marker));
        fs::write(world.context().join("Waiting"), waiting).unwrap();
        let file = world.context().join("Waiting");
        let mut child = start(&world, &["-f", file.to_str().unwrap(), "-t", "waiting"]);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(" ready")));
        before_that(&world);
        let said = world.run(["prune", "--all"]).ok();
        assert!(said.starts_with("removed "), "{said}");
        let_go(&world, &marker);
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
        processes::wait_until_gone(&marker);
        for name in ["app", "waiting", "base"] {
            world.validate(name);
        }
        assert_eq!(build(&world).ok(), expected);
    }
}

/// A RUN that ends when it is told to.
fn waits(marker: &Marker) -> String {
    format!(
        "RUN --mount=type=cache,target=/go echo ready; \
         while test ! -e /go/{marker}; do sleep 0.02; done; echo 1 > /one\n"
    )
}

/// Tells it.
fn let_go(world: &World, marker: &Marker) {
    let mounts = world.store().join("mounts");
    let mount = fs::read_dir(mounts).unwrap().next().unwrap().unwrap().path();
    fs::write(mount.join(marker.to_string()), "").unwrap();
}

/// With the time of its commit a checkout looked older than the build that had just made it, and went. Found in review.
#[test]
fn a_checkout_with_the_time_of_its_commit_is_in_use() {
    if !peer("git") {
        return;
    }
    for world in World::each() {
        let world = world.with_base();
        let (daemon, _first, work) = repositories();
        let marker = Marker::new();
        let waiting = format!("FROM base\n{}COPY x.sh /\nRUN cat /one /x.sh\n", waits(&marker));
        fs::write(work.join("Dockerfile"), waiting).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "waits"]);
        let url = format!("git://127.0.0.1:{}/work?mtime=commit", daemon.port);
        let mut command = world.command(program());
        command.args(["build", "--progress", "plain", "-t", "waiting", &url]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with(" ready")));
        world.run(["prune", "--all"]).ok();
        let_go(&world, &marker);
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
        processes::wait_until_gone(&marker);
        assert!(world.listing("waiting").contains(&"x.sh file 755 0:0 2".to_owned()));
    }
}

/// Programs of containers are process 1, which hears no signal that it has no handler for.
#[test]
fn process_1_ends_when_it_is_told_to_while_it_waits_for_a_registry() {
    let Some(world) = World::root() else { return };
    if !peer("unshare") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("docker://{}/x:1", listener.local_addr().unwrap());
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut unshare = world.command("unshare");
        unshare.args(["-pf", "--mount-proc"]).arg(program());
        let child = unshare.args(["image", "digest", &name]).spawn().unwrap();
        // It has begun to ask, and nobody answers.
        let (_connection, _) = listener.accept().unwrap();
        let pids = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = fs::read_to_string(pids).unwrap();
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(sent.unwrap().success());
        assert_eq!(Said::of(child.wait_with_output().unwrap()).code, code);
    }
}
