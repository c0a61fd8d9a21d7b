//! What a store takes on the disk: the layers of all stages once, packed and unpacked, and little else.

use crate::support::World;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const BLOCK: u64 = 4096;

/// Bytes of all that is below a path, each inode once.
fn on_disk(path: &Path, seen: &mut HashSet<u64>) -> u64 {
    let found = fs::symlink_metadata(path).unwrap();
    if !seen.insert(found.ino()) {
        return 0;
    }
    let own = found.blocks() * 512;
    if !found.is_dir() {
        return own;
    }
    let inside = fs::read_dir(path).unwrap();
    own + inside.map(|entry| on_disk(&entry.unwrap().path(), seen)).sum::<u64>()
}

/// All digests in a JSON value.
fn digests(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => found.extend(text.strip_prefix("sha256:").map(str::to_owned)),
        Value::Array(list) => list.iter().for_each(|value| digests(value, found)),
        Value::Object(members) => members.values().for_each(|value| digests(value, found)),
        _ => {}
    }
}

/// Blobs that the index and the records of steps name, and what these name.
fn named(store: &Path) -> BTreeSet<String> {
    let read = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).ok();
    let steps = fs::read_dir(store.join("cache/steps")).unwrap();
    let mut waiting: Vec<Value> = steps.filter_map(|entry| read(&entry.unwrap().path())).collect();
    waiting.extend(read(&store.join("images/index.json")));
    let (blobs, mut named) = (store.join("images/blobs/sha256"), BTreeSet::new());
    while let Some(value) = waiting.pop() {
        let mut found = BTreeSet::new();
        digests(&value, &mut found);
        for digest in found {
            let blob = blobs.join(&digest);
            if blob.exists() && named.insert(digest) {
                // A layer is no JSON.
                waiting.extend(read(&blob));
            }
        }
    }
    named
}

fn in_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

/// The blob, and its files and directories when it is a layer.
fn needed(blob: &Path) -> u64 {
    let packed = in_blocks(fs::metadata(blob).unwrap().len());
    let mut layer = tar::Archive::new(MultiGzDecoder::new(File::open(blob).unwrap()));
    let Ok(entries) = layer.entries() else { return packed };
    let mut unpacked = 0;
    let (mut is_layer, mut has_root) = (false, false);
    for entry in entries {
        let Ok(entry) = entry else { break };
        is_layer = true;
        has_root |= entry.path().unwrap().components().count() == 0;
        unpacked += match entry.header().entry_type() {
            tar::EntryType::Directory => BLOCK,
            tar::EntryType::Regular => in_blocks(entry.size()),
            _ => 0,
        };
    }
    // Every tree has a root.
    packed + unpacked + if is_layer && !has_root { BLOCK } else { 0 }
}

#[test]
fn a_store_takes_little_more_than_its_layers() {
    for world in World::each() {
        let world = world.with_base();
        world.file("file", vec![7; 100_000]);
        let steps: Vec<String> =
            (0..25).map(|step| format!("RUN echo {step} > /f{step}")).collect();
        let dockerfile = format!(
            "FROM base AS one\n{}\nFROM base\nCOPY file /\nRUN cp /bin/busybox /copy\n\
             RUN chmod 600 /copy\nCOPY --from=one /f7 /\nRUN rm /file\n",
            steps.join("\n")
        );
        world.build(&dockerfile, &["-t", "app"]).ok();
        world.validate("app");
        let blobs = world.store().join("images/blobs/sha256");
        let list = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().file_name());
        let list: BTreeSet<String> = list.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(list, named(&world.store()));
        let layers: u64 = list.iter().map(|name| needed(&blobs.join(name))).sum();
        let disk = on_disk(&world.store(), &mut HashSet::new());
        assert!(disk * 10 <= layers * 11, "{:?}: {disk} of {layers}", world.who());
    }
}
