//! What COPYs and bind mounts took out of stages and images, so that a build that finds everything needs no tree.
//!
//! A selection belongs to the layers of the tree that it is out of. The key of a stage says what its steps were given,
//! not what they made of it: a command may leave something else each time, and files of one run must not pass for those
//! of another. What a stage of this build unpacks to is known when its layers are written, so what was seen is
//! remembered after that.

use super::keys;
use super::prepare::Selection;
use super::stack::Stack;
use super::stage::Builder;
use super::tree;
use crate::error::Result;
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use crate::plan::step::{BaseRef, CopyFrom};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was seen in this build.
#[derive(Debug, Default)]
pub(super) struct Selections {
    /// What is not remembered yet.
    seen: Mutex<Vec<Seen>>,
    /// The layers of the images that something was taken out of.
    images: Mutex<BTreeMap<BaseRef, Stack>>,
}

/// A selection whose files were looked at.
#[derive(Debug)]
struct Seen {
    from: CopyFrom,
    /// Stands for what was selected.
    what: Digest,
    /// Of its content.
    content: Digest,
}

impl Selections {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<BaseRef, Stack>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Selection<'_> {
    /// Stands for what is selected, whatever it is selected from.
    fn what(&self) -> Digest {
        let mut hasher = FieldHasher::new("nb-selected-1");
        hasher.list(self.sources.iter().map(|(source, _)| source));
        hasher.list(self.exclude).number(self.parents.into());
        hasher.finish()
    }
}

impl Builder<'_> {
    /// Content digest of a selection out of a stage or an image, when it is remembered of the layers that these have now.
    pub(super) fn known_selection(&self, selection: &Selection<'_>) -> Result<Option<Digest>> {
        let Some(stack) = self.stack_of(selection.from)? else { return Ok(None) };
        let Some(layers) = stack.chain() else { return Ok(None) };
        let what = selection.what();
        let key = keys::selection(&layers, &what);
        let known = self.cache.selection(&key).or_else(|| self.imports.selection(&key));
        if let Some(content) = &known {
            self.exports.note_selection(stack, what, content);
        }
        Ok(known)
    }

    /// Keeps what a selection was until it is known what it was out of.
    pub(super) fn saw_selection(&self, selection: &Selection<'_>, content: &Digest) {
        if matches!(selection.from, CopyFrom::Context | CopyFrom::Named(_)) {
            return;
        }
        let (from, what, content) = (selection.from.clone(), selection.what(), content.clone());
        self.selections.seen().push(Seen { from, what, content });
    }

    /// Remembers what was seen; called when all layers are written. Where one could not be, nothing is known of its stage.
    pub(super) fn remember_selections(&self) {
        let all = std::mem::take(&mut *self.selections.seen());
        for Seen { from, what, content } in all {
            let Ok(Some(stack)) = self.stack_of(&from) else { continue };
            let Some(layers) = stack.chain() else { continue };
            self.cache.remember_selection(&keys::selection(&layers, &what), &content);
            self.exports.note_selection(stack, what, &content);
        }
    }

    /// The layers of a complete stage or an image: the same list for all that is taken out of it.
    fn stack_of(&self, from: &CopyFrom) -> Result<Option<Stack>> {
        Ok(match from {
            CopyFrom::Context | CopyFrom::Named(_) => None,
            CopyFrom::Image(base) => {
                let image = self.image(base)?;
                let fresh = || tree::base_state(image).stack(false);
                Some(self.selections.images().entry(base.clone()).or_insert_with(fresh).clone())
            }
            CopyFrom::Stage(stage) => self.states.complete_stack(*stage),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn what(sources: &[&str], exclude: &[&str], parents: bool) -> Digest {
        let sources: Vec<(String, Span)> =
            sources.iter().map(|source| ((*source).to_owned(), Span::default())).collect();
        let exclude: Vec<String> = exclude.iter().map(|text| (*text).to_owned()).collect();
        let from = CopyFrom::Stage(0);
        let selection = Selection {
            from: &from,
            sources: &sources,
            exclude: &exclude,
            parents,
            instruction: "COPY",
        };
        selection.what()
    }

    #[test]
    fn all_that_is_selected_counts() {
        let usual = what(&["/a", "/b"], &["*.o"], false);
        assert_eq!(what(&["/a", "/b"], &["*.o"], false), usual);
        for other in [
            what(&["/b", "/a"], &["*.o"], false),
            what(&["/a"], &["/b", "*.o"], false),
            what(&["/a", "/b"], &[], false),
            what(&["/a", "/b"], &["*.o"], true),
        ] {
            assert_ne!(other, usual);
        }
    }
}
