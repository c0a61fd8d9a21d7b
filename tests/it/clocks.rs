//! The clock was set back: what is there already has times in the future, and what comes next looks older than it.

use crate::support::times::set_times;
use crate::support::{Said, World};
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DOCKERFILE: &str = "FROM base AS one\nRUN echo 1 > /one\nFROM base\nCOPY file /\nCOPY --from=one /one /\nRUN cat /file /one > /two\n";

fn ahead() -> SystemTime {
    SystemTime::now() + Duration::from_hours(1)
}

/// All files below a directory were made and used in an hour.
fn set_ahead(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            set_ahead(&path);
        }
        if kind.is_dir() || kind.is_file() {
            set_times(&path, ahead());
        }
    }
}

/// Descriptions of the snapshots of a store, whose times are those of the snapshots' last use.
fn described(world: &World) -> Vec<PathBuf> {
    let snapshots = fs::read_dir(world.store().join("snapshots")).unwrap();
    let described = snapshots.map(|one| one.unwrap().path().join("meta"));
    described.filter(|meta| meta.is_symlink()).collect()
}

fn is_cached(said: &Said) -> bool {
    said.done() == 0 && said.cached() == 4
}

#[test]
fn what_was_built_before_is_still_cached_and_whole() {
    for world in World::each() {
        let world = world.with_base();
        world.file("file", "content");
        let build = || world.build(DOCKERFILE, &["-t", "app"]);
        let first = build().ok();
        // The trees of snapshots stay: their times are those of the image.
        for dir in ["images", "cache", "locks"] {
            set_ahead(&world.store().join(dir));
        }
        let described = described(&world);
        assert!(!described.is_empty());
        for meta in described {
            set_times(&meta, ahead());
        }
        let again = build();
        assert!(is_cached(&again), "{:?}: {again:?}", world.who());
        assert_eq!(again.ok(), first);
        world.validate("app");
        // What is made now stands on what is made later.
        let more = format!("{DOCKERFILE}RUN cat /two > /three\n");
        let said = world.build(&more, &["-t", "more"]);
        assert_eq!(said.cached(), 4, "{said:?}");
        let more_digest = said.ok();
        world.run(["prune"]).ok();
        for name in ["app", "more"] {
            world.validate(name);
        }
        assert_eq!(world.build(&more, &["-t", "more"]).ok(), more_digest);
        // And goes like everything else.
        world.run(["prune", "--all"]).ok();
        for name in ["app", "more"] {
            world.validate(name);
        }
        assert_eq!(self::described(&world).len(), 0);
        assert_eq!(fs::read_dir(world.store().join("cache/steps")).unwrap().count(), 0);
    }
}

/// A file with a time in the future is written again, as large as before, and has the same time.
#[test]
fn a_file_from_the_future_is_copied_as_it_is() {
    let world = World::new().with_base();
    let dockerfile = "FROM base\nCOPY file /\n";
    let build = |content: &str| {
        world.file("file", content);
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let file = File::open(world.context().join("file")).unwrap();
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
        world.build(dockerfile, &["-t", "app"]).ok();
        let tar = world.path("out/app.tar");
        world.run(["image", "export", "app", "-o", tar.to_str().unwrap()]).ok();
        let mut archive = tar::Archive::new(File::open(tar).unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let entry = entries.find(|entry| entry.path().unwrap() == Path::new("file")).unwrap();
        std::io::read_to_string(entry).unwrap()
    };
    for content in ["one", "two", "one"] {
        assert_eq!(build(content), content);
    }
}
