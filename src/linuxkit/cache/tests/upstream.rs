//! A cache as `linuxkit` writes it, read and changed by us.

use super::super::{PkgCache, fixture::*};
use crate::oci::{layout::Layout, media, spec::Descriptor};
use serde_json::{Value, json};
use std::{fs, time::Duration};

const ARCH_NAME: &str = "docker.io/org/pkg:abc-amd64";

/// What BuildKit leaves of a build with an SBOM: the image, its attestation, and the index of both.
struct Export {
    image: Value,
    attestation: Value,
    index: Descriptor,
}

fn put(layout: &Layout, media_type: &str, value: &Value) -> Descriptor {
    // BuildKit indents its documents by two spaces.
    let text = serde_json::to_string_pretty(value).unwrap();
    layout.put_document(media_type, text.as_bytes()).unwrap()
}

fn export(layout: &Layout, text: &str) -> Export {
    let image = image(layout, &platform("amd64"), text);
    let statement = layout.put_document("application/vnd.in-toto+json", b"{\"a\":1}").unwrap();
    let empty = layout
        .put_document(media::OCI_CONFIG, br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:e2f3d9ad3b2a4d4b1b4a8b7d4fd4e3d1c9e0bca4cbb4dc21ed1a9c7cbb3e64a0"]}}"#)
        .unwrap();
    let mut layer = plain(&statement);
    layer["annotations"] = json!({"in-toto.io/predicate-type": "https://spdx.dev/Document"});
    let manifest = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": plain(&empty), "layers": [layer]});
    let manifest = put(layout, media::OCI_MANIFEST, &manifest);
    let mut attestation = plain(&manifest);
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest().to_string(),
    });
    let image = entry(&image, "amd64");
    let both = put(layout, media::OCI_INDEX, &index(&[image.clone(), attestation.clone()]));
    Export { image, attestation, index: both }
}

/// The directory after `linuxkit pkg build --platforms linux/amd64`.
fn upstream(world: &World) -> (Export, Value) {
    let root = world.dir.path().join("cache");
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    fs::create_dir_all(root.join("ingest")).unwrap();
    fs::write(root.join("oci-layout"), "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}").unwrap();
    fs::write(root.join("index.json"), index(&[]).to_string()).unwrap();
    let layout = Layout::open(&root).unwrap();
    let built = export(&layout, "upstream");
    let whole = index(&[built.image.clone(), built.attestation.clone()]);
    let whole = layout.put_document(media::OCI_INDEX, whole.to_string().as_bytes()).unwrap();
    let mut per_arch = plain(&built.index);
    per_arch["annotations"] = json!({
        "io.containerd.image.name": ARCH_NAME,
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "org.opencontainers.image.ref.name": ARCH_NAME,
    });
    let names = index(&[per_arch.clone(), named(&whole, NAME)]);
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
    serde::Serialize::serialize(&names, &mut writer).unwrap();
    fs::write(root.join("index.json"), text).unwrap();
    (built, per_arch)
}

#[test]
fn what_linuxkit_built_is_found() {
    let world = World::new();
    let (built, _) = upstream(&world);
    PkgCache::open_or_create(world.dir.path().join("cache")).unwrap();
    assert!(world.has("amd64") && !world.has("arm64"));
    assert!(world.cache.complete(ARCH_NAME, &platform("amd64")).unwrap());
    let found = world.cache.image(NAME, &platform("amd64")).unwrap().unwrap();
    assert_eq!(found.manifest_descriptor.digest().to_string(), built.image["digest"]);
    // The attestation is nobody's platform.
    let unknown = crate::oci::Platform::new("unknown", "unknown", "");
    assert!(!world.cache.complete(NAME, &unknown).unwrap());
    let names: Vec<String> =
        world.cache.list().unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, [NAME, ARCH_NAME]);
}

#[test]
fn our_builds_keep_its_entries_and_attestations() {
    let world = World::new();
    let (built, per_arch) = upstream(&world);
    let whole = world.cache.find(NAME).unwrap().unwrap();
    let written = world.build(NAME, "arm64", "ours");
    let arm64 = world.image("arm64", "ours");
    assert_eq!(
        world.json(&written),
        index(&[built.image.clone(), built.attestation.clone(), entry(&arm64, "arm64")])
    );
    assert_eq!(
        world.root(),
        index(&[per_arch, named(&arm64, "docker.io/org/pkg:abc-arm64"), named(&written, NAME)])
    );
    assert!(!world.cache.layout().has(&whole));
    assert!(world.has("amd64") && world.has("arm64"));

    // Another image of the platform takes its attestation along, out of the index; the blobs stay.
    let written = world.build(NAME, "amd64", "ours");
    let amd64 = world.image("amd64", "ours");
    assert_eq!(world.json(&written), index(&[entry(&amd64, "amd64"), entry(&arm64, "arm64")]));
    let attestation = serde_json::from_value(built.attestation).unwrap();
    assert!(world.cache.layout().has(&attestation));
    world.cache.clean_unused(Duration::ZERO).unwrap();
    assert!(!world.cache.layout().has(&attestation));
    world.validate();
}

#[test]
fn cleaning_keeps_attestations_that_are_named() {
    let world = World::new();
    upstream(&world);
    let before = world.files("blobs/sha256");
    world.cache.clean_unused(Duration::ZERO).unwrap();
    assert_eq!(world.files("blobs/sha256"), before);
    // One of the names is enough.
    world.cache.remove(&[NAME.to_owned()]).unwrap();
    assert_eq!(world.files("blobs/sha256").len(), before.len() - 1);
    assert!(world.cache.complete(ARCH_NAME, &platform("amd64")).unwrap());
}

#[test]
fn an_index_of_one_platform_under_two_names_is_not_lost() {
    // linuxkit deletes it, since it does not look at the other name.
    let world = World::new();
    let first = world.build(NAME, "amd64", "1");
    world.cache.writer().unwrap().set(&[(ARCH_NAME.to_owned(), first.clone())]).unwrap();
    let second = world.build(NAME, "arm64", "2");
    assert_ne!(first, second);
    assert!(world.cache.layout().has(&first));
    assert!(world.cache.complete(ARCH_NAME, &platform("amd64")).unwrap());
    world.validate();
}
