//! `closure` and `nixDatabase`: store paths below a directory that plays the machine's root, in layers and in Nix's
//! database, which Nix itself checks where it is installed.

use super::{HEAD, Made, app, assemble, at, quick};
use crate::support::{Said, World, peer};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const APP: &str = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-app";
const LIB: &str = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-lib";
const FILE: &str = "/nix/store/cccccccccccccccccccccccccccccccc-file";

/// `app` needs itself and `lib`, which needs `file`.
fn world(world: World) -> World {
    world.file(&format!("fs{APP}/bin/app"), format!("#!{LIB}/sh\nself {APP}"));
    world.file(&format!("fs{LIB}/lib/l.so"), "lib\n");
    world.file(&format!("fs{FILE}"), "f\n");
    symlink(FILE, at(&world, &format!("fs{LIB}/ref"))).unwrap();
    for (path, mode) in [
        (format!("{APP}/bin/app"), 0o555),
        (format!("{LIB}/lib/l.so"), 0o444),
        (FILE.to_owned(), 0o444),
    ] {
        fs::set_permissions(at(&world, &format!("fs{path}")), fs::Permissions::from_mode(mode))
            .unwrap();
    }
    world.give();
    world
}

fn spec(more: &str, rest: &str) -> String {
    format!("{HEAD}contents:\n- closure: {{paths: [{APP}], root: fs{more}}}\n{rest}")
}

/// The files of a store path as a layer has them.
fn of_store(path: &str) -> Vec<String> {
    let path = &path[1..];
    let lines: &[&str] = match &path[43..] {
        "app" => &[" dir 755 0:0 0", "/bin dir 755 0:0 0", "/bin/app file 555 0:0 105"],
        "lib" => &[
            " dir 755 0:0 0",
            "/lib dir 755 0:0 0",
            "/lib/l.so file 444 0:0 4",
            "/ref symlink 777 0:0 /nix/store/cccccccccccccccccccccccccccccccc-file",
        ],
        _ => &[" file 444 0:0 2"],
    };
    lines.iter().map(|line| format!("{path}{line}")).collect()
}

fn with_store(store: &[&str], rest: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = store.iter().flat_map(|path| of_store(path)).collect();
    if !store.is_empty() {
        lines.extend(["nix dir 755 0:0 0", "nix/store dir 755 0:0 0"].map(str::to_owned));
    }
    lines.extend(rest.iter().map(|line| (*line).to_owned()));
    lines.sort();
    lines
}

#[test]
fn a_closure_brings_its_paths_and_links_or_copies_to_them() {
    let link = format!("bin/app symlink 777 0:0 {APP}/bin/app");
    let all = [APP, LIB, FILE];
    for world in World::each().into_iter().map(world) {
        for (more, wanted) in [
            ("", with_store(&all, &["bin dir 755 0:0 0", &link])),
            (", link: symlink, scan: true", with_store(&all, &["bin dir 755 0:0 0", &link])),
            (", link: copy", with_store(&all, &["bin dir 755 0:0 0", "bin/app file 555 0:0 105"])),
            (", link: none", with_store(&all, &[])),
            (", store: omit", with_store(&[], &["bin dir 755 0:0 0", &link])),
        ] {
            assert_eq!(app(&world, &spec(more, "")).list(), [wanted], "{more}");
        }
    }
}

fn references(world: &World) {
    let graph = format!(
        "[{{\"path\":\"{APP}\",\"references\":[\"{LIB}\",\"{APP}\"]}},\
         {{\"path\":\"{LIB}\",\"references\":[\"{FILE}\"]}},{{\"path\":\"{FILE}\",\"references\":[]}}]"
    );
    world.file("graph.json", graph);
    world.file("graph", format!("{APP}\n\n2\n{APP}\n{LIB}\n{LIB}\n\n1\n{FILE}\n{FILE}\n\n0\n"));
}

#[test]
fn references_are_found_by_search_or_told_by_nix() {
    let database = "nixDatabase: {include: true, gcroots: docker}\n";
    for world in World::each().into_iter().map(world) {
        references(&world);
        let made = app(&world, &spec("", database));
        for more in [", graph: graph.json", ", graph: graph", ", scan: true"] {
            assert_eq!(app(&world, &spec(more, database)), made, "{more}");
        }
        let state: Vec<String> =
            made.top().into_iter().filter(|line| line.starts_with("nix/var")).collect();
        let root = format!(
            "nix/var/nix/gcroots/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-app symlink 777 0:0 {APP}"
        );
        let size = made.bytes("nix/var/nix/db/db.sqlite").len();
        let wanted = [
            "nix/var dir 755 0:0 0",
            "nix/var/nix dir 755 0:0 0",
            "nix/var/nix/db dir 755 0:0 0",
            "nix/var/nix/db/big-lock file 644 0:0 0",
            &format!("nix/var/nix/db/db.sqlite file 644 0:0 {size}"),
            "nix/var/nix/db/schema file 644 0:0 2",
            "nix/var/nix/gcroots dir 755 0:0 0",
            "nix/var/nix/gcroots/auto dir 755 0:0 0",
            "nix/var/nix/gcroots/docker dir 755 0:0 0",
            &root,
            "nix/var/nix/gcroots/per-user dir 755 0:0 0",
            "nix/var/nix/gcroots/profiles symlink 777 0:0 /nix/var/nix/profiles",
            "nix/var/nix/profiles dir 755 0:0 0",
            "nix/var/nix/profiles/per-user dir 755 0:0 0",
            "nix/var/nix/temproots dir 755 0:0 0",
        ];
        assert_eq!(state, wanted);
        let none = assemble(&world, &format!("{HEAD}{database}"), &[]).failed(1);
        assert!(none.starts_with("error: there are no store paths for a database\n"), "{none}");
    }
}

/// What an upper layer's database says hid that of the base, and the time of registration made it differ.
#[test]
fn nix_verifies_the_database_and_that_of_the_base_is_kept() {
    let database = "nixDatabase: {include: true}\n";
    for world in World::each().into_iter().map(world) {
        quick(&world, &spec("", database));
        world.run(["image", "tag", "app", "old"]).ok();
        world.file("fs2/nix/store/dddddddddddddddddddddddddddddddd-more/x", "x");
        let more = "/nix/store/dddddddddddddddddddddddddddddddd-more";
        let upper = |merge: &str| {
            format!(
                "{HEAD}from: {{image: old}}\ncontents:\n- closure: {{paths: [{more}], root: fs2}}\n\
                     nixDatabase: {{mergeBase: {merge}}}\n"
            )
        };
        if !peer("nix-store") {
            return;
        }
        for (merge, wanted) in [("true", 4), ("false", 1)] {
            let dir = world.path(&format!("out/tree-{merge}"));
            let output = format!("type=local,dest={}", dir.display());
            assemble(&world, &upper(merge), &["-o", &output]).ok();
            let nix = |args: &[&str]| {
                let mut nix = world.command("nix-store");
                nix.env("NIX_REMOTE", format!("local?root={}", dir.display())).args(args);
                Said::of(nix.output().unwrap()).ok()
            };
            let dump = nix(&["--dump-db"]);
            assert_eq!(dump.lines().filter(|line| line.is_empty()).count(), wanted, "{dump}");
            nix(&["--verify", "--check-contents"]);
        }
    }
}

#[test]
fn store_paths_are_spread_over_the_layers_that_there_are() {
    let about = |made: &Made| -> Vec<String> {
        let history = made.config["history"].as_array().unwrap();
        history.iter().map(|entry| entry["comment"].as_str().unwrap().to_owned()).collect()
    };
    let last = format!("closure {APP}");
    let rest = format!("{LIB} {APP}");
    for world in World::each().into_iter().map(world) {
        let of = |layers: &str| about(&app(&world, &spec("", &format!("layers: {{{layers}}}\n"))));
        let each = [FILE, LIB, APP, &last];
        assert_eq!(of("strategy: popularity"), each);
        assert_eq!(of("strategy: popularity, max: 5"), each);
        assert_eq!(of("strategy: popularity, max: 4"), each);
        assert_eq!(of("strategy: popularity, max: 3"), [FILE, &rest, &last]);
        assert_eq!(of("strategy: popularity, max: 2"), [format!("{FILE} {rest}"), last.clone()]);
        assert_eq!(of("strategy: balanced, max: 4").len(), 4);
        assert_eq!(of("strategy: balanced, max: 3").len(), 3);
        assert_eq!(
            of(&format!("strategy: explicit, groups: [[{LIB}, {FILE}]]")),
            [format!("{LIB} {FILE}"), "everything else".to_owned()]
        );
        let said =
            assemble(&world, &spec("", "layers: {strategy: popularity, max: 1}\n"), &[]).failed(1);
        let wanted = "\
error: 1 layers are too few
  --> context/image.yaml:5:37
   |
 5 | layers: {strategy: popularity, max: 1}
   |                                     ^
 cause: 0 are of the base, and one is for what is no store path
help: `max` must be at least 2
";
        assert_eq!(said, wanted);
    }
}
