//! Splitting the arguments of an instruction into words; ranges of the logical line, nothing unquoted.
//!
//! dockerfile.md §1.2.

use std::ops::Range;

/// BuildKit's blanks between plain words; other Unicode space belongs to a word.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// `range` without Unicode space at its ends.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    let end = range.end - (part.len() - part.trim_end().len());
    start..end.max(start)
}

/// Plain words: split at blanks, quotes mean nothing.
pub(super) fn split_plain(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text[range.clone()].char_indices() {
        let at = range.start + at;
        if is_blank(c) {
            words.extend(start.take().map(|start| start..at));
        } else {
            start.get_or_insert(at);
        }
    }
    words.extend(start.map(|start| start..range.end));
    words
}

/// Words of ENV, LABEL and ARG: split at Unicode space outside quotes; quotes and escapes stay in the word.
///
/// An escape character at the very end is dropped.
pub(super) fn split_quoted(text: &str, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut end = range.end;
    let mut chars = text[range.clone()].char_indices();
    while let Some((at, c)) = chars.next() {
        let at = range.start + at;
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                end = at;
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    words.extend(start.filter(|start| *start < end).map(|start| start..end));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: &[&str]) {
        let words: Vec<_> =
            split_quoted(input, 0..input.len(), '\\').into_iter().map(|r| &input[r]).collect();
        assert_eq!(words, expect, "{input:?}");
    }

    #[test]
    fn quoted_words_keep_their_quotes() {
        check("a=b c=d", &["a=b", "c=d"]);
        check(r#"a="b c" d='e f'"#, &[r#"a="b c""#, "d='e f'"]);
        check(r"a=b\ c d", &[r"a=b\ c", "d"]);
        check(r#"a="b\" c" d"#, &[r#"a="b\" c""#, "d"]);
        check(r"a='b\' c", &[r"a='b\'", "c"]);
        check(r"a\", &["a"]);
        check(r"a \", &["a"]);
        check("a\u{a0}b", &["a", "b"]);
        check(r#""" b"#, &[r#""""#, "b"]);
        check("'open c", &["'open c"]);
        check("", &[]);
    }

    #[test]
    fn plain_words_know_no_quotes() {
        let text = " \"a b\"\t\u{a0}c ";
        let words: Vec<_> =
            split_plain(text, 0..text.len()).into_iter().map(|r| &text[r]).collect();
        assert_eq!(words, ["\"a", "b\"", "\u{a0}c"]);
    }
}
