//! How much an archive may ask for, and how much it has asked for so far.
//!
//! Too much is an error whose text says of what; the caller adds which entry asked for it.

use crate::layers::beneath::MAX_PATH;

/// What a sparse archive may expand to before its ratio is looked at.
const RATIO_FLOOR: u64 = 4 << 30;

/// How much an archive may ask for. The defaults are far above any real image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of a path.
    pub path_len: usize,
    /// Bytes of all files together.
    pub total_bytes: Option<u64>,
    /// Expanded bytes for each byte read, once 4 GiB are passed.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            depth: 1024,
            path_len: MAX_PATH,
            total_bytes: Some(1 << 40),
            ratio: 500,
        }
    }
}

/// What an archive asked for so far.
pub(super) struct Demand {
    pub(super) limits: Limits,
    pub(super) entries: u64,
    /// Bytes of files.
    expanded: u64,
}

impl Demand {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, entries: 0, expanded: 0 }
    }

    /// Counts a header.
    pub(super) fn count(&mut self) -> Result<(), String> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(format!("the archive has more than {} entries", self.limits.entries));
        }
        Ok(())
    }

    /// Counts what a file will need, when so many bytes of the archive have been read with it; only sparse ones need
    /// more than they store.
    pub(super) fn expand(&mut self, size: u64, read: u64) -> Result<(), String> {
        self.expanded = self.expanded.saturating_add(size);
        if let Some(limit) = self.limits.total_bytes.filter(|limit| self.expanded > *limit) {
            return Err(format!("the archive expands to more than {limit} bytes"));
        }
        let ratio = self.limits.ratio;
        if self.expanded > RATIO_FLOOR.max(read.saturating_mul(ratio)) {
            return Err(format!("the archive expands more than {ratio} times"));
        }
        Ok(())
    }
}
