//! What is found in the cache, and what is as good as not there.

use super::super::{Listed, fixture::*};
use crate::error::ErrorKind;
use crate::oci::{Platform, media, spec};
use serde_json::json;
use std::fs;

#[test]
fn a_platform_is_complete_as_long_as_every_blob_of_it_is() {
    let world = World::new();
    world.build(NAME, "arm64", "2");
    world.build(NAME, "amd64", "1");
    let image = world.image("amd64", "1");
    assert!(world.has("amd64") && world.has("arm64") && !world.has("s390x"));
    let parts = world.parts(&image);
    assert_eq!(parts.len(), 3);
    for part in parts {
        let path = world.cache.layout().blob_path(&spec::digest_of(&part).unwrap());
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!world.has("amd64") && world.has("arm64"), "lost {}", part.media_type());
        fs::write(&path, &content[1..]).unwrap();
        assert!(!world.has("amd64") && world.has("arm64"), "cut {}", part.media_type());
        // A build brings the blob back.
        world.build(NAME, "amd64", "1");
        assert!(world.has("amd64"));
    }
    world.validate();
}

#[test]
fn the_names_of_one_platform_are_found_by_name_and_by_digest() {
    let world = World::new();
    let written = world.build(NAME, "amd64", "1");
    let image = world.image("amd64", "1");
    let find = |name: &str| {
        world.cache.find(name).unwrap().map(|descriptor| descriptor.digest().to_string())
    };
    let (index, image) = (Some(written.digest().to_string()), Some(image.digest().to_string()));
    assert_eq!(find(NAME), index);
    assert_eq!(find("docker.io/org/pkg:abc-amd64"), image);
    assert_eq!(find(&format!("docker.io/org/other@{}", written.digest())), index);
    assert_eq!(find(&format!("{NAME}@{}", image.clone().unwrap())), image);
    for absent in ["org/pkg:abc", "docker.io/org/pkg", "docker.io/org/pkg:ab", "", "x@sha256:1"] {
        assert_eq!(find(absent), None, "{absent}");
    }
    assert!(world.cache.complete("docker.io/org/pkg:abc-amd64", &platform("amd64")).unwrap());
    assert!(!world.cache.complete("docker.io/org/pkg:abc-amd64", &platform("arm64")).unwrap());
    assert_eq!(
        world.cache.list().unwrap(),
        [
            Listed { name: NAME.to_owned(), digest: index.unwrap() },
            Listed { name: format!("{NAME}-amd64"), digest: image.unwrap() },
        ]
    );
}

#[test]
fn variants_do_not_matter_and_an_equal_one_is_preferred() {
    let world = World::new();
    let [v6, v7] = ["arm/v6", "arm/v7"].map(|arch| {
        let platform = platform(arch);
        (image(world.cache.layout(), &platform, arch), platform)
    });
    let with = |(image, platform): &(spec::Descriptor, Platform)| {
        let mut entry = entry(image, "arm");
        entry["platform"]["variant"] = platform.variant.clone().into();
        entry
    };
    let both = spec::to_json(&index(&[with(&v6), with(&v7)])).unwrap();
    let both = world.cache.layout().put_document(media::OCI_INDEX, &both).unwrap();
    world.cache.writer().unwrap().set(&[(NAME.to_owned(), both)]).unwrap();
    let found = |arch: &str| {
        let found = world.cache.image(NAME, &platform(arch)).unwrap().unwrap();
        found.manifest_descriptor.digest().clone()
    };
    assert_eq!(found("arm/v6"), *v6.0.digest());
    assert_eq!(found("arm/v7"), *v7.0.digest());
    assert_eq!(found("arm/v5"), *v6.0.digest());
    world.cache.layout().remove_blob(&spec::digest_of(&v6.0).unwrap()).unwrap();
    assert_eq!(found("arm/v6"), *v7.0.digest());
}

#[test]
fn a_hostile_root_index_is_an_error_and_stays() {
    let world = World::new();
    let path = world.cache.layout().root().join("index.json");
    let image = world.image("amd64", "1");
    let writer = world.cache.writer().unwrap();
    writer.adopt(&world.store, &image).unwrap();
    let deep = "[".repeat(10_000);
    let garbage = [
        "",
        "[]",
        r#"{"schemaVersion":2,"manifests":7}"#,
        r#"{"schemaVersion":2,"manifests":[7]}"#,
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"../../x","size":-1}]}"#,
        r#"{"schemaVersion":1,"manifests":[]}"#,
        &deep,
    ];
    for text in garbage {
        fs::write(&path, text).unwrap();
        let arches = [(platform("amd64"), image.clone())];
        let errors = [
            world.cache.find(NAME).err(),
            world.cache.complete(NAME, &platform("amd64")).err(),
            world.cache.list().err(),
            writer.write(NAME, &arches).err(),
            writer.set(&[(NAME.to_owned(), image.clone())]).err(),
        ];
        for (at, error) in errors.into_iter().enumerate() {
            // Setting a name does not look at the entries of others.
            let Some(error) = error else {
                assert_eq!(at, 4, "{text}");
                fs::write(&path, text).unwrap();
                continue;
            };
            assert_eq!(error.kind(), ErrorKind::Integrity, "{text}: {error}");
            assert!(error.message().contains("index.json"), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

fn put(world: &World, value: serde_json::Value) -> serde_json::Value {
    let bytes = spec::to_json(&value).unwrap();
    plain(&world.cache.layout().put_document(media::OCI_INDEX, &bytes).unwrap())
}

fn nested(world: &World) -> serde_json::Value {
    (0..50).fold(put(world, index(&[])), |inner, _| put(world, index(&[inner])))
}

fn index_and_manifest(world: &World) -> serde_json::Value {
    put(world, json!({"schemaVersion": 2, "manifests": [], "config": {}, "layers": []}))
}

fn no_document(world: &World) -> serde_json::Value {
    put(world, json!("text"))
}

fn wrong_children(world: &World) -> serde_json::Value {
    let (mut text, mut missing) = (no_document(world), huge(world));
    for child in [&mut text, &mut missing] {
        child["platform"] = json!({"os": "linux", "architecture": "amd64"});
    }
    put(world, index(&[text, missing]))
}

fn huge(world: &World) -> serde_json::Value {
    let mut huge = no_document(world);
    huge["size"] = (1_u64 << 60).into();
    huge
}

fn other_hash(world: &World) -> serde_json::Value {
    let mut other = no_document(world);
    other["digest"] = format!("sha512:{}", "0".repeat(128)).into();
    other
}

/// Its layer is the manifest of somebody else.
fn thief(world: &World) -> serde_json::Value {
    let image = world.image("amd64", "1");
    let mut manifest = world.store.read_blob_small(&image).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    value["layers"] = json!([plain(&image)]);
    manifest = spec::to_json(&value).unwrap();
    plain(&world.cache.layout().put_document(media::OCI_MANIFEST, &manifest).unwrap())
}

#[test]
fn hostile_entries_are_not_found_and_harm_nobody() {
    let good = "docker.io/org/good:1";
    let all = [nested, index_and_manifest, no_document, wrong_children, huge, other_hash];
    for make in all {
        let world = World::new();
        world.build(good, "amd64", "1");
        let mut hostile = make(&world);
        hostile["annotations"] = json!({"org.opencontainers.image.ref.name": NAME});
        let mut root = world.root();
        root["manifests"].as_array_mut().unwrap().insert(0, hostile);
        fs::write(world.cache.layout().root().join("index.json"), root.to_string()).unwrap();
        assert!(!world.has("amd64"), "{root}");
        world.cache.clean_unused(std::time::Duration::ZERO).unwrap();
        assert!(world.cache.complete(good, &platform("amd64")).unwrap(), "{root}");
        world.cache.remove(&[NAME.to_owned()]).unwrap();
        assert!(world.cache.complete(good, &platform("amd64")).unwrap(), "{root}");
        world.validate();
    }
}

#[test]
fn an_image_whose_layer_is_anothers_manifest_takes_nothing_away_from_it() {
    let world = World::new();
    world.build("docker.io/org/good:1", "amd64", "1");
    for name in ["a:1", "z:1"] {
        let thief = serde_json::from_value(thief(&world)).unwrap();
        world.cache.writer().unwrap().set(&[(name.to_owned(), thief)]).unwrap();
        world.cache.clean_unused(std::time::Duration::ZERO).unwrap();
        world.cache.remove(&[name.to_owned()]).unwrap();
        assert!(world.cache.complete("docker.io/org/good:1", &platform("amd64")).unwrap());
    }
}
