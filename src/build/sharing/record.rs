//! What a shared cache says of steps: the document in the config blob of its artifact, written and read.
//!
//! Keys and digests only: no names of files, no commands, no arguments. The lists are sorted and name nothing twice, so
//! that the same steps give the same bytes, and so that no two readers can see two different things in them.

use super::chunker::LARGEST;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::oci::spec;
use crate::oci::{ChainId, DiffId, Digest};
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
    /// Directories of cache mounts, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<MountEntry>,
}

/// The directory of a cache mount: a tar in chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MountEntry {
    /// Hash of its id.
    pub(super) mount: Digest,
    /// In their order.
    pub(super) chunks: Vec<ChunkEntry>,
}

/// A chunk of a tar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChunkEntry {
    /// Of the packed chunk.
    pub(super) digest: Digest,
    /// Bytes of the packed chunk.
    pub(super) size: u64,
    /// Bytes of the chunk itself.
    pub(super) length: u64,
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
    /// What other layers of it unpack to, by variant: selections, and what stands on them, are looked up by that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) diff_ids: Vec<(String, DiffId)>,
    /// What its layers stand on, by variant: on other layers they are of no use. Older versions did not say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stands_on: Vec<(String, ChainId)>,
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
        Self { version: 1, steps, selections, mounts: Vec::new() }
    }

    /// The same with these mounts.
    pub(super) fn with_mounts(mut self, mut mounts: Vec<MountEntry>) -> Self {
        mounts.sort_by(|a, b| a.mount.cmp(&b.mount));
        mounts.dedup_by(|a, b| a.mount == b.mount);
        self.mounts = mounts;
        self
    }

    /// How much it says.
    fn records(&self) -> usize {
        let chunks: usize = self.mounts.iter().map(|entry| 1 + entry.chunks.len()).sum();
        self.steps.len() + self.selections.len() + chunks
    }

    /// Adds what another one says of steps that this one does not know, and of layers of the same steps that this one does
    /// not have, as far as there is room.
    pub(super) fn and_older(self, older: Self) -> Self {
        let room = MAX_RECORDS.saturating_sub(self.records()) / 2;
        let mounts = self.mounts.clone();
        let (mut steps, mut selections) = (self.steps, self.selections);
        let mut more = Vec::new();
        for entry in older.steps {
            match steps.binary_search_by(|own| own.key.cmp(&entry.key)) {
                Ok(at) => steps[at].add_older(entry),
                Err(_) if more.len() < room => more.push(entry),
                Err(_) => {}
            }
        }
        steps.extend(more);
        selections.extend(older.selections.into_iter().take(room));
        // The sort is stable, so that of two the own one stays.
        selections.sort_by(|a, b| a.0.cmp(&b.0));
        selections.dedup_by(|a, b| a.0 == b.0);
        Self::new(steps, selections).with_mounts(mounts)
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let records = self.records();
        let bytes = spec::to_json(self)?;
        if records > MAX_RECORDS || bytes.len() as u64 > MAX_BYTES {
            return Err(Error::environment(format!(
                "there is too much for one shared cache: {records} records, in {} bytes",
                bytes.len()
            ))
            .hint("at most 20000 records and chunks and 8 MiB are read again"));
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
        if self.records() > MAX_RECORDS {
            return Err(format!("there are more than {MAX_RECORDS}"));
        }
        in_order(self.steps.iter().map(|entry| &entry.key))?;
        in_order(self.selections.iter().map(|(key, _)| key))?;
        in_order(self.mounts.iter().map(|entry| &entry.mount))?;
        self.steps.iter().try_for_each(StepEntry::check)?;
        self.mounts.iter().flat_map(|entry| &entry.chunks).try_for_each(ChunkEntry::check)
    }
}

impl StepEntry {
    /// What its layer of a variant unpacks to, whether or not it is here.
    pub(super) fn diff_id(&self, variant: &str) -> Option<&DiffId> {
        let here = self.layers.iter().find(|entry| entry.variant == variant);
        let mut others = self.diff_ids.iter().filter(|(known, _)| known == variant);
        here.map(|entry| &entry.layer.diff_id).or_else(|| others.next().map(|(_, id)| id))
    }

    /// What its layer of a variant stands on.
    pub(super) fn stands_on(&self, variant: &str) -> Option<&ChainId> {
        self.stands_on.iter().find(|(known, _)| known == variant).map(|(_, below)| below)
    }

    /// Adds what an older entry of the same step says of variants of which this one has no layer, unless its layers stand
    /// on others.
    fn add_older(&mut self, older: Self) {
        for (variant, below) in &older.stands_on {
            match self.stands_on(variant) {
                Some(own) if own != below => continue,
                Some(_) => {}
                None => self.stands_on.push((variant.clone(), below.clone())),
            }
            if self.layers.iter().any(|own| own.variant == *variant) {
                continue;
            }
            let is_it = |entry: &&LayerEntry| entry.variant == *variant;
            if let Some(layer) = older.layers.iter().find(is_it) {
                self.diff_ids.retain(|(own, _)| own != variant);
                self.layers.push(layer.clone());
            } else if self.diff_id(variant).is_none() {
                let told = older.diff_ids.iter().filter(|(known, _)| known == variant).cloned();
                self.diff_ids.extend(told);
            }
        }
        self.stands_on.sort();
        self.layers.sort_by(|a, b| a.variant.cmp(&b.variant));
        self.diff_ids.sort();
    }

    /// Leaves out layers that are not there; how many these were. What they unpack to stays known.
    pub(super) fn keep_those(&mut self, there: &mut dyn FnMut(&Layer) -> bool) -> usize {
        let all = std::mem::take(&mut self.layers).into_iter();
        let (kept, gone): (Vec<_>, Vec<_>) = all.partition(|entry| there(&entry.layer));
        self.layers = kept;
        let lost = gone.len();
        self.diff_ids.extend(gone.into_iter().map(|entry| (entry.variant, entry.layer.diff_id)));
        self.diff_ids.sort();
        self.diff_ids.dedup_by(|a, b| a.0 == b.0);
        lost
    }

    fn check(&self) -> Result<(), String> {
        let (seconds, nanoseconds) = self.started;
        let sane = nanoseconds < 1_000_000_000
            && self.created >= 0
            && (0..=i64::MAX / 1_000_000_000).contains(&seconds);
        if !sane {
            return Err(format!("the times of step {} make no sense", self.key));
        }
        let here = || self.layers.iter().map(|entry| &entry.variant);
        let others = || self.diff_ids.iter().map(|(variant, _)| variant);
        let standing = || self.stands_on.iter().map(|(variant, _)| variant);
        in_order(here())?;
        in_order(others())?;
        in_order(standing())?;
        let named = |variant: &String| {
            variant.len() <= MAX_VARIANT && variant.bytes().all(|b| b.is_ascii_graphic())
        };
        if here().chain(others()).chain(standing()).all(named) {
            return Ok(());
        }
        Err(format!("step {} has a variant without a name", self.key))
    }
}

impl ChunkEntry {
    fn check(&self) -> Result<(), String> {
        let longest = LARGEST as u64;
        // What cannot be packed grows a little.
        if (1..=longest).contains(&self.length) && (1..=longest * 2).contains(&self.size) {
            return Ok(());
        }
        Err(format!("chunk {} has a size that none has", self.digest))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(number: u64) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn layer(number: u64) -> Layer {
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
        Layer {
            digest: digest(number),
            size: number,
            diff_id: DiffId(digest(number + 1)),
            media_type,
        }
    }

    fn entry(number: u64, layers: &[u64]) -> StepEntry {
        let layers =
            layers.iter().map(|at| LayerEntry { variant: format!("v{at}"), layer: layer(*at) });
        let (created, started) = (number as i64, (number as i64, 7));
        let diff_ids = if number.is_multiple_of(2) { Vec::new() } else { vec![told("w", number)] };
        let stands_on = diff_ids.iter().map(|(name, id)| (name.clone(), ChainId(id.0.clone())));
        let (key, layers, stands_on) = (digest(number), layers.collect(), stands_on.collect());
        StepEntry { key, created, started, layers, diff_ids, stands_on }
    }

    fn told(variant: &str, number: u64) -> (String, DiffId) {
        (variant.to_owned(), DiffId(digest(number)))
    }

    fn said(value: &serde_json::Value) -> String {
        Document::parse(value.to_string().as_bytes()).map_or_else(
            |error| error.to_string(),
            |document| format!("{} steps", document.steps.len()),
        )
    }

    /// Found in review: a step without a layer took the place of an older entry that had one.
    #[test]
    fn layers_of_an_older_entry_stay_where_there_is_no_own_one() {
        let below = |number: u64| ChainId(digest(number));
        let step = |layers: &[(&str, u64)], told: &[(&str, u64)], on: &[(&str, u64)]| StepEntry {
            layers: layers
                .iter()
                .map(|(name, at)| LayerEntry { variant: (*name).to_owned(), layer: layer(*at) })
                .collect(),
            diff_ids: told.iter().map(|(name, at)| super::tests::told(name, *at)).collect(),
            stands_on: on.iter().map(|(name, at)| ((*name).to_owned(), below(*at))).collect(),
            ..entry(0, &[])
        };
        let merged = |own: StepEntry, older: StepEntry| {
            let older = Document::new(vec![older], Vec::new());
            let merged = Document::new(vec![own], Vec::new()).and_older(older);
            assert_eq!(Document::parse(&merged.to_bytes().unwrap()).unwrap(), merged);
            merged.steps[0].clone()
        };
        let older = step(&[("a", 1), ("b", 2)], &[("c", 3)], &[("a", 9), ("b", 9), ("c", 9)]);
        // Nothing of its own but what the layer unpacks to.
        assert_eq!(merged(step(&[], &[("a", 2)], &[("a", 9)]), older.clone()), older);
        // A layer of its own, and one that stands on something else.
        let own = step(&[("a", 5)], &[("b", 6)], &[("a", 9), ("b", 8)]);
        let expected = step(&[("a", 5)], &[("b", 6), ("c", 3)], &[("a", 9), ("b", 8), ("c", 9)]);
        assert_eq!(merged(own, older), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            steps in proptest::collection::vec((0..1000_u64, proptest::collection::btree_set(0..9_u64, 0..3)), 0..40),
            selections in proptest::collection::vec((0..99_u64, 0..99_u64), 0..20),
        ) {
            let steps = steps.iter().map(|(number, layers)| {
                entry(*number, &layers.iter().copied().collect::<Vec<_>>())
            });
            let selections = selections.iter().map(|(key, value)| (digest(*key), digest(*value)));
            let document = Document::new(steps.collect(), selections.collect());
            let bytes = document.to_bytes().unwrap();
            prop_assert_eq!(Document::parse(&bytes).unwrap(), document);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _any = Document::parse(&bytes);
        }
    }

    #[test]
    fn records_that_no_program_of_ours_wrote_are_refused() {
        let (low, high) = (digest(1).min(digest(2)), digest(1).max(digest(2)));
        let step = |key: &Digest| serde_json::json!({"key": key, "created": 1, "started": [1, 2]});
        let with =
            |steps: Vec<serde_json::Value>| serde_json::json!({"version": 1, "steps": steps});
        assert_eq!(said(&with(vec![step(&low), step(&high)])), "2 steps");
        assert_eq!(
            said(&with(vec![step(&high), step(&low)])),
            format!("its records are wrong: `{low}` is not in its place")
        );
        assert_eq!(
            said(&with(vec![step(&low), step(&low)])),
            format!("its records are wrong: `{low}` comes twice")
        );
        for (name, value) in [
            ("created", serde_json::json!(-1)),
            ("started", serde_json::json!([1, 1_000_000_000])),
            ("started", serde_json::json!([-1, 0])),
            ("started", serde_json::json!([i64::MAX, 0])),
        ] {
            let mut wrong = step(&low);
            wrong[name] = value;
            let text = format!("its records are wrong: the times of step {low} make no sense");
            assert_eq!(said(&with(vec![wrong])), text);
        }
        let twice = |variant: &str| serde_json::json!({"variant": variant, "layer": layer(1)});
        let mut wrong = step(&low);
        wrong["layers"] = serde_json::json!([twice("a"), twice("a")]);
        assert_eq!(said(&with(vec![wrong.clone()])), "its records are wrong: `a` comes twice");
        wrong["layers"] = serde_json::json!([twice("a\n")]);
        let text = format!("its records are wrong: step {low} has a variant without a name");
        assert_eq!(said(&with(vec![wrong])), text);
        let mut wrong = step(&low);
        wrong["diff_ids"] = serde_json::json!([told("a", 1), told("a", 2)]);
        assert_eq!(said(&with(vec![wrong.clone()])), "its records are wrong: `a` comes twice");
        wrong["diff_ids"] = serde_json::json!([told("a\n", 1)]);
        assert_eq!(said(&with(vec![wrong])), text);
        let mut wrong = step(&low);
        wrong["stands_on"] = serde_json::json!([told("b", 1), told("a", 2)]);
        let other = "its records are wrong: `a` is not in its place";
        assert_eq!(said(&with(vec![wrong.clone()])), other);
        wrong["stands_on"] = serde_json::json!([told("", 1), told("a\n", 2)]);
        assert_eq!(said(&with(vec![wrong])), text);
        let newer = serde_json::json!({"version": 2, "other": 1});
        assert_eq!(said(&newer), "its records have version 2, this program knows version 1");
        let mut keys: Vec<Digest> = (0..20_001).map(digest).collect();
        keys.sort();
        let many = with(keys.iter().map(step).collect());
        assert_eq!(said(&many), "its records are wrong: there are more than 20000");
        let large = vec![b' '; MAX_BYTES as usize + 1];
        let error = Document::parse(&large).unwrap_err().to_string();
        assert_eq!(error, "its records have more than 8 MiB");
    }

    #[test]
    fn what_a_lost_layer_unpacks_to_stays_known() {
        let mut step = entry(1, &[1, 2]);
        assert_eq!(step.keep_those(&mut |layer| layer.size == 2), 1);
        assert_eq!(step.layers.len(), 1);
        assert_eq!(step.diff_ids, [told("v1", 2), told("w", 1)]);
        for (variant, wanted) in [("v1", Some(2)), ("v2", Some(3)), ("w", Some(1)), ("x", None)] {
            let wanted = wanted.map(|number| DiffId(digest(number)));
            assert_eq!(step.diff_id(variant), wanted.as_ref(), "{variant}");
        }
    }

    #[test]
    fn what_a_layer_stands_on_is_told_by_variant() {
        let step = entry(1, &[]);
        assert_eq!(step.stands_on("w"), Some(&ChainId(digest(1))));
        assert_eq!(step.stands_on("v1"), None);
        assert_eq!(entry(2, &[1]).stands_on("w"), None);
    }

    #[test]
    fn what_was_there_before_stays_where_nothing_newer_is() {
        let newer = Document::new(vec![entry(1, &[1])], vec![(digest(1), digest(2))]);
        let older = Document::new(
            vec![entry(1, &[]), entry(2, &[2])],
            vec![(digest(1), digest(3)), (digest(4), digest(5))],
        );
        let wanted = Document::new(
            vec![entry(1, &[1]), entry(2, &[2])],
            vec![(digest(1), digest(2)), (digest(4), digest(5))],
        );
        assert_eq!(newer.and_older(older), wanted);
    }
}
