//! Texts that people wrote, and places in them.
//!
//! A [`SourceFile`] is bytes with a name; a [`Span`] is a byte range. Lines and columns are computed
//! only when something is shown. No I/O here.
//!
//! A text may have further ones that add to it, such as words of a command line: their spans begin where those of the
//! texts before them end, so that a span alone says in which text it lies ([`SourceFile::home`]).

use std::{ops::Range, sync::Arc};

/// A byte range in a [`SourceFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A span from `start` up to and without `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span::new(self.start.min(other.start), self.end.max(other.end))
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self::new(range.start, range.end)
    }
}

/// A named text and the index of its lines.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    name: String,
    text: Vec<u8>,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
    /// Texts that add to this one.
    further: Vec<Arc<SourceFile>>,
}

impl SourceFile {
    /// `name` is what errors show, for example `Dockerfile`.
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        let mut lines = vec![0];
        lines.extend(text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1));
        Self { name: name.into(), text, lines, further: Vec::new() }
    }

    /// A copy of this text with others that add to it; of this one's own further texts it keeps none.
    pub fn with_further(&self, further: Vec<Arc<SourceFile>>) -> Self {
        let (name, text, lines) = (self.name.clone(), self.text.clone(), self.lines.clone());
        Self { name, text, lines, further }
    }

    /// The further texts, and the offset at which the spans of each begin.
    pub fn further(&self) -> impl Iterator<Item = (usize, &Arc<SourceFile>)> {
        self.further.iter().scan(self.room(), |base, file| {
            let start = *base;
            *base += file.room();
            Some((start, file))
        })
    }

    /// Offsets that the text itself takes; its end counts.
    fn room(&self) -> usize {
        self.text.len() + 1
    }

    /// The text in which a span lies, and the span in it.
    pub fn home(self: &Arc<Self>, span: Span) -> (Arc<SourceFile>, Span) {
        match self.further().filter(|(base, _)| *base <= span.start).last() {
            Some((base, file)) => {
                (Arc::clone(file), Span::new(span.start - base, span.end.saturating_sub(base)))
            }
            None => (Arc::clone(self), span),
        }
    }

    /// Name shown in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Line (from 1) of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    /// Line and column (both from 1; columns count characters) of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.lines[line - 1];
        let end = offset.clamp(start, self.text.len());
        (line, String::from_utf8_lossy(&self.text[start..end]).chars().count() + 1)
    }

    /// Text of a line (from 1) without its line end; invalid UTF-8 is replaced.
    pub fn line_text(&self, line: usize) -> String {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let text = &self.text[start..end.max(start)];
        String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned()
    }

    /// Byte range of a line (from 1) without its line end.
    pub fn line_span(&self, line: usize) -> Span {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        Span::new(start, end)
    }

    /// The bytes of a span, cut to the text.
    pub fn slice(&self, span: Span) -> &[u8] {
        &self.text[span.start.min(self.text.len())..span.end.min(self.text.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_characters() {
        let file = SourceFile::new("f", "ab\nçd\r\n");
        assert_eq!(file.line_column(0), (1, 1));
        assert_eq!(file.line_column(5), (2, 2));
        assert_eq!(file.line_text(2), "çd");
        assert_eq!(file.line_text(3), "");
        assert_eq!(file.line_text(9), "");
    }

    #[test]
    fn spans_beyond_a_text_lie_in_its_further_ones() {
        let word = |text: &str| Arc::new(SourceFile::new("word", text));
        let (one, two) = (word("ab"), word("cde"));
        let file = SourceFile::new("f", "1234").with_further(vec![one.clone(), two.clone()]);
        assert_eq!(file.further().map(|(base, _)| base).collect::<Vec<_>>(), [5, 8]);
        let file = Arc::new(file);
        for (span, home, inside) in [
            (Span::new(1, 3), &file, Span::new(1, 3)),
            (Span::new(4, 4), &file, Span::new(4, 4)),
            (Span::new(5, 7), &one, Span::new(0, 2)),
            (Span::new(9, 11), &two, Span::new(1, 3)),
        ] {
            assert_eq!(file.home(span), (Arc::clone(home), inside));
        }
    }
}
