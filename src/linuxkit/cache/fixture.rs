//! Small images in a store, and looking into a cache, for the tests of this room.

use super::PkgCache;
use crate::oci::{
    Digest, Platform,
    layout::Layout,
    media,
    spec::{self, Descriptor},
    validate,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// The name of the package that most tests build.
pub(super) const NAME: &str = "docker.io/org/pkg:abc";

/// A directory with a cache and a store's layout.
pub(super) struct World {
    pub(super) cache: PkgCache,
    pub(super) store: Layout,
    pub(super) dir: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = PkgCache::open_or_create(dir.path().join("cache")).unwrap();
        let store = Layout::create(dir.path().join("store")).unwrap();
        Self { cache, store, dir }
    }

    /// Makes an image of one layer in the store; the config and the layer say `text`.
    pub(super) fn image(&self, arch: &str, text: &str) -> Descriptor {
        image(&self.store, &platform(arch), text)
    }

    /// Builds one architecture of a package, as far as the cache sees it.
    pub(super) fn build(&self, name: &str, arch: &str, text: &str) -> Descriptor {
        let image = self.image(arch, text);
        let writer = self.cache.writer().unwrap();
        writer.adopt(&self.store, &image).unwrap();
        writer.write(name, &[(platform(arch), image)]).unwrap()
    }

    /// The root index as it is on disk.
    pub(super) fn root(&self) -> Value {
        parse(&fs::read(self.cache.layout().root().join("index.json")).unwrap())
    }

    /// What a blob of the cache says.
    pub(super) fn json(&self, descriptor: &Descriptor) -> Value {
        parse(&self.cache.layout().read_blob_small(descriptor).unwrap())
    }

    /// Config, layer and manifest of an image of the store.
    pub(super) fn parts(&self, manifest: &Descriptor) -> Vec<Descriptor> {
        let value = parse(&self.store.read_blob_small(manifest).unwrap());
        let part = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        vec![part(&value["config"]), part(&value["layers"][0]), manifest.clone()]
    }

    pub(super) fn has(&self, arch: &str) -> bool {
        self.cache.complete(NAME, &platform(arch)).unwrap()
    }

    /// Names of all files in a directory of the cache.
    pub(super) fn files(&self, below: &str) -> BTreeSet<String> {
        files(&self.cache.layout().root().join(below))
    }

    /// Every root entry keeps its promises.
    #[track_caller]
    pub(super) fn validate(&self) {
        for entry in self.cache.layout().entries().unwrap() {
            let problems = validate::validate(self.cache.layout(), &entry.descriptor).unwrap();
            assert_eq!(problems, [], "{:?}", entry.ref_name());
        }
    }
}

pub(super) fn files(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(super) fn platform(arch: &str) -> Platform {
    Platform::parse(&format!("linux/{arch}")).unwrap()
}

pub(super) fn image(layout: &Layout, platform: &Platform, text: &str) -> Descriptor {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, "text", text.as_bytes()).unwrap();
    let layer = tar.into_inner().unwrap();
    let config = json!({
        "architecture": platform.architecture, "os": platform.os, "config": {}, "history": [{}],
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": layout.put_document(media::OCI_CONFIG, &spec::to_json(&config).unwrap()).unwrap(),
        "layers": [layout.put_document(media::OCI_LAYER, &layer).unwrap()],
    });
    layout.put_document(media::OCI_MANIFEST, &spec::to_json(&manifest).unwrap()).unwrap()
}

/// An entry of an index.
pub(super) fn entry(descriptor: &Descriptor, arch: &str) -> Value {
    let mut entry = plain(descriptor);
    entry["platform"] = json!({"os": "linux", "architecture": arch});
    entry
}

/// A root entry.
pub(super) fn named(descriptor: &Descriptor, name: &str) -> Value {
    let mut entry = plain(descriptor);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    entry
}

pub(super) fn plain(descriptor: &Descriptor) -> Value {
    json!({
        "mediaType": descriptor.media_type().to_string(),
        "digest": descriptor.digest().to_string(),
        "size": descriptor.size(),
    })
}

pub(super) fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests})
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}
