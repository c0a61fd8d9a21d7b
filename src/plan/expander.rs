//! Expansion of the AST's words against a scope, with places in the errors and a ceiling on the result.
//!
//! In: words as written and a lookup. Out: plain strings. The language itself is [`crate::dockerfile::expand`];
//! dockerfile.md §1.3.

use super::budget::{Budget, EXPANSION_LIMIT, STRING_COST, too_large};
use crate::dockerfile::ast::Word;
use crate::dockerfile::expand::{self, ExpandError, Lookup};
use crate::error::{Error, Result};
use crate::source::{SourceFile, Span};
use std::{cell::Cell, sync::Arc};

/// Expands words of one file (or of a trigger, which always uses the default escape character).
#[derive(Clone, Copy, Debug)]
pub(super) struct Expander<'a> {
    /// The file, for errors.
    pub(super) source: &'a Arc<SourceFile>,
    /// Escape character.
    pub(super) escape: char,
    /// The plan's ceiling.
    pub(super) budget: &'a Budget,
}

impl Expander<'_> {
    /// One word to one string.
    pub(super) fn word(&self, word: &Word, env: &Lookup<'_>) -> Result<String> {
        self.text(&word.text, word.span, env)
    }

    /// A text at `span` to one string.
    pub(super) fn text(&self, text: &str, span: Span, env: &Lookup<'_>) -> Result<String> {
        let out = self.metered(span, env, |env| expand::expand(text, self.escape, env))?;
        self.charge(out.len(), span)?;
        Ok(out)
    }

    /// One word to any number of strings (EXPOSE).
    pub(super) fn words(&self, word: &Word, env: &Lookup<'_>) -> Result<Vec<String>> {
        let out =
            self.metered(word.span, env, |env| expand::expand_words(&word.text, self.escape, env))?;
        for part in &out {
            self.charge(part.len(), word.span)?;
        }
        Ok(out)
    }

    /// The body of a COPY or ADD heredoc.
    pub(super) fn heredoc(&self, body: &str, span: Span, env: &Lookup<'_>) -> Result<String> {
        let out = self.metered(span, env, |env| expand::expand_heredoc(body, env))?;
        self.charge(out.len(), span)?;
        Ok(out)
    }

    fn charge(&self, bytes: usize, span: Span) -> Result<()> {
        self.budget.charge(bytes + STRING_COST, self.source, span)
    }

    /// Runs an expansion whose variables together may add [`EXPANSION_LIMIT`] bytes. Past it they read as empty and
    /// the whole fails: the result must never be built first and measured afterwards.
    fn metered<T>(
        &self,
        span: Span,
        env: &Lookup<'_>,
        run: impl FnOnce(&Lookup<'_>) -> Result<T, ExpandError>,
    ) -> Result<T> {
        let left = Cell::new(Some(EXPANSION_LIMIT));
        let metered = |name: &str| {
            let value = env(name)?;
            left.set(left.get().and_then(|left| left.checked_sub(value.len())));
            Some(if left.get().is_some() { value } else { String::new() })
        };
        let out = run(&metered);
        if left.get().is_none() {
            return Err(too_large().at(self.source, span));
        }
        out.map_err(|error| Error::dockerfile(error.message).at(self.source, span))
    }
}
