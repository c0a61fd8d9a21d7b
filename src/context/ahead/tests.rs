//! Walks with scouts show what walks without them show, on hostile trees.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::context::digest::digest_scouted;
use crate::context::digest_cache::{DigestCache, FileHash, StatKey};
use crate::context::tests::{Fixture, Flags, select, text};
use crate::context::{FileTree, IgnoreRules, NoDigestCache, Visitor, WalkEntry};
use crate::error::{Error, Result};
use crate::oci::digest::Digest;
use crate::source::SourceFile;
use crate::sys::fs;

/// Everything that a walk tells, in order, with what it says of each.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn add(&mut self, what: &str, entry: &WalkEntry<'_>) {
        let again = fs::lstat(entry.dir, entry.name).unwrap();
        assert_eq!(again, *entry.stat, "{}", text(entry.path));
        self.0.push(format!("{what} {} {}", text(entry.path), text(entry.name)));
    }
}

impl Visitor for Told {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.add("enter", dir);
        Ok(())
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        self.add("leaf", entry);
        Ok(())
    }

    fn leave(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.add("leave", dir);
        Ok(())
    }
}

/// Few and many threads, started early and late, kept short and not.
fn scoutings() -> impl Iterator<Item = Scouting> {
    let all = [(1, 0, 8192), (1, 0, 1), (3, 0, 200), (3, 100, 8192), (2, 700, 8192), (4, 0, 0)];
    all.into_iter().map(|(threads, after, ahead)| Scouting { threads: Some(threads), after, ahead })
}

/// What a walk tells of all that is selected, and the digest; or the first error.
fn walked(
    tree: &FileTree,
    sources: &[&str],
    flags: Flags<'_>,
    scouting: Scouting,
) -> Result<(Vec<String>, Digest)> {
    let selected = select(tree, sources, flags)?;
    let mut told = Told::default();
    for one in selected.iter().filter(|one| one.is_dir()) {
        tree.walk_scouted(one, &mut told, scouting, None)?;
    }
    let digest = digest_scouted(tree, &selected, &NoDigestCache, None, scouting)?;
    Ok((told.0, digest))
}

/// A deep chain, a wide directory, many small directories, links, FIFOs, sockets, names that are no UTF-8.
fn hostile() -> Fixture {
    use std::os::unix::ffi::OsStrExt;
    let fixture = Fixture::new(&["a", "lnk -> wide", "z/last", "empty/", "a-b/x", "a.c/x"]);
    let deep = ["d"; 60].join("/");
    fixture.add(&format!("{deep}/bottom"));
    for number in 0..700 {
        fixture.add(&format!("wide/f{number}"));
        if number % 100 == 0 {
            fixture.add(&format!("wide/f{number}.dir/x.log"));
            fixture.add(&format!("wide/f{number}.lnk -> f{number}.dir"));
        }
    }
    for number in 0..150 {
        fixture.add(&format!("small/{number}/one"));
        fixture.add(&format!("small/{number}/node_modules/keep/two"));
        fixture.add(&format!("small/{number}/node_modules/three"));
    }
    let odd = std::ffi::OsStr::from_bytes(b"small/\xff\xfe");
    std::fs::write(fixture.0.path().join(odd), "odd").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.at("z/socket")).unwrap();
    fs::mknod(fs::open_dir_path(&fixture.at("z")).unwrap(), b"fifo", fs::Kind::Fifo, 0o600, (0, 0))
        .unwrap();
    fixture
}

#[test]
fn scouts_change_nothing() {
    let fixture = hostile();
    let all: [(FileTree, &[&str], Flags<'_>); 6] = [
        (fixture.tree(""), &["."], Flags::default()),
        (fixture.rootfs(), &["."], Flags::default()),
        (
            fixture.tree("**/node_modules\n!**/node_modules/keep\n*.log\n**/f1*\n!wide/f11*\n"),
            &["."],
            Flags::default(),
        ),
        (fixture.tree("*\n!small/1*/node_modules/keep\n"), &["small"], Flags::default()),
        (
            fixture.tree("wide"),
            &["small", "d/d/d"],
            Flags { exclude: &["**/one", "7*"], parents: false },
        ),
        (
            fixture.tree("**/three"),
            &["./small/./1*/node_modules"],
            Flags { exclude: &[], parents: true },
        ),
    ];
    for (case, (tree, sources, flags)) in all.iter().enumerate() {
        let expected = walked(tree, sources, *flags, Scouting::NONE).unwrap();
        assert!(expected.0.len() > 20, "case {case}: {}", expected.0.len());
        for scouting in scoutings() {
            let found = walked(tree, sources, *flags, scouting).unwrap();
            assert!(found == expected, "case {case}, {scouting:?}");
        }
    }
}

#[test]
fn scouts_leave_errors_to_the_walk() {
    let fixture = hostile();
    let mut at = fs::open_dir_path(&fixture.at("small/77")).unwrap();
    for _ in 0..450 {
        fs::mkdir(&at, b"n", 0o755).unwrap();
        at = fs::open_dir(&at, b"n").unwrap();
    }
    let closed = fixture.at("small/42/node_modules");
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    let tree = fixture.tree("");
    let mut sources = vec!["small/77"];
    // Root can read everything.
    if !rustix::process::geteuid().is_root() {
        sources.extend([".", "small/42"]);
    }
    for source in sources {
        let error = |scouting| {
            let error = walked(&tree, &[source], Flags::default(), scouting).unwrap_err();
            format!("{error:?}")
        };
        let expected = error(Scouting::NONE);
        for scouting in scoutings() {
            assert_eq!(error(scouting), expected, "{source}, {scouting:?}");
        }
    }
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o755)).unwrap();
    fs::remove_tree(fs::open_dir_path(&fixture.at("small/77")).unwrap(), b"n").unwrap();
}

/// Removes things while a walk goes on.
struct Removing<'a> {
    fixture: &'a Fixture,
    seen: Vec<String>,
}

impl Visitor for Removing<'_> {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        if dir.name == b"small" {
            for number in 0..150 {
                let _gone = std::fs::remove_file(self.fixture.at(&format!("small/{number}/one")));
            }
        }
        self.seen.push(text(dir.path));
        Ok(())
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        let _gone = std::fs::remove_file(self.fixture.at(&text(entry.path)));
        self.seen.push(text(entry.path));
        Ok(())
    }

    fn leave(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn files_that_vanish_during_a_walk_with_scouts_are_shown_or_not() {
    let seen = |scouting| {
        let fixture = hostile();
        let tree = fixture.tree("");
        let selected = select(&tree, &["."], Flags::default()).unwrap();
        let mut removing = Removing { fixture: &fixture, seen: Vec::new() };
        tree.walk_scouted(&selected[0], &mut removing, scouting, None).unwrap();
        removing.seen
    };
    let may_be_gone = |path: &String| path.starts_with("small/") && path.ends_with("/one");
    let expected = seen(Scouting::NONE);
    assert!(!expected.iter().any(may_be_gone));
    for scouting in scoutings() {
        let mut found = seen(scouting);
        found.retain(|path| !may_be_gone(path));
        assert_eq!(found, expected, "{scouting:?}");
    }
}

/// Ends a walk early.
struct Stopping(usize);

impl Visitor for Stopping {
    fn enter(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }

    fn leaf(&mut self, _entry: &WalkEntry<'_>) -> Result<()> {
        self.0 -= 1;
        if self.0 == 5 { Err(Error::context("enough")) } else { Ok(()) }
    }

    fn leave(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn scouts_go_when_the_walk_ends_early() {
    let fixture = hostile();
    let tree = fixture.tree("");
    let selected = select(&tree, &["."], Flags::default()).unwrap();
    for scouting in scoutings() {
        tree.walk_scouted(&selected[0], &mut Stopping(4), scouting, None).unwrap();
        let error =
            tree.walk_scouted(&selected[0], &mut Stopping(300), scouting, None).unwrap_err();
        assert_eq!(error.message(), "enough");
    }
}

#[test]
fn scouts_stop_when_they_are_far_enough_ahead() {
    let fixture = Fixture::new(&[]);
    for number in 0..60 {
        for file in 0..10 {
            fixture.add(&format!("d{number}/f{file}"));
        }
    }
    for file in 0..500 {
        fixture.add(&format!("a/f{file}"));
    }
    let tree = fixture.tree("");
    let selected = &select(&tree, &["."], Flags::default()).unwrap()[0];
    for (limit, expected) in [(0, (0, 0)), (1, (61, 0)), (62, (689, 1)), (usize::MAX, (1681, 32))] {
        let filter = Filter { tree: &tree, selected };
        let ahead = Ahead::new(filter, Scouting { ahead: limit, ..Scouting::USUAL }, None);
        let top = fs::open_dir(tree.root(), b".").unwrap();
        let top = Dir::list(top, None, b"", filter.top()).unwrap();
        ahead.add(&top, 0);
        let mut state = ahead.lock();
        while let Some((place, job)) = state.next(limit) {
            state = ahead.make(state, place, job);
        }
        assert_eq!((state.entries, state.dirs), expected, "{limit}");
        drop(state);

        // The walk takes what there is, and nothing is left behind.
        assert!(ahead.look(&top, 0).is_some());
        for index in 0..top.names.len() {
            let found = ahead.open(&top, index).unwrap();
            let later = (PIECE..found.dir.names.len()).step_by(PIECE);
            let pieces = later.map(|start| ahead.look(&found.dir, start).unwrap().stats.len());
            assert_eq!(found.stats.len() + pieces.sum::<usize>(), found.dir.names.len());
        }
        let state = ahead.lock();
        assert_eq!((state.entries, state.dirs, state.todo.len(), state.made.len()), (0, 0, 0, 0));
        assert!(state.making.is_empty());
    }
}

/// Remembers in memory.
#[derive(Default)]
struct Memory(std::sync::Mutex<std::collections::HashMap<StatKey, FileHash>>);

impl DigestCache for Memory {
    fn get(&self, key: &StatKey) -> Option<FileHash> {
        self.0.lock().unwrap().get(key).copied()
    }

    fn put(&self, key: StatKey, hash: FileHash) {
        self.0.lock().unwrap().insert(key, hash);
    }
}

#[test]
fn scouts_read_what_the_walk_would_read() {
    // Files made by a test are too young to be remembered; those of this program are not.
    let dir = fs::open_dir_path(concat!(env!("CARGO_MANIFEST_DIR"), "/src").as_ref()).unwrap();
    let rules = SourceFile::new(".dockerignore", "*\n!layers\n!context\nlayers/tests\n");
    let rules = IgnoreRules::parse(&Arc::new(rules)).unwrap();
    let tree = FileTree::context(dir, Some(rules));
    let selected = select(&tree, &["."], Flags::default()).unwrap();
    let alone = Memory::default();
    let expected = digest_scouted(&tree, &selected, &alone, None, Scouting::NONE).unwrap();
    let known = alone.0.into_inner().unwrap();
    assert!(known.len() > 30, "{}", known.len());
    for scouting in scoutings() {
        let cache = Memory::default();
        let found = digest_scouted(&tree, &selected, &cache, None, scouting).unwrap();
        assert_eq!(found, expected, "{scouting:?}");
        assert_eq!(cache.0.into_inner().unwrap(), known, "{scouting:?}");
    }
}
