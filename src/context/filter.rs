//! What of a selected directory is taken: the rules of `.dockerignore`, `--exclude` and `--parents` for one walk.
//!
//! In: what a directory's own path came to ([`Above`]) and a path in it; out: a [`Verdict`], and for a directory what is
//! handed on to what it holds. Everyone who walks asks here, so all see the same files.

use std::borrow::Cow;

use crate::context::ignore::{Decision, IgnoreRules, Matched};
use crate::context::tree::{FileTree, Selected};

/// What each rule list matched so far on the way down.
#[derive(Clone, Default)]
pub(super) struct Above {
    ignore: Matched,
    exclude: Matched,
    include: Matched,
    /// The directory is taken by the include pattern, and all below with it.
    taken: bool,
}

/// What is to be done with a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Show,
    Skip,
    /// Out itself, but something below may be in.
    Search,
}

/// The rules for one walk.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    pub(super) tree: &'a FileTree,
    pub(super) selected: &'a Selected,
}

impl<'a> Filter<'a> {
    /// For what the selected directory itself holds.
    pub(super) fn top(&self) -> Above {
        let mut above = Above { taken: self.selected.include.is_none(), ..Above::default() };
        if let Some(rules) = self.tree.ignore() {
            above.ignore = state_of(rules, &self.selected.path);
        }
        above
    }

    /// Path in the tree of a path in the selected directory.
    pub(super) fn full_path<'p>(&self, path: &'p [u8]) -> Cow<'p, [u8]>
    where
        'a: 'p,
    {
        match (self.selected.path.as_slice(), path) {
            (b"", path) | (path, b"") => Cow::Borrowed(path),
            (above, path) => Cow::Owned([above, b"/", path].concat()),
        }
    }

    /// What to do with `path`, which is in a directory that came to `parent`.
    pub(super) fn judge(&self, parent: &Above, path: &[u8], is_dir: bool) -> (Verdict, Above) {
        let mut above = Above { taken: parent.taken, ..Above::default() };
        let mut searchable = is_dir;
        let mut shown = true;
        if let Some(rules) = self.tree.ignore() {
            let path = self.full_path(path);
            let decision = enter(rules, &parent.ignore, &path, is_dir.then_some(&mut above.ignore));
            shown &= decision.included;
            searchable &= decision.included || rules.may_take_back_below(&path);
        }
        if let Some(rules) = &self.selected.exclude {
            let state = is_dir.then_some(&mut above.exclude);
            let decision = enter(rules, &parent.exclude, path, state);
            shown &= decision.included;
            searchable &= decision.included || rules.may_take_back_below(path);
        }
        if let Some(rules) = self.selected.include.as_ref().filter(|_| !parent.taken) {
            let state = is_dir.then_some(&mut above.include);
            let decision = enter(rules, &parent.include, path, state);
            above.taken = !decision.included;
            shown &= above.taken;
            searchable &= above.taken || rules.may_match_below(path);
        }
        let verdict = match (shown, searchable) {
            (true, _) => Verdict::Show,
            (false, true) => Verdict::Search,
            (false, false) => Verdict::Skip,
        };
        (verdict, above)
    }
}

/// Only a directory hands on what its path came to.
fn enter(
    rules: &IgnoreRules,
    parent: &Matched,
    path: &[u8],
    state: Option<&mut Matched>,
) -> Decision {
    match state {
        None => rules.decide_in(parent, path),
        Some(state) => {
            let decision;
            (*state, decision) = rules.enter(parent, path);
            decision
        }
    }
}

/// The rules' state for a directory, from the root down.
fn state_of(rules: &IgnoreRules, path: &[u8]) -> Matched {
    let mut state = Matched::default();
    if !path.is_empty() {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            state = rules.enter(&state, &path[..end]).0;
        }
    }
    state
}
