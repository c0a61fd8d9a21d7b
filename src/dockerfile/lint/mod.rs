//! Checks: remarks about a Dockerfile that is right and yet not what it should be.
//!
//! In: the syntax tree. Out: [`Warning`]s with BuildKit's names and texts, and [`Options`], which say which of
//! them count. What needs the values of variables is `plan::lint`'s, what needs the build context `build`'s.
//! dockerfile.md §1.1 (`# check=`), §1.11.

mod options;
mod rule;
mod tree;

pub use options::Options;
pub use rule::Rule;
pub use tree::check;

use crate::source::{SourceFile, Span};

/// A remark and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which rule made it.
    pub rule: Rule,
    /// BuildKit's text.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// The place of a word for a remark about its instruction: the word, unless it stands on a later line.
/// BuildKit gives the line on which the instruction begins, and so do we.
pub fn place(source: &SourceFile, word: Span, instruction: Span) -> Span {
    let same_line = source.line(word.start) == source.line(instruction.start);
    if same_line { word } else { instruction }
}

/// The description that the comments above an instruction give to `name`: what follows `# name `.
pub fn description<'a>(comments: &'a [String], name: &str) -> Option<&'a str> {
    let of_name = |comment: &'a String| comment.strip_prefix(name)?.strip_prefix(' ');
    comments.iter().rev().find_map(of_name).map(str::trim)
}
