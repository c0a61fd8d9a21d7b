//! What planning notices on the way besides the plan itself: variables that have no value, and ARGs.
//!
//! In: every look-up that found nothing, every ARG of a stage. Out: what `lint` and `outline` make of them.

use super::lint::MAX_SUGGESTIONS;
use crate::source::Span;
use std::cell::RefCell;

/// Filled while a plan is made.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the instruction that is being planned.
    unset: RefCell<Vec<Unset>>,
    /// Number of all of them so far.
    count: RefCell<usize>,
    args: RefCell<Vec<SeenArg>>,
}

/// A variable without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unset {
    pub(super) name: String,
    /// The known name that was probably meant.
    pub(super) meant: Option<String>,
}

/// An ARG of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenArg {
    pub(super) name: String,
    pub(super) value: Option<String>,
    /// The instruction.
    pub(super) span: Span,
}

impl Seen {
    /// Notes a look-up without result; once for each name of an instruction.
    pub(super) fn unset(&self, name: &str, meant: impl FnOnce() -> Option<String>) {
        let mut all = self.unset.borrow_mut();
        if all.iter().take(MAX_SUGGESTIONS).any(|unset| unset.name == name) {
            return;
        }
        let mut count = self.count.borrow_mut();
        *count += 1;
        if all.len() < MAX_SUGGESTIONS {
            let meant = if *count > MAX_SUGGESTIONS { None } else { meant() };
            all.push(Unset { name: name.to_owned(), meant });
        }
    }

    /// What was noted since the last call.
    pub(super) fn take_unset(&self) -> Vec<Unset> {
        std::mem::take(&mut *self.unset.borrow_mut())
    }

    /// Notes an ARG.
    pub(super) fn arg(&self, name: &str, value: Option<&str>, span: Span) {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.args.borrow_mut().push(SeenArg { name, value, span });
    }

    /// All ARGs so far.
    pub(super) fn take_args(&self) -> Vec<SeenArg> {
        std::mem::take(&mut *self.args.borrow_mut())
    }
}
