//! Files with several names among what a planned step copies.

use crate::layers::ImagePath;
use crate::sys::fs::Stat;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Files with several names, as long as their copies are still there: what `executor::copy` links.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_source: HashMap<(u64, u64), NonZeroU32>,
    by_path: HashMap<ImagePath, (u64, u64)>,
    last: Option<NonZeroU32>,
}

impl Links {
    /// Which file the copy of a source is.
    pub(super) fn file(&mut self, stat: &Stat, path: &[u8]) -> NonZeroU32 {
        let source = (stat.dev, stat.ino);
        if let Some(number) = self.by_source.get(&source) {
            return *number;
        }
        let number = self.last.map_or(NonZeroU32::MIN, |last| last.saturating_add(1));
        self.last = Some(number);
        self.by_source.insert(source, number);
        self.by_path.insert(path.to_vec(), source);
        number
    }

    /// The copy at a path is replaced.
    pub(super) fn forget(&mut self, path: &[u8]) {
        if let Some(source) = self.by_path.remove(path) {
            self.by_source.remove(&source);
        }
    }

    /// Links are kept within one source only.
    pub(super) fn clear(&mut self) {
        self.by_source.clear();
        self.by_path.clear();
    }
}
