//! The tree before any name or flag is checked, as one s-expression a line: what BuildKit's parser dumps.
//!
//! In: a [`SourceFile`]. Out: `(copy ["--from=a"] "x" "/y")` and so on, strings quoted as Go quotes them; or the errors
//! that leave no tree. Made for comparing this parser with others (`nativebuild debug ast`); builds do not use it.
//! Heredoc bodies are read and not shown; their tokens stay words. dockerfile.md §1.1, §1.2.

use super::{
    directives,
    json::{self, Json},
    lexer::{Line, Reader},
    node::Node,
    parser::{MAX_ERRORS, check_line_lengths, read_heredocs},
    words,
};
use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
};
use std::{fmt::Write, ops::Range, sync::Arc};

/// See [`super::dump`].
pub(super) fn dump(source: &Arc<SourceFile>) -> Result<String> {
    let mut errors = Vec::new();
    check_line_lengths(source.text(), None, source, &mut errors);
    let escape = directives::read(source, &mut errors).escape;
    let mut reader = Reader::new(source.text(), escape, None);
    let mut out = String::new();
    while errors.len() < MAX_ERRORS {
        let Some(line) = reader.logical() else { break };
        if let Some(span) = line.not_utf8 {
            let message = format!("line {} is not valid UTF-8", source.line(span.start));
            errors.push(Error::dockerfile(message).at(source, span));
        } else if let Err(error) = add_line(&mut out, source, &line, escape, &mut reader) {
            errors.push(error);
        }
    }
    if errors.is_empty() && out.is_empty() {
        errors.push(Error::dockerfile("file with no instructions").at(source, Span::default()));
    }
    Error::several(errors).map_or(Ok(out), Err)
}

fn add_line(
    out: &mut String,
    source: &Arc<SourceFile>,
    line: &Line,
    escape: char,
    reader: &mut Reader<'_>,
) -> Result<()> {
    let mut node = Node::new(source, line, 0..line.text.len(), escape);
    read_heredocs(reader, &node)?;
    // ONBUILD holds an instruction; a loop, since a long line holds thousands of them.
    let mut open = 0;
    while node.keyword() == "ONBUILD"
        && let Some(inner) = node.inner_of_args(escape)
    {
        begin(out, &node);
        out.push(' ');
        open += 1;
        node = inner;
    }
    begin(out, &node);
    for word in arguments(&node)? {
        out.push(' ');
        quote(out, &word);
    }
    out.extend(std::iter::repeat_n(')', open + 1));
    out.push('\n');
    Ok(())
}

/// `(keyword ["--flag" …]`.
fn begin(out: &mut String, node: &Node<'_>) {
    out.push('(');
    out.push_str(&node.written_keyword().to_lowercase());
    for (index, flag) in node.flags.iter().enumerate() {
        out.push_str(if index == 0 { " [" } else { " " });
        let value = flag.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
        quote(out, &format!("--{}{value}", flag.name));
    }
    out.push_str(if node.flags.is_empty() { "" } else { "]" });
}

/// The words of an instruction as BuildKit cuts them. An instruction that it does not know has one empty word.
fn arguments(node: &Node<'_>) -> Result<Vec<String>> {
    let keyword = node.keyword();
    let whole = || {
        let text = node.args_text();
        if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
    };
    let texts = |words: Vec<super::ast::Word>| words.into_iter().map(|word| word.text).collect();
    let quoted = || words::split_quoted(node.text(), node.args.clone(), node.escape);
    Ok(match keyword.as_str() {
        "ADD" | "COPY" | "VOLUME" => texts(node.json()?.unwrap_or_else(|| node.plain())),
        "FROM" | "EXPOSE" => texts(node.plain()),
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => node.json()?.map_or_else(whole, texts),
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => whole(),
        "ARG" => quoted().into_iter().map(|range| node.text()[range].to_owned()).collect(),
        "ENV" | "LABEL" => pairs(node, &keyword, &quoted())?,
        "HEALTHCHECK" => healthcheck(node)?,
        "ONBUILD" => Vec::new(),
        _ => vec![String::new()],
    })
}

/// Name, value, separator for each pair. The first word decides: without `=` in it, it is the old form.
fn pairs(node: &Node<'_>, keyword: &str, words: &[Range<usize>]) -> Result<Vec<String>> {
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !node.text()[first.clone()].contains('=') {
        let text = node.args_text();
        let Some((name, value)) = text.split_once(words::is_blank) else {
            return Err(node.error_at_args(format!("{keyword} must have two arguments")));
        };
        let value = value.trim_start_matches(words::is_blank);
        return Ok(vec![name.to_owned(), value.to_owned(), String::new()]);
    }
    let mut list = Vec::new();
    for range in words {
        let Some((name, value)) = node.text()[range.clone()].split_once('=') else {
            let message = "syntax error - can't find `=`, must be of the form: name=value";
            return Err(node.error(range.clone(), message));
        };
        list.extend([name.to_owned(), value.to_owned(), "=".to_owned()]);
    }
    Ok(list)
}

/// `CMD` or `NONE` or whatever stands there, then a command.
fn healthcheck(node: &Node<'_>) -> Result<Vec<String>> {
    let text = node.args_text();
    let length = text.find(char::is_whitespace).unwrap_or(text.len());
    let rest = words::trim(node.text(), node.args.start + length..node.args.end);
    let mut list: Vec<String> = [&text[..length]].map(str::to_owned).into();
    match json::parse(node.text(), rest.clone()) {
        Json::Strings(words) => list.extend(words.into_iter().map(|(word, _)| word)),
        Json::Other => list.push(node.text()[rest].to_owned()),
        Json::NotStrings(range) => return Err(node.not_strings(range)),
    }
    list.retain(|word| !word.is_empty());
    Ok(list)
}

/// A string as Go's `strconv.Quote` writes it.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        let named = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{b}' => "\\v",
            _ => "",
        };
        let code = u32::from(c);
        // Writing to a string cannot fail.
        let _infallible = match c {
            _ if !named.is_empty() => out.write_str(named),
            _ if is_printable(c) => out.write_char(c),
            _ if code < 0x20 || code == 0x7f => write!(out, "\\x{code:02x}"),
            _ if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push('"');
}

/// Letters, marks, numbers, punctuation, symbols and the plain blank. Rust's own escaping draws the same line, except
/// that it escapes a mark which stands first.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    let mut buffer = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        let found = dump(&source).unwrap_or_else(|error| format!("{error}"));
        assert_eq!(found.trim_end(), expect, "{text:?}");
    }

    #[test]
    fn instructions_are_cut_as_buildkit_cuts_them() {
        check("COPY --user=me foo /tmp/", r#"(copy ["--user=me"] "foo" "/tmp/")"#);
        check(
            "COPY --user=me --doit=true foo /tmp/",
            r#"(copy ["--user=me" "--doit=true"] "foo" "/tmp/")"#,
        );
        check(r#"RUN --x="a b" -- --y"#, r#"(run ["--x=a b"] "--y")"#);
        check("ENV a=1 b=2", r#"(env "a" "1" "=" "b" "2" "=")"#);
        check(
            r#"ENV a="1 2" b=\ c d='"'"#,
            r#"(env "a" "\"1 2\"" "=" "b" "\\ c" "=" "d" "'\"'" "=")"#,
        );
        check("ENV =x", r#"(env "" "x" "=")"#);
        check("LABEL k   v w", r#"(label "k" "v w" "")"#);
        check("ARG a b=c", r#"(arg "a" "b=c")"#);
        check("RUN echo a  b", r#"(run "echo a  b")"#);
        check(r#"RUN ["echo", "a b"]"#, r#"(run "echo" "a b")"#);
        check("RUN ['a']", r#"(run "['a']")"#);
        check(r#"ONBUILD RUN ["echo", "test"]"#, r#"(onbuild (run "echo" "test"))"#);
        check("ONBUILD --a ONBUILD env b c", r#"(onbuild ["--a"] (onbuild (env "b" "c" "")))"#);
        check("VOLUME [\"/a\"]\nvolume a  b", "(volume \"/a\")\n(volume \"a\" \"b\")");
        check("USER a b\nEXPOSE 1 2/udp", "(user \"a b\")\n(expose \"1\" \"2/udp\")");
        check(
            "HEALTHCHECK --interval=5s CMD a  b",
            r#"(healthcheck ["--interval=5s"] "CMD" "a  b")"#,
        );
        check(r#"HEALTHCHECK cmd ["a", "b"]"#, r#"(healthcheck "cmd" "a" "b")"#);
        check("HEALTHCHECK NONE", r#"(healthcheck "NONE")"#);
    }

    #[test]
    fn nothing_is_checked_that_a_tree_does_not_need() {
        check("FROM a b\nBANANA split --x", "(from \"a\" \"b\")\n(banana \"\")");
        check("RUN\nENV\nONBUILD\nCOPY []", "(run)\n(env)\n(onbuild)\n(copy)");
        check("Run a \\\n# c\n\n b\\\n", r#"(run "a  b")"#);
        check("# escape=`\nRUN a `\nb", r#"(run "a b")"#);
        check(
            "COPY <<A <<-B /c\nx\nA\n\ty\n\tB\nRUN <<E cat\nE",
            "(copy \"<<A\" \"<<-B\" \"/c\")\n(run \"<<E cat\")",
        );
    }

    #[test]
    fn what_leaves_no_tree_is_an_error() {
        check("", "Dockerfile:1:1: file with no instructions");
        check("# only\n", "Dockerfile:1:1: file with no instructions");
        check("ENV a", "Dockerfile:1:5: ENV must have two arguments");
        check(
            "LABEL a=b c",
            "Dockerfile:1:11: syntax error - can't find `=`, must be of the form: name=value",
        );
        check(
            "CMD [1]",
            "Dockerfile:1:6: when using JSON array syntax, arrays must be comprised of strings only",
        );
        check("RUN <<E\nx", "Dockerfile:1:5: unterminated heredoc");
        check(
            "# escape=x\nRUN a",
            "Dockerfile:1:10: invalid escape token 'x' does not match ` or \\",
        );
    }

    #[test]
    fn strings_are_quoted_as_go_quotes_them() {
        let mut out = String::new();
        quote(
            &mut out,
            "a\"\\\u{7}\t\u{1}\u{7f}\u{80}\u{a0}\u{ad}\u{301}é한\u{200b}😀\u{e0001}\u{fffd}",
        );
        assert_eq!(
            out,
            "\"a\\\"\\\\\\a\\t\\x01\\x7f\\u0080\\u00a0\\u00ad\u{301}é한\\u200b😀\\U000e0001\u{fffd}\""
        );
    }

    #[test]
    fn a_line_of_many_onbuilds_is_no_deep_recursion() {
        let text = "ONBUILD \\\n".repeat(200_000) + "RUN x";
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        assert_eq!(dump(&source).unwrap().len(), 9 * 200_000 + "(run \"x\")".len() + 200_000 + 1);
    }
}
