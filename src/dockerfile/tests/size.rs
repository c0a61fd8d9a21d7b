//! Large files: everything that a parser may do once for every byte, and must not do once for every pair.
//!
//! No clocks: what is slower than linear would not end here at all.

use super::source;
use crate::dockerfile::{dump, parse};

/// Bytes of one shape.
const SIZE: usize = 1 << 20;

/// `begin`, `part` again and again, `end`.
fn shape(begin: &str, part: &str, end: &str) -> String {
    let mut text = begin.to_owned();
    while text.len() + part.len() + end.len() <= SIZE {
        text.push_str(part);
    }
    text + end
}

/// Parses as a tree, typed and raw.
fn parses(begin: &str, part: &str, end: &str) {
    let source = source(shape(begin, part, end));
    let shown = format!("{begin}{part}{end}");
    assert!(!parse(&source).unwrap_or_else(|e| panic!("{shown}: {e}")).stages.is_empty());
    assert!(dump(&source).is_ok(), "{shown}");
}

/// Is refused, with not too many errors.
fn fails(begin: &str, part: &str, end: &str) {
    let Err(error) = parse(&source(shape(begin, part, end))) else {
        panic!("{begin}{part}{end} parses");
    };
    assert!(error.others().len() < 20, "{begin}{part}{end}");
}

#[test]
fn ten_megabytes_of_instructions_parse() {
    let stage = shape("FROM a\n", "RUN echo \"$A\" && x y z \\\n  # c\n  && b\n", "");
    let source = source(stage.repeat(10));
    let file = parse(&source).unwrap();
    assert_eq!((source.text().len() / SIZE, file.stages.len()), (9, 10));
}

#[test]
fn many_stages_parse() {
    parses("", "FROM a AS b\n", "");
}

#[test]
fn long_instructions_parse() {
    parses("FROM a\nRUN x \\\n", "  && echo 'a' \"b\" $C \\\n", "  && y\n");
    parses("FROM a\nENV \\\n", "A=b C=\"d e\" \\\n", "E=f\n");
    parses("FROM a\nCOPY \\\n", "a bb \\\n", "/c\n");
    // Nested too deeply for a JSON reader, so it is text for the shell.
    parses("FROM a\nCMD [\\\n", "[{\\\n", "");
    parses("FROM a\nCMD [\"a\" \\\n", ", \"b\\u00e9\" \\\n", "]\n");
}

#[test]
fn many_flags_and_much_that_vanishes_parse() {
    parses("FROM a\nRUN \\\n", "--mount=type=tmpfs,target=/a \\\n", "x\n");
    parses("FROM a\nRUN x \\\n", "# c\n\n", "y\n");
    parses("", "# comment\n\n", "FROM a\n");
}

#[test]
fn many_heredocs_parse() {
    parses("FROM a\nRUN <<E\n", "E E\n<<E\n", "E\n");
    parses("FROM a\n", "COPY <<-A <<B /c/\n\tx\n\tA\ny\nB\n", "");
    // A shift is no heredoc, and neither is an open quote behind many.
    parses("FROM a\nRUN \\\n", "x<<y <<<z \\\n", "z\n");
    parses("FROM a\nRUN \\\n", "<<a <<b \\\n", "'\n");
}

#[test]
fn many_mistakes_are_refused() {
    fails("FROM a\n", "RUN <<E\n", "");
    fails("FROM a\n", "BANANA\n", "");
    fails("FROM a\n", "RUN a\u{fffd}", "\n");
    fails("FROM a\nONBUILD \\\n", "ONBUILD \\\n", "x\n");
    fails("FROM a\nRUN \\\n", "--a --b \\\n", "x\n");
    fails("FROM a\nRUN \\\n", "<<a \\\n", "x\n");
}
