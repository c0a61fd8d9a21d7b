//! Where a text is in what a build wrote.

use super::World;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Files of the store and among the outputs that hold `needle`, as they are or decompressed.
pub fn leaks(world: &World, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for place in [world.store(), world.path("out")] {
        search(&place, needle.as_bytes(), &mut found);
    }
    found
}

fn search(path: &Path, needle: &[u8], found: &mut Vec<String>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            search(&entry.unwrap().path(), needle, found);
        }
        return;
    }
    if !meta.is_file() {
        return;
    }
    let bytes = fs::read(path).unwrap();
    let mut plain = Vec::new();
    let _not_compressed = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain);
    for content in [&bytes, &plain] {
        if memchr::memmem::find(content, needle).is_some() {
            found.push(path.display().to_string());
        }
    }
}
