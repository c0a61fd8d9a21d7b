//! Writes OCI layouts, as directory or archive: indexes whole, one descriptor a name (design §10.4).

use super::save::{SaveImage, SaveOptions, TarOut, single};
use crate::{
    error::{Error, Result},
    oci::{
        Platform, Reference, blobs,
        layout::{
            Layout,
            index::{IMAGE_NAME, ORIGIN, REF_NAME},
        },
        media,
        spec::{self, Descriptor},
    },
};
use serde_json::Value;
use std::{collections::BTreeMap, io::Write, path::Path};

const CREATED: &str = "org.opencontainers.image.created";

/// Content of a layout to be written: blobs by digest, entries of `index.json`.
struct Content {
    blobs: BTreeMap<String, Descriptor>,
    entries: Vec<Descriptor>,
}

/// Writes a tar.
pub(super) fn write_archive(
    layout: &Layout,
    images: &[SaveImage<'_>],
    options: &SaveOptions<'_>,
    stream: &mut dyn Write,
) -> Result<()> {
    let content = collect(layout, images, options)?;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": content.entries,
    });
    let mut tar = TarOut::new(stream, options.mtime);
    tar.bytes("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    tar.bytes("index.json", &spec::to_json(&index)?)?;
    tar.dir("blobs/")?;
    tar.dir("blobs/sha256/")?;
    for blob in content.blobs.values() {
        let name = format!("blobs/sha256/{}", spec::digest_of(blob)?.hex());
        tar.file(&name, blob.size(), &mut layout.open_blob(blob)?)?;
    }
    tar.finish()
}

/// Writes into a new directory, or adds to a layout that is there; a name that was there is replaced, and so
/// is an image without a name by another one without.
pub(super) fn write_dir(
    layout: &Layout,
    images: &[SaveImage<'_>],
    options: &SaveOptions<'_>,
    path: &Path,
) -> Result<()> {
    let content = collect(layout, images, options)?;
    let target = Layout::create(path)?;
    let _until_named = target.writing()?;
    target.copy_blobs(layout, content.blobs.values())?;
    let new: Vec<Value> = content
        .entries
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::internal("JSON of a descriptor").cause(error))?;
    let wanted = options.ref_name;
    target.set_entries(content.entries, |old| {
        let same = new.iter().any(|new| names(new) == names(old));
        same || (wanted.is_some() && names(old)[1].and_then(Value::as_str) == wanted)
    })
}

fn names(entry: &Value) -> [Option<&Value>; 2] {
    let annotation = |key| entry.get("annotations").and_then(|all| all.get(key));
    // Two images of one tag are told apart by their full names.
    [annotation(IMAGE_NAME), annotation(REF_NAME)]
}

fn collect(
    layout: &Layout,
    images: &[SaveImage<'_>],
    options: &SaveOptions<'_>,
) -> Result<Content> {
    let mut content = Content { blobs: BTreeMap::new(), entries: Vec::new() };
    for image in images {
        let descriptor = match options.platform {
            Some(platform) => single(layout, image.descriptor, Some(platform))?.manifest_descriptor,
            None => image.descriptor.clone(),
        };
        let found = blobs::reachable(layout, &descriptor)?;
        found.require_one_complete()?;
        for blob in &found.blobs {
            content.blobs.insert(blob.digest().to_string(), blob.clone());
        }
        let leaf = found.leaves.iter().find(|leaf| leaf.descriptor.digest() == descriptor.digest());
        let platform = leaf.filter(|leaf| leaf.is_image).and_then(|leaf| leaf.platform.as_ref());
        let mut add = |name| content.entries.push(entry(&descriptor, platform, name, options));
        if image.names.is_empty() {
            add(None);
        }
        image.names.iter().for_each(|name| add(Some(name)));
    }
    Ok(content)
}

/// A descriptor made anew: what our store notes about an image stays in the store.
fn entry(
    descriptor: &Descriptor,
    platform: Option<&Platform>,
    name: Option<&Reference>,
    options: &SaveOptions<'_>,
) -> Descriptor {
    let mut entry = Descriptor::new(
        descriptor.media_type().clone(),
        descriptor.size(),
        descriptor.digest().clone(),
    );
    entry.set_platform(platform.map(Platform::to_oci));
    let mut annotations = descriptor.annotations().clone().unwrap_or_default();
    annotations.retain(|key, _| ![IMAGE_NAME, REF_NAME, ORIGIN].contains(&key.as_str()));
    if let Some(name) = name {
        annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
        if let Some(tag) = &name.tag {
            annotations.insert(REF_NAME.to_owned(), tag.clone());
        }
    }
    if let (None, Some(ref_name)) = (name, options.ref_name) {
        annotations.insert(REF_NAME.to_owned(), ref_name.to_owned());
    }
    if let Some(created) = options.created {
        annotations.insert(CREATED.to_owned(), created.to_owned());
    }
    entry.set_annotations((!annotations.is_empty()).then_some(annotations));
    entry
}
