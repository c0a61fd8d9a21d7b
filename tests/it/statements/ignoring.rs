//! Statements 91 to 95: which files of the context a build gets.

use super::{build, refused};
use crate::support::World;

/// What the context holds besides Dockerfile and `.dockerignore`.
const FILES: [&str; 12] = [
    "#foo",
    "a/b",
    "a/b.md",
    "a/c",
    "ab.md",
    "dirq",
    "dirx/y",
    "docs/README.md",
    "docs/x",
    "myfile",
    "x/f",
    "y/x",
];

fn world() -> World {
    let world = World::new();
    for name in FILES {
        world.file(name, name);
    }
    world
}

/// Paths that `COPY . /` gives with this `.dockerignore`; `.dockerignore` itself is left out.
fn kept(world: &World, ignore: &str) -> Vec<String> {
    world.file(".dockerignore", ignore);
    build(world, "FROM scratch\nCOPY . /\n", &[]);
    let paths = world.listing("app").into_iter().map(|line| {
        let (path, rest) = line.split_once(' ').unwrap();
        if rest.starts_with("dir ") { format!("{path}/") } else { path.to_owned() }
    });
    paths.filter(|path| path != ".dockerignore").collect()
}

/// All paths of the context but these.
fn all_but(gone: &[&str]) -> Vec<String> {
    let dirs = ["Dockerfile", "a/", "dirx/", "docs/", "x/", "y/"];
    let mut paths: Vec<String> =
        FILES.iter().chain(&dirs).filter(|p| !gone.contains(p)).map(|p| (*p).to_owned()).collect();
    paths.sort();
    paths
}

#[track_caller]
fn check(world: &World, ignore: &str, gone: &[&str]) {
    let mut found = kept(world, ignore);
    found.sort();
    assert_eq!(found, all_but(gone), "{ignore:?}");
}

#[test]
fn statement_91_the_last_pattern_that_matches_decides() {
    let world = world();
    check(&world, "docs\n!docs/README.md\n", &["docs/x"]);
    assert_eq!(kept(&world, "*\n!a/b\n"), ["a/", "a/b"]);
    assert_eq!(kept(&world, "!a/b\n*\n"), [""; 0]);
}

#[test]
fn statement_92_two_stars_are_any_number_of_directories() {
    let world = world();
    check(&world, "**/x\n", &["x/", "x/f", "y/x", "docs/x"]);
    check(&world, "x/**\n", &["x/f"]);
    check(&world, "**.md\n", &["a/b.md", "ab.md", "docs/README.md"]);
    check(&world, "**file\n", &["Dockerfile", "myfile"]);
    check(&world, "a**.md\n", &[]);
    check(&world, "dir**\n", &["dirq", "dirx/", "dirx/y"]);
}

#[test]
fn statement_93_comments_begin_in_the_first_column() {
    let world = world();
    check(&world, " #foo\n", &["#foo"]);
    check(&world, "#foo\n", &[]);
    check(&world, "\u{feff}#foo\nab.md\n", &["ab.md"]);
    check(&world, "\u{feff}ab.md\n", &["ab.md"]);
    world.file(".dockerignore", "ab.md\n!\n");
    let text = world.build("FROM scratch\nCOPY . /\n", &[]).failed(1);
    assert!(
        text.starts_with("error: `!` is no valid pattern\n  --> .dockerignore:2:1\n"),
        "{text}"
    );
}

#[test]
fn statement_94_the_dockerfiles_own_ignore_file_is_the_only_one() {
    let world = World::new();
    world.file("f", "f\n").file("g", "g\n").file(".dockerignore", "f\n");
    world.file("Dockerfile.dockerignore", "g\n*ockerfile*\n");
    build(&world, "FROM scratch\nCOPY . /\n", &[]);
    assert_eq!(world.listing("app"), [".dockerignore file 644 0:0 2", "f file 644 0:0 2"]);
}

#[test]
fn statement_95_a_dockerfile_that_is_ignored_is_read_and_not_copied() {
    let world = World::new();
    world.file("f", "f\n").file(".dockerignore", "Dockerfile\n.dockerignore\n");
    build(&world, "FROM scratch\nCOPY . .\n", &[]);
    assert_eq!(world.listing("app"), ["f file 644 0:0 2"]);
    assert_eq!(
        refused(&world, "FROM scratch\nCOPY Dockerfile .\n", &[]),
        "2:6: COPY failed: `Dockerfile` is not in the build context"
    );
}
