//! Putting images into the cache, and the names of a package (linuxkit.md §5.2, §5.3).

use super::{
    PkgCache,
    lookup::harmless,
    reach::{self, Depth},
    rules,
};
use crate::{
    error::{Error, Result},
    oci::{
        Platform,
        blobs::{self, Blobs, Parsed, missing},
        layout::{
            Check, FileLock, Layout, LockKind, LockedIndex,
            index::{IMAGE_NAME, ORIGIN, REF_NAME},
        },
        media::{self, Document},
        spec::{self, Descriptor},
    },
};
use serde_json::Value;

/// Shared by all who add blobs, exclusive for who deletes them. Only programs of ours know it.
const WRITERS: &str = ".writers";

/// Leave to add blobs: while a writer exists, none are cleaned away. Take it when the image is built, not before.
#[derive(Debug)]
pub struct Writer<'a> {
    layout: &'a Layout,
    _locks: [FileLock; 2],
}

impl PkgCache {
    /// Waits until nobody deletes blobs: we ourselves, or a build whose `--cache-to` is the same directory.
    pub fn writer(&self) -> Result<Writer<'_>> {
        let locks = [self.layout.lock_file(WRITERS, LockKind::Shared)?, self.layout.writing()?];
        Ok(Writer { layout: &self.layout, _locks: locks })
    }

    /// Leave to delete blobs, in the same order: waits for writers, and for others who write here as into any layout.
    pub(super) fn alone(&self) -> Result<[FileLock; 2]> {
        let writers = self.layout.lock_file(WRITERS, LockKind::Exclusive)?;
        Ok([writers, self.layout.writing_alone(&self.emitter, &|| Ok(()))?])
    }
}

impl Writer<'_> {
    /// Brings in everything behind a manifest or index of a layout of ours, by hard link where possible. Sets no name.
    pub fn adopt(&self, from: &Layout, descriptor: &Descriptor) -> Result<()> {
        let found = blobs::reachable(from, descriptor)?;
        found.require_one_complete()?;
        // Documents come after what they name, so what is cut off here is never found.
        found.blobs.iter().try_for_each(|blob| self.layout.take_blob(from, blob, Check::Size))
    }

    /// Names what was built: `NAME-<arch>` for each manifest, and `NAME` for an index of these and of the platforms that
    /// it had before. `name` is canonical; the manifests are here already. Gives the index.
    pub fn write(&self, name: &str, arches: &[(Platform, Descriptor)]) -> Result<Descriptor> {
        if arches.is_empty() {
            return Err(Error::internal("an index of no images"));
        }
        let images = arches
            .iter()
            .map(|(platform, descriptor)| {
                let mut image = self.image(descriptor)?;
                image.set_platform(Some(platform.to_oci()));
                Ok(image)
            })
            .collect::<Result<Vec<_>>>()?;
        self.layout.sync()?;
        let mut root = self.layout.lock_index()?;
        let old = self.old_index(&root, name)?;
        let replaced = old.as_ref().map(|(descriptor, _)| descriptor.clone());
        let new = self.put_index(old.map(|(_, value)| value), &images)?;
        for ((platform, _), image) in arches.iter().zip(&images) {
            root.set(&format!("{name}-{}", platform.architecture), &bare(image))?;
        }
        root.set(name, &new)?;
        root.store()?;
        if let Some(replaced) = replaced.filter(|old| old.digest() != new.digest()) {
            self.drop_index(&root, &replaced)?;
        }
        Ok(new)
    }

    /// Lets names mean manifests or indexes that are here, whatever they meant before.
    pub fn set(&self, names: &[(String, Descriptor)]) -> Result<()> {
        let documents = names
            .iter()
            .map(|(_, descriptor)| self.layout.required(descriptor))
            .collect::<Result<Vec<_>>>()?;
        self.layout.sync()?;
        let mut root = self.layout.lock_index()?;
        for ((name, descriptor), bytes) in names.iter().zip(documents) {
            // An index may have been deleted meanwhile, by a build that replaced it under its other name.
            self.layout.put_blob_durably(&bytes)?;
            root.set(name, &bare(descriptor))?;
        }
        root.store()
    }

    /// A manifest as an index names it: without what our store notes about it.
    fn image(&self, descriptor: &Descriptor) -> Result<Descriptor> {
        if media::kind_of(descriptor.media_type().as_ref()) != Some(Document::Manifest) {
            return Err(Error::internal("only manifests go into the index of a package"));
        }
        if !self.layout.has(descriptor) {
            return Err(missing(descriptor));
        }
        let mut image = descriptor.clone();
        let mut annotations = image.annotations().clone().unwrap_or_default();
        annotations.retain(|key, _| ![REF_NAME, IMAGE_NAME, ORIGIN].contains(&key.as_str()));
        image.set_annotations((!annotations.is_empty()).then_some(annotations));
        Ok(image)
    }

    /// What a name means now; nothing when that is missing or damaged.
    fn old_index(&self, root: &LockedIndex<'_>, name: &str) -> Result<Option<(Descriptor, Value)>> {
        let mut entries = root.entries()?.into_iter();
        let Some(entry) = entries.find(|entry| entry.ref_name() == Some(name)) else {
            return Ok(None);
        };
        let old = entry.descriptor;
        let no_index = || {
            Error::image(format!(
                "image named `{name}` already exists in cache and is not an index"
            ))
            .hint("remove it from the cache, then build again")
        };
        if media::kind_of(old.media_type().as_ref()) == Some(Document::Manifest) {
            return Err(no_index());
        }
        let Some(Some(bytes)) = harmless(self.layout.document(&old))? else { return Ok(None) };
        match harmless(blobs::parse(&old, &bytes))? {
            Some(Parsed::Index(_)) => Ok(Some((old, spec::from_json("an index", &bytes)?))),
            Some(Parsed::Manifest(_)) => Err(no_index()),
            None => Ok(None),
        }
    }

    fn put_index(&self, old: Option<Value>, images: &[Descriptor]) -> Result<Descriptor> {
        let new = images
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::internal("JSON of a descriptor").cause(error))?;
        let mut index = rules::updated(old, new);
        let stated = index.get("mediaType").and_then(Value::as_str).unwrap_or(media::OCI_INDEX);
        let media_type = stated.to_owned();
        index["mediaType"] = media_type.as_str().into();
        let bytes = spec::to_json(&index)?;
        let digest = self.layout.put_blob_durably(&bytes)?;
        Ok(spec::descriptor(media_type.as_str().into(), &digest, bytes.len() as u64))
    }

    /// Deletes an index that a name no longer means, unless something else still does.
    fn drop_index(&self, root: &LockedIndex<'_>, old: &Descriptor) -> Result<()> {
        let entries = root.entries()?;
        let roots = entries.iter().map(|entry| &entry.descriptor);
        let needed = reach::digests(self.layout, roots, Depth::Indexes)?;
        let digest = spec::digest_of(old)?;
        if needed.contains(&digest) {
            return Ok(());
        }
        self.layout.remove_blob(&digest)
    }
}

/// Media type, digest and size.
pub(super) fn bare(descriptor: &Descriptor) -> Descriptor {
    let (kind, digest) = (descriptor.media_type().clone(), descriptor.digest().clone());
    Descriptor::new(kind, descriptor.size(), digest)
}
