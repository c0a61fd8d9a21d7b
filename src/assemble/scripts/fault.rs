//! Where in the spec a command failed.

use super::{Role, Stage};
use crate::assemble::spec::Placed;
use crate::build::script::Failed;
use crate::error::Error;
use crate::source::{SourceFile, Span};

impl Stage<'_> {
    /// The place in the spec of the line that the shell complains about, or of the commands.
    pub(super) fn failed(
        &self,
        failed: Failed,
        role: Role,
        text: &Placed<String>,
        said: &[u8],
    ) -> Error {
        let Failed { error, line } = failed;
        // The text may be a word of `--set`.
        let (source, span) = self.spec.source.home(text.span);
        let source = &source;
        // The whole spec may be one line, as programs write JSON.
        if source.slice(span).first() == Some(&b'"') {
            return error.at(source, span);
        }
        // A shell names the line of what it does not understand, and has read more by then.
        let Some(line) = line_of(said, role.key()).or(line) else {
            return error.at(source, source.line_span(first_line(source, span, &text.value)));
        };
        let first = first_line(source, span, &text.value);
        // A shell that misses something at the end names the line behind the last one.
        let lines: Vec<&str> = text.value.lines().collect();
        let line = line.clamp(1, lines.len().max(1));
        let at = first + line - 1;
        // Lines of a text that is folded or escaped are no lines of the spec.
        let stands = lines.get(line - 1).is_some_and(|text| {
            let there = source.line_text(at);
            !text.trim().is_empty() && there.trim() == text.trim()
        });
        let span = source.line_span(if stands { at } else { first });
        error.at(source, span)
    }
}

/// Line of the spec on which the commands begin: a block begins behind its `|`.
fn first_line(source: &SourceFile, span: Span, text: &str) -> usize {
    let line = source.line(span.start);
    let begins = text.lines().next().unwrap_or_default().trim();
    let mut at = line;
    // The text of a block is found where it stands; an escaped one stays on its key's line.
    for candidate in line..line + 20 {
        if source.line_text(candidate).trim() == begins {
            at = candidate;
            break;
        }
    }
    at
}

/// `/dev/pipes/NAME: 3: …` and `/dev/pipes/NAME: line 3: …`.
fn line_of(said: &[u8], name: &str) -> Option<usize> {
    let text = String::from_utf8_lossy(said);
    let prefix = format!("/dev/pipes/{name}: ");
    // The last thing that was said, by the shell before it ended.
    let rest = text.lines().last()?.split_once(&prefix)?.1;
    rest.trim_start_matches("line ").split(':').next()?.trim().parse().ok()
}

/// Bytes of standard error that are looked at for a line.
const SAID: usize = 16 << 10;

pub(super) fn keep_end(said: &mut Vec<u8>, bytes: &[u8]) {
    said.extend_from_slice(bytes);
    if said.len() > SAID {
        said.drain(..said.len() - SAID);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_a_shell_names_is_found() {
        for (said, wanted) in [
            ("x\n/dev/pipes/runAsRoot: 3: foo: not found\n", Some(3)),
            ("/dev/pipes/runAsRoot: line 12: syntax error\n", Some(12)),
            ("/dev/pipes/runAsRoot: 3: foo: not found\nmore\n", None),
            ("ls: no such file\n", None),
        ] {
            assert_eq!(line_of(said.as_bytes(), "runAsRoot"), wanted, "{said}");
        }
    }
}
