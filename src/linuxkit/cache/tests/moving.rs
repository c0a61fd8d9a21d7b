//! Images on their way between cache, store and files.

use super::super::{Brought, ExportFormat, Listed, PkgCache, fixture::*};
use crate::error::ErrorKind;
use crate::oci::{
    Reference,
    archive::{self, Expect, Import, Input, Select},
    layout::{Layout, index::IMAGE_NAME},
    media, spec, validate,
};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

fn inode(layout: &Layout, blob: &spec::Descriptor) -> u64 {
    fs::metadata(layout.blob_path(&spec::digest_of(blob).unwrap())).unwrap().ino()
}

#[test]
fn blobs_of_a_build_are_the_same_files_in_store_and_cache() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    for part in world.parts(&world.image("amd64", "1")) {
        assert_eq!(inode(world.cache.layout(), &part), inode(&world.store, &part));
    }
}

#[test]
fn a_build_borrows_one_platform_of_a_base() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    world.build(NAME, "arm64", "2");
    let other = Layout::create(world.dir.path().join("other")).unwrap();
    let lend = |name: &str, arch: &str| {
        let name = Reference::parse(name).unwrap();
        world.cache.lend_named(&other, &name, &platform(arch)).unwrap()
    };
    assert_eq!(lend("org/pkg:abc", "s390x"), None);
    assert_eq!(lend("org/pkg", "amd64"), None);
    assert!(files(&other.root().join("blobs/sha256")).is_empty());
    let lent = lend("org/pkg:abc", "arm64").unwrap();
    let image = world.image("arm64", "2");
    assert_eq!(lent.digest(), image.digest());
    let parts = world.parts(&image);
    assert_eq!(files(&other.root().join("blobs/sha256")).len(), parts.len());
    assert!(parts.iter().all(|part| inode(&other, part) == inode(world.cache.layout(), part)));
    assert_eq!(validate::validate(&other, &lent).unwrap(), []);
    assert!(lend("docker.io/org/pkg:abc-amd64", "amd64").is_some());
    let digest = format!("org/pkg@{}", world.image("amd64", "1").digest());
    assert!(lend(&digest, "amd64").is_some());
}

#[test]
fn a_damaged_layer_is_not_lent() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    let layer = world.parts(&world.image("amd64", "1")).remove(1);
    let path = world.cache.layout().blob_path(&spec::digest_of(&layer).unwrap());
    let mut content = fs::read(&path).unwrap();
    content[0] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, content).unwrap();
    let other = Layout::create(world.dir.path().join("other")).unwrap();
    let name = Reference::parse(NAME).unwrap();
    let error = world.cache.lend_named(&other, &name, &platform("amd64")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(error.message(), "an image in the LinuxKit cache is damaged");
    assert_eq!(error.hints(), ["remove it from the cache, then build or pull it again"]);
    assert!(files(&other.root().join("blobs/sha256")).is_empty());
}

#[test]
fn an_exported_image_is_imported_under_its_name_or_another() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    world.build(NAME, "arm64", "2");
    let digest = world.image("arm64", "2").digest().to_string();
    let table = [
        (ExportFormat::Oci, None, NAME),
        (ExportFormat::Oci, Some("new:2"), "docker.io/library/new:2"),
        (ExportFormat::Docker, None, NAME),
        (ExportFormat::Docker, Some("x.io/new"), "x.io/new:latest"),
    ];
    for (at, (format, rename, name)) in table.into_iter().enumerate() {
        let file = world.dir.path().join(format!("{at}.tar"));
        let out = Some(file.as_path());
        world.cache.export("org/pkg:abc", &platform("arm64"), format, rename, out).unwrap();
        let cache = PkgCache::open_or_create(world.dir.path().join(format!("{at}"))).unwrap();
        let brought = cache.import(Input::Path(file)).unwrap();
        assert_eq!(brought.unnamed, []);
        let [listed] = &brought.named[..] else { panic!("{brought:?}") };
        assert_eq!(listed.name, name);
        if format == ExportFormat::Oci {
            assert_eq!(listed.digest, digest);
        }
        assert_eq!(cache.list().unwrap(), brought.named);
        assert!(cache.complete(name, &platform("arm64")).unwrap());
        let root = fs::read_dir(cache.layout().root()).unwrap().count();
        assert_eq!(
            root, 5,
            "nothing is left beside .lock, .writers, blobs, index.json, oci-layout"
        );
    }
}

#[test]
fn exporting_what_is_not_there_says_what_there_is() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    let export = |name: &str, arch: &str| {
        let out = world.dir.path().join("out.tar");
        let done = world.cache.export(name, &platform(arch), ExportFormat::Oci, None, Some(&out));
        assert!(!out.exists());
        let error = done.unwrap_err();
        (error.message().to_owned(), error.hints().to_vec())
    };
    assert_eq!(
        export("org/pkg:abc", "s390x"),
        (
            "the cache has no complete image `org/pkg:abc` for linux/s390x".to_owned(),
            vec!["its index names linux/amd64".to_owned()]
        )
    );
    assert_eq!(
        export("org/pkg:abd", "amd64"),
        (
            "image `org/pkg:abd` is not in the cache".to_owned(),
            vec![format!("did you mean `{NAME}`?")]
        )
    );
}

#[test]
fn imports_name_what_the_source_names_and_replace_it() {
    let world = World::new();
    world.build(NAME, "amd64", "old");
    let source = Layout::create(world.dir.path().join("source")).unwrap();
    let (mut one, two) =
        (image(&source, &platform("amd64"), "new"), image(&source, &platform("arm64"), "nameless"));
    let digests = [&one, &two].map(|image| image.digest().to_string());
    let annotations = [(IMAGE_NAME, NAME), ("org.opencontainers.image.ref.name", "abc")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    one.set_annotations(Some(annotations.into_iter().collect()));
    source.set_entries(vec![one.clone(), two.clone()], |_| false).unwrap();
    let brought = world.cache.import(Input::Path(source.root().to_owned())).unwrap();
    assert_eq!(
        brought,
        Brought {
            named: vec![Listed { name: NAME.to_owned(), digest: digests[0].clone() }],
            unnamed: vec![spec::digest_of(&two).unwrap()],
        }
    );
    let old = world.image("amd64", "old");
    let expected = index(&[named(&old, "docker.io/org/pkg:abc-amd64"), named(&one, NAME)]);
    assert_eq!(world.root(), expected);
    assert!(world.cache.layout().has(&two));
    world.validate();
}

#[test]
fn a_damaged_archive_gets_no_name() {
    let world = World::new();
    let import = |path: &Path| world.cache.import(Input::Path(path.to_owned()));
    let file = world.dir.path().join("garbage.tar");
    fs::write(&file, "garbage").unwrap();
    import(&file).unwrap_err();
    let image = world.image("amd64", "1");
    world.store.set_entries(vec![image.clone()], |_| false).unwrap();
    let layer = spec::digest_of(&world.parts(&image)[1]).unwrap();
    fs::write(world.store.blob_path(&layer), "garbage").unwrap();
    import(world.store.root()).unwrap_err();
    assert_eq!(world.root(), index(&[]));
    assert!(import(&world.dir.path().join("absent")).is_err());
}

#[test]
fn the_cache_itself_can_be_read_by_everything_that_reads_layouts() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    let other = Layout::create(world.dir.path().join("other")).unwrap();
    let request = Import {
        input: Input::Path(world.cache.layout().root().to_owned()),
        expect: Expect::Oci,
        select: Select::Named(NAME.to_owned()),
        tmp: world.dir.path(),
        rootfs: None,
    };
    let imported = archive::import(request, &other).unwrap();
    assert_eq!(imported.images[0].descriptor.media_type().as_ref(), media::OCI_INDEX);
    let root = world.cache.layout().root();
    assert_eq!(validate::validate_source(root, world.dir.path()).unwrap(), []);
}
