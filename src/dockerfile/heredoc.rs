//! Heredocs: which words of a line are heredoc tokens, and what a RUN with heredocs runs.
//!
//! A token is a whole unquoted word `[fd]<<[-][blanks]NAME`. Here the escape character is always the
//! backslash, as these words are a shell's. dockerfile.md §1.4.

use super::ast::{CommandLine, RunInstruction};
use std::ops::Range;

/// A heredoc token of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Where, in the logical line.
    pub(super) range: Range<usize>,
    /// Unquoted name.
    pub(super) name: String,
    /// False when any part of the name was quoted.
    pub(super) expand: bool,
    /// `<<-`.
    pub(super) chomp: bool,
    /// File descriptor before `<<`.
    pub(super) fd: Option<u32>,
}

/// What a RUN in shell form runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunScript {
    /// Text for the shell.
    Command(String),
    /// A script that starts with `#!`: a file of this name, run by the shell by its path.
    Script {
        /// File name, without directory. It is what the heredoc was called.
        name: String,
        /// Contents.
        body: String,
    },
}

/// The command of a RUN, its heredocs put in.
///
/// A heredoc that is the whole command is itself the script; otherwise the line and the bodies are put
/// together again and the shell deals with them. For the exec form, the arguments joined by blanks.
pub fn run_script(run: &RunInstruction) -> RunScript {
    let text = match &run.command {
        CommandLine::Exec(arguments) => return RunScript::Command(arguments.join(" ")),
        CommandLine::Shell(text) => text,
    };
    if let [heredoc] = run.heredocs.as_slice()
        && is_single_token(text)
    {
        let body = if heredoc.chomp { chomp(&heredoc.body) } else { heredoc.body.clone() };
        // The body as written decides, so that a script indented for `<<-` stays shell text.
        if heredoc.body.starts_with("#!") {
            return RunScript::Script { name: heredoc.name.clone(), body };
        }
        return RunScript::Command(body);
    }
    let mut command = text.clone();
    for heredoc in &run.heredocs {
        command.push('\n');
        command.push_str(&heredoc.body);
        command.push_str(&heredoc.name);
    }
    RunScript::Command(command)
}

/// True when the text is one heredoc token and nothing else.
pub(super) fn is_single_token(text: &str) -> bool {
    let whole = super::words::trim(text, 0..text.len());
    matches!(tokens(text, whole.clone()).as_slice(), [token] if token.range == whole)
}

/// The body without the tabs at the start of its lines.
pub(super) fn chomp(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// All heredoc tokens of `text[range]`. None at all when a quote stays open: such a line is the shell's.
pub(super) fn tokens(text: &str, range: Range<usize>) -> Vec<Token> {
    let mut found = Vec::new();
    let mut start: Option<usize> = None;
    let mut chars = Cursor { text: &text[..range.end], at: range.start };
    while let Some(c) = chars.next() {
        let at = chars.at - c.len_utf8();
        if c.is_whitespace() {
            found.extend(start.take().and_then(|start| token(text, start..at)));
            continue;
        }
        start.get_or_insert(at);
        match c {
            '\\' => {
                chars.next();
            }
            '\'' | '"' if !chars.skip_quoted(c) => return Vec::new(),
            '<' if chars.eat('<') => {
                // Blanks before the name belong to the token.
                chars.eat('-');
                chars.skip_blanks();
            }
            _ => {}
        }
    }
    found.extend(start.and_then(|start| token(text, start..range.end)));
    found
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.text[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.text[self.at..].starts_with(c);
        self.at += if there { c.len_utf8() } else { 0 };
        there
    }

    fn skip_blanks(&mut self) {
        while self.eat(' ') || self.eat('\t') {}
    }

    /// Moves behind the closing quote; false when there is none.
    fn skip_quoted(&mut self, quote: char) -> bool {
        while let Some(c) = self.next() {
            if c == quote {
                return true;
            }
            if c == '\\' && quote == '"' {
                self.next();
            }
        }
        false
    }
}

/// Reads one word as a token.
fn token(text: &str, range: Range<usize>) -> Option<Token> {
    let word = text[range.clone()].trim_end_matches([' ', '\t']);
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let (fd, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let raw = rest.trim_start();
    if raw.contains('<') {
        return None;
    }
    let (name, quoted) = unquote(raw);
    if name.is_empty() {
        return None;
    }
    let fd = (!fd.is_empty()).then(|| fd.parse().unwrap_or(u32::MAX));
    let range = range.start..range.start + word.len();
    Some(Token { range, name, expand: !quoted, chomp, fd })
}

/// The name without quotes and escapes, and whether there were quotes. Variables stay as they are.
fn unquote(raw: &str) -> (String, bool) {
    let mut name = String::new();
    let mut quoted = false;
    let mut quote: Option<char> = None;
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            c if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => {
                quote = Some(c);
                quoted = true;
            }
            '\\' if quote.is_none() => name.extend(chars.next()),
            '\\' if quote == Some('"') => match chars.next() {
                Some(next @ ('"' | '$' | '\\')) => name.push(next),
                Some(next) => name.extend(['\\', next]),
                None => {}
            },
            c => name.push(c),
        }
    }
    (name, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::ast::Heredoc;

    fn check(line: &str, expect: &[(&str, &str)]) {
        let found: Vec<_> = tokens(line, 0..line.len())
            .into_iter()
            .map(|token| {
                let fd = token.fd.map(|fd| fd.to_string()).unwrap_or_default();
                let flags =
                    [if token.expand { "e" } else { "" }, if token.chomp { "c" } else { "" }];
                (token.name, flags.concat() + &fd)
            })
            .collect();
        let found: Vec<_> =
            found.iter().map(|(name, flags)| (name.as_str(), flags.as_str())).collect();
        assert_eq!(found, expect, "{line:?}");
    }

    #[test]
    fn tokens_are_whole_unquoted_words() {
        check("<<EOF", &[("EOF", "e")]);
        check("<<-EOF x", &[("EOF", "ec")]);
        check("3<<EOF", &[("EOF", "e3")]);
        check("<<'EOF'", &[("EOF", "")]);
        check("<<\"EOF\"", &[("EOF", "")]);
        check("<<eo'f'", &[("eof", "")]);
        check("<<eo\\'f", &[("eo'f", "e")]);
        check("<<'one two' x", &[("one two", "")]);
        check("<<$EOF", &[("$EOF", "e")]);
        check("<<  EOF  > foo", &[("EOF", "e")]);
        check("<<- EOF", &[("EOF", "ec")]);
        check("<< -EOF", &[("-EOF", "e")]);
        check("cat <<A | tr a b; cat <<B", &[("A", "e"), ("B", "e")]);
        check("<<<x", &[]);
        check("<<", &[]);
        check("<< ", &[]);
        check("<<-", &[]);
        check("<<''", &[]);
        check("\"<<EOF\"", &[]);
        check("'<<EOF'", &[]);
        check("\\<<EOF", &[]);
        check("a<<EOF", &[]);
        check("cat <<EOF 'open", &[]);
        check("<<EOF>/x", &[("EOF>/x", "e")]);
        check("99999999999<<x", &[("x", "e4294967295")]);
        check("<<e\u{301}\\", &[("e\u{301}", "e")]);
    }

    fn run(text: &str, heredocs: &[(&str, bool, &str)]) -> RunScript {
        let heredocs = heredocs
            .iter()
            .map(|(name, chomp, body)| Heredoc {
                name: (*name).to_owned(),
                expand: true,
                chomp: *chomp,
                fd: None,
                body: (*body).to_owned(),
                span: crate::source::Span::default(),
            })
            .collect();
        run_script(&RunInstruction {
            command: CommandLine::Shell(text.to_owned()),
            heredocs,
            mounts: Vec::new(),
            network: None,
            security: None,
            devices: Vec::new(),
        })
    }

    #[test]
    fn a_heredoc_alone_is_the_script() {
        let command = |text: &str| RunScript::Command(text.to_owned());
        assert_eq!(run("<<EOF", &[("EOF", false, "a\n\tb\n")]), command("a\n\tb\n"));
        assert_eq!(run("<<-'EOF'", &[("EOF", true, "\ta\n\t\tb\n")]), command("a\nb\n"));
        assert_eq!(run("<<'one two'", &[("one two", false, "a\n")]), command("a\n"));
        assert_eq!(
            run("<<EOF", &[("EOF", false, "#!/bin/awk -f\n{}\n")]),
            RunScript::Script { name: "EOF".to_owned(), body: "#!/bin/awk -f\n{}\n".to_owned() }
        );
        assert_eq!(run("<<-EOF", &[("EOF", true, "\t#!/bin/sh\n")]), command("#!/bin/sh\n"));
    }

    #[test]
    fn other_heredocs_are_put_together_for_the_shell() {
        assert_eq!(
            run("cat <<A >/a && cat <<-B >/b", &[("A", false, "1\n"), ("B", true, "\t2\n")]),
            RunScript::Command("cat <<A >/a && cat <<-B >/b\n1\nA\n\t2\nB".to_owned())
        );
        assert_eq!(
            run("<<E python3", &[("E", false, "#!x\n")]),
            RunScript::Command("<<E python3\n#!x\nE".to_owned())
        );
        assert_eq!(run("true", &[]), RunScript::Command("true".to_owned()));
    }
}
