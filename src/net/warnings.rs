//! What registries, mirrors and files with logins want users to hear: each text once in the life of a command, whatever
//! asks.
//!
//! In: texts as they come up; out: those that nobody took yet. Pulls and pushes take them while they work, `cli` what is
//! left at the end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// More than these are not worth reading.
const MOST: usize = 16;

/// Texts that all clones share.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Texts>>);

/// All texts that were seen, and those not yet given out.
#[derive(Debug, Default)]
struct Texts {
    seen: BTreeSet<String>,
    fresh: Vec<String>,
}

impl Warnings {
    /// Keeps a text that is new.
    pub(super) fn add(&self, text: String) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.seen.len() < MOST && texts.seen.insert(text.clone()) {
            texts.fresh.push(text);
        }
    }

    /// What was not given out before.
    pub fn take(&self) -> Vec<String> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut texts.fresh)
    }
}
