//! Step records: what a step with this key gave before.
//!
//! `cache/steps/<hex of the key>` is one small JSON file. A record is only written once its blob is durable, and only
//! believed when its blob is there with the right size and its layer stands on the layers that are below now
//! (`build::remembered`); anything unreadable is a miss. Of each key the newest record is kept. `cache/selections/<hex>`
//! remembers the content digest of a selection out of the layers of a stage or an image, so that a fully cached build
//! needs no rootfs (`build::selections`).

use super::care;
use super::store::Store;
use crate::layers::Layer;
use crate::layers::snapshot::random_id;
use crate::oci::{ChainId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is remembered of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Version of this form, 1.
    pub version: u32,
    /// When the layer was made, nanoseconds since 1970.
    pub created: i64,
    /// When the step began, seconds and nanoseconds.
    pub started: (i64, u32),
    /// Snapshot with the step's result.
    pub snapshot: Option<String>,
    /// Layer by variant (format, codec, level, epoch).
    pub layers: BTreeMap<String, Layer>,
    /// How the file of each of these blobs looked when it was whole, by variant.
    #[serde(default)]
    pub stamps: BTreeMap<String, Stamp>,
    /// What each of these layers stands on, by variant: it is of no use on other layers. Older versions did not say it.
    #[serde(default)]
    pub stands_on: BTreeMap<String, ChainId>,
}

/// Size, inode and time of a blob's file: whoever writes to it changes them.
pub type Stamp = (u64, u64, i64, i64);

/// The stamp of a file; none when it is not there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().as_ref().map(stamp_of)
}

/// The stamp of a file of which this is said.
pub fn stamp_of(found: &Metadata) -> Stamp {
    (found.len(), found.ino(), found.mtime(), found.mtime_nsec())
}

/// The step cache of a store.
#[derive(Debug)]
pub struct StepCache {
    steps: PathBuf,
    selections: PathBuf,
}

impl StepCache {
    /// The cache of `store`.
    pub fn of(store: &Store) -> Self {
        let cache = store.sub("cache");
        Self { steps: cache.join("steps"), selections: cache.join("selections") }
    }

    /// The record of a step.
    pub fn get(&self, key: &Digest) -> Option<StepRecord> {
        let path = self.steps.join(key.hex());
        let text = std::fs::read(&path).ok()?;
        care::touch(&path);
        let record: StepRecord = serde_json::from_slice(&text).ok()?;
        (record.version == 1).then_some(record)
    }

    /// Writes a record; layers of other variants that a present one of the same run has are kept. A cache that cannot be
    /// written is no reason to fail a build.
    pub fn put(&self, key: &Digest, mut record: StepRecord) {
        if let Some(old) = self.get(key)
            && old.created == record.created
            // An inline cache with an epoch says the same time of every run.
            && old.created % 1_000_000_000 != 0
        {
            for (variant, layer) in old.layers {
                record.layers.entry(variant).or_insert(layer);
            }
            for (variant, stamp) in old.stamps {
                record.stamps.entry(variant).or_insert(stamp);
            }
            for (variant, below) in old.stands_on {
                record.stands_on.entry(variant).or_insert(below);
            }
        }
        if let Ok(text) = serde_json::to_vec(&record) {
            write_atomic(&self.steps, key.hex(), &text);
        }
    }

    /// Remembered content digest of a selection.
    pub fn selection(&self, key: &Digest) -> Option<Digest> {
        let path = self.selections.join(key.hex());
        let text = std::fs::read_to_string(&path).ok()?;
        care::touch(&path);
        Digest::parse(text.trim()).ok()
    }

    /// Remembers the content digest of a selection.
    pub fn remember_selection(&self, key: &Digest, digest: &Digest) {
        write_atomic(&self.selections, key.hex(), digest.as_str().as_bytes());
    }
}

/// Writes a file that is there whole or not at all. A cache that cannot be written is no reason to fail.
pub(super) fn write_atomic(dir: &Path, name: &str, bytes: &[u8]) {
    let temporary = dir.join(format!(".{}", random_id()));
    let write = || {
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, dir.join(name))
    };
    let first = write().or_else(|_| std::fs::create_dir_all(dir).and_then(|()| write()));
    if first.is_err() {
        let _not_there = std::fs::remove_file(&temporary);
    }
}
