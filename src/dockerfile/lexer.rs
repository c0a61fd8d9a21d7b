//! Physical lines to logical lines: continuation, comments, blank lines, and where each byte came from.
//!
//! In: bytes. Out: [`Line`]s, whose text is joined and whose segment table leads back to the file.
//! Comments may hold any bytes; a line of an instruction that is not UTF-8 is marked, not refused, so that
//! the caller can report it and go on. dockerfile.md §1.1.

use crate::source::Span;
use std::ops::Range;

/// Longest physical line in bytes, without its line feed.
pub(super) const MAX_LINE: usize = 65_535;

/// UTF-8's byte order mark, dropped at the very start of a file.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// A logical line: one instruction, continued lines joined, comment lines left out.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Joined text. Blanks at its ends are kept; nodes trim.
    pub(super) text: String,
    /// True when there is a blank line within the instruction.
    pub(super) blank: bool,
    /// The last line of the instruction.
    pub(super) last: Span,
    /// Comments right above it, without `#` and blanks, and where they stand.
    pub(super) comments: Vec<(usize, String)>,
    /// First byte that is not UTF-8, if any; the text is then only good for guessing.
    pub(super) not_utf8: Option<Span>,
    segments: Vec<Segment>,
    fixed: Option<Span>,
}

/// A run of joined text that is also a run of bytes in the file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at: usize,
    file: usize,
    len: usize,
}

impl Line {
    /// Place in the file of a range of the joined text.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        if let Some(span) = self.fixed {
            return span;
        }
        let start = self.place(range.start);
        if range.end <= range.start {
            return Span::new(start, start);
        }
        Span::new(start, self.place(range.end - 1) + 1)
    }

    fn place(&self, offset: usize) -> usize {
        let after = self.segments.partition_point(|segment| segment.at <= offset);
        let Some(segment) = after.checked_sub(1).and_then(|i| self.segments.get(i)) else {
            return 0;
        };
        segment.file + (offset - segment.at).min(segment.len)
    }

    fn push(&mut self, bytes: &[u8], file: usize) {
        let at = self.text.len();
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text.push_str(text),
            Err(error) => {
                let bad = file + error.valid_up_to();
                let span = self.fixed.unwrap_or(Span::new(bad, bad + 1));
                self.not_utf8.get_or_insert(span);
                self.text.push_str(&String::from_utf8_lossy(bytes));
            }
        }
        self.segments.push(Segment { at, file, len: bytes.len() });
    }
}

/// Reads logical lines and heredoc bodies from bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    escape: u8,
    fixed: Option<Span>,
}

impl<'a> Reader<'a> {
    /// `escape` is the escape character, which is ASCII. With `fixed` all places are that span.
    pub(super) fn new(bytes: &'a [u8], escape: char, fixed: Option<Span>) -> Self {
        let at = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
        Self { bytes, at, escape: escape as u8, fixed }
    }

    /// Place of a byte range of the input.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        self.fixed.unwrap_or_else(|| range.into())
    }

    /// The bytes of a range of the input.
    pub(super) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    /// Byte range of the next physical line without its line feed.
    pub(super) fn physical(&mut self) -> Option<Range<usize>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let length = self.bytes[start..].iter().position(|byte| *byte == b'\n');
        let end = length.map_or(self.bytes.len(), |length| start + length);
        self.at = (end + 1).min(self.bytes.len());
        Some(start..end)
    }

    /// The next logical line; blank lines and comments before it are skipped.
    pub(super) fn logical(&mut self) -> Option<Line> {
        let mut comments = Vec::new();
        loop {
            let mut line = Line { fixed: self.fixed, ..Line::default() };
            let range = trim_line_end(self.bytes, self.physical()?);
            let start = range.start + leading_blanks(&self.bytes[range.clone()]);
            let first = &self.bytes[start..range.end];
            match first.first() {
                // A blank line parts comments from what follows.
                None => {
                    comments.clear();
                    continue;
                }
                Some(b'#') => {
                    let text = String::from_utf8_lossy(&first[1..]);
                    comments.push((start, text.trim().to_owned()));
                    continue;
                }
                Some(_) => {}
            }
            let (content, mut open) = self.continuation(first);
            line.push(content, start);
            line.last = self.span(start..range.end);
            while open {
                let Some(range) = self.physical() else { break };
                let range = trim_line_end(self.bytes, range);
                let bytes = &self.bytes[range.clone()];
                match bytes.get(leading_blanks(bytes)) {
                    None => line.blank = true,
                    // A comment inside an instruction vanishes and never ends it.
                    Some(b'#') => {}
                    Some(_) => {
                        line.last = self.span(range.start + leading_blanks(bytes)..range.end);
                        let (content, more) = self.continuation(bytes);
                        line.push(content, range.start);
                        open = more;
                    }
                }
            }
            if !line.text.trim().is_empty() {
                line.comments = comments;
                return Some(line);
            }
        }
    }

    /// The text of a line without its continuation mark, and whether it had one.
    ///
    /// Two escape characters in a row are no mark, nor are three: the last must follow another character.
    fn continuation<'b>(&self, line: &'b [u8]) -> (&'b [u8], bool) {
        let kept = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'));
        let Some(last) = kept.filter(|at| line[*at] == self.escape) else { return (line, false) };
        if last > 0 && line[last - 1] == self.escape {
            return (line, false);
        }
        (&line[..last], true)
    }

    /// Reads up to the line that holds `name` alone and gives the byte range of what stands before it.
    ///
    /// `None` when there is no such line; everything is then used up.
    pub(super) fn heredoc_body(&mut self, name: &str, chomp: bool) -> Option<Range<usize>> {
        let start = self.at;
        while let Some(range) = self.physical() {
            let end = range.start;
            let range = trim_line_end(self.bytes, range);
            let mut line = &self.bytes[range];
            if chomp {
                let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
                line = &line[tabs..];
            }
            if line == name.as_bytes() {
                return Some(start..end);
            }
        }
        None
    }
}

/// The range without carriage returns at its end.
pub(super) fn trim_line_end(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let cut = bytes[range.clone()].iter().rev().take_while(|byte| **byte == b'\r').count();
    range.start..range.end - cut
}

/// Length of the white space that a line starts with; Unicode's, as BuildKit has it.
pub(super) fn leading_blanks(line: &[u8]) -> usize {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
    };
    text.len() - text.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &[&str]) {
        let mut reader = Reader::new(input.as_bytes(), '\\', None);
        let mut lines = Vec::new();
        while let Some(line) = reader.logical() {
            lines.push(line.text);
        }
        assert_eq!(lines, expect, "{input:?}");
    }

    #[test]
    fn lines_are_joined_as_buildkit_joins_them() {
        check("RUN echo a \\\n# c\n\n  b", &["RUN echo a   b"]);
        check("RUN echo a \\  \nb", &["RUN echo a b"]);
        check("RUN echo a\\\\\nB c", &["RUN echo a\\\\", "B c"]);
        check("RUN a\\\\\\\nB c", &["RUN a\\\\\\", "B c"]);
        check("RUN a \\\r\n  b\r\n", &["RUN a   b"]);
        check("RUN a \\", &["RUN a "]);
        check("RUN a \\\n\n\n", &["RUN a "]);
        check("\\\nFROM x\n", &["FROM x"]);
        check("\\\n", &[]);
        check("  # c \\\nFROM x", &["FROM x"]);
        check("RUN a \\\n  # c \\\n b", &["RUN a  b"]);
        check("\u{feff}FROM x", &["FROM x"]);
        check("RUN a # b", &["RUN a # b"]);
        check("\u{a0}RUN a", &["RUN a"]);
    }

    #[test]
    fn joined_text_leads_back_to_the_file() {
        let text = "RUN ab \\\n# comment\n\n  cd";
        let mut reader = Reader::new(text.as_bytes(), '\\', None);
        let line = reader.logical().unwrap();
        assert_eq!(line.text, "RUN ab   cd");
        assert_eq!(line.span(4..6), Span::new(4, 6));
        assert_eq!(line.span(9..11), Span::new(22, 24));
        assert_eq!(line.span(4..11), Span::new(4, 24));
        assert_eq!((line.blank, line.last), (true, Span::new(22, 24)));
    }

    #[test]
    fn comments_right_above_belong_to_the_instruction() {
        let text = "# far\n\n  # a\n#b \nRUN x \\\n# inside\n y\nRUN z\n";
        let mut reader = Reader::new(text.as_bytes(), '\\', None);
        let first = reader.logical().unwrap();
        assert_eq!(first.comments, [(9, "a".to_owned()), (13, "b".to_owned())]);
        assert_eq!(reader.logical().unwrap().comments, []);
    }

    #[test]
    fn bytes_that_are_no_text_are_marked_unless_in_a_comment() {
        let mut reader = Reader::new(b"# \xff\nRUN a\xffb \\\n# \xfe\n c", '\\', None);
        let line = reader.logical().unwrap();
        assert_eq!(line.not_utf8, Some(Span::new(9, 10)));
        assert!(reader.logical().is_none());
    }
}
