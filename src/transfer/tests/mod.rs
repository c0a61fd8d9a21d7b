//! The room without a program around it: documents as the manuals show them, trees out of layers, hostile forms.

mod described;
mod flatten;
mod hostile;
mod listing;

use super::*;
use crate::net::NetConfig;
use crate::oci::layout::Layout;
use crate::oci::media;
use crate::oci::spec::{self, Descriptor};
use crate::oci::{DiffId, Digest};
use crate::progress::Emitter;
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// A store and a directory beside it.
struct World {
    dir: tempfile::TempDir,
    store: Layout,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Layout::create(dir.path().join("store")).unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        Self { dir, store }
    }

    fn access(&self) -> Access<'_> {
        let tmp = self.dir.path().join("tmp");
        Access::new(&self.store, tmp, NetConfig::default(), Emitter::silent())
    }

    fn location(&self, transport: &str, rest: &str) -> Location {
        let path = self.dir.path().join(rest);
        Location::parse(&format!("{transport}:{}", path.display())).unwrap()
    }
}

/// A member of a layer: path, type, and content or target.
type Member<'a> = (&'a str, EntryType, &'a str);

fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, kind, data) in members {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_path(path).unwrap();
        let content = if *kind == EntryType::Regular { data.as_bytes() } else { b"" };
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name(data).unwrap();
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An image of uncompressed layers.
fn image(layout: &Layout, layers: &[Vec<u8>]) -> Descriptor {
    let diff_ids: Vec<DiffId> = layers.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = spec::to_json(&config).unwrap();
    let config = layout.put_document(media::OCI_CONFIG, &config).unwrap();
    let layers: Vec<Descriptor> =
        layers.iter().map(|tar| layout.put_document(media::OCI_LAYER, tar).unwrap()).collect();
    document(
        layout,
        &json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
        }),
    )
}

fn document(layout: &Layout, value: &Value) -> Descriptor {
    let media_type = value["mediaType"].as_str().unwrap();
    layout.put_document(media_type, &spec::to_json(value).unwrap()).unwrap()
}
