//! `index.json`: the names in a layout, changed under a lock and by rename.
//!
//! Entries that are not touched keep every member that they have, known to us or not: other tools write here, too.
//! The lock is on `.lock` beside it, the file that linuxkit locks in its cache.

use super::{FileLock, Layout, LockKind};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        blobs,
        reference::Reference,
        spec::{self, Descriptor},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fmt, fs,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

/// Annotation that names an entry.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation that holds the full name in what Docker's tools write.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation that says where an image of our store came from.
pub const ORIGIN: &str = "io.nativebuild.origin";

pub(super) const EMPTY: &str =
    r#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;
const LIMIT: u64 = 64 << 20;
const LOCK: &str = ".lock";

/// Where a stored image came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made here.
    Built,
    /// Loaded from a file.
    Imported,
    /// From a registry; checked again before use (design §10.1).
    Pulled,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Built => "built",
            Self::Imported => "imported",
            Self::Pulled => "pulled",
        })
    }
}

/// One entry of `index.json`.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// Descriptor with its annotations.
    pub descriptor: Descriptor,
}

impl IndexEntry {
    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.descriptor.annotations().as_ref()?.get(key).map(String::as_str)
    }

    /// Value of `org.opencontainers.image.ref.name`.
    pub fn ref_name(&self) -> Option<&str> {
        self.annotation(REF_NAME)
    }

    /// The full name, when one is written down: a bare tag is none.
    pub fn reference(&self) -> Option<Reference> {
        let full = self.annotation(IMAGE_NAME).and_then(|name| Reference::parse(name).ok());
        full.or_else(|| {
            let name = self.ref_name()?;
            if !name.contains(['/', ':', '@']) {
                return None;
            }
            Reference::parse(name).ok()
        })
    }
}

/// A named image of the store.
#[derive(Clone, Debug)]
pub struct NamedImage {
    /// Full canonical name.
    pub name: Reference,
    /// Manifest or index, with its annotations.
    pub descriptor: Descriptor,
    /// Where it came from; what other tools put here counts as imported.
    pub origin: Origin,
}

/// The first names for a message, and how many there are besides.
pub fn listed(images: &[NamedImage]) -> String {
    const SHOWN: usize = 8;
    let names = images.iter().take(SHOWN).map(|image| format!("`{}`", image.name.familiar()));
    let names = names.collect::<Vec<_>>().join(", ");
    match images.len().checked_sub(SHOWN) {
        None | Some(0) => names,
        Some(more) => format!("{names} and {more} more: `nativebuild image ls`"),
    }
}

/// The file as it is, entries unparsed.
#[derive(Debug, Serialize, Deserialize)]
struct IndexFile {
    #[serde(default)]
    manifests: Option<Vec<Value>>,
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Layout {
    /// All entries, named or not, in the order of the file.
    pub fn entries(&self) -> Result<Vec<IndexEntry>> {
        let file = self.read_index()?;
        file.manifests.unwrap_or_default().into_iter().map(|value| self.entry(value)).collect()
    }

    /// The named images of a store, sorted by name.
    pub fn names(&self) -> Result<Vec<NamedImage>> {
        let mut all: Vec<NamedImage> = self
            .entries()?
            .into_iter()
            .filter_map(|entry| {
                let name = Reference::parse(entry.ref_name()?).ok()?;
                let origin = match entry.annotation(ORIGIN) {
                    Some("built") => Origin::Built,
                    Some("pulled") => Origin::Pulled,
                    _ => Origin::Imported,
                };
                Some(NamedImage { name, descriptor: entry.descriptor, origin })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The image of a name, which is compared in full.
    pub fn find(&self, name: &Reference) -> Result<Option<NamedImage>> {
        Ok(self.names()?.into_iter().find(|image| image.name == *name))
    }

    /// Makes everything durable, then lets `name` mean `descriptor`, whatever it meant before. Where it means that already,
    /// and nothing was written, there is nothing to do: the disk may be busy with what others write.
    pub fn set_name(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        origin: Origin,
    ) -> Result<()> {
        let mut descriptor = descriptor.clone();
        let mut annotations = descriptor.annotations().clone().unwrap_or_default();
        annotations.remove(IMAGE_NAME);
        annotations.insert(REF_NAME.to_owned(), name.to_string());
        annotations.insert(ORIGIN.to_owned(), origin.to_string());
        descriptor.set_annotations(Some(annotations));
        let name = name.to_string();
        let is_said = self.written.is_empty() && self.says(&name, &descriptor)?;
        if is_said && self.is_older_than_index(&descriptor) {
            return Ok(());
        }
        self.sync()?;
        self.set_entries(vec![descriptor], |entry| ref_name(entry) == Some(name.as_str()))
    }

    /// Whether all of an image was there when the index was written, after a sync, and not made or mended since.
    fn is_older_than_index(&self, descriptor: &Descriptor) -> bool {
        let time = |path: PathBuf| fs::metadata(path).and_then(|found| found.modified()).ok();
        let Some(index) = time(self.root.join("index.json")) else { return false };
        let Ok(reachable) = blobs::reachable(self, descriptor) else { return false };
        let mut all = reachable.blobs.iter().chain(std::iter::once(descriptor));
        all.all(|blob| {
            let digest = spec::digest_of(blob).ok();
            let written = digest.and_then(|digest| time(self.blob_path(&digest)));
            written.is_some_and(|written| written <= index)
        })
    }

    /// Whether the index has just this under a name.
    fn says(&self, name: &str, descriptor: &Descriptor) -> Result<bool> {
        let entries = self.read_index()?.manifests.unwrap_or_default();
        let mut named = entries.into_iter().filter(|entry| ref_name(entry) == Some(name));
        let same = |entry: Value| {
            serde_json::from_value::<Descriptor>(entry).is_ok_and(|found| found == *descriptor)
        };
        Ok(named.next().is_some_and(same) && named.next().is_none())
    }

    /// Forgets a name; false when there was none. Blobs stay: they may be in use elsewhere.
    pub fn remove_name(&self, name: &Reference) -> Result<bool> {
        let name = name.to_string();
        self.change_index(|entries| {
            let before = entries.len();
            entries.retain(|entry| ref_name(entry) != Some(name.as_str()));
            Ok(entries.len() != before)
        })
    }

    /// Adds entries and removes those for which `replaced` holds (given as JSON), in one step.
    pub fn set_entries(
        &self,
        new: Vec<Descriptor>,
        replaced: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        self.change_index(|entries| {
            entries.retain(|entry| !replaced(entry));
            for descriptor in &new {
                entries.push(
                    serde_json::to_value(descriptor)
                        .map_err(|error| Error::internal("JSON of a descriptor").cause(error))?,
                );
            }
            Ok(())
        })
    }

    /// The index, for a change that reads first; nobody else changes it until the value is dropped.
    pub fn lock_index(&self) -> Result<LockedIndex<'_>> {
        let lock = self.lock()?;
        let mut file = self.read_index()?;
        let entries = file.manifests.take().unwrap_or_default();
        Ok(LockedIndex { layout: self, _lock: lock, file, entries })
    }

    /// Forgets all names, whatever the index is like; nobody else sets one until the lock is dropped.
    pub fn forget_names(&self) -> Result<FileLock> {
        let lock = self.lock()?;
        self.replace_file("index.json", EMPTY.as_bytes())?;
        Ok(lock)
    }

    fn change_index<T>(&self, change: impl FnOnce(&mut Vec<Value>) -> Result<T>) -> Result<T> {
        let mut index = self.lock_index()?;
        let result = change(&mut index.entries)?;
        index.store()?;
        Ok(result)
    }

    pub(super) fn lock(&self) -> Result<FileLock> {
        self.lock_file(LOCK, LockKind::Exclusive)
    }

    fn read_index(&self) -> Result<IndexFile> {
        let path = self.root.join("index.json");
        let shown = format!("`{}`", path.display());
        let mut bytes = Vec::new();
        let read = fs::metadata(&path).and_then(|metadata| {
            if metadata.is_file() {
                return File::open(&path)?.take(LIMIT + 1).read_to_end(&mut bytes);
            }
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        });
        read.or_error(ErrorKind::Integrity, || format!("cannot read {shown}"))?;
        let file: Result<IndexFile> = if bytes.len() as u64 > LIMIT {
            Err(Error::integrity(format!("{shown} is larger than {LIMIT} bytes")))
        } else {
            spec::from_json(&shown, &bytes)
        };
        let file = file.map_err(|error| {
            error.hint(format!("the blobs are not touched; write `{EMPTY}` into {shown} to forget all names, then load or build the images again"))
        })?;
        if file.schema_version != 2 {
            return Err(Error::integrity(format!(
                "{shown} has the wrong `schemaVersion`: expected 2, found {}",
                file.schema_version
            )));
        }
        Ok(file)
    }

    fn entry(&self, value: Value) -> Result<IndexEntry> {
        let descriptor = serde_json::from_value(value).map_err(|error| {
            let path = self.root.join("index.json");
            Error::integrity(format!("`{}` has an entry that is no descriptor", path.display()))
                .cause(error)
        })?;
        Ok(IndexEntry { descriptor })
    }
}

/// An `index.json` that nobody else changes for as long as this value lives.
#[derive(Debug)]
pub struct LockedIndex<'a> {
    layout: &'a Layout,
    _lock: FileLock,
    file: IndexFile,
    entries: Vec<Value>,
}

impl LockedIndex<'_> {
    /// All entries, with the changes that were made.
    pub fn entries(&self) -> Result<Vec<IndexEntry>> {
        self.entries.iter().map(|value| self.layout.entry(value.clone())).collect()
    }

    /// Lets a name (`org.opencontainers.image.ref.name`) mean a descriptor: earlier entries of it go, the new one is last.
    pub fn set(&mut self, name: &str, descriptor: &Descriptor) -> Result<()> {
        let mut descriptor = descriptor.clone();
        let mut annotations = descriptor.annotations().clone().unwrap_or_default();
        annotations.insert(REF_NAME.to_owned(), name.to_owned());
        descriptor.set_annotations(Some(annotations));
        self.remove(name);
        self.entries.push(
            serde_json::to_value(descriptor)
                .map_err(|error| Error::internal("JSON of a descriptor").cause(error))?,
        );
        Ok(())
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &str) {
        self.entries.retain(|entry| ref_name(entry) != Some(name));
    }

    /// Writes the file, in one step.
    pub fn store(&mut self) -> Result<()> {
        self.file.manifests = Some(self.entries.clone());
        self.layout.replace_file("index.json", &spec::to_json(&self.file)?)
    }
}

fn ref_name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}
