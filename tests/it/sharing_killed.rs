//! What a build that is killed leaves in a shared cache.

use crate::support::processes::{self, Marker};
use crate::support::registry::Registry;
use crate::support::shelf::MINUTE;
use crate::support::{World, peer, program};
use serde_json::Value;
use std::fs;
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
    let marker = Marker::new();
    let build = start(&world, "one", ("one", &cache), &marker);
    let there = format!("docker://{cache}");
    wait_for(|| world.run(["image", "digest", &there]).code == 0);
    kill(build, &marker);
    assert_eq!(elsewhere(&world, "two", ("one", &cache)), 1);
}
