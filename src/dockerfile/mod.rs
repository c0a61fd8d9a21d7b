//! The Dockerfile language: text in, syntax tree with places out, and variable expansion.
//!
//! In: a [`SourceFile`] (bytes). Out: [`ast::Dockerfile`], or every error found in one go, each with its
//! exact place. The way there: `lexer` (directives, logical lines) → `node` (keyword, flags,
//! arguments, heredocs) → one typed instruction per line. Words keep their quotes and variables;
//! [`expand`] works on them later, when the plan knows the values. Pure: no file, no clock, no environment.
//! Semantics are those of BuildKit (dockerfile.md §1.1–1.6, corner cases §6).

pub mod ast;
mod directives;
pub mod expand;
mod flags;
pub mod heredoc;
mod instructions;
mod json;
mod lexer;
pub mod lint;
mod node;
mod parser;
mod raw;
pub mod suggest;
mod words;

pub use instructions::unknown_trigger;

#[cfg(test)]
mod tests;

use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
};
use ast::{Dockerfile, Instruction};
use std::sync::Arc;

/// Parses a whole Dockerfile. All errors of the file come back as one (see [`crate::error::Error::several`]).
pub fn parse(source: &Arc<SourceFile>) -> Result<Dockerfile> {
    parser::parse(source)
}

/// The tree as read, before names and flags are checked: one s-expression an instruction, as BuildKit's parser dumps it.
pub fn dump(source: &Arc<SourceFile>) -> Result<String> {
    raw::dump(source)
}

/// As [`parse`], but also gives what could be read of a file with errors; its stages may then be incomplete or none.
pub fn parse_what_can_be(source: &Arc<SourceFile>) -> (Dockerfile, Option<Error>) {
    parser::parse_what_can_be(source)
}

/// Parses the text of one ONBUILD trigger, with the default escape character whatever its file said.
///
/// The text may come from an image, so it stands in no file: all places are `span` in `origin`.
pub fn parse_trigger(text: &str, origin: &Arc<SourceFile>, span: Span) -> Result<Instruction> {
    parser::parse_trigger(text, origin, span)
}
