//! Errors as text (design §8): what happened, where, why, what to do. The same without colour.

use super::environment::Environment;
use crate::error::{Error, ErrorKind, Place};
use crate::progress::CheckWarning;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Whether to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) colour: bool,
}

impl Style {
    pub(super) fn for_stderr(environment: &Environment) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let dumb = environment.text("TERM").is_some_and(|term| term == "dumb");
        Self { colour: terminal && !dumb && environment.get("NO_COLOR").is_none() }
    }

    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The whole text of an error and of those found with it.
pub(super) fn render(error: &Error, style: Style) -> String {
    let mut out = String::new();
    one(&mut out, error, style);
    for other in error.others() {
        out.push('\n');
        one(&mut out, other, style);
    }
    out
}

/// The whole text of what a check found.
pub(super) fn warning(warning: &CheckWarning, style: Style) -> String {
    let text = visible(&format!("{}: {}", warning.rule, warning.message));
    let mut out = format!("{}: {text}\n", style.paint("1;33", "warning"));
    snippet(&mut out, &warning.place, style);
    out
}

fn one(out: &mut String, error: &Error, style: Style) {
    push(out, format!("{}: {}", style.paint("1;31", "error"), visible(error.message())));
    if let Some(place) = error.place() {
        snippet(out, place, style);
    }
    if let Some(output) = error.output() {
        for line in &output.tail {
            push(out, format!("  {} {}", style.paint("2", "|"), visible(line)));
        }
    }
    for cause in error.causes() {
        push(out, format!(" cause: {}", visible(cause)));
    }
    if let Some(log) = error.output().and_then(|output| output.log.as_ref()) {
        push(out, format!("  log: {log}"));
    }
    for hint in error.hints() {
        push(out, format!("{}: {}", style.paint("1;36", "help"), visible(hint)));
    }
    if error.kind() == ErrorKind::Internal {
        push(out, "help: this is a bug of nativebuild; please report it with this text".to_owned());
    }
}

fn push(out: &mut String, line: String) {
    out.push_str(&line);
    out.push('\n');
}

fn snippet(out: &mut String, place: &Place, style: Style) {
    let (line, column) = place.source.line_column(place.span.start);
    let number = line.to_string();
    let pad = " ".repeat(number.len());
    let bar = style.paint("1;34", "|");
    push(out, format!(" {pad}--> {}:{line}:{column}", place.source.name()));
    push(out, format!(" {pad} {bar}"));
    let text = place.source.line_text(line);
    let (shown, before) = shorten(&text, column - 1);
    push(out, format!(" {number} {bar} {}", visible(&shown)));
    let on_line = place.source.line_span(line).end.min(place.span.end);
    let marked = place.source.slice((place.span.start..on_line.max(place.span.start)).into());
    let length = String::from_utf8_lossy(marked).trim_end().chars().count();
    let room = shown.chars().count().saturating_sub(before).max(1);
    let carets = "^".repeat(length.clamp(1, room));
    push(out, format!(" {pad} {bar} {}{}", " ".repeat(before), style.paint("1;31", &carets)));
}

/// Cuts a very long line around the column; returns it and the column's new offset.
fn shorten(text: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 160;
    let text = text.replace('\t', " ");
    if text.chars().count() <= WIDTH {
        return (text, column);
    }
    let skip = column.saturating_sub(WIDTH / 4);
    (text.chars().skip(skip).take(WIDTH).collect(), column - skip)
}

/// Control characters made visible, so that no input can move the cursor or hide text.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\t' {
            out.push(' ');
        } else if c.is_control() {
            let _infallible = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// An error as one JSON line, for `--progress json`.
pub(super) fn json(error: &Error) -> String {
    let describe = |error: &Error| {
        let place = error.place().map(|place| {
            let (line, column) = place.source.line_column(place.span.start);
            serde_json::json!({"file": place.source.name(), "line": line, "column": column})
        });
        serde_json::json!({
            "message": error.message(), "place": place, "causes": error.causes(), "help": error.hints(),
        })
    };
    let exit_code = match error.kind() {
        ErrorKind::RunFailed(code) => Some(code),
        _ => None,
    };
    let mut value = describe(error);
    value["event"] = "error".into();
    value["kind"] = format!("{:?}", error.kind()).split('(').next().unwrap_or_default().into();
    value["run_exit_code"] = exit_code.into();
    value["log"] = error.output().and_then(|output| output.log.clone()).into();
    value["others"] = error.others().iter().map(describe).collect();
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SourceFile, Span};
    use std::sync::Arc;

    #[test]
    fn shown_errors_have_the_shape_of_the_design() {
        let text = "FROM a\n\n\n\n\n\nCOPY app.conf /etc/\n";
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        let error = Error::context("COPY failed: `app.conf` is not in the build context")
            .at(&source, Span::new(17, 25))
            .cause("excluded by .dockerignore:3 (`*.conf`)")
            .hint("add `!app.conf` to .dockerignore");
        let expected = "\
error: COPY failed: `app.conf` is not in the build context
  --> Dockerfile:7:6
   |
 7 | COPY app.conf /etc/
   |      ^^^^^^^^
 cause: excluded by .dockerignore:3 (`*.conf`)
help: add `!app.conf` to .dockerignore
";
        assert_eq!(render(&error, Style { colour: false }), expected);
    }

    #[test]
    fn input_cannot_move_the_cursor() {
        assert_eq!(visible("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\u{d}\\u{a}");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("RUN {} here", "x".repeat(1000));
        let source = Arc::new(SourceFile::new("D", text));
        let error = Error::dockerfile("m").at(&source, Span::new(1005, 1009));
        let shown = render(&error, Style { colour: false });
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(shown.contains("^^^^"), "{shown}");
    }
}
