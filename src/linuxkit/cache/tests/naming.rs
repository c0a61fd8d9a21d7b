//! What builds write into the root index and into the index of their package.

use super::super::{PkgCache, fixture::*};
use crate::oci::{Digest, media, spec};
use std::fs;

#[test]
fn a_new_cache_is_as_linuxkit_makes_it() {
    let world = World::new();
    let root = world.cache.layout().root();
    assert_eq!(
        fs::read_to_string(root.join("oci-layout")).unwrap(),
        "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}"
    );
    assert_eq!(world.root(), index(&[]));
    PkgCache::open_or_create(root).unwrap();
    assert!(world.files("blobs/sha256").is_empty());
    fs::write(world.dir.path().join("precious"), "").unwrap();
    let error = PkgCache::open_or_create(world.dir.path()).unwrap_err();
    let message = format!("cannot make the image layout `{}`", world.dir.path().display());
    assert_eq!(error.message(), message);
}

#[test]
fn a_build_of_two_platforms_gives_three_names() {
    let world = World::new();
    let (amd64, s390x) = (world.image("amd64", "a"), world.image("s390x", "s"));
    let writer = world.cache.writer().unwrap();
    writer.adopt(&world.store, &amd64).unwrap();
    writer.adopt(&world.store, &s390x).unwrap();
    assert_eq!(world.root(), index(&[]));
    let arches = [(platform("s390x"), s390x.clone()), (platform("amd64"), amd64.clone())];
    let written = writer.write(NAME, &arches).unwrap();
    assert_eq!(written.media_type().as_ref(), media::OCI_INDEX);
    assert_eq!(world.json(&written), index(&[entry(&s390x, "s390x"), entry(&amd64, "amd64")]));
    assert_eq!(
        world.root(),
        index(&[
            named(&s390x, "docker.io/org/pkg:abc-s390x"),
            named(&amd64, "docker.io/org/pkg:abc-amd64"),
            named(&written, NAME),
        ])
    );
    world.validate();
}

#[test]
fn documents_are_compact() {
    let world = World::new();
    let written = world.build(NAME, "amd64", "a");
    let text = world.cache.layout().read_blob_small(&written).unwrap();
    let value = serde_json::from_slice::<serde_json::Value>(&text).unwrap();
    assert_eq!(text, serde_json::to_vec(&value).unwrap());
}

#[test]
fn a_platform_is_added_replaced_and_added_again() {
    let world = World::new();
    let [first, second, third] =
        [("amd64", "1"), ("arm64", "2"), ("amd64", "3")].map(|(arch, text)| {
            let index = world.build(NAME, arch, text);
            (world.image(arch, text), index)
        });
    assert_eq!(world.json(&third.1), index(&[entry(&third.0, "amd64"), entry(&second.0, "arm64")]));
    assert_eq!(
        world.root(),
        index(&[
            named(&second.0, "docker.io/org/pkg:abc-arm64"),
            named(&third.0, "docker.io/org/pkg:abc-amd64"),
            named(&third.1, NAME),
        ])
    );
    // Old indexes are gone, what they named is still here.
    assert!(!world.cache.layout().has(&first.1) && !world.cache.layout().has(&second.1));
    assert!(world.parts(&first.0).iter().all(|part| world.cache.layout().has(part)));
    assert_eq!(world.build(NAME, "amd64", "3"), third.1);
    assert!(world.cache.layout().has(&third.1));
    world.validate();
}

#[test]
fn an_index_that_another_name_means_is_not_deleted() {
    let world = World::new();
    let first = world.build(NAME, "amd64", "1");
    world.cache.writer().unwrap().set(&[("other:1".to_owned(), first.clone())]).unwrap();
    let second = world.build(NAME, "arm64", "2");
    assert!(world.cache.layout().has(&first));

    // The same through an index of indexes.
    let outer = spec::to_json(&index(&[plain(&second)])).unwrap();
    let outer = world.cache.layout().put_document(media::OCI_INDEX, &outer).unwrap();
    world.cache.writer().unwrap().set(&[("outer:1".to_owned(), outer)]).unwrap();
    world.build(NAME, "s390x", "3");
    assert!(world.cache.layout().has(&second));
    world.validate();
}

#[test]
fn an_image_under_the_name_of_the_index_is_an_error() {
    let world = World::new();
    let image = world.image("amd64", "1");
    let writer = world.cache.writer().unwrap();
    writer.adopt(&world.store, &image).unwrap();
    writer.set(&[(NAME.to_owned(), image.clone())]).unwrap();
    let before = world.root();
    assert_eq!(before, index(&[named(&image, NAME)]));
    let error = writer.write(NAME, &[(platform("amd64"), image)]).unwrap_err();
    assert_eq!(
        error.message(),
        "image named `docker.io/org/pkg:abc` already exists in cache and is not an index"
    );
    assert_eq!(error.hints(), ["remove it from the cache, then build again"]);
    assert_eq!(world.root(), before);
}

#[test]
fn a_lost_or_damaged_index_is_begun_anew() {
    let world = World::new();
    for damage in ["", "{}"] {
        let old = world.build(NAME, "arm64", damage);
        let path = world.cache.layout().blob_path(&spec::digest_of(&old).unwrap());
        match damage {
            "" => fs::remove_file(path).unwrap(),
            text => fs::write(path, text).unwrap(),
        }
        let new = world.build(NAME, "amd64", "1");
        assert_eq!(world.json(&new), index(&[entry(&world.image("amd64", "1"), "amd64")]));
        world.validate();
    }
}

#[test]
fn only_manifests_that_are_here_get_names() {
    let world = World::new();
    let image = world.image("amd64", "1");
    let writer = world.cache.writer().unwrap();
    let error = writer.write(NAME, &[(platform("amd64"), image.clone())]).unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "blob {} (`{}`, {} bytes) is missing",
            image.digest(),
            media::OCI_MANIFEST,
            image.size()
        )
    );
    assert!(writer.set(&[("a:1".to_owned(), image.clone())]).is_err());
    assert!(writer.write(NAME, &[]).is_err());
    let stray = spec::descriptor(media::OCI_INDEX.into(), &Digest::of(b""), 0);
    assert!(writer.write(NAME, &[(platform("amd64"), stray)]).is_err());
    // An image with a part missing is not even taken in.
    let layer = spec::digest_of(&world.parts(&image)[1]).unwrap();
    world.store.remove_blob(&layer).unwrap();
    assert!(writer.adopt(&world.store, &image).is_err());
    assert_eq!(world.root(), index(&[]));
}

#[test]
fn what_the_store_notes_about_an_image_stays_there() {
    let world = World::new();
    let mut image = world.image("amd64", "1");
    let writer = world.cache.writer().unwrap();
    writer.adopt(&world.store, &image).unwrap();
    let notes = [
        ("io.nativebuild.origin", "built"),
        ("org.opencontainers.image.ref.name", "x:1"),
        ("mine", "kept"),
    ];
    let notes = notes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    image.set_annotations(Some(notes.into_iter().collect()));
    let written = writer.write(NAME, &[(platform("amd64"), image.clone())]).unwrap();
    let mut expected = entry(&image, "amd64");
    expected["annotations"] = serde_json::json!({"mine": "kept"});
    assert_eq!(world.json(&written), index(&[expected]));
    let arch = named(&image, "docker.io/org/pkg:abc-amd64");
    assert_eq!(world.root(), index(&[arch, named(&written, NAME)]));
}
