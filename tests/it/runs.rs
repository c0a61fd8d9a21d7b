//! A command that leaves something else each time: whatever is cached, an image has the files of one run.

use crate::support::{Said, World};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

/// A stage with the mark of its run in two files, a target that copies one of them, and the beginning of another one.
const STAGE: &str = "FROM base AS made\n\
    RUN mkdir /x && cat /proc/sys/kernel/random/uuid > /x/one && cp /x/one /x/two\n\
    FROM base AS a\nCOPY --from=made /x/two /x/two\n";

/// Ways to take files of that stage.
const TARGETS: [&str; 3] = [
    "FROM base AS b\nCOPY --from=made /x/one /x/one\nCOPY --from=made /x/two /x/two\n",
    "FROM made AS b\nCOPY --from=made /x/one /x/three\n",
    "FROM base AS b\n\
     RUN --mount=type=bind,from=made,source=/x/one,target=/in mkdir /x && cat /in > /x/one\n\
     COPY --from=made /x/two /x/two\n",
];

fn build(world: &World, store: &str, args: &[&str]) -> Said {
    if !world.path(store).join("images").exists() {
        let tar = world.path("base.tar");
        world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    }
    let context = world.context();
    let fixed = ["build", "--progress", "plain", "--root", store, "-t", "app"];
    world.run(fixed.iter().chain(args).copied().chain([context.to_str().unwrap()]))
}

fn ran(said: &Said) -> bool {
    said.stderr.contains("isolation: ")
}

/// The runs of which `app` has files.
fn runs(world: &World, store: &str) -> BTreeSet<String> {
    let path = world.path("out/app.tar");
    let to = path.to_str().unwrap();
    world.run(["image", "export", "--root", store, "app", "-o", to]).ok();
    let bytes = fs::read(&path).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut found = BTreeSet::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path_bytes().starts_with(b"x/") && entry.header().entry_type().is_file() {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(text);
        }
    }
    assert!(!found.is_empty());
    found
}

/// What a COPY had found in a stage was remembered for all of its runs. Found in review.
#[test]
fn files_of_two_runs_are_never_in_one_image() {
    for world in World::each() {
        let world = world.with_base();
        for (number, target) in TARGETS.iter().enumerate() {
            world.file("Dockerfile", format!("{STAGE}{target}"));
            let store = format!("store-{number}");
            let build = |args: &[&str]| {
                let said = build(&world, &store, args);
                assert_eq!(said.code, 0, "{said:?}");
                (ran(&said), runs(&world, &store))
            };
            let (_, first) = build(&["--target", "b"]);
            assert_eq!(first.len(), 1, "{target}: {first:?}");
            assert_eq!(build(&["--target", "b"]), (false, first.clone()), "{target}");
            let (_, second) = build(&["--no-cache", "--target", "a"]);
            assert_ne!(second, first);
            let (_, third) = build(&["--target", "b"]);
            assert_eq!(third, second, "{target}");
            // And that is remembered, too.
            assert_eq!(build(&["--target", "b"]), (false, second), "{target}");
        }
    }
}

/// A cache need not have the layers of the stage to know of which run its files are.
#[test]
fn a_shared_cache_and_the_store_are_not_mixed_either() {
    for world in World::each() {
        let world = world.with_base();
        world.file("Dockerfile", format!("{STAGE}{}", TARGETS[0]));
        let dir = world.path("cache");
        for mode in ["min", "max"] {
            let to = format!("type=local,dest={},mode={mode}", dir.display());
            let from = format!("type=local,src={}", dir.display());
            let store = |name: &str| format!("{mode}-{name}");
            let (one, two, three) = (store("one"), store("two"), store("three"));
            build(&world, &one, &["--target", "b", "--cache-to", &to]).ok();
            let first = runs(&world, &one);
            build(&world, &two, &["--target", "a"]).ok();
            let own = runs(&world, &two);
            assert_ne!(own, first);
            build(&world, &two, &["--target", "b", "--cache-from", &from]).ok();
            assert_eq!(runs(&world, &two), own, "{mode}");
            let said = build(&world, &three, &["--target", "b", "--cache-from", &from]);
            assert!(!ran(&said), "{mode}: {said:?}");
            said.ok();
            assert_eq!(runs(&world, &three), first, "{mode}");
        }
    }
}

/// The records in an image say which run a file was copied from, and nothing else of that run.
#[test]
fn an_inline_cache_does_not_show_what_was_not_copied() {
    let world = World::new().with_base();
    world.file(
        "Dockerfile",
        "FROM base AS made\n\
         RUN cat /proc/sys/kernel/random/uuid > /log && mkdir /x && echo tool > /x/tool\n\
         FROM base\nCOPY --from=made /x /x\n",
    );
    let build = |store: &str, args: &[&str]| {
        let dir = world.path(&format!("out/{store}"));
        let output = format!("type=oci,tar=false,dest={}", dir.display());
        let fixed = ["--source-date-epoch=1700000000", "--cache-to", "type=inline", "-o", &output];
        let said = build(&world, store, &[&fixed[..], args].concat());
        (ran(&said), said.ok())
    };
    let (_, digest) = build("one", &[]);
    assert_eq!(build("two", &[]), (true, digest.clone()));
    let from = format!("type=local,src={}", world.path("out/one").display());
    assert_eq!(build("three", &["--cache-from", &from]), (false, digest));
}
