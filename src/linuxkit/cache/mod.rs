//! The image cache that is shared with `linuxkit` itself (linuxkit.md §5).
//!
//! An OCI layout in which every root entry is known by one annotation, the full name. Both programs may use it at the
//! same time: `index.json` changes under linuxkit's own lock and by rename, and blobs are durable before they are
//! named. A second lock, of our own, keeps blobs that are not named yet from being cleaned away ([`Writer`]), and so does
//! that of whoever writes here as into any layout ([`Layout::writing`]).
//! Reading takes no lock and writes nothing. What is missing or cut short is as good as not there.

mod clean;
mod lookup;
mod names;
mod reach;
mod rules;
mod transfer;
mod writer;

pub use clean::{Freed, GRACE};
pub use names::{canonical, spellings};
pub use transfer::{Brought, ExportFormat};
pub use writer::Writer;

use crate::{
    error::Result,
    oci::{Digest, Platform, layout::Layout, resolve::ResolvedImage, spec::Descriptor},
    progress::Emitter,
};
use std::path::PathBuf;

/// As linuxkit spells it.
const MARKER: &str = "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}";

/// The cache directory.
#[derive(Clone, Debug)]
pub struct PkgCache {
    layout: Layout,
    emitter: Emitter,
}

/// One name in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Full name with tag.
    pub name: String,
    /// Digest of the manifest or index.
    pub digest: String,
}

impl PkgCache {
    /// Opens a cache, or makes it. A directory with other content is refused.
    pub fn open_or_create(directory: impl Into<PathBuf>) -> Result<Self> {
        let layout = Layout::create_marked(directory, MARKER)?;
        Ok(Self { layout, emitter: Emitter::silent() })
    }

    /// The same, which tells when it waits for others to let go of blobs that it would delete.
    pub fn telling(self, emitter: &Emitter) -> Self {
        Self { emitter: emitter.clone(), ..self }
    }

    /// The layout, for reading.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What a canonical name means, or the root entry of a digest where the reference has one.
    pub fn find(&self, reference: &str) -> Result<Option<Descriptor>> {
        let digest = reference.split_once('@').and_then(|(_, digest)| Digest::parse(digest).ok());
        let wanted = |found: &Descriptor, name: Option<&str>| match &digest {
            Some(digest) => found.digest().as_ref() == digest.as_str(),
            None => name == Some(reference),
        };
        let mut entries = self.layout.entries()?.into_iter();
        let found = entries.find(|entry| wanted(&entry.descriptor, entry.ref_name()));
        Ok(found.map(|entry| entry.descriptor))
    }

    /// The image of a platform, when manifest, config and all layers are here. Variants do not matter.
    pub fn image(&self, reference: &str, platform: &Platform) -> Result<Option<ResolvedImage>> {
        self.settled(reference, |root| match root {
            Some(root) => lookup::complete(&self.layout, root, platform),
            None => Ok(None),
        })
    }

    /// True when a build of this platform can be skipped.
    pub fn complete(&self, reference: &str, platform: &Platform) -> Result<bool> {
        Ok(self.image(reference, platform)?.is_some())
    }

    /// All names, sorted.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut all: Vec<Listed> = self
            .layout
            .entries()?
            .iter()
            .filter_map(|entry| {
                let name = entry.ref_name()?.to_owned();
                Some(Listed { name, digest: entry.descriptor.digest().to_string() })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Looks something up, and again when the name got another meaning meanwhile: its old index is deleted then.
    fn settled<T>(
        &self,
        reference: &str,
        look: impl Fn(Option<&Descriptor>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut root = self.find(reference)?;
        loop {
            let found = look(root.as_ref());
            if matches!(found, Ok(Some(_))) {
                return found;
            }
            let now = self.find(reference)?;
            if now == root {
                return found;
            }
            root = now;
        }
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
