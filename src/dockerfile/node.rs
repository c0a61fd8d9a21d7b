//! A logical line cut into keyword, flags and arguments, before it means anything.
//!
//! Everything here is a range of the joined line; [`Node::word`] and [`Node::error`] turn ranges into
//! places of the file.

use super::{
    ast::Word,
    flags::{self, RawFlag},
    heredoc::{self, Token},
    json::{self, Json},
    lexer::Line,
    words,
};
use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
};
use std::{ops::Range, sync::Arc};

/// One instruction, untyped.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// Flags in the order of the line.
    pub(super) flags: Vec<RawFlag>,
    /// The rest of the line, trimmed.
    pub(super) args: Range<usize>,
    /// Escape character.
    pub(super) escape: char,
    source: &'a Arc<SourceFile>,
    line: &'a Line,
    keyword: Range<usize>,
    rest: Range<usize>,
}

impl<'a> Node<'a> {
    /// Cuts up `range` of a line. The range must not be blank.
    pub(super) fn new(
        source: &'a Arc<SourceFile>,
        line: &'a Line,
        range: Range<usize>,
        escape: char,
    ) -> Self {
        let whole = words::trim(&line.text, range);
        let text = &line.text[whole.clone()];
        let keyword = whole.start..whole.start + text.find(words::is_blank).unwrap_or(text.len());
        let rest = words::trim(&line.text, keyword.end..whole.end);
        let (flags, args) = flags::cut(&line.text, rest.clone(), escape);
        let args = words::trim(&line.text, args..whole.end);
        Self { flags, args, escape, source, line, keyword, rest }
    }

    /// The node of the instruction in the arguments of this one (ONBUILD); `None` when there is none.
    pub(super) fn inner(&self, escape: char) -> Option<Node<'a>> {
        let range = self.rest.clone();
        (!range.is_empty()).then(|| Node::new(self.source, self.line, range, escape))
    }

    /// The same without flags of this one before it: how the raw tree has it.
    pub(super) fn inner_of_args(&self, escape: char) -> Option<Node<'a>> {
        let range = self.args.clone();
        (!range.is_empty()).then(|| Node::new(self.source, self.line, range, escape))
    }

    /// The keyword as written.
    pub(super) fn written_keyword(&self) -> &'a str {
        &self.line.text[self.keyword.clone()]
    }

    /// The keyword in upper case.
    pub(super) fn keyword(&self) -> String {
        self.written_keyword().to_ascii_uppercase()
    }

    /// Place of the keyword.
    pub(super) fn keyword_span(&self) -> Span {
        self.span(self.keyword.clone())
    }

    /// Comments right above the line.
    pub(super) fn comments(&self) -> Vec<String> {
        self.line.comments.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Place of everything, keyword to last character.
    pub(super) fn whole_span(&self) -> Span {
        self.span(self.keyword.start..self.rest.end.max(self.keyword.end))
    }

    /// Keyword to last character, joined.
    pub(super) fn whole_text(&self) -> &'a str {
        &self.line.text[self.keyword.start..self.rest.end.max(self.keyword.end)]
    }

    /// Everything after the keyword, flags included.
    pub(super) fn rest(&self) -> Word {
        self.word(self.rest.clone())
    }

    /// Text of the arguments.
    pub(super) fn args_text(&self) -> &'a str {
        &self.line.text[self.args.clone()]
    }

    /// The joined line, which all ranges index.
    pub(super) fn text(&self) -> &'a str {
        &self.line.text
    }

    /// Place of a range.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        self.line.span(range)
    }

    /// Text and place of a range.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.line.text[range.clone()].to_owned(), span: self.span(range) }
    }

    /// An error at a range; at the whole instruction when the range is empty.
    pub(super) fn error(&self, range: Range<usize>, message: impl Into<String>) -> Error {
        let span = if range.is_empty() { self.whole_span() } else { self.span(range) };
        Error::dockerfile(message).at(self.source, span)
    }

    /// An error at the arguments, or at the whole instruction when there are none.
    pub(super) fn error_at_args(&self, message: impl Into<String>) -> Error {
        self.error(self.args.clone(), message)
    }

    /// An error at a place.
    pub(super) fn error_at(&self, span: Span, message: impl Into<String>) -> Error {
        Error::dockerfile(message).at(self.source, span)
    }

    /// `X requires at least one argument`, unless there is one.
    pub(super) fn require_args(&self) -> Result<()> {
        if self.args.is_empty() {
            let message = format!("{} requires at least one argument", self.keyword());
            return Err(self.error_at_args(message));
        }
        Ok(())
    }

    /// The arguments in JSON form, when they are; an array of other things is an error.
    pub(super) fn json(&self) -> Result<Option<Vec<Word>>> {
        match json::parse(&self.line.text, self.args.clone()) {
            Json::Other => Ok(None),
            Json::Strings(list) => Ok(Some(
                list.into_iter()
                    .map(|(text, range)| Word { text, span: self.span(range) })
                    .collect(),
            )),
            Json::NotStrings(range) => Err(self.not_strings(range)),
        }
    }

    /// The error of a JSON array with other elements than strings.
    pub(super) fn not_strings(&self, range: Range<usize>) -> Error {
        self.error(range, "when using JSON array syntax, arrays must be comprised of strings only")
            .hint("put every element into double quotes")
    }

    /// The plain form: words between blanks.
    pub(super) fn plain(&self) -> Vec<Word> {
        words::split_plain(&self.line.text, self.args.clone())
            .into_iter()
            .map(|range| self.word(range))
            .collect()
    }

    /// Heredoc tokens of the arguments, when this instruction can have heredocs.
    pub(super) fn heredoc_tokens(&self) -> Vec<Token> {
        match self.keyword().as_str() {
            "RUN" | "COPY" | "ADD" => {}
            "ONBUILD" => {
                let inner = self.inner('\\').filter(|inner| inner.keyword() != "ONBUILD");
                return inner.map_or_else(Vec::new, |inner| inner.heredoc_tokens());
            }
            _ => return Vec::new(),
        }
        if !self.args_text().contains("<<") || !matches!(self.json(), Ok(None)) {
            return Vec::new();
        }
        heredoc::tokens(&self.line.text, self.args.clone())
    }
}
