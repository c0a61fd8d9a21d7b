//! `.dockerignore` and `--exclude`: ordered patterns of which the last that matches decides.
//!
//! In: the text of the file, or patterns of a flag; out: [`IgnoreRules`], which say for a path relative to the
//! filtered root whether it is in, and which line decided. A pattern that matches a directory matches all below it;
//! `!` takes back, also below a directory that is out. The file itself is found and read by others. Spec: dockerfile
//! §1.9 and §1.7.13.

use std::sync::Arc;

use crate::context::pattern::{BadPattern, Pattern, clean};
use crate::error::{Error, ErrorKind, Result};
use crate::source::SourceFile;

/// Ordered patterns.
#[derive(Clone, Debug, Default)]
pub struct IgnoreRules {
    name: String,
    rules: Vec<Rule>,
    /// Paths that are out whatever the rules say, and why.
    hidden: Vec<(Vec<u8>, &'static str)>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// Line as written, for messages.
    text: String,
    line: usize,
    /// `!` in front.
    negated: bool,
}

/// What the rules say about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// False when the path is filtered out.
    pub included: bool,
    /// Line (from 1; of a flag: which of its values) of the pattern that decided; `None` when none matched.
    pub by: Option<usize>,
}

/// Which rules match a directory or a parent of it; made by [`IgnoreRules::enter`], handed to its children.
#[derive(Clone, Debug, Default)]
pub struct Matched(Vec<bool>);

impl IgnoreRules {
    /// Parses the text of a `.dockerignore`.
    pub fn parse(source: &Arc<SourceFile>) -> Result<Self> {
        let text = source.text();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (index, raw) in text.split(|b| *b == b'\n').enumerate() {
            let trimmed = trim(raw);
            // Only a `#` in the very first column makes a comment.
            if raw.starts_with(b"#") || trimmed.is_empty() {
                continue;
            }
            let rule = Rule::parse(trimmed, index + 1).map_err(|reason| {
                let span = source.line_span(index + 1);
                bad_pattern(ErrorKind::Context, trimmed, &reason).at(source, span)
            })?;
            rules.push(rule);
        }
        Ok(Self { name: source.name().to_owned(), rules, ..Self::default() })
    }

    /// The values of `--exclude`. Errors carry no place; `flag` names the flag.
    pub fn from_flag(flag: &str, values: &[String]) -> Result<Self> {
        let mut rules = Vec::new();
        for (index, value) in values.iter().enumerate().filter(|(_, v)| !v.trim().is_empty()) {
            let rule = Rule::parse(trim(value.as_bytes()), index + 1)
                .map_err(|reason| bad_pattern(ErrorKind::Dockerfile, value.as_bytes(), &reason))?;
            rules.push(rule);
        }
        Ok(Self { name: flag.to_owned(), rules, ..Self::default() })
    }

    /// One pattern in which `!` has no meaning (`--parents` sources).
    pub fn single(pattern: &[u8]) -> Result<Self> {
        let compiled = Pattern::ignore(pattern)
            .map_err(|reason| bad_pattern(ErrorKind::Dockerfile, pattern, &reason.to_string()))?;
        let text = shown(pattern);
        let rule = Rule { pattern: compiled, text, line: 1, negated: false };
        Ok(Self { rules: vec![rule], ..Self::default() })
    }

    /// The same rules and one path (relative, clean) that is out with all below it, whatever they say: its decision has the
    /// line 0, and nobody looks into it. `why` is for those who ask for it.
    pub fn hiding(mut self, path: &[u8], why: &'static str) -> Self {
        self.hidden.push((path.to_vec(), why));
        if self.name.is_empty() {
            ".dockerignore".clone_into(&mut self.name);
        }
        self
    }

    /// Why a path is out whatever the rules say ([`Self::hiding`]); `None` for one that is not.
    pub fn hidden_for(&self, path: &[u8]) -> Option<&'static str> {
        let hides = |(hidden, _): &&(Vec<u8>, _)| is_at_or_below(path, hidden);
        self.hidden.iter().find(hides).map(|(_, why)| *why)
    }

    /// Whether `path` (relative, clean) is in.
    pub fn decide(&self, path: &[u8]) -> Decision {
        let mut state = Matched::default();
        let mut decision = Decision { included: true, by: None };
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            (state, decision) = self.enter(&state, &path[..end]);
        }
        decision
    }

    /// [`Self::decide`] for a walk: `parent` is what this returned for the directory above (the default for the
    /// root itself), so that no pattern meets a path twice.
    pub fn enter(&self, parent: &Matched, path: &[u8]) -> (Matched, Decision) {
        let mut decision = Decision { included: true, by: None };
        let mut state = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            let above = parent.0.get(index).copied().unwrap_or(false);
            let matches = above || rule.pattern.matches(path);
            state.push(matches);
            // A rule that would change nothing is not the one that decided.
            if matches && rule.negated != decision.included {
                decision = Decision { included: rule.negated, by: Some(rule.line) };
            }
        }
        (Matched(state), self.unless_hidden(path, decision))
    }

    /// The decision of [`Self::enter`] alone, for what has no children.
    pub fn decide_in(&self, parent: &Matched, path: &[u8]) -> Decision {
        let mut decision = Decision { included: true, by: None };
        for (index, rule) in self.rules.iter().enumerate() {
            // Most rules would change nothing and need not be matched.
            if rule.negated != decision.included
                && (parent.0.get(index).copied().unwrap_or(false) || rule.pattern.matches(path))
            {
                decision = Decision { included: rule.negated, by: Some(rule.line) };
            }
        }
        self.unless_hidden(path, decision)
    }

    fn unless_hidden(&self, path: &[u8], decision: Decision) -> Decision {
        match self.hidden_for(path) {
            Some(_) => Decision { included: false, by: Some(0) },
            None => decision,
        }
    }

    /// False only when certainly no `!` pattern takes back anything below the directory `dir`.
    pub fn may_take_back_below(&self, dir: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.negated && rule.pattern.may_match_below(dir))
            && self.hidden_for(dir).is_none()
    }

    /// False only when certainly no pattern matches anything below the directory `dir`.
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.pattern.may_match_below(dir))
    }

    /// `.dockerignore:3 (`*.conf`)`, for messages.
    pub fn cite(&self, line: usize) -> String {
        format!("{}:{line} (`{}`)", self.name, self.pattern_of(line))
    }

    /// The pattern of a line as written; empty when the line has none.
    pub fn pattern_of(&self, line: usize) -> &str {
        self.rules.iter().find(|rule| rule.line == line).map_or("", |rule| &rule.text)
    }

    /// Name of the file or flag that the patterns are from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True without any pattern.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.hidden.is_empty()
    }
}

impl Rule {
    /// From a trimmed, non-empty line.
    fn parse(written: &[u8], line: usize) -> Result<Self, String> {
        let negated = written.starts_with(b"!");
        let text = if negated { trim(&written[1..]) } else { written };
        if text.is_empty() {
            return Err("nothing follows the `!`".to_owned());
        }
        let cleaned = clean(text);
        let relative = match cleaned.strip_prefix(b"/") {
            Some(rest) if !rest.is_empty() => rest,
            _ => &cleaned,
        };
        let pattern = Pattern::ignore(relative).map_err(|bad: BadPattern| bad.to_string())?;
        Ok(Self { pattern, text: shown(written), line, negated })
    }
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

fn bad_pattern(kind: ErrorKind, text: &[u8], reason: &str) -> Error {
    Error::new(kind, format!("`{}` is no valid pattern", shown(text))).cause(reason).hint(
        "patterns are `*`, `?`, `[a-z]`, `**`, and `\\` before a character that stands for itself",
    )
}

/// Trims white space as Go's `strings.TrimSpace` does, of bytes that may be no UTF-8.
fn trim(text: &[u8]) -> &[u8] {
    std::str::from_utf8(text).map_or_else(|_| text.trim_ascii(), |text| text.trim().as_bytes())
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(text: &str) -> IgnoreRules {
        IgnoreRules::parse(&Arc::new(SourceFile::new(".dockerignore", text))).unwrap()
    }

    fn check(text: &str, expected: &[(&str, bool, Option<usize>)]) {
        let rules = rules(text);
        for (path, included, by) in expected {
            let expected = Decision { included: *included, by: *by };
            assert_eq!(rules.decide(path.as_bytes()), expected, "{text:?} on {path}");
        }
    }

    #[test]
    fn a_path_may_be_out_whatever_the_rules_say() {
        let hidden = rules("!*\n").hiding(b"a[1]*.lock", "it is a lock");
        let decide = |path: &[u8]| hidden.decide(path);
        assert_eq!(decide(b"a[1]*.lock"), Decision { included: false, by: Some(0) });
        assert!(decide(b"a1x.lock").included);
        assert!(decide(b"d/a[1]*.lock").included);
        let hidden = hidden.hiding(b"d/x", "it is x");
        let why = [&b"a[1]*.lock"[..], b"a[1]*.lock/b", b"d/x", b"d/x/y", b"d", b"d/xy", b""];
        let why = why.map(|path| hidden.hidden_for(path));
        let (lock, x) = (Some("it is a lock"), Some("it is x"));
        assert_eq!(why, [lock, lock, x, x, None, None, None]);
        let hidden = rules("*\n!**/*.go\n").hiding(b"d/x", "");
        let decide = |path: &[u8]| hidden.decide(path).included;
        assert!(!decide(b"d/x/a.go") && !decide(b"d/x") && decide(b"d/y/a.go"));
        assert_eq!(
            [&b"d/x"[..], b"d/x/y", b"d"].map(|dir| hidden.may_take_back_below(dir)),
            [false, false, true]
        );
        let hidden = IgnoreRules::default().hiding(b"x/y", "");
        assert!(!hidden.is_empty() && !hidden.decide(b"x/y").included);
        assert_eq!(rules("x\n").hidden_for(b"x"), None);
    }

    #[test]
    fn last_match_wins_and_directories_take_their_content() {
        check(
            "docs\n!docs/README.md\n",
            &[
                ("docs", false, Some(1)),
                ("docs/README.md", true, Some(2)),
                ("docs/other", false, Some(1)),
                ("docs/README.md/below", true, Some(2)),
                ("doc", true, None),
            ],
        );
        check("*\n!a/b\n", &[("a", false, Some(1)), ("a/b", true, Some(2)), ("c", false, Some(1))]);
        check("!a/b\n*\n", &[("a/b", false, Some(2)), ("a/b/c", false, Some(2))]);
        check("*.conf\n!*.conf\n*.conf", &[("x.conf", false, Some(3))]);
    }

    #[test]
    fn quirks_of_double_stars() {
        check(
            "**/x\ny/**\n**.md\n**file\na**.txt\ndir**\n",
            &[
                ("x", false, Some(1)),
                ("b/x", false, Some(1)),
                ("y", true, None),
                ("y/z", false, Some(2)),
                ("a/b.md", false, Some(3)),
                ("myfile", false, Some(4)),
                ("ab.txt", true, None),
                ("dirx/y", false, Some(6)),
            ],
        );
    }

    #[test]
    fn lines_are_trimmed_cleaned_and_commented_as_docker_does() {
        check(
            "\u{feff}#note\n #foo\n\n  /rooted/../bar/ \r\n! /bar/keep\n#!x\n./dot\n",
            &[
                ("#foo", false, Some(2)),
                ("#note", true, None),
                ("bar", false, Some(4)),
                ("bar/keep", true, Some(5)),
                ("x", true, None),
                ("dot/y", false, Some(7)),
            ],
        );
        check("\u{feff}a", &[("a", false, Some(1))]);
    }

    #[test]
    fn bad_lines_are_errors_with_their_place() {
        let error = |text: &str| {
            let source = Arc::new(SourceFile::new(".dockerignore", text));
            IgnoreRules::parse(&source).unwrap_err().to_string()
        };
        assert_eq!(
            error("a\n!\n"),
            ".dockerignore:2:1: `!` is no valid pattern: nothing follows the `!`"
        );
        assert_eq!(
            error("[\n"),
            ".dockerignore:1:1: `[` is no valid pattern: `[` has no closing `]`"
        );
        assert!(IgnoreRules::from_flag("--exclude", &["[".to_owned()]).is_err());
    }

    #[test]
    fn names_that_are_no_utf8_can_be_matched() {
        let source = Arc::new(SourceFile::new(".dockerignore", b" \xff* \n".to_vec()));
        assert!(!IgnoreRules::parse(&source).unwrap().decide(b"\xffx").included);
    }

    #[test]
    fn a_rule_can_be_cited() {
        assert_eq!(rules("# c\n\n *.conf \n").cite(3), ".dockerignore:3 (`*.conf`)");
    }

    proptest! {
        /// The twin of fuzz/fuzz_targets/ignore.rs: no walk may leave out a directory below which something is taken
        /// back.
        #[test]
        fn no_file_panics_and_walks_see_what_is_taken_back(
            text in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'!'), Just(b'/'), Just(b'\n'), any::<u8>()], 0..40),
            path in "[a-c!*]{1,3}(/[a-c]{1,2}){0,3}",
        ) {
            let source = Arc::new(SourceFile::new(".dockerignore", text));
            let Ok(rules) = IgnoreRules::parse(&source) else { return Ok(()) };
            let decision = rules.decide(path.as_bytes());
            if decision.included && decision.by.is_some() {
                for (end, _) in path.match_indices('/') {
                    let above = &path.as_bytes()[..end];
                    prop_assert!(rules.decide(above).included || rules.may_take_back_below(above));
                }
            }
        }
    }

    #[test]
    fn exceptions_below_are_only_denied_when_impossible() {
        let rules = rules("*\n!a/b\n!c/**/d\n");
        let below = |dir: &str| rules.may_take_back_below(dir.as_bytes());
        assert!(below("a") && below("c") && below("c/x"));
        assert!(!below("b") && !below("node_modules"));
    }
}
