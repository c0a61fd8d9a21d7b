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

/// A stage with the mark of its run, and another one on top of it that copies the mark.
const STACK: &str = "FROM base AS made\n\
    RUN mkdir /x && cat /proc/sys/kernel/random/uuid > /x/one\n\
    FROM made\nWORKDIR /y\nRUN cp /x/one /x/two\n";

/// Whether a build ran something, the runs of which its image has files, and its digest.
fn outcome(world: &World, store: &str, args: &[&str]) -> (bool, BTreeSet<String>, String) {
    let said = build(world, store, args);
    assert_eq!(said.code, 0, "{args:?}: {said:?}");
    let found = runs(world, store);
    assert_eq!(found.len(), 1, "{args:?}: {found:?}");
    (ran(&said), found, said.ok())
}

/// A step counted as cached on top of whatever had been made anew below it.
#[test]
fn what_stands_on_another_run_is_made_anew() {
    for world in World::each() {
        let world = world.with_base();
        world.file("Dockerfile", STACK);
        let build = |args: &[&str]| outcome(&world, "store", args);
        let (_, mut last, mut digest) = build(&[]);
        assert_eq!(build(&[]), (false, last.clone(), digest.clone()));
        let (ran, filtered, other) = build(&["--no-cache-filter", "made"]);
        assert!(ran && filtered != last);
        assert_eq!(build(&[]), (false, filtered.clone(), other.clone()));
        (last, digest) = (filtered, other);
        for target in [&["--no-cache", "--target", "made"][..], &["--no-cache"]] {
            let (_, made, _) = build(target);
            assert_ne!(made, last);
            let (_, found, now) = build(&[]);
            assert_eq!(found, made, "{target:?}");
            assert_ne!(now, digest);
            assert_eq!(build(&[]), (false, made.clone(), now.clone()), "{target:?}");
            (last, digest) = (made, now);
        }
    }
}

#[test]
fn what_stands_on_another_run_is_not_taken_from_a_shared_cache() {
    for world in World::each() {
        let world = world.with_base();
        world.file("Dockerfile", STACK);
        let (dir, layout) = (world.path("cache"), world.path("out/layout"));
        let output = format!("type=oci,tar=false,dest={}", layout.display());
        for mode in ["min", "max", "inline"] {
            let is_inline = mode == "inline";
            let place = if is_inline { &layout } else { &dir };
            let from = format!("type=local,src={}", place.display());
            let to = format!("type=local,dest={},mode={mode}", place.display());
            let to: Vec<&str> = if is_inline {
                vec!["--cache-to", "type=inline", "-o", &output]
            } else {
                vec!["--cache-to", &to]
            };
            let build =
                |store: &str, args: &[&str]| outcome(&world, &format!("{mode}-{store}"), args);
            let (_, first, digest) = build("one", &to);
            let (ran, found, same) = build("two", &["--cache-from", &from]);
            assert_eq!((ran, &found), (false, &first), "{mode}");
            // An image without an inline cache is another one.
            assert_eq!(same == digest, !is_inline, "{mode}");
            let (_, found, _) =
                build("three", &["--no-cache-filter", "made", "--cache-from", &from]);
            assert_ne!(found, first, "{mode}");
            let (_, own, _) = build("four", &["--target", "made"]);
            assert_ne!(own, first, "{mode}");
            let (_, found, digest) = build("four", &["--cache-from", &from]);
            assert_eq!(found, own, "{mode}");
            assert_eq!(build("four", &["--cache-from", &from]), (false, own, digest), "{mode}");
        }
    }
}

#[test]
fn an_explained_miss_says_that_a_shared_cache_has_it_for_other_layers() {
    let world = World::new().with_base();
    world.file("Dockerfile", STACK);
    let dir = world.path("cache");
    let to = format!("type=local,dest={}", dir.display());
    outcome(&world, "one", &["--cache-to", &to]);
    outcome(&world, "two", &["--target", "made"]);
    let from = format!("type=local,src={}", dir.display());
    let said = build(&world, "two", &["--explain-cache", "--cache-from", &from]);
    let reason =
        format!("; the cache `{}:latest` has it for other layers below it\n", dir.display());
    assert_eq!(said.stderr.matches(&reason).count(), 2, "{said:?}");
    said.ok();
}

/// Layers of a stage that is only copied from stand on others that an inline cache hides, too.
#[test]
fn an_inline_cache_knows_what_hidden_layers_stand_on() {
    let world = World::new().with_base();
    world.file("Dockerfile", format!("{STACK}FROM base\nCOPY --from=1 /x /x\n"));
    let dir = world.path("out/layout");
    let output = format!("type=oci,tar=false,dest={}", dir.display());
    let (_, first, _) = outcome(&world, "one", &["--cache-to", "type=inline", "-o", &output]);
    let from = format!("type=local,src={}", dir.display());
    let (ran, found, _) = outcome(&world, "two", &["--cache-from", &from]);
    assert_eq!((ran, found), (false, first));
}

/// A run that gives the same bytes again is waited for, and is as good as the one before.
#[test]
fn what_stands_on_a_run_that_gave_the_same_is_cached() {
    for world in World::each() {
        let world = world.with_base();
        let text = "FROM base AS made\nRUN echo 1 > /one\nFROM made\nRUN cp /one /two\n";
        let build = |args: &[&str]| {
            world.build(text, &[&["--source-date-epoch", "1700000000"][..], args].concat())
        };
        let digest = build(&[]).ok();
        let said = build(&["--no-cache-filter", "made"]);
        assert_eq!((said.cached(), said.done()), (1, 1), "{said:?}");
        assert_eq!(said.ok(), digest);
    }
}

/// In another variant a layer is written again, and no command runs, unless the layers below are of another run.
#[test]
fn layers_are_written_again_on_the_same_run_only() {
    let world = World::new().with_base();
    world.file("Dockerfile", STACK);
    let said = |args: &[&str]| {
        let said = build(&world, "store", &[&["--snapshots", "overlay"][..], args].concat());
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        (said.cached(), said.done(), runs(&world, "store"))
    };
    let (.., mut last) = said(&[]);
    for other in [&["--compression", "zstd"][..], &["--source-date-epoch", "1700000000"]] {
        assert_eq!(said(other), (3, 0, last.clone()), "{other:?}");
        let (.., made) = said(&["--no-cache", "--target", "made"]);
        assert_ne!(made, last);
        assert_eq!(said(other), (1, 2, made), "{other:?}");
        (.., last) = said(&["--no-cache"]);
        assert_eq!(said(other), (3, 0, last.clone()), "{other:?}");
    }
}
