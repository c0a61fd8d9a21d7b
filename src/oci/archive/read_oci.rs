//! Reads an OCI layout (directory or archive): an index comes in whole, with all its platforms.

use super::{Container, ImportedImage, Select, name_matches, save::BUFFER, selected};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        blobs::{self, Blobs, Reachable},
        digest::VerifyingReader,
        layout::{IndexEntry, Layout},
        media,
        reference::Reference,
        spec::{self, Descriptor, ImageIndex},
    },
};
use std::io::{self, BufReader};

/// Takes the selected entries of the container's `index.json`.
pub(super) fn read(
    container: &Container,
    select: &Select,
    layout: &Layout,
) -> Result<Vec<ImportedImage>> {
    let found = entries(container)?;
    let chosen = selected(found, select, is_named, shown_names)?;
    let mut images = Vec::new();
    for entry in chosen {
        let reachable = copy(container, &entry.descriptor, layout)?;
        let incomplete = reachable.incomplete().filter_map(|leaf| leaf.platform.clone()).collect();
        images.push(ImportedImage {
            descriptor: plain(&entry.descriptor),
            names: entry.names,
            tag: entry.tag,
            incomplete,
        });
    }
    Ok(images)
}

/// The one entry that `select` means.
pub(super) fn root(container: &Container, select: &Select) -> Result<Descriptor> {
    let chosen = selected(entries(container)?, select, is_named, shown_names)?;
    let [one] = &chosen[..] else { return Err(Error::usage("there are several images in it")) };
    Ok(plain(&one.descriptor))
}

/// One thing in an `index.json`, with everything that names it.
#[derive(Clone, Debug)]
pub(in crate::oci) struct Entry {
    pub(in crate::oci) descriptor: Descriptor,
    names: Vec<Reference>,
    tag: Option<String>,
}

/// Entries of `index.json`; several names of one digest are one entry.
pub(in crate::oci) fn entries(container: &Container) -> Result<Vec<Entry>> {
    let index: ImageIndex = container.json("index.json")?;
    let mut all: Vec<Entry> = Vec::new();
    for descriptor in index.manifests() {
        let entry = IndexEntry { descriptor: descriptor.clone() };
        let name = entry.reference();
        let tag = entry.ref_name().filter(|name| !name.contains(['/', ':', '@']));
        let at = all.iter().position(|one| one.descriptor.digest() == descriptor.digest());
        let at = at.unwrap_or_else(|| {
            all.push(Entry { descriptor: descriptor.clone(), names: Vec::new(), tag: None });
            all.len() - 1
        });
        all[at].names.extend(name);
        all[at].tag = all[at].tag.take().or_else(|| tag.map(str::to_owned));
    }
    Ok(all)
}

/// Copies everything behind a descriptor, verified; documents after what they name.
fn copy(container: &Container, descriptor: &Descriptor, layout: &Layout) -> Result<Reachable> {
    if media::kind_of(descriptor.media_type().as_ref()).is_none() {
        return Err(Error::integrity(format!(
            "{} is `{}`, neither a manifest nor an index",
            descriptor.digest(),
            descriptor.media_type()
        )));
    }
    let found = blobs::reachable(container, descriptor)?;
    found.require_one_complete()?;
    for blob in &found.blobs {
        let digest = spec::digest_of(blob)?;
        let (reader, _) =
            container.open(&digest)?.ok_or_else(|| Error::internal("a blob vanished"))?;
        let reader = VerifyingReader::new(reader, digest.clone(), blob.size());
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        let mut writer = layout.blob_writer()?.trusted();
        io::copy(&mut reader, &mut writer)
            .or_error(ErrorKind::Integrity, || format!("cannot copy blob {digest}"))?;
        writer.commit(&digest)?;
    }
    Ok(found)
}

/// The descriptor without what belongs to the source's index only.
fn plain(descriptor: &Descriptor) -> Descriptor {
    let mut plain = descriptor.clone();
    plain.set_annotations(None);
    plain
}

fn is_named(entry: &Entry, wanted: &str) -> bool {
    entry.tag.as_deref() == Some(wanted)
        || entry.descriptor.digest().to_string() == wanted.trim_start_matches('@')
        || entry.names.iter().any(|name| name_matches(name, wanted))
}

fn shown_names(entry: &Entry) -> Vec<String> {
    if !entry.names.is_empty() {
        return entry.names.iter().map(Reference::familiar).collect();
    }
    vec![entry.tag.clone().unwrap_or_else(|| entry.descriptor.digest().to_string())]
}
