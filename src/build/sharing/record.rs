//! What a shared cache says of steps: the document in the config blob of its artifact, written and read.
//!
//! Keys and digests only: no names of files, no commands, no arguments. The lists are sorted and name nothing twice, so
//! that the same steps give the same bytes, and so that no two readers can see two different things in them.

use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::oci::Digest;
use crate::oci::spec;
use serde::{Deserialize, Serialize};

/// Largest document that is read.
pub(super) const MAX_BYTES: u64 = 8 << 20;
/// Most records of one document, of all kinds together.
const MAX_RECORDS: usize = 20_000;
/// Longest name of a variant.
const MAX_VARIANT: usize = 64;

/// All that one artifact says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    /// Version of this form, 1.
    pub(super) version: u32,
    /// By key.
    pub(super) steps: Vec<StepEntry>,
    /// What selections out of stages and images were, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) selections: Vec<(Digest, Digest)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepEntry {
    /// What the step was looked up by.
    pub(super) key: Digest,
    /// When its layer was made, nanoseconds since 1970.
    pub(super) created: i64,
    /// When it began, seconds and nanoseconds.
    pub(super) started: (i64, u32),
    /// Its layers by variant. None says only that there was such a step, so that what comes after it can be looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<LayerEntry>,
}

/// A layer of a step in one variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerEntry {
    /// Format, codec, level and epoch.
    pub(super) variant: String,
    /// The layer.
    pub(super) layer: Layer,
}

impl Document {
    /// One of these records, which are put in order.
    pub(super) fn new(mut steps: Vec<StepEntry>, mut selections: Vec<(Digest, Digest)>) -> Self {
        steps.sort_by(|a, b| a.key.cmp(&b.key));
        steps.dedup_by(|a, b| a.key == b.key);
        selections.sort();
        selections.dedup_by(|a, b| a.0 == b.0);
        Self { version: 1, steps, selections }
    }

    /// Adds what another one says of steps that this one does not know, as far as there is room.
    pub(super) fn and_older(self, older: Self) -> Self {
        let room = MAX_RECORDS.saturating_sub(self.steps.len() + self.selections.len()) / 2;
        let (mut steps, mut selections) = (self.steps, self.selections);
        let known = |steps: &[StepEntry], key: &Digest| {
            steps.binary_search_by(|entry| entry.key.cmp(key)).is_ok()
        };
        let more = older.steps.into_iter().filter(|entry| !known(&steps, &entry.key));
        let more: Vec<StepEntry> = more.take(room).collect();
        steps.extend(more);
        selections.extend(older.selections.into_iter().take(room));
        // The sort is stable, so that of two the own one stays.
        selections.sort_by(|a, b| a.0.cmp(&b.0));
        selections.dedup_by(|a, b| a.0 == b.0);
        Self::new(steps, selections)
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let records = self.steps.len() + self.selections.len();
        let bytes = spec::to_json(self)?;
        if records > MAX_RECORDS || bytes.len() as u64 > MAX_BYTES {
            return Err(Error::environment(format!(
                "the build has too many steps for a shared cache: {records}, in {} bytes",
                bytes.len()
            ))
            .hint("at most 20000 records and 8 MiB are read again"));
        }
        Ok(bytes)
    }

    /// Reads one, and refuses what no program of ours wrote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::integrity("its records have more than 8 MiB"));
        }
        let what = "the list of records";
        let Version { version } = spec::from_json(what, bytes)?;
        if version != 1 {
            return Err(Error::integrity(format!(
                "its records have version {version}, this program knows version 1"
            )));
        }
        let document: Self = spec::from_json(what, bytes)?;
        document
            .check()
            .map_err(|why| Error::integrity(format!("its records are wrong: {why}")))?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        if self.steps.len() + self.selections.len() > MAX_RECORDS {
            return Err(format!("there are more than {MAX_RECORDS}"));
        }
        in_order(self.steps.iter().map(|entry| &entry.key))?;
        in_order(self.selections.iter().map(|(key, _)| key))?;
        self.steps.iter().try_for_each(StepEntry::check)
    }
}

impl StepEntry {
    fn check(&self) -> Result<(), String> {
        let (seconds, nanoseconds) = self.started;
        let sane = nanoseconds < 1_000_000_000
            && self.created >= 0
            && (0..=i64::MAX / 1_000_000_000).contains(&seconds);
        if !sane {
            return Err(format!("the times of step {} make no sense", self.key));
        }
        in_order(self.layers.iter().map(|entry| &entry.variant))?;
        let named = |entry: &LayerEntry| {
            entry.variant.len() <= MAX_VARIANT
                && entry.variant.bytes().all(|b| b.is_ascii_graphic())
        };
        if self.layers.iter().all(named) {
            return Ok(());
        }
        Err(format!("step {} has a variant without a name", self.key))
    }
}

fn in_order<T: Ord + std::fmt::Display>(keys: impl Iterator<Item = T>) -> Result<(), String> {
    let mut last: Option<T> = None;
    for key in keys {
        match &last {
            Some(last) if *last == key => return Err(format!("`{key}` comes twice")),
            Some(last) if *last > key => return Err(format!("`{key}` is not in its place")),
            _ => last = Some(key),
        }
    }
    Ok(())
}
