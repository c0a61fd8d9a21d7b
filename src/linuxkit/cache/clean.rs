//! Taking images out of the cache: by name, all, or what nothing names (linuxkit.md §5.4).
//!
//! Blobs are deleted under exclusive locks that writers of ours share, and after the names are gone. linuxkit does not
//! know these locks, so what is young and unnamed may be a download of linuxkit, and stays.

use super::{
    PkgCache, canonical,
    reach::{self, Depth},
};
use crate::{
    dockerfile::suggest,
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        Digest,
        layout::{IndexEntry, UNFINISHED},
    },
};
use std::{
    collections::BTreeSet,
    fs::{self, DirEntry},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// Age at which a blob without a name is certainly nobody's download any more.
pub const GRACE: Duration = Duration::from_mins(10);

/// What cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files that were deleted.
    pub files: usize,
    /// Their bytes; the disk has them back when our store does not use the same files.
    pub bytes: u64,
    /// Unneeded blobs that are too young to go.
    pub kept: usize,
}

impl PkgCache {
    /// Forgets all names and deletes all that a cache consists of. Other files in the directory stay.
    pub fn clean(&self) -> Result<Freed> {
        let _alone = self.alone()?;
        let _index = self.layout.forget_names()?;
        let mut freed = Freed::default();
        let root = self.layout.root();
        for entry in list(&root.join("blobs"))? {
            for blob in list(&entry.path())? {
                freed.delete(&blob)?;
            }
        }
        // Where the library that linuxkit uses keeps half-written blobs.
        for entry in list(&root.join("ingest"))? {
            freed.delete(&entry)?;
        }
        freed.delete_unfinished(root)?;
        Ok(freed)
    }

    /// Deletes blobs that no root entry leads to and that are older than `grace`, and what killed programs of ours left.
    pub fn clean_unused(&self, grace: Duration) -> Result<Freed> {
        let _alone = self.alone()?;
        let index = self.layout.lock_index()?;
        let entries = index.entries()?;
        let roots = entries.iter().map(|entry| &entry.descriptor);
        let needed = reach::digests(&self.layout, roots, Depth::Blobs)?;
        let blobs = self.layout.root().join("blobs/sha256");
        let mut freed = Freed::default();
        for entry in list(&blobs)? {
            let digest = Digest::parse(&format!("sha256:{}", entry.file_name().to_string_lossy()));
            match digest {
                Ok(digest) if needed.contains(&digest) => {}
                Ok(_) if age(&entry) < grace => freed.kept += 1,
                Ok(_) => freed.delete(&entry)?,
                // Not the name of a blob: not ours to judge, unless it is ours.
                Err(_) => {}
            }
        }
        freed.delete_unfinished(&blobs)?;
        freed.delete_unfinished(self.layout.root())?;
        Ok(freed)
    }

    /// Removes names, and the blobs that no other name needs. The names are canonical and all known, or nothing happens.
    pub fn remove(&self, names: &[String]) -> Result<Freed> {
        let _alone = self.alone()?;
        let mut index = self.layout.lock_index()?;
        let (gone, kept): (Vec<_>, Vec<_>) = index
            .entries()?
            .into_iter()
            .partition(|entry| names.iter().any(|name| entry.ref_name() == Some(name)));
        for name in names {
            if !gone.iter().any(|entry| entry.ref_name() == Some(name)) {
                return Err(self.unknown(name));
            }
            index.remove(name);
        }
        let of = |entries: &[IndexEntry]| -> Result<BTreeSet<Digest>> {
            let roots = entries.iter().map(|entry| &entry.descriptor);
            reach::digests(&self.layout, roots, Depth::Blobs)
        };
        let (doomed, needed) = (of(&gone)?, of(&kept)?);
        index.store()?;
        let mut freed = Freed::default();
        for digest in doomed.difference(&needed) {
            if let Some(size) = self.layout.blob_size(digest) {
                self.layout.remove_blob(digest)?;
                freed.files += 1;
                freed.bytes += size;
            }
        }
        Ok(freed)
    }

    /// The error for a name that is not in the cache.
    pub(super) fn unknown(&self, name: &str) -> Error {
        let error = Error::image(format!("image `{name}` is not in the cache"));
        let known: Vec<String> =
            self.list().unwrap_or_default().into_iter().map(|listed| listed.name).collect();
        let words: Vec<&str> = known.iter().map(String::as_str).collect();
        let full = canonical(name);
        let near = words.iter().find(|known| **known == full).copied();
        match near.or_else(|| suggest::nearest(&full, &words)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if words.is_empty() => error.hint("the cache is empty"),
            None => error.hint("`nativebuild cache ls` shows the names that there are"),
        }
    }
}

impl Freed {
    fn delete_unfinished(&mut self, directory: &Path) -> Result<()> {
        for entry in list(directory)? {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                self.delete(&entry)?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, entry: &DirEntry) -> Result<()> {
        let path = entry.path();
        let what = || format!("cannot remove `{}`", path.display());
        let found = entry.metadata().or_error(ErrorKind::Environment, what)?;
        if found.is_dir() {
            return fs::remove_dir_all(&path).or_error(ErrorKind::Environment, what);
        }
        fs::remove_file(&path).or_error(ErrorKind::Environment, what)?;
        self.files += 1;
        self.bytes += found.len();
        Ok(())
    }
}

/// Nothing when it is no directory.
fn list(directory: &Path) -> Result<Vec<DirEntry>> {
    let what = || format!("cannot list `{}`", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        entries => entries.or_error(ErrorKind::Environment, what)?,
    };
    entries.collect::<io::Result<_>>().or_error(ErrorKind::Environment, what)
}

/// Time since the file was made or linked here; its own dates are those of the build.
fn age(entry: &DirEntry) -> Duration {
    use std::os::unix::fs::MetadataExt;
    let changed = entry.metadata().map_or(0, |metadata| metadata.ctime()).max(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(changed as u64))
}
