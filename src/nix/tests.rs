//! Comparisons with Nix itself, where `nix-store` is installed: archives, graphs, references, databases.
//!
//! A store of Nix is at `/nix/store` or its paths mean nothing. So each command runs in a mount namespace with a root
//! in which everything is as outside, except that `/nix` is a directory of the test.

use super::fixture::{Lab, have_nix};
use super::*;
use crate::sys::fs::open_dir_path;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A tree with everything that an archive can hold and much that it leaves out.
fn make_tree(top: &Path) {
    let write = |name: &[u8], content: &[u8], mode: u32| {
        let path = top.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    write(b"bin/tool", b"#!/bin/sh\n", 0o755);
    write(b"bin/only group", b"x", 0o654);
    write(b"bin/only owner", b"x", 0o700);
    write(b"bin/setuid", b"x", 0o4755);
    write(b"empty", b"", 0o644);
    write(b"large", &vec![b'l'; 300_001], 0o444);
    for name in
        [&b"new\nline"[..], b"not \xff utf-8", "\u{e9}".as_bytes(), b"a", b"a.b", b"a0", b"A"]
    {
        write(&[b"names/", name].concat(), name, 0o644);
    }
    fs::create_dir_all(top.join("names/a-b/empty directory")).unwrap();
    symlink("/absolute/target", top.join("names/link")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\n"), top.join("names/odd link")).unwrap();
    fs::hard_link(top.join("empty"), top.join("hard link")).unwrap();
}

fn open(path: &Path) -> OwnedFd {
    open_dir_path(path).unwrap()
}

#[test]
fn archives_are_those_of_nix() {
    if !have_nix() {
        return;
    }
    let lab = Lab::new();
    make_tree(&lab.dir().join("tree"));
    let dir = open(lab.dir());
    let inner = open(&lab.dir().join("tree/names"));
    let names = open(&lab.dir().join("tree/bin"));
    for (dir, name, path) in [
        (&dir, "tree", "tree"),
        (&names, "tool", "tree/bin/tool"),
        (&inner, "odd link", "tree/names/odd link"),
    ] {
        let mut ours = Vec::new();
        nar::dump(dir.as_fd(), name.as_bytes(), &mut ours).unwrap();
        let theirs = lab.output("nix-store", &["--dump", path]);
        assert!(ours == theirs, "{path}: {} and {} bytes", ours.len(), theirs.len());
        let (hash, size) = nar::hash(dir.as_fd(), name.as_bytes()).unwrap();
        let theirs = lab.output("nix-hash", &["--type", "sha256", "--base32", path]);
        let ours = base32::encode(&hash.bytes()) + "\n";
        assert_eq!((ours.as_bytes(), size), (&theirs[..], fs_size(&lab, path)));
    }
}

fn fs_size(lab: &Lab, path: &str) -> u64 {
    lab.output("nix-store", &["--dump", path]).len() as u64
}

/// Three paths with references of all kinds, and what Nix gives to builds about them. `exit` keeps the shell from
/// becoming its last command: that closes its output before it ends, and Nix kills a builder whose output is closed.
const EXPRESSION: &str = r#"
let
  system = builtins.currentSystem;
  tree = builtins.path { path = ./tree; name = "tree"; };
  bash = script: args: derivation ({
    inherit system; builder = "/bin/bash"; PATH = "/bin:/usr/bin"; args = [ "-c" (script + "; exit") ];
  } // args);
in rec {
  lib = bash ''mkdir $out; ln -s ${tree}/bin $out/bin; echo $out > $out/self'' { name = "lib"; };
  app = bash ''mkdir $out; head -c 70000 /dev/zero > $out/f; echo "${lib}" >> $out/f; mkdir "$out/$(basename ${tree})x"''
    { name = "app"; };
  graph = bash "cp graph $out" { name = "graph"; exportReferencesGraph = [ "graph" app ]; };
  attrs = bash "source .attrs.sh; cp .attrs.json \${outputs[out]}" {
    name = "attrs"; __structuredAttrs = true; exportReferencesGraph.closure = [ app ];
  };
}
"#;

/// A store with these, and the path of `app`.
fn store() -> Option<(Lab, StorePath)> {
    if !have_nix() || !fixture::have_root() {
        return None;
    }
    let lab = Lab::new();
    make_tree(&lab.dir().join("tree"));
    fs::write(lab.dir().join("t.nix"), EXPRESSION).unwrap();
    let app = lab
        .run("nix-build t.nix -A app --no-out-link 2>build.log || { cat build.log >&2; exit 1; }");
    let app = StorePath::parse(app.trim_end().as_bytes()).unwrap();
    Some((lab, app))
}

fn registration(lab: &Lab, app: &StorePath) -> Closure {
    let text = lab.run(&format!("nix-store --dump-db $(nix-store -qR {app})"));
    Closure::from_registration(text.as_bytes()).unwrap()
}

fn with(closure: &Closure, change: fn(&mut PathInfo)) -> Closure {
    let mut paths = closure.paths().to_vec();
    paths.iter_mut().for_each(change);
    Closure::new(paths).unwrap()
}

#[test]
fn graphs_of_nix_are_read_in_all_forms() {
    let Some((lab, app)) = store() else { return };
    let known = registration(&lab, &app);
    assert_eq!(known.paths().len(), 3);
    let mut filled = known.clone();
    filled.fill(open(lab.root()).as_fd()).unwrap();
    assert_eq!(filled, known);
    for info in known.paths() {
        let references = lab.run(&format!("nix-store -q --references {}", info.path));
        let mut references: Vec<&str> = references.lines().collect();
        references.sort_unstable();
        assert_eq!(references, info.references.iter().map(StorePath::as_str).collect::<Vec<_>>());
    }
    let built = |name: &str| {
        lab.run(&format!("cat $(nix-build t.nix -A {name} --no-out-link 2>/dev/null)"))
    };
    let graph = Closure::parse(built("graph").as_bytes(), None).unwrap();
    let bare = with(&known, |info| {
        *info =
            PathInfo { references: info.references.clone(), ..PathInfo::new(info.path.clone()) };
    });
    // Derivers are not in it.
    assert_eq!(graph, bare);
    let attrs = Closure::parse(built("attrs").as_bytes(), None).unwrap();
    let without_derivers = with(&attrs, |info| info.ca = None);
    assert_eq!(without_derivers, with(&known, |info| info.deriver = None));
    assert!(attrs.paths().iter().any(|info| info.ca.is_some()), "{attrs:?}");
    let printed = lab
        .run(&format!("nix --extra-experimental-features nix-command path-info --json -r {app}"));
    let printed = Closure::parse(printed.as_bytes(), None).unwrap();
    assert_eq!(with(&printed, |info| info.ca = None), known);
}

#[test]
fn references_that_are_found_are_those_that_nix_found() {
    let Some((lab, app)) = store() else { return };
    // Paths that are not used must not be found.
    lab.run("nix-build t.nix -A graph --no-out-link");
    let known = registration(&lab, &app);
    let found = Closure::scan(open(lab.root()).as_fd(), &[app]).unwrap();
    assert_eq!(found, with(&known, |info| info.deriver = None));
}

/// Makes `image` a root with these paths' files and this database.
fn image(lab: &Lab, closure: &Closure, database: &[u8]) {
    fs::create_dir_all(lab.dir().join("image/nix/store")).unwrap();
    for info in closure.paths() {
        lab.run(&format!("test -e image{0} || cp -a {0} image/nix/store/", info.path));
    }
    let state = lab.dir().join("image/nix/var/nix/db");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("schema"), database::SCHEMA).unwrap();
    fs::write(state.join("db.sqlite"), database).unwrap();
}

/// In the image: exit code and messages of a command.
fn in_image(lab: &Lab, command: &str) -> (Option<i32>, String) {
    lab.try_run(&format!("NIX_REMOTE=\"local?root=$PWD/image\" {command} 2>&1"))
}

#[test]
fn nix_accepts_a_database_and_finds_what_was_changed() {
    let Some((lab, app)) = store() else { return };
    let known = registration(&lab, &app);
    let bytes = database::database(known.paths(), None, 1).unwrap();
    let mut reversed = known.paths().to_vec();
    reversed.reverse();
    assert_eq!(database::database(&reversed, None, 1).unwrap(), bytes);
    image(&lab, &known, &bytes);
    let (code, text) = in_image(&lab, "nix-store --verify --check-contents");
    assert_eq!((code, text.contains("error")), (Some(0), false), "{text}");
    let (_, requisites) = in_image(&lab, &format!("nix-store -qR {app}"));
    assert_eq!(requisites, lab.run(&format!("nix-store -qR {app}")));
    let (_, dump) = in_image(&lab, "nix-store --dump-db");
    assert_eq!(Closure::from_registration(dump.as_bytes()).unwrap(), known);
    // Nix writes to it too, and what it wrote is a base for more.
    let (code, added) = in_image(&lab, "nix-store --add t.nix");
    assert_eq!(code, Some(0), "{added}");
    let written = fs::read(lab.dir().join("image/nix/var/nix/db/db.sqlite")).unwrap();
    let valid = database::valid_paths(&database::database(&[], Some(&written), 1).unwrap());
    let valid: Vec<String> = valid.unwrap().iter().map(|(path, _)| path.to_string()).collect();
    assert!(valid.len() == 4 && valid.contains(&added.trim_end().to_owned()), "{valid:?}");
    let file = lab.dir().join(format!("image{app}/f"));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&file, [fs::read(&file).unwrap(), b"x".to_vec()].concat()).unwrap();
    let (code, text) = in_image(&lab, "nix-store --verify --check-contents");
    assert_eq!((code, text.contains("was modified")), (Some(1), true), "{text}");
    let error = known.clone().fill(open(&lab.dir().join("image")).as_fd()).unwrap_err();
    assert_eq!(error.message(), format!("`{app}` is not what its description says"));
}

#[test]
fn paths_of_a_base_stay_valid_beside_new_ones() {
    let Some((lab, app)) = store() else { return };
    let known = registration(&lab, &app);
    let lib = known.paths().iter().find(|info| info.path.pname() == b"lib").unwrap().path.clone();
    let lower = known.closure_of(&[lib]).unwrap();
    // A database that Nix made of a registration.
    image(&lab, &lower, b"");
    fs::remove_dir_all(lab.dir().join("image/nix/var")).unwrap();
    let paths: Vec<&str> = lower.paths().iter().map(|info| info.path.as_str()).collect();
    lab.run(&format!("nix-store --dump-db {} > db.dump", paths.join(" ")));
    let (code, text) = in_image(&lab, "nix-store --load-db < db.dump");
    assert_eq!(code, Some(0), "{text}");
    let base = fs::read(lab.dir().join("image/nix/var/nix/db/db.sqlite")).unwrap();
    // The same rows but for the time of registration, the same tables, indexes and trigger.
    let times = base_times(&base);
    assert_eq!(times.len(), 2);
    let same = database::database(lower.paths(), None, times[0]).unwrap();
    assert_eq!(database::valid_paths(&same).unwrap(), database::valid_paths(&base).unwrap());
    assert_eq!(schema(&same), schema(&base));
    let upper: Vec<PathInfo> =
        known.paths().iter().filter(|info| info.path == app).cloned().collect();
    let merged = database::database(&upper, Some(&base), 1).unwrap();
    fs::remove_dir_all(lab.dir().join("image/nix/var")).unwrap();
    image(&lab, &known, &merged);
    let (code, text) = in_image(&lab, "nix-store --verify --check-contents");
    assert_eq!((code, text.contains("error")), (Some(0), false), "{text}");
    let (_, dump) = in_image(&lab, "nix-store --dump-db");
    assert_eq!(Closure::from_registration(dump.as_bytes()).unwrap(), known);
}

#[test]
fn outputs_of_derivations_in_a_base_are_kept() {
    let Some((lab, app)) = store() else { return };
    let base = fs::read(lab.root().join("nix/var/nix/db/db.sqlite")).unwrap();
    let merged = database::database(&[], Some(&base), 1).unwrap();
    assert_eq!(schema(&merged), schema(&base));
    assert_eq!(database::valid_paths(&merged).unwrap(), database::valid_paths(&base).unwrap());
    let deriver = lab.run(&format!("nix-store -q --deriver {app}"));
    fs::write(lab.root().join("nix/var/nix/db/db.sqlite"), merged).unwrap();
    assert_eq!(lab.run(&format!("nix-store -q --outputs {deriver}")).trim_end(), app.as_str());
    lab.run("nix-store --verify --check-contents");
}

fn opened(database: &[u8]) -> rusqlite::Connection {
    let mut without_log = database.to_vec();
    without_log[18..20].copy_from_slice(&[1, 1]);
    let mut connection = rusqlite::Connection::open_in_memory().unwrap();
    let size = without_log.len();
    connection.deserialize_read_exact(rusqlite::MAIN_DB, &without_log[..], size, true).unwrap();
    connection
}

fn base_times(database: &[u8]) -> Vec<i64> {
    let connection = opened(database);
    let mut statement = connection.prepare("SELECT registrationTime FROM ValidPaths").unwrap();
    let times = statement.query_map([], |row| row.get(0)).unwrap();
    times.map(Result::unwrap).collect()
}

/// Statements that make everything that is in a database, without comments and with single spaces.
fn schema(database: &[u8]) -> Vec<String> {
    let connection = opened(database);
    let mut statement = connection
        .prepare("SELECT type || ' ' || name || ' on ' || tbl_name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
        .unwrap();
    let texts = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let plain = |text: String| {
        let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
        lines.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    texts.map(|text| plain(text.unwrap())).collect()
}
