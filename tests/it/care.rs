//! Care of the store: what takes space, what goes and when, beside running builds, and the limit (docs/store.md).

use crate::support::registry::Registry;
use crate::support::times::set_times;
use crate::support::{Said, World, peer, program};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const EPOCH: [&str; 2] = ["--source-date-epoch", "1700000000"];

fn du(world: &World) -> Value {
    serde_json::from_str(&world.run(["image", "du", "--json"]).ok()).unwrap()
}

fn total(world: &World) -> u64 {
    du(world)["total"].as_u64().unwrap()
}

fn count(world: &World, kind: &str) -> u64 {
    du(world)["store"][kind]["count"].as_u64().unwrap()
}

/// Lets everything in the store seem to have been used that long ago.
fn age(world: &World, hours: u64) {
    let time = SystemTime::now() - Duration::from_hours(hours);
    let mut waiting = vec![world.store()];
    while let Some(path) = waiting.pop() {
        let Ok(list) = fs::read_dir(&path) else { continue };
        for entry in list.map(Result::unwrap) {
            // What is in trees is no stamp.
            if entry.file_name() == "fs" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            set_times(&entry.path(), time);
        }
    }
}

fn blobs(world: &World) -> Vec<PathBuf> {
    let dir = world.store().join("images/blobs/sha256");
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn images_share_what_they_share() {
    for world in World::each() {
        let world = world.with_base();
        world.build("FROM base\nRUN echo a > /a\n", &["-t", "a", "-t", "again"]).ok();
        world.build("FROM base\nRUN head -c 100000 /dev/zero > /b\n", &["-t", "b"]).ok();
        let found = du(&world);
        let images = found["images"].as_array().unwrap();
        let names: Vec<&str> = images.iter().map(|i| i["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a:latest", "again:latest", "b:latest", "base:latest"]);
        let number = |at: usize, key: &str| images[at][key].as_u64().unwrap();
        // The layer of the base is in all; its config and manifest are its own.
        let layer = number(3, "shared");
        for at in 0..4 {
            assert_eq!(number(at, "size"), number(at, "unique") + number(at, "shared"));
            assert_eq!(number(at, "shared"), layer);
        }
        assert_eq!(images[0]["digest"], images[1]["digest"]);
        let blobs: u64 = blobs(&world).iter().map(|path| path.metadata().unwrap().len()).sum();
        let unique = number(0, "unique") + number(2, "unique") + number(3, "unique");
        assert_eq!(blobs, unique + layer);
        let store = found["store"].as_object().unwrap();
        assert_eq!(store["blobs"]["size"], blobs);
        assert_eq!(store["snapshots"]["count"], 3);
        assert!(store["snapshots"]["size"].as_u64().unwrap() > 100_000);
        let sum: u64 = store.values().map(|kind| kind["size"].as_u64().unwrap()).sum();
        assert_eq!(found["total"], sum);
        let text = world.run(["image", "du"]).ok();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first.split_whitespace().collect::<Vec<_>>(),
            ["IMAGE", "SIZE", "UNIQUE", "SHARED"]
        );
        assert!(text.ends_with(&format!("{sum}\n")), "{text}");
    }
}

#[test]
fn prune_takes_what_it_is_told_to() {
    for world in World::each() {
        let world = world.with_base();
        let old = "FROM base\nRUN head -c 200000 /dev/urandom > /old\n";
        let new = "FROM base\nRUN --mount=type=cache,target=/c head -c 100000 /dev/urandom | tee /c/x > /new\n";
        world.build(old, &[]).ok();
        age(&world, 50);
        world.build(new, &["-t", "app"]).ok();
        fs::write(world.store().join("tmp/left"), [0; 77]).unwrap();
        let before = total(&world);

        // Nothing but what was left behind.
        let dry = world.run(["prune", "--dry-run"]).ok();
        let left = format!(
            "would remove 1 leftovers: 77 bytes\nwould free 77 bytes, {} are left\n",
            before - 77
        );
        assert_eq!(dry, left);
        assert_eq!(total(&world), before);
        assert_eq!(
            world.run(["prune"]).ok(),
            left.replace("would remove", "removed").replace("would free", "freed")
        );
        assert_eq!(total(&world), before - 77);

        // What is older: the old step with its tree and its blobs. The base is used by the newer build, too.
        for flags in
            [&["--older-than", "2d"][..], &["--filter", "until=48h"], &["--older-than", "1h30m"]]
        {
            let said = world.run([&["prune", "--dry-run"], flags].concat()).ok();
            assert!(said.contains("would remove 3 blobs: "), "{said}");
            assert!(said.contains("would remove 1 snapshots: 200000 bytes\n"), "{said}");
        }
        let said = world.run(["prune", "--older-than", "51h"]).ok();
        assert!(said.starts_with("freed 0 bytes"), "{said}");
        world.run(["prune", "--older-than", "2d"]).ok();
        assert_eq!((count(&world, "snapshots"), count(&world, "cache_mounts")), (2, 1));
        assert_eq!(world.build(new, &[]).cached(), 1);
        assert_eq!(world.build(old, &[]).cached(), 0);

        // The least recently used, until it fits.
        age(&world, 5);
        world.build(new, &[]).ok();
        let keep = total(&world) - 1;
        let said = world.run(["prune", "--keep-storage", &keep.to_string()]).ok();
        assert!(said.starts_with("removed "), "{said}");
        assert!(total(&world) <= keep);
        assert_eq!(world.build(new, &[]).cached(), 1);
        let said = world.run(["prune", "--keep-storage", "10g"]).ok();
        assert!(said.starts_with("freed 0 bytes"), "{said}");

        // All that no image needs.
        world.run(["prune", "-a", "--force"]).ok();
        let store = du(&world)["store"].clone();
        for kind in ["snapshots", "cache_records", "cache_mounts", "leftovers"] {
            assert_eq!(store[kind]["count"], 0, "{kind}");
        }
        assert_eq!(fs::read_dir(world.store().join("snapshots/chains")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(world.store().join("locks/use")).unwrap().count(), 0);
        world.validate("app");
        world.validate("base");
    }
}

#[test]
fn wrong_words_of_prune_are_told() {
    let world = World::new();
    for (args, wanted) in [
        (["--older-than", "yesterday"], "bad time `yesterday` of --older-than"),
        (["--older-than", "5"], "bad time `5` of --older-than"),
        (["--filter", "label=x"], "unknown filter `label=x`"),
        (["--keep-storage", "much"], "bad size `much` of --keep-storage"),
    ] {
        let said = world.run([&["prune"], &args[..]].concat()).failed(2);
        assert!(said.contains(wanted), "{said}");
    }
    world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let context = world.context();
    let said = world.run(["build", "--max-store", "x", context.to_str().unwrap()]).failed(2);
    assert!(said.contains("bad size `x` of --max-store"), "{said}");
}

/// Four builds and two prunes at once, again and again: no build fails and every image is whole and right.
#[test]
fn builds_and_prunes_side_by_side() {
    for world in World::each() {
        let world = world.with_base();
        let text = |number: usize| {
            format!(
                "FROM base AS one\nRUN echo {number} > /one\nFROM base\nCOPY --from=one /one /two\n\
                 RUN --mount=type=cache,target=/c echo {number} >> /c/x; cat /two > /three\n"
            )
        };
        let file = |number: usize| world.context().join(format!("Dockerfile{number}"));
        for number in 0..4 {
            fs::write(file(number), text(number)).unwrap();
        }
        let build = |number: usize| {
            let name = format!("app{number}");
            let file = file(number);
            let args = ["build", "--progress", "plain", "-t", &name, "-f", file.to_str().unwrap()];
            let context = world.context();
            world.run([&args[..], &EPOCH, &[context.to_str().unwrap()]].concat())
        };
        let expected: Vec<String> = (0..4).map(|number| build(number).ok()).collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let builders: Vec<_> = (0..4)
                .map(|number| {
                    let (build, expected, world) = (&build, &expected, &world);
                    scope.spawn(move || {
                        for round in 0..6 {
                            assert_eq!(build(number).ok(), expected[number]);
                            if round % 3 == 2 {
                                world.run(["image", "rm", &format!("app{number}")]).ok();
                            }
                        }
                        assert_eq!(build(number).ok(), expected[number]);
                    })
                })
                .collect();
            for flags in [&["--all"][..], &["--keep-storage", "1"]] {
                let (world, done) = (&world, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        world.run([&["prune"], flags].concat()).ok();
                    }
                });
            }
            let ended: Vec<_> =
                builders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::SeqCst);
            assert!(ended.iter().all(Result::is_ok));
        });
        for name in ["base", "app0", "app1", "app2", "app3"] {
            world.validate(name);
        }
        assert_eq!(fs::read_dir(world.store().join("trash")).unwrap().count(), 0);
    }
}

#[test]
fn a_build_keeps_to_the_limit_or_says_why_not() {
    for world in World::each() {
        let world = world.with_base();
        let make = |name: &str| format!("FROM base\nRUN head -c 300000 /dev/urandom > /{name}\n");
        world.build(&make("one"), &[]).ok();
        let full = total(&world);
        let limit = (full + 1000).to_string();
        // What nothing uses goes, and the build goes on.
        let said = world.build(&make("two"), &["--max-store", &limit, "-t", "two"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(said.stderr.contains("the store is at its limit: removed "), "{}", said.stderr);
        assert!(total(&world) <= full + 1000);
        world.validate("two");
        assert_eq!(world.build(&make("one"), &[]).cached(), 0);
        world.run(["prune", "--all"]).ok();

        // What is named and in use does not fit.
        let named = total(&world);
        let mut command = world.command(program());
        command.env("NATIVEBUILD_MAX_STORE", (named + 1000).to_string());
        world.file("Dockerfile", make("three"));
        let said = Said::of(command.arg("build").arg(world.context()).output().unwrap()).failed(3);
        assert!(said.contains("would be larger than its limit\n"), "{said}");
        assert!(said.contains(&format!("the limit is {} bytes", named + 1000)), "{said}");
        assert!(total(&world) <= named + 1000, "{} {named}", total(&world));
        // Not even a build of nothing is begun in a store that is too large.
        let said = world.build("FROM base\n", &["--max-store", "1k"]).failed(3);
        assert!(said.contains("would be larger than its limit"), "{said}");
        world.validate("two");
        world.build(&make("three"), &[]).ok();
    }
}

/// A link beside each tree has its size; one that says nothing is replaced.
#[test]
fn trees_are_measured_once() {
    let world = World::new().with_base();
    world.build("FROM base\nRUN head -c 200000 /dev/zero > /f\n", &[]).ok();
    let size = || du(&world)["store"]["snapshots"]["size"].as_u64().unwrap();
    let notes = || {
        let snapshots = fs::read_dir(world.store().join("snapshots")).unwrap();
        let notes = snapshots.map(|entry| entry.unwrap().path().join("size"));
        notes.filter(|note| note.is_symlink()).collect::<Vec<_>>()
    };
    let text =
        |note: &PathBuf| fs::read_link(note).unwrap().into_os_string().into_string().unwrap();
    let whole = size();
    let noted: Vec<(PathBuf, String)> =
        notes().into_iter().map(|note| (note.clone(), text(&note))).collect();
    assert_eq!(noted.len(), 2);
    assert_eq!(noted.iter().map(|(_, size)| size.parse::<u64>().unwrap()).sum::<u64>(), whole);
    assert!(noted.iter().any(|(_, size)| size == "200000"), "{noted:?}");
    for (note, _) in &noted {
        fs::remove_file(note).unwrap();
        symlink("many", note).unwrap();
    }
    assert_eq!(size(), whole);
    for (note, size) in &noted {
        assert_eq!(text(note), *size);
        fs::remove_file(note).unwrap();
        symlink("7", note).unwrap();
    }
    assert_eq!(size(), 14);
}

/// Descriptions of snapshots and names of stacks were files once.
#[test]
fn snapshots_of_an_older_store_are_left_over() {
    let world = World::new().with_base();
    let build = || world.build("FROM base\nRUN echo x > /x\n", &["-t", "app"]);
    let digest = build().ok();
    let snapshots = world.store().join("snapshots");
    let list = || fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().path());
    let described: Vec<PathBuf> =
        list().map(|path| path.join("meta")).filter(|meta| meta.is_symlink()).collect();
    assert_eq!(described.len(), 2);
    for meta in &described {
        fs::remove_file(meta).unwrap();
        fs::write(meta.with_extension("json"), "{\"version\":1,\"parent\":null}").unwrap();
    }
    let alias = fs::read_dir(snapshots.join("chains")).unwrap().next().unwrap().unwrap().path();
    let id = fs::read_link(&alias).unwrap();
    fs::remove_file(&alias).unwrap();
    fs::write(&alias, id.file_name().unwrap().as_encoded_bytes()).unwrap();
    // They are old enough to be nobody's.
    age(&world, 50);
    world.run(["prune"]).ok();
    assert_eq!(fs::read_dir(snapshots.join("chains")).unwrap().count(), 0);
    assert!(described.iter().all(|meta| !meta.parent().unwrap().exists()));
    let again = build();
    assert_eq!((again.cached(), again.ok()), (1, digest));
    world.validate("app");
}

#[test]
fn what_a_killed_process_held_is_nobodys() {
    let world = World::new().with_base();
    world.build("FROM base\nRUN echo x > /x\n", &[]).ok();
    let lease = world.store().join("locks/use").join("0123456789abcdef");
    fs::write(&lease, "").unwrap();
    let past = SystemTime::now() - Duration::from_hours(1);
    File::options().append(true).open(&lease).unwrap().set_modified(past).unwrap();
    world.run(["prune", "--all"]).ok();
    assert!(!Path::new(&lease).exists());
    assert_eq!(count(&world, "snapshots"), 0);
}

#[test]
fn what_was_pulled_in_vain_goes_again() {
    if !["skopeo", "docker-registry"].into_iter().all(peer) {
        return;
    }
    for world in World::each() {
        let world = world.with_base();
        let registry = Registry::start(&world);
        let base = crate::offline::publish(&world, &registry, "base:1");
        world.file("Dockerfile", format!("FROM {base}\n"));
        let (fresh, context) = (world.path("fresh"), world.context());
        let (fresh, context) = (fresh.to_str().unwrap(), context.to_str().unwrap());
        let build =
            |limit: &str| world.run(["build", "--root", fresh, "--max-store", limit, context]);
        let said = build("100k").failed(3);
        assert!(said.contains("would be larger than its limit"), "{said}");
        let found = world.run(["image", "du", "--json", "--root", fresh]).ok();
        let found: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(found["images"], Value::Array(Vec::new()));
        assert!(found["total"].as_u64().unwrap() <= 100 << 10, "{found}");
        build("10m").ok();
    }
}
