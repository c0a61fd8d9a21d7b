//! Forms that lie: everything is refused with what is wrong, and nothing is stored under a name.

use super::*;
use std::fs;

fn refused(world: &World, from: &Location) -> String {
    let access = world.access();
    let to = Location::parse("target:1").unwrap();
    let options = copy::CopyOptions::default();
    let error = copy::copy(&access, from, &to, &options).unwrap_err();
    assert!(world.store.names().unwrap().is_empty());
    format!("{error} {}", error.causes().join("; "))
}

/// A directory of the `dir:` form whose manifest is this, with these files.
fn dir(world: &World, manifest: &[u8], files: &[(&str, &[u8])]) -> Location {
    let path = world.dir.path().join("d");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    fs::write(path.join("manifest.json"), manifest).unwrap();
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).unwrap();
    }
    world.location("dir", "d")
}

fn manifest_of(config: &Value, layers: &[Value]) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
    });
    spec::to_json(&manifest).unwrap()
}

fn part(media_type: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

#[test]
fn digests_that_are_paths_are_no_digests() {
    let world = World::new();
    let config = part(media::OCI_CONFIG, "sha256:../../../../etc/passwd", 10);
    let error = refused(&world, &dir(&world, &manifest_of(&config, &[]), &[]));
    assert!(error.contains("is not a valid image manifest"), "{error}");
    let config = part(media::OCI_CONFIG, "../manifest.json", 10);
    let error = refused(&world, &dir(&world, &manifest_of(&config, &[]), &[]));
    assert!(error.contains("is not a valid image manifest"), "{error}");
}

#[test]
fn other_bytes_than_promised_are_found() {
    let world = World::new();
    let digest = Digest::of(b"{}");
    let config = part(media::OCI_CONFIG, digest.as_str(), 2);
    let manifest = manifest_of(&config, &[]);
    let error = refused(&world, &dir(&world, &manifest, &[(digest.hex(), b"[]")]));
    assert!(error.contains("wrong content"), "{error}");
    let error = refused(&world, &dir(&world, &manifest, &[(digest.hex(), b"{}{}")]));
    assert!(error.contains("wrong size: expected 2 bytes, found 4"), "{error}");
    fs::remove_file(world.dir.path().join("d").join(digest.hex())).unwrap();
    let error = refused(&world, &dir(&world, &manifest, &[]));
    assert!(error.contains("is missing"), "{error}");
}

#[test]
fn pipes_and_devices_are_not_waited_for() {
    let world = World::new();
    let digest = Digest::of(b"{}");
    let config = part(media::OCI_CONFIG, digest.as_str(), 2);
    let from = dir(&world, &manifest_of(&config, &[]), &[]);
    let blob = world.dir.path().join("d").join(digest.hex());
    std::os::unix::fs::symlink("/dev/zero", &blob).unwrap();
    let error = refused(&world, &from);
    assert!(error.contains("is missing"), "{error}");
    let manifest = world.dir.path().join("d/manifest.json");
    fs::remove_file(&manifest).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &manifest).unwrap();
    let error = refused(&world, &from);
    assert!(error.contains("there is no file `manifest.json` in it"), "{error}");
}

#[test]
fn indexes_without_an_end_are_refused() {
    let world = World::new();
    let access = world.access();
    let entry = |at: usize| {
        let digest = Digest::of(&at.to_le_bytes());
        part(media::OCI_MANIFEST, digest.as_str(), 100)
    };
    let index = |count: usize| {
        let entries: Vec<Value> = (0..count).map(entry).collect();
        json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries})
    };
    let bytes = spec::to_json(&index(20_000)).unwrap();
    let from = dir(&world, &bytes, &[]);
    let error = refused(&world, &from);
    assert!(error.contains("names too many documents"), "{error}");
    let opened = access.open(&from).unwrap();
    let error = manifests::list(&opened, "x", None).unwrap_err().to_string();
    assert_eq!(error, "the index has 20000 entries, more than 10000");
    let error = describe::describe(&access, &from, None).unwrap_err().to_string();
    assert_eq!(error, "the index leads to more than 10000 manifests");
    // A million of them is more than any document may have; its start is enough to see that.
    let from = dir(&world, &vec![b' '; (32 << 20) + 1], &[]);
    let error = refused(&world, &from);
    assert!(error.contains("more than the 33554432 that are allowed"), "{error}");
}

#[test]
fn a_manifest_that_is_an_index_too_is_refused() {
    let world = World::new();
    let both = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": {}, "layers": [], "manifests": [],
    });
    let error = refused(&world, &dir(&world, &spec::to_json(&both).unwrap(), &[]));
    assert!(error.contains("a manifest and an index at the same time"), "{error}");
}

#[test]
fn a_document_that_is_there_twice_is_refused() {
    let world = World::new();
    let list = r#"[{"Config": "c.json", "Layers": []}]"#;
    let tar = tar_of(&[
        ("manifest.json", EntryType::Regular, list),
        ("./manifest.json", EntryType::Regular, list),
    ]);
    fs::write(world.dir.path().join("x.tar"), tar).unwrap();
    let error = refused(&world, &world.location("docker-archive", "x.tar"));
    assert!(error.contains("it has `manifest.json` twice"), "{error}");
}

#[test]
fn a_directory_with_something_else_is_left_alone() {
    let world = World::new();
    let root = image(&world.store, &[]);
    let name = crate::oci::Reference::parse("a:1").unwrap();
    world.store.set_name(&name, &root, crate::oci::layout::Origin::Built).unwrap();
    fs::create_dir(world.dir.path().join("home")).unwrap();
    fs::write(world.dir.path().join("home/letter"), "dear").unwrap();
    let access = world.access();
    let from = Location::parse("a:1").unwrap();
    for transport in ["dir", "oci"] {
        let to = world.location(transport, "home");
        let error = copy::copy(&access, &from, &to, &copy::CopyOptions::default()).unwrap_err();
        assert!(error.to_string().contains("content"), "{error}");
        assert_eq!(fs::read_dir(world.dir.path().join("home")).unwrap().count(), 1);
    }
}
