//! Taking images out: by name, all, or what nothing names.

use super::super::{Freed, GRACE, fixture::*};
use crate::oci::{Digest, layout::LockKind, spec};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};
use std::{collections::BTreeSet, fs, fs::File, time::Duration};

fn hex(descriptor: &spec::Descriptor) -> String {
    spec::digest_of(descriptor).unwrap().hex().to_owned()
}

#[test]
fn removing_a_name_deletes_what_no_other_name_needs() {
    let world = World::new();
    let index = world.build(NAME, "amd64", "1");
    let image = world.image("amd64", "1");
    let parts: BTreeSet<String> = world.parts(&image).iter().map(hex).collect();
    let other = world.build("docker.io/org/other:1", "amd64", "2");

    let freed = world.cache.remove(&[NAME.to_owned()]).unwrap();
    assert_eq!(freed, Freed { files: 1, bytes: index.size(), kept: 0 });
    assert!(!world.files("blobs/sha256").contains(&hex(&index)));
    assert!(parts.is_subset(&world.files("blobs/sha256")));

    let freed = world.cache.remove(&[format!("{NAME}-amd64")]).unwrap();
    let bytes = world.parts(&image).iter().map(spec::Descriptor::size).sum();
    assert_eq!(freed, Freed { files: 3, bytes, kept: 0 });
    assert!(parts.is_disjoint(&world.files("blobs/sha256")));
    let image = world.image("amd64", "2");
    let name = "docker.io/org/other:1";
    assert_eq!(
        world.root(),
        super::super::fixture::index(&[
            named(&image, &format!("{name}-amd64")),
            named(&other, name)
        ])
    );
    world.validate();
    // The store has its own names for the same files.
    assert!(world.parts(&world.image("amd64", "1")).iter().all(|part| world.store.has(part)));
}

#[test]
fn several_names_are_removed_together_and_shared_layers_stay() {
    let world = World::new();
    for (name, arch) in [("docker.io/org/a:1", "amd64"), ("docker.io/org/b:1", "arm64")] {
        // One text is one layer.
        world.build(name, arch, "same");
    }
    let all: Vec<String> =
        world.cache.list().unwrap().into_iter().map(|listed| listed.name).collect();
    world.cache.remove(&all[..2]).unwrap();
    assert_eq!(all[..2], ["docker.io/org/a:1", "docker.io/org/a:1-amd64"]);
    world.validate();
    world.cache.remove(&all[2..]).unwrap();
    assert_eq!(world.root(), index(&[]));
    assert!(world.files("blobs/sha256").is_empty());
}

#[test]
fn an_unknown_name_is_an_error_and_nothing_is_removed() {
    let world = World::new();
    let hint = |name: &str| {
        let error = world.cache.remove(&[NAME.to_owned(), name.to_owned()]).unwrap_err();
        assert_eq!(error.message(), format!("image `{name}` is not in the cache"));
        error.hints().to_vec()
    };
    let empty = world.cache.remove(&["a:1".to_owned()]).unwrap_err();
    assert_eq!(empty.hints(), ["the cache is empty"]);
    world.build(NAME, "amd64", "1");
    let before = world.root();
    let meant = ["did you mean `docker.io/org/pkg:abc`?"];
    assert_eq!(hint("org/pkg:abc"), meant);
    assert_eq!(hint("docker.io/org/pgk:abc"), meant);
    assert_eq!(hint("something/else:1"), ["`nativebuild cache ls` shows the names that there are"]);
    assert_eq!(world.root(), before);
    world.validate();
}

#[test]
fn cleaning_the_unused_keeps_what_any_name_leads_to() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    world.build(NAME, "arm64", "2");
    let needed = world.files("blobs/sha256");
    let stale = world.image("amd64", "old");
    world.cache.writer().unwrap().adopt(&world.store, &stale).unwrap();
    let root = world.cache.layout().root();
    // What killed programs leave: ours in both places, and somebody else's, which is not ours to judge.
    fs::write(root.join(".tmp-index"), "{").unwrap();
    fs::write(root.join("blobs/sha256/.tmp-blob"), "half").unwrap();
    fs::write(root.join("blobs/sha256/other"), "?").unwrap();

    let kept = world.cache.clean_unused(GRACE).unwrap();
    assert_eq!(kept, Freed { files: 2, bytes: 5, kept: 3 });
    let freed = world.cache.clean_unused(Duration::ZERO).unwrap();
    let bytes = world.parts(&stale).iter().map(spec::Descriptor::size).sum();
    assert_eq!(freed, Freed { files: 3, bytes, kept: 0 });
    let mut left = world.files("blobs/sha256");
    assert!(left.remove("other"));
    assert_eq!(left, needed);
    assert!(world.has("amd64") && world.has("arm64"));
    world.validate();
}

#[test]
fn a_build_that_was_killed_leaves_nothing_that_counts() {
    let world = World::new();
    let image = world.image("amd64", "1");
    // Killed after any number of blobs, before the name.
    for count in 0..=3 {
        for part in &world.parts(&image)[..count] {
            world
                .cache
                .layout()
                .take_blob(&world.store, part, crate::oci::layout::Check::Size)
                .unwrap();
        }
        assert!(!world.has("amd64"));
        assert_eq!(world.cache.list().unwrap(), []);
    }
    world.build(NAME, "amd64", "1");
    assert!(world.has("amd64"));
    world.validate();
}

#[test]
fn nothing_is_deleted_while_somebody_writes() {
    let world = World::new();
    let lock = File::create(world.cache.layout().root().join(".writers")).unwrap();
    let wanted = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // What `clean`, `clean_unused` and `remove` wait for.
    let alone = || fcntl(&lock, FcntlArg::F_OFD_SETLK(&wanted));
    let writers = (world.cache.writer().unwrap(), world.cache.writer().unwrap());
    assert_eq!(alone(), Err(Errno::EAGAIN));
    drop(writers.0);
    assert_eq!(alone(), Err(Errno::EAGAIN));
    drop(writers.1);
    assert_eq!(alone(), Ok(0));
    drop(lock);
    let _free = world.cache.layout().lock_file(".writers", LockKind::Exclusive).unwrap();
}

#[test]
fn cleaning_all_leaves_an_empty_cache_and_what_is_not_its_own() {
    let world = World::new();
    world.build(NAME, "amd64", "1");
    let root = world.cache.layout().root();
    fs::write(root.join("index.json"), "garbage").unwrap();
    fs::write(root.join("notes.txt"), "mine").unwrap();
    fs::create_dir_all(root.join("ingest/deep/er")).unwrap();
    fs::create_dir_all(root.join("blobs/sha512")).unwrap();
    fs::write(root.join("blobs/sha512/x"), "x").unwrap();
    let freed = world.cache.clean().unwrap();
    assert_eq!((freed.files, freed.kept), (5, 0));
    assert_eq!(world.root(), index(&[]));
    let expected =
        [".lock", ".writers", "blobs", "index.json", "ingest", "notes.txt", "oci-layout"];
    assert_eq!(world.files("."), BTreeSet::from(expected.map(str::to_owned)));
    assert!(world.files("blobs/sha256").is_empty() && world.files("ingest").is_empty());
    world.build(NAME, "amd64", "1");
    assert!(world.has("amd64"));
    assert!(
        world
            .cache
            .layout()
            .has_blob(&Digest::parse(world.cache.list().unwrap()[0].digest.as_str()).unwrap())
    );
}
