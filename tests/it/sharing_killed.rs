//! What a build that is killed leaves in a shared cache.

use crate::support::faults::{Dice, Faults};
use crate::support::processes::{self, Marker};
use crate::support::registry::Registry;
use crate::support::shelf::MINUTE;
use crate::support::{World, peer, program};
use serde_json::Value;
use std::collections::BTreeSet;
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

/// What this build cannot read it does not replace before its end, and what a COPY may read does not change meanwhile: that
/// is the directory of the context itself, since one in it is hidden.
#[test]
fn a_cache_is_not_written_early_where_that_could_do_harm() {
    let world = World::new().with_base();
    let outside = world.path("cache").display().to_string();
    let itself = world.path("itself").display().to_string();
    let key = world.path("key");
    fs::write(&key, "a key of more than thirty-two bytes, for this").unwrap();
    world.file("Dockerfile", dockerfile("zero", "true"));
    for dir in [&outside, &itself] {
        let to = format!("type=local,dest={dir}");
        let args = ["build", "-q", "--root", "zero", "--cache-to", &to];
        import(&world, "zero").run(args.iter().chain(&[world.context().to_str().unwrap()])).ok();
    }
    let index = |dir: &str| fs::read(Path::new(dir).join("index.json")).unwrap();
    let before = (index(&outside), index(&itself));
    let allowed = format!("{itself}/allowed");
    let marker = Marker::new();
    // With a key that it was not signed with, a cache cannot be read.
    let signed = format!("{outside},key={}", key.display());
    let to = [&signed, &itself, &allowed].map(|dest| format!("type=local,dest={dest}"));
    let mut command = import(&world, "one").command(program());
    world.file("Dockerfile", dockerfile("one", &format!("sleep {marker}")));
    command.args(["build", "-q", "--root", "one", "--network", "none"]);
    for to in &to {
        command.args(["--cache-to", to]);
    }
    command.arg("-f").arg(world.context().join("Dockerfile")).arg(&itself);
    let build = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    // It is written in the order of the flags.
    let names = || names(&fs::read(Path::new(&allowed).join("index.json")).unwrap_or_default());
    wait_for(|| names() == 1);
    kill(build.unwrap(), &marker);
    assert!(before == (index(&outside), index(&itself)));
}

/// Blobs that the storage of a registry has for a repository, by the hex digits of their digests.
fn blobs_of(storage: &Path, repository: &str) -> BTreeSet<String> {
    let all = storage.join("docker/registry/v2/repositories");
    let links = fs::read_dir(all.join(repository).join("_layers/sha256"));
    let names = links.into_iter().flatten().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// In the middle of a blob this registry lets nobody go on: what was on the way begins anew, once.
#[test]
fn blobs_that_a_killed_build_sent_whole_are_not_sent_again() {
    if !peer("docker-registry") {
        return;
    }
    let world = World::new().with_base();
    let registry = Registry::start(&world);
    let there = || blobs_of(&world.path("registry"), "killed");
    let proxy = Faults::before(&registry.address, |_| None);
    let cache = format!("{}/killed:cache", proxy.host());
    let mut dockerfile = "FROM base\n".to_owned();
    for (name, size) in [("small", 1 << 20), ("large", 6 << 20), ("other", 6 << 20)] {
        world.file(name, Dice::new(name).bytes(size));
        dockerfile += &format!("COPY {name} /\n");
    }
    world.file("Dockerfile", dockerfile);
    let context = world.context();
    let epoch = "--source-date-epoch=1700000000";
    // Two are sent at a time: when so much came, one was there.
    let hit = proxy.trap(8 << 20);
    let mut command = import(&world, "one").command(program());
    command.args(["build", "-q", epoch, "--root", "one", "--cache-to", &cache]).arg(&context);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    hit.recv_timeout(MINUTE).expect("layers are sent");
    child.kill().unwrap();
    child.wait().unwrap();
    let whole = there();
    assert!(!whole.is_empty());
    proxy.release();
    proxy.take();
    let build = |store: &str, flag: &str| {
        let fixed = ["build", "--progress", "plain", epoch, "--root", store];
        let context = context.to_str().unwrap();
        import(&world, store).run(fixed.iter().chain(&[flag, &cache, context]))
    };
    let digest = build("one", "--cache-to").ok();
    let mut lines = proxy.take().lines;
    lines.retain(|line| line.starts_with("PUT ") && line.contains("/blobs/"));
    let all = there();
    assert!(all.is_superset(&whole), "{whole:?} {all:?}");
    // Three layers and the records.
    assert_eq!(all.len(), 4, "{all:?}");
    for name in &all {
        let count = lines.iter().filter(|line| line.contains(name)).count();
        // What the first one had sent by its end may have become whole since.
        assert!(count <= usize::from(!whole.contains(name)), "{name}: {lines:?}");
    }
    let said = build("two", "--cache-from");
    assert_eq!(said.cached(), 3, "{said:?}");
    assert_eq!(said.ok(), digest);
}
