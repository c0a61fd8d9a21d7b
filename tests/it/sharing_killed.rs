//! What a build that is killed leaves in a shared cache.

use crate::support::processes::{self, Marker};
use crate::support::registry::Registry;
use crate::support::shelf::MINUTE;
use crate::support::{World, peer, program};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

/// Starts a build of a step that is soon done and one that takes for ever.
fn start(world: &World, store: &str, (first, to): (&str, &str), marker: &Marker) -> Child {
    world.file("Dockerfile", dockerfile(first, &format!("sleep {marker}")));
    let mut command = import(world, store).command(program());
    command.args(["build", "-q", "--root", store, "--network", "none", "--cache-to", to]);
    let child = command.arg(world.context()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap()
}

fn dockerfile(first: &str, last: &str) -> String {
    format!("FROM base\nRUN echo {first} > /first\nRUN {last}\n")
}

fn import<'w>(world: &'w World, store: &str) -> &'w World {
    let tar = world.path("base.tar");
    world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    world
}

/// Another machine builds; how many steps were cached.
fn elsewhere(world: &World, store: &str, (first, from): (&str, &str)) -> usize {
    world.file("Dockerfile", dockerfile(first, "echo last > /last"));
    import(world, store);
    let fixed = ["build", "--progress", "plain", "--root", store, "--network", "none"];
    let context = world.context();
    let said = world.run(fixed.iter().chain(&["--cache-from", from, context.to_str().unwrap()]));
    let cached = said.stderr.lines().filter(|line| line.ends_with(" CACHED")).count();
    said.ok();
    cached
}

fn wait_for(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < MINUTE, "nothing comes into the cache");
        std::thread::yield_now();
    }
}

fn kill(mut build: Child, marker: &Marker) {
    build.kill().unwrap();
    build.wait().unwrap();
    processes::wait_until_gone(marker);
}

#[test]
fn a_killed_build_leaves_its_steps_in_a_directory() {
    for world in World::each() {
        let world = world.with_base();
        let dir = world.path("cache");
        let to = format!("type=local,dest={},mode=max", dir.display());
        let from = format!("type=local,src={}", dir.display());
        let index = || fs::read(dir.join("index.json")).unwrap_or_default();
        let mut before = Vec::new();
        // The second one adds to what the cache has, and takes nothing away.
        for first in ["one", "two"] {
            let marker = Marker::new();
            let build = start(&world, first, (first, &to), &marker);
            wait_for(|| names(&index()) == 1 && index() != before);
            kill(build, &marker);
            before = index();
        }
        for first in ["one", "two"] {
            assert_eq!(elsewhere(&world, &format!("again-{first}"), (first, &from)), 1);
        }
        assert_eq!(elsewhere(&world, "again-three", ("three", &from)), 0);
    }
}

fn names(index: &[u8]) -> usize {
    let index: Value = serde_json::from_slice(index).unwrap_or_default();
    index["manifests"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_killed_build_leaves_its_steps_in_a_registry() {
    if !peer("docker-registry") {
        return;
    }
    let world = World::new().with_base();
    let registry = Registry::start(&world);
    let cache = format!("{}/app:cache", registry.address);
    let there = format!("docker://{cache}");
    let digest = || world.run(["image", "digest", &there]).ok();
    // One that was not killed: only then may the tag be set again.
    world.file("Dockerfile", dockerfile("zero", "true"));
    let args = ["build", "-q", "--root", "zero", "--network", "none", "--cache-to", &cache];
    import(&world, "zero").run(args.iter().chain(&[world.context().to_str().unwrap()])).ok();
    let before = digest();
    let marker = Marker::new();
    let build = start(&world, "one", ("one", &cache), &marker);
    wait_for(|| digest() != before);
    kill(build, &marker);
    for first in ["zero", "one"] {
        assert_eq!(elsewhere(&world, &format!("again-{first}"), (first, &cache)), 1);
    }
}

/// What this build cannot read it does not replace before its end, and what a COPY may read does not change meanwhile.
#[test]
fn a_cache_is_not_written_early_where_that_could_do_harm() {
    let world = World::new().with_base();
    let outside = world.path("cache").display().to_string();
    let inside = world.context().join("cache").display().to_string();
    let key = world.path("key");
    fs::write(&key, "a key of more than thirty-two bytes, for this").unwrap();
    world.file("Dockerfile", dockerfile("zero", "true"));
    for dir in [&outside, &inside] {
        let to = format!("type=local,dest={dir}");
        let args = ["build", "-q", "--root", "zero", "--cache-to", &to];
        import(&world, "zero").run(args.iter().chain(&[world.context().to_str().unwrap()])).ok();
    }
    let index = |dir: &str| fs::read(Path::new(dir).join("index.json")).unwrap();
    let before = (index(&outside), index(&inside));
    let allowed = world.path("allowed").display().to_string();
    let marker = Marker::new();
    // With a key that it was not signed with, a cache cannot be read.
    let signed = format!("{outside},key={}", key.display());
    let to = [&signed, &inside, &allowed].map(|dest| format!("type=local,dest={dest}"));
    let mut command = import(&world, "one").command(program());
    world.file("Dockerfile", dockerfile("one", &format!("sleep {marker}")));
    command.args(["build", "-q", "--root", "one", "--network", "none"]);
    for to in &to {
        command.args(["--cache-to", to]);
    }
    let build = command.arg(world.context()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    // It is written in the order of the flags.
    let names = || names(&fs::read(Path::new(&allowed).join("index.json")).unwrap_or_default());
    wait_for(|| names() == 1);
    kill(build.unwrap(), &marker);
    assert!(before == (index(&outside), index(&inside)));
}
