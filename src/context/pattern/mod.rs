//! File name patterns: Go's `filepath.Match`, and moby's patternmatcher with its quirks (`**`).
//!
//! In: pattern bytes; out: a [`Pattern`] that says whether a relative path matches as a whole. Both dialects compile
//! to one list of tokens, run as a set of positions, so time is bounded by pattern length × path length whatever the
//! pattern. Paths and patterns are bytes: valid UTF-8 counts as characters (for `?` and classes), any other byte is a
//! character of its own. Spec: dockerfile §1.7.2 and §1.9.

use std::fmt;

/// Longest pattern taken; no path is longer.
const MAX_LENGTH: usize = 4096;

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern(&'static str);

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadPattern {}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Vec<u8>,
    form: Form,
}

/// How a pattern is compared. The middle two are moby's shortcuts, which differ from what the tokens would say.
#[derive(Clone, Debug)]
enum Form {
    /// Equal bytes.
    Exact,
    /// Only wildcard is a trailing `**`: plain prefix.
    Prefix,
    /// Only wildcard is a leading `**`: plain suffix.
    Suffix,
    /// Anything else.
    Tokens(Program),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(u32),
    /// `?`: one character but `/`.
    One,
    /// `[…]`.
    Class(Class),
    /// `*`: any characters but `/`.
    Star,
    /// `**` at the end: any characters.
    Rest,
    /// `**`: nothing, or anything that ends with `/`; always followed by a [`Token::DirsLoop`].
    Dirs,
    /// The inside of [`Token::Dirs`].
    DirsLoop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(u32, u32)>,
}

impl Class {
    fn holds(&self, c: u32) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
}

impl Pattern {
    /// Go's `filepath.Match`: `*`, `?`, `[…]`, `[^…]`, `\` escapes; `*` and `?` never match `/`.
    pub fn glob(text: &[u8]) -> Result<Self, BadPattern> {
        Ok(Self { text: text.to_vec(), form: Form::Tokens(Program::new(glob_tokens(text)?)) })
    }

    /// A pattern of `.dockerignore`, `--exclude` or `--parents`, already cleaned.
    pub fn ignore(text: &[u8]) -> Result<Self, BadPattern> {
        Ok(Self { text: text.to_vec(), form: ignore_form(text)? })
    }

    /// True when the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.form {
            Form::Exact => self.text == path,
            Form::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Form::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|rest| rest == path)
            }
            Form::Tokens(program) => program.matches(path),
        }
    }

    /// False only when certainly nothing below the directory `dir` matches.
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        let wild = |b: &u8| matches!(b, b'*' | b'?' | b'[' | b'\\');
        let end = self.text.iter().position(wild).unwrap_or(self.text.len());
        let fixed = &self.text[..end];
        // Everything below starts with `dir/`; compare that with the part before the first wildcard.
        let common = fixed.len().min(dir.len());
        let slash_follows = fixed.get(dir.len()).is_none_or(|b| *b == b'/');
        dir.is_empty() || (fixed[..common] == dir[..common] && slash_follows)
    }

    /// The bytes it was made of.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// True when the text holds `*`, `?` or `[` that no `\` escapes.
pub fn has_wildcard(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Go's `filepath.Clean`: no empty or `.` parts, `..` taken back where that is possible.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// The first character and its length. Bytes that are no UTF-8 get numbers of their own, above all characters.
fn next_char(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((first.into(), 1));
    }
    for length in 2..=bytes.len().min(4) {
        if let Ok(text) = std::str::from_utf8(&bytes[..length]) {
            return text.chars().next().map(|c| (c.into(), length));
        }
    }
    Some((0x11_0000 + u32::from(first), 1))
}

/// Reads characters off a pattern.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<u32> {
        let (c, length) = next_char(self.rest)?;
        self.rest = &self.rest[length..];
        Some(c)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// The character after a `\`.
    fn escaped(&mut self) -> Result<u32, BadPattern> {
        self.next().ok_or(BadPattern("nothing follows the last `\\`"))
    }

    /// One end of a range inside `[…]`.
    fn class_end(&mut self) -> Result<u32, BadPattern> {
        match self.rest.first() {
            None => Err(BadPattern("`[` has no closing `]`")),
            Some(b'-' | b']') => {
                Err(BadPattern("`-` and `]` inside `[…]` need a `\\` before them"))
            }
            Some(b'\\') => {
                self.rest = &self.rest[1..];
                self.escaped()
            }
            Some(_) => self.escaped(),
        }
    }

    /// The rest of a class, after its `[`.
    fn class(&mut self) -> Result<Class, BadPattern> {
        let negated = self.eat(b'^');
        let mut ranges = Vec::new();
        while ranges.is_empty() || !self.eat(b']') {
            let low = self.class_end()?;
            let high = if self.eat(b'-') { self.class_end()? } else { low };
            ranges.push((low, high));
        }
        Ok(Class { negated, ranges })
    }
}

fn glob_tokens(text: &[u8]) -> Result<Vec<Token>, BadPattern> {
    if text.len() > MAX_LENGTH {
        return Err(BadPattern("longer than 4096 bytes"));
    }
    let mut scanner = Scanner { rest: text };
    let mut tokens = Vec::new();
    while let Some(c) = scanner.next() {
        tokens.push(match char::from_u32(c) {
            Some('*') if tokens.last() == Some(&Token::Star) => continue,
            Some('*') => Token::Star,
            Some('?') => Token::One,
            Some('[') => Token::Class(scanner.class()?),
            Some('\\') => Token::Literal(scanner.escaped()?),
            _ => Token::Literal(c),
        });
    }
    Ok(tokens)
}

fn ignore_form(text: &[u8]) -> Result<Form, BadPattern> {
    // What `filepath.Match` refuses is refused here too, before `**` gets its meaning.
    glob_tokens(text)?;
    let mut scanner = Scanner { rest: text };
    let mut tokens = Vec::new();
    let mut form = Form::Exact;
    let tokens_form = || Form::Tokens(Program::new(Vec::new()));
    let mut first = true;
    while let Some(c) = scanner.next() {
        match char::from_u32(c) {
            Some('*') if scanner.eat(b'*') => {
                scanner.eat(b'/');
                if !scanner.rest.is_empty() {
                    tokens.extend([Token::Dirs, Token::DirsLoop]);
                    form = tokens_form();
                } else if matches!(form, Form::Exact) {
                    form = Form::Prefix;
                } else {
                    tokens.push(Token::Rest);
                    form = tokens_form();
                }
                if first {
                    form = Form::Suffix;
                }
            }
            Some('*' | '?' | '[' | '\\') => {
                tokens.push(match c as u8 {
                    b'*' => Token::Star,
                    b'?' => Token::One,
                    b'[' => Token::Class(scanner.class()?),
                    _ => Token::Literal(scanner.escaped()?),
                });
                form = tokens_form();
            }
            _ => tokens.push(Token::Literal(c)),
        }
        first = false;
    }
    Ok(if matches!(form, Form::Tokens(_)) { Form::Tokens(Program::new(tokens)) } else { form })
}

/// Tokens and what they start and end with, which tells most paths apart before anything is run.
#[derive(Clone, Debug)]
struct Program {
    tokens: Vec<Token>,
    first: Vec<u8>,
    last: Vec<u8>,
}

/// The ASCII bytes that literal tokens stand for, as far as they go.
fn literal_bytes<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<u8> {
    tokens
        .map_while(|token| match token {
            Token::Literal(c) if *c < 0x80 => Some(*c as u8),
            _ => None,
        })
        .collect()
}

impl Program {
    fn new(tokens: Vec<Token>) -> Self {
        let first = literal_bytes(tokens.iter());
        let mut last = literal_bytes(tokens.iter().rev());
        last.reverse();
        Self { tokens, first, last }
    }

    fn matches(&self, mut path: &[u8]) -> bool {
        if !path.starts_with(&self.first) || !path.ends_with(&self.last) {
            return false;
        }
        let mut now = vec![false; self.tokens.len() + 1];
        let mut next = now.clone();
        self.reach(&mut now, 0);
        while let Some((c, length)) = next_char(path) {
            path = &path[length..];
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
                self.step(&mut next, at, token, c);
            }
            std::mem::swap(&mut now, &mut next);
            if !now.contains(&true) {
                return false;
            }
        }
        now[self.tokens.len()]
    }

    /// Where one character leads from a position.
    fn step(&self, next: &mut [bool], at: usize, token: &Token, c: u32) {
        let slash = c == u32::from(b'/');
        let (stay, go) = match token {
            Token::Literal(wanted) => (false, *wanted == c),
            Token::One => (false, !slash),
            Token::Class(class) => (false, class.holds(c)),
            Token::Star => (!slash, false),
            Token::Rest => (true, false),
            Token::Dirs => (false, false),
            Token::DirsLoop => (true, slash),
        };
        if stay {
            self.reach(next, at);
        }
        if go {
            self.reach(next, at + 1);
        }
    }

    /// Marks a position and all that it leads to without a character.
    fn reach(&self, set: &mut [bool], mut at: usize) {
        while !set[at] {
            set[at] = true;
            match self.tokens.get(at) {
                Some(Token::Star | Token::Rest) => at += 1,
                Some(Token::Dirs) => {
                    set[at + 1] = true;
                    at += 2;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
