//! `# syntax=`, `# escape=` and `# check=` at the top of a file.
//!
//! They count only before the first line that is anything else: a blank line, an ordinary comment, an
//! unknown `# key=value`, an instruction. dockerfile.md §1.1.

use super::{
    ast::{Directives, Word},
    lexer::{Reader, leading_blanks, trim_line_end},
};
use crate::{
    error::Error,
    source::{SourceFile, Span},
};
use std::{ops::Range, sync::Arc};

/// A line that has the form of a directive; ranges are in the file.
struct Candidate {
    name: String,
    value: String,
    range: Range<usize>,
}

/// Reads the directives; what is wrong with them is added to `errors`.
pub(super) fn read(source: &Arc<SourceFile>, errors: &mut Vec<Error>) -> Directives {
    let mut found = Directives { syntax: None, escape: '\\', check: None, end: 0 };
    let mut reader = Reader::new(source.text(), '\\', None);
    let mut escape_seen = false;
    // After a `#!` line only `syntax` is still looked for.
    let mut only_syntax = false;
    let mut first = true;
    while let Some(range) = reader.physical() {
        let range = trim_line_end(source.text(), range);
        let shebang = first && source.text()[range.clone()].starts_with(b"#!");
        first = false;
        if shebang {
            only_syntax = true;
            continue;
        }
        let Some(line) = candidate(source.text(), range) else { break };
        let span = Span::from(line.range.clone());
        let word = Word { text: line.value.clone(), span };
        let twice = match line.name.as_str() {
            "syntax" => found.syntax.replace(word).is_some(),
            "check" | "escape" if only_syntax => false,
            "check" => found.check.replace(word).is_some(),
            "escape" => {
                match line.value.as_str() {
                    "\\" => found.escape = '\\',
                    "`" => found.escape = '`',
                    other => errors.push(invalid_escape(other).at(source, span)),
                }
                std::mem::replace(&mut escape_seen, true)
            }
            _ => break,
        };
        found.end = line.range.end;
        if twice {
            let message = format!("only one {} parser directive can be used", line.name);
            errors.push(Error::dockerfile(message).at(source, span));
        }
    }
    found
}

fn invalid_escape(token: &str) -> Error {
    Error::dockerfile(format!("invalid escape token '{token}' does not match ` or \\"))
        .hint("write `# escape=\\` or leave the line out: the backslash is the default")
}

/// `#`, blanks, name, blanks, `=`, blanks, value. The name comes back in lower case.
fn candidate(bytes: &[u8], range: Range<usize>) -> Option<Candidate> {
    let start = range.start + leading_blanks(&bytes[range.clone()]);
    let line = std::str::from_utf8(&bytes[start..range.end]).ok()?;
    let blank = |c: char| matches!(c, ' ' | '\t' | '\u{c}' | '\r');
    let rest = line.strip_prefix('#')?.trim_start_matches(blank);
    let (name, value) = rest.split_once('=')?;
    let name = name.trim_end_matches(blank);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return None;
    }
    let value = value.trim_matches(blank);
    if value.is_empty() {
        return None;
    }
    let end = start + line.trim_end_matches(blank).len();
    Some(Candidate {
        name: name.to_ascii_lowercase(),
        value: value.to_owned(),
        range: end - value.len()..end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: (Option<&str>, char, Option<&str>), errors: &[&str]) {
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        let mut found = Vec::new();
        let directives = read(&source, &mut found);
        let syntax = directives.syntax.map(|word| word.text);
        let check = directives.check.map(|word| word.text);
        assert_eq!((syntax.as_deref(), directives.escape, check.as_deref()), expect, "{text:?}");
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, errors, "{text:?}");
    }

    #[test]
    fn directives_end_at_the_first_other_line() {
        check("# syntax=a/b:1  \n#escape=`\nFROM x", (Some("a/b:1"), '`', None), &[]);
        check("# x=1\n# escape=`\n", (None, '\\', None), &[]);
        check("\n# escape=`\n", (None, '\\', None), &[]);
        check("# note\n# escape=`\n", (None, '\\', None), &[]);
        check("FROM x\n# escape=`\n", (None, '\\', None), &[]);
        check("# escape=\n# syntax=x\n", (None, '\\', None), &[]);
        check("  # EsCaPe = ` \r\n# CHECK=skip=all\r\n", (None, '`', Some("skip=all")), &[]);
        check("\u{feff}# escape=`\n", (None, '`', None), &[]);
        check("#!/bin/x\n# escape=`\n# syntax=y\n", (Some("y"), '\\', None), &[]);
        check("# \u{e9}\n", (None, '\\', None), &[]);
    }

    #[test]
    fn wrong_directives_are_named() {
        check(
            "#escape=x\n",
            (None, '\\', None),
            &["Dockerfile:1:9: invalid escape token 'x' does not match ` or \\"],
        );
        check(
            "# escape=`\n# escape=`\n",
            (None, '`', None),
            &["Dockerfile:2:10: only one escape parser directive can be used"],
        );
        check(
            "# syntax=a\n# syntax=b\n",
            (Some("b"), '\\', None),
            &["Dockerfile:2:10: only one syntax parser directive can be used"],
        );
    }
}
