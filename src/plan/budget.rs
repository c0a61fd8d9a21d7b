//! A ceiling on what a plan may grow to: `ENV A=$A$A` doubles with every line, triggers multiply with stages.
//!
//! In: sizes of what is about to be stored. Out: an error with its place once the ceiling is passed.
//! Every string that outlives its instruction is charged here, so memory is bounded for any input.

use crate::error::{Error, Result};
use crate::source::{SourceFile, Span};
use std::{cell::Cell, sync::Arc};

/// Bytes that a plan may hold; a large real one holds some hundred kilobytes.
const PLAN_LIMIT: usize = 128 << 20;

/// Bytes that the variables of one expansion may add; the kernel takes no single variable above 128 KiB.
pub(super) const EXPANSION_LIMIT: usize = 1 << 20;

/// What a step costs besides its strings.
pub(super) const STEP_COST: usize = 512;

/// What a stored string costs besides its bytes.
pub(super) const STRING_COST: usize = 48;

/// Counts down from the ceiling.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(PLAN_LIMIT))
    }
}

impl Budget {
    /// Takes `bytes`, or fails at `span`.
    pub(super) fn charge(&self, bytes: usize, source: &Arc<SourceFile>, span: Span) -> Result<()> {
        match self.0.get().checked_sub(bytes) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(too_large().at(source, span)),
        }
    }
}

/// The error of a plan or value past its ceiling.
pub(super) fn too_large() -> Error {
    Error::dockerfile("variables or triggers make the build plan too large")
        .hint("look for a variable that repeats itself, like `ENV A=$A$A`")
}
