//! Reads a docker-archive: `manifest.json` names a config and layers, wherever they are in the archive.
//!
//! So one reader does for today's `<diff_id>.tar`, `blobs/sha256/…`, the older `<id>/layer.tar` (with its links to
//! other layers) and the flat `sha256:…` names (assemble-trust.md A1). Config and layers keep their bytes; only the
//! manifest is made here. Each layer is checked against its diff_id, the one promise that this form makes.

use super::{Container, ImportedImage, Select, name_matches, selected};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        decompress::{self, Detected},
        digest::{DiffId, Digest, HashingWriter},
        layout::Layout,
        media,
        reference::Reference,
        spec::{self, Descriptor, ImageConfig},
    },
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::{self, BufReader},
};

/// One image in `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = Reference> {
        self.repo_tags.iter().flatten().filter_map(|tag| Reference::parse(tag).ok())
    }
}

/// Takes the selected images.
pub(super) fn read(
    container: &Container,
    select: &Select,
    layout: &Layout,
) -> Result<Vec<ImportedImage>> {
    let all: Vec<Entry> = container.json("manifest.json")?;
    let is_named = |entry: &Entry, wanted: &str| {
        let number = wanted.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
        let numbered = number.is_some_and(|n| all.get(n).is_some_and(|e| e.config == entry.config));
        numbered || entry.names().any(|name| name_matches(&name, wanted))
    };
    let shown = |entry: &Entry| {
        let names: Vec<String> = entry.names().map(|name| name.familiar()).collect();
        if names.is_empty() { vec![entry.config.clone()] } else { names }
    };
    let mut layers = Layers::new(container, layout);
    selected(all.clone(), select, is_named, shown)?
        .iter()
        .map(|entry| image(container, entry, &mut layers, layout))
        .collect()
}

fn image(
    container: &Container,
    entry: &Entry,
    layers: &mut Layers<'_>,
    layout: &Layout,
) -> Result<ImportedImage> {
    let config_bytes = container.require_small(&entry.config)?;
    check_config_name(&entry.config, &config_bytes)?;
    let config: ImageConfig = spec::from_json(&format!("`{}`", entry.config), &config_bytes)?;
    let paths = entry.layers.as_deref().unwrap_or_default();
    let diff_ids = &config.rootfs.diff_ids;
    if paths.len() != diff_ids.len() {
        return Err(Error::integrity(format!(
            "manifest and config do not fit: {} layers, {} diff_ids",
            paths.len(),
            diff_ids.len()
        )));
    }
    let mut stored = Vec::new();
    for (path, diff_id) in paths.iter().zip(diff_ids) {
        let (descriptor, found) = layers.take(path)?;
        if found != *diff_id {
            return Err(Error::integrity(format!(
                "layer `{path}` does not have its diff_id: expected {diff_id}, found {found}"
            )));
        }
        stored.push(descriptor);
    }
    let descriptor = put_manifest(layout, &config_bytes, stored)?;
    Ok(ImportedImage {
        descriptor,
        names: entry.names().collect(),
        tag: None,
        incomplete: Vec::new(),
    })
}

/// Stores a config and a manifest around it.
pub(super) fn put_manifest(
    layout: &Layout,
    config: &[u8],
    layers: Vec<Descriptor>,
) -> Result<Descriptor> {
    let config = layout.put_document(media::OCI_CONFIG, config)?;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    layout.put_document(media::OCI_MANIFEST, &spec::to_json(&manifest)?)
}

/// A config is called by its digest, in all forms; a name that is none promises nothing.
fn check_config_name(name: &str, bytes: &[u8]) -> Result<()> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_prefix("sha256:").unwrap_or(last);
    let hex = hex.strip_suffix(".json").unwrap_or(hex);
    let found = Digest::of(bytes);
    match Digest::parse(&format!("sha256:{hex}")) {
        Ok(expected) if expected != found => Err(Error::integrity(format!(
            "config `{name}` has the wrong content: expected {expected}, found {found}"
        ))),
        _ => Ok(()),
    }
}

/// Stores layers, each path once.
pub(super) struct Layers<'a> {
    container: &'a Container,
    layout: &'a Layout,
    taken: HashMap<String, (Descriptor, DiffId)>,
}

impl<'a> Layers<'a> {
    /// Nothing is taken yet.
    pub(super) fn new(container: &'a Container, layout: &'a Layout) -> Self {
        Self { container, layout, taken: HashMap::new() }
    }

    /// Stores the layer of this path, bit for bit, and computes its diff_id.
    pub(super) fn take(&mut self, path: &str) -> Result<(Descriptor, DiffId)> {
        if let Some(known) = self.taken.get(path) {
            return Ok(known.clone());
        }
        let stored =
            self.store(path).map_err(|error| error.wrap(format!("cannot take layer `{path}`")))?;
        self.taken.insert(path.to_owned(), stored.clone());
        Ok(stored)
    }

    fn store(&self, path: &str) -> Result<(Descriptor, DiffId)> {
        let cannot_read = || "cannot read it".to_owned();
        let open = || {
            self.container
                .read(path)?
                .ok_or_else(|| Error::integrity("there is no such file in the archive"))
        };
        // First what is in it, which also checks a packed stream to its end.
        let (detected, mut plain) = decompress::decompressor(BufReader::new(open()?.0))?;
        let mut hash = HashingWriter::new(io::sink());
        io::copy(&mut plain, &mut hash).or_error(ErrorKind::Integrity, cannot_read)?;
        drop(plain);
        let diff_id = DiffId(hash.finish().1);

        let (reader, _) = open()?;
        let mut writer = self.layout.blob_writer()?;
        let media_type = match detected {
            Detected::Gzip => media::OCI_LAYER_GZIP,
            Detected::Zstd => media::OCI_LAYER_ZSTD,
            // No media type says bzip2 or xz: such a layer is stored unpacked.
            Detected::Plain | Detected::Bzip2 | Detected::Xz => media::OCI_LAYER,
        };
        if matches!(detected, Detected::Bzip2 | Detected::Xz) {
            let (_, mut plain) = decompress::decompressor(BufReader::new(reader))?;
            io::copy(&mut plain, &mut writer).or_error(ErrorKind::Integrity, cannot_read)?;
        } else {
            let mut reader = reader;
            io::copy(&mut reader, &mut writer).or_error(ErrorKind::Integrity, cannot_read)?;
        }
        let (digest, size) = writer.commit_hashed()?;
        Ok((spec::descriptor(media_type.into(), &digest, size), diff_id))
    }
}
