//! What the steps of a stage depended on when they were carried out last, in parts that can be compared.
//!
//! `cache/explain/stage-<hex>` is one JSON file for a stage of a Dockerfile, found by what stays the same between builds:
//! where the context is from, the Dockerfile's name, the name or number of the stage. Each platform has its own list.
//! Steps are found again by their texts, so that lines which come, go or move do not hide the others. Whatever cannot be
//! read is unknown.

use crate::build::cache::write_atomic;
use crate::build::care;
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a file that are read.
const LARGEST: u64 = 32 << 20;
/// Platforms that are remembered of a stage.
const PLATFORMS: usize = 8;
/// Steps that are compared by their texts.
pub(super) const ALIGNED: usize = 2000;
/// Characters of a value that are kept.
const VALUE: usize = 200;

/// All that is known of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    version: u32,
    pub(super) platforms: BTreeMap<String, StageMemory>,
}

impl Default for Known {
    fn default() -> Self {
        Self { version: 1, platforms: BTreeMap::new() }
    }
}

/// A stage for one platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StageMemory {
    /// What FROM names, and what that was.
    pub(super) base: (String, String),
    pub(super) steps: Vec<StepMemory>,
    /// Digests of the files of its steps, those of this build first, then of those before.
    #[serde(default)]
    pub(super) lists: Vec<String>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepMemory {
    /// As written.
    pub(super) text: String,
    /// Under which its record is.
    pub(super) key: String,
    /// Of the tree below it.
    pub(super) parent: String,
    pub(super) parts: Parts,
}

/// What a step depends on: names as people read them, and values.
pub(super) type Parts = BTreeMap<String, String>;

/// A value that is kept: whole when it is short, else its beginning and its digest.
pub(super) fn value(text: &str) -> String {
    match text.char_indices().nth(VALUE) {
        None => text.to_owned(),
        Some((end, _)) => {
            format!("{}… ({})", &text[..end], &Digest::of(text.as_bytes()).as_str()[..19])
        }
    }
}

/// The file of a stage.
pub(super) fn path(dir: &Path, origin: &str, dockerfile: &str, stage: &str) -> PathBuf {
    let mut hasher = FieldHasher::new("nb-explain-1");
    hasher.field(origin.as_bytes()).field(dockerfile.as_bytes()).field(stage.as_bytes());
    dir.join(format!("stage-{}", hasher.finish().hex()))
}

/// What is known; nothing when the file is not there, or is none of ours.
pub(super) fn read(path: &Path) -> Known {
    let read = || {
        let mut text = Vec::new();
        File::open(path).ok()?.take(LARGEST).read_to_end(&mut text).ok()?;
        care::touch(path);
        let known: Known = serde_json::from_slice(&text).ok()?;
        (known.version == 1).then_some(known)
    };
    read().unwrap_or_default()
}

/// Replaces what is known of one platform.
pub(super) fn write(path: &Path, platform: &str, stage: StageMemory) {
    let mut known = read(path);
    while known.platforms.len() >= PLATFORMS && !known.platforms.contains_key(platform) {
        known.platforms.pop_first();
    }
    known.platforms.insert(platform.to_owned(), stage);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return;
    };
    if let Ok(text) = serde_json::to_vec(&known) {
        write_atomic(dir, name, &text);
    }
}

/// For each new step the old one that it was: of the same text in the same order, and between those the next one of the
/// same instruction.
pub(super) fn align(old: &[&str], new: &[&str]) -> Vec<Option<usize>> {
    let mut found = vec![None; new.len()];
    if old.len().min(new.len()) <= ALIGNED && old.len().max(new.len()) <= ALIGNED {
        common(old, new, &mut found);
    }
    let mut next = 0;
    for at in 0..new.len() {
        if let Some(old) = found[at] {
            next = old + 1;
            continue;
        }
        let until = found[at..].iter().flatten().next().copied().unwrap_or(old.len());
        let same = (next..until).find(|index| word(old[*index]) == word(new[at]));
        if let Some(index) = same {
            found[at] = Some(index);
            next = index + 1;
        }
    }
    found
}

fn word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// The longest list of texts that both have, in order.
fn common(old: &[&str], new: &[&str], found: &mut [Option<usize>]) {
    let width = new.len() + 1;
    let mut lengths = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i * width + j] = if old[i] == new[j] {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            found[j] = Some(i);
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_again_by_their_texts() {
        let old = ["RUN a", "COPY . /", "RUN b"];
        assert_eq!(align(&old, &["RUN a", "COPY . /", "RUN b"]), [Some(0), Some(1), Some(2)]);
        // A line above, an edited one, one that went, one that moved.
        assert_eq!(
            align(&old, &["RUN x", "RUN a", "COPY . /", "RUN b"]),
            [None, Some(0), Some(1), Some(2)]
        );
        assert_eq!(align(&old, &["RUN a", "COPY x /", "RUN b"]), [Some(0), Some(1), Some(2)]);
        assert_eq!(align(&old, &["RUN a", "RUN b"]), [Some(0), Some(2)]);
        assert_eq!(align(&old, &["RUN a", "WORKDIR /w", "RUN c"]), [Some(0), None, Some(2)]);
        assert_eq!(align(&[], &["RUN a"]), [None]);
        assert_eq!(
            align(&["RUN a", "RUN a"], &["RUN a", "RUN a", "RUN a"]),
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn a_value_that_is_long_is_kept_by_its_digest() {
        assert_eq!(value("short"), "short");
        let (one, two) = (value(&"é".repeat(500)), value(&"é".repeat(501)));
        assert_ne!(one, two);
        assert_eq!(one.chars().count(), VALUE + 23);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "/context", "Dockerfile", "0");
        assert_eq!(read(&path), Known::default());
        for text in ["", "{}", "[[[[", r#"{"version":2,"platforms":{}}"#, "\u{0}\u{1}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), Known::default());
        }
        let stage = StageMemory {
            base: ("b".to_owned(), "d".to_owned()),
            steps: Vec::new(),
            lists: Vec::new(),
        };
        for number in 0..20 {
            write(&path, &format!("platform-{number:02}"), stage.clone());
        }
        let known = read(&path);
        assert_eq!(known.platforms.len(), PLATFORMS);
        assert_eq!(known.platforms.get("platform-19"), Some(&stage));
    }
}
