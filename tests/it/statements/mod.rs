//! The statements of dockerfile.md §6, each as what a user sees of it; tests bear the numbers of their statements.
//!
//! What the front end alone makes of 1 to 26 and 55 to 58 is in `src/dockerfile/tests`; 52 stands in `remote.rs`, 53 in
//! `links.rs`, 61 in `secrets.rs` and 69 in `entitlements.rs`. `tests/tidy/statements.rs` sees that no number is missing.

mod attributes;
mod caching;
mod copying;
mod expansion;
mod ignoring;
mod images;
mod parsing;
mod results;
mod running;

use crate::support::{Said, World, base};
use serde_json::Value;
use std::fs;
use std::io::Read;

/// Two blocks of zeros: a layer without entries.
const EMPTY_LAYER: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// The PATH of an image that brings none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One world for the running user, with the small base.
fn world() -> World {
    World::new().with_base()
}

/// Root's and the ordinary user's, with the small base.
fn worlds() -> impl Iterator<Item = World> {
    World::each().into_iter().map(World::with_base)
}

/// Builds a whole Dockerfile as `app`, and it succeeds.
#[track_caller]
fn build(world: &World, text: &str, args: &[&str]) -> Said {
    let said = world.build(text, &[&["-t", "app"], args].concat());
    assert_eq!(said.code, 0, "{:?}: {text}\n{}", world.who(), said.stderr);
    said
}

/// Builds on the small base as `app`, and gives what the steps printed.
#[track_caller]
fn output(world: &World, steps: &str) -> Vec<String> {
    printed(&build(world, &format!("FROM base\n{steps}"), &[]))
}

/// What the steps of a build printed, without their numbers.
fn printed(said: &Said) -> Vec<String> {
    let line = |line: &str| {
        let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
        let own = text.starts_with('[') || text == "CACHED" || text.starts_with("DONE ");
        (number.parse::<u32>().is_ok() && !own).then(|| text.to_owned())
    };
    said.stderr.lines().filter_map(line).collect()
}

/// `LINE:COLUMN: message` of a whole Dockerfile that cannot be built.
#[track_caller]
fn refused(world: &World, text: &str, args: &[&str]) -> String {
    let said = world.build(text, args).failed(1);
    let (_, error) = said.split_once("error: ").unwrap();
    let mut lines = error.lines();
    let message = lines.next().unwrap();
    let place = lines.next().and_then(|line| line.strip_prefix("  --> Dockerfile:"));
    place.map_or(message.to_owned(), |place| format!("{place}: {message}"))
}

/// The part of the config that says how to run `app`.
fn config(world: &World) -> Value {
    world.config("app")["config"].take()
}

/// Variables of `app` besides PATH.
fn env(world: &World) -> Vec<String> {
    let config = config(world);
    let all = config["Env"].as_array().unwrap().iter().map(|pair| pair.as_str().unwrap());
    all.filter(|pair| *pair != PATH).map(str::to_owned).collect()
}

/// `layer TEXT` or `empty TEXT` of the entries that the build of `app` added to those of its base.
fn history(world: &World) -> Vec<String> {
    let config = world.config("app");
    let entries = config["history"].as_array().unwrap().iter();
    entries
        .filter_map(|entry| {
            let text = entry["created_by"].as_str()?;
            assert_eq!(entry["comment"], "buildkit.dockerfile.v0");
            let kind = if entry["empty_layer"] == true { "empty" } else { "layer" };
            Some(format!("{kind} {text}"))
        })
        .collect()
}

/// Digests of the uncompressed layers of `app` above the small base.
fn diff_ids(world: &World) -> Vec<String> {
    let config = world.config("app");
    let all = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
    all.skip(1).map(|digest| digest.as_str().unwrap().to_owned()).collect()
}

/// The tars of the layers of `app` above the small base.
fn tars(world: &World) -> Vec<Vec<u8>> {
    let text = world.run(["image", "inspect", "--json", "app"]).ok();
    let image: Value = serde_json::from_str(&text).unwrap();
    let layers = image["manifest"]["layers"].as_array().unwrap().iter().skip(1);
    layers
        .map(|layer| {
            let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let blob = fs::File::open(world.store().join("images/blobs/sha256").join(digest));
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(blob.unwrap()).read_to_end(&mut tar).unwrap();
            tar
        })
        .collect()
}

/// What the layers of `app` above the small base hold, each sorted.
fn layers(world: &World) -> Vec<Vec<String>> {
    tars(world).iter().map(|tar| base::list_tar(tar)).collect()
}

/// What the layer of one instruction holds.
#[track_caller]
fn layer_of(world: &World, instruction: &str) -> Vec<String> {
    build(world, &format!("FROM base\n{instruction}\n"), &[]);
    let mut layers = layers(world);
    assert_eq!(layers.len(), 1);
    layers.remove(0)
}

/// Lines of the root file system of `app` that the small base does not have.
fn added(world: &World) -> Vec<String> {
    let below = world.listing("base");
    world.listing("app").into_iter().filter(|line| !below.contains(line)).collect()
}
