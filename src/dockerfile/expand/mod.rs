//! Variables, quotes and escapes of a word: from text as written to its value.
//!
//! In: a word and a way to look up variables. Out: the value, with quotes gone. Everything that can be
//! wrong is an [`ExpandError`]; the caller knows the place. Nesting and size are bounded, because a few
//! lines of `ENV A=$A$A` would otherwise fill any memory. dockerfile.md §1.3, §1.4.

mod glob;

use glob::Pattern;
use std::fmt;

/// Value of a variable; `None` when it is not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// `${}` within `${}` deeper than this is an error.
const MAX_DEPTH: usize = 100;

/// By how many bytes a value may be longer than its word. The kernel takes no longer variable than 128 KiB.
const MAX_GROWTH: usize = 4 << 20;

/// A longer value of something within `${}` is an error.
const MAX_INNER: usize = 1 << 20;

/// Why a word has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandError {
    /// Lowercase fragment.
    pub message: String,
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExpandError {}

type Result<T> = std::result::Result<T, ExpandError>;

fn error<T>(message: impl Into<String>) -> Result<T> {
    Err(ExpandError { message: message.into() })
}

/// The value of one word: variables put in, quotes and escapes removed. Blanks do not split it.
pub fn expand(text: &str, escape: char, env: &Lookup<'_>) -> Result<String> {
    Ok(Expander::new(text, escape, true, env).until(None, false)?.value)
}

/// As [`expand`], but the value is split into words at blanks that are not quoted (EXPOSE).
pub fn expand_words(text: &str, escape: char, env: &Lookup<'_>) -> Result<Vec<String>> {
    Ok(Expander::new(text, escape, true, env).until(None, false)?.into_words())
}

/// The contents of a COPY or ADD heredoc whose name is not quoted: quotes are ordinary characters, and the
/// escape character is the backslash whatever the file says.
pub fn expand_heredoc(body: &str, env: &Lookup<'_>) -> Result<String> {
    Ok(Expander::new(body, '\\', false, env).until(None, false)?.value)
}

/// A `<<-` body without the tabs at the start of its lines.
pub fn chomp(body: &str) -> String {
    super::heredoc::chomp(body)
}

/// A value being built, whole and as words.
#[derive(Default)]
struct Built {
    value: String,
    words: Vec<String>,
    word: String,
}

impl Built {
    /// Adds text that no blank splits.
    fn push_whole(&mut self, text: &str) {
        self.value.push_str(text);
        self.word.push_str(text);
    }

    /// Adds text that blanks split.
    fn push_split(&mut self, text: &str) {
        self.value.push_str(text);
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Expander<'t, 'e> {
    rest: &'t str,
    escape: char,
    /// Quotes are special.
    quotes: bool,
    env: &'e Lookup<'e>,
    /// Escapes stay in the text: it is a pattern, which has its own.
    raw: bool,
    depth: usize,
    /// Longest value outside `${}`.
    limit: usize,
}

impl<'t, 'e> Expander<'t, 'e> {
    fn new(text: &'t str, escape: char, quotes: bool, env: &'e Lookup<'e>) -> Self {
        Self {
            rest: text,
            escape,
            quotes,
            env,
            raw: false,
            depth: 0,
            limit: text.len() + MAX_GROWTH,
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.next();
        }
        there
    }

    fn check(&self, length: usize) -> Result<()> {
        let limit = if self.depth == 0 { self.limit } else { MAX_INNER.min(self.limit) };
        if length > limit { self.too_long() } else { Ok(()) }
    }

    fn too_long<T>(&self) -> Result<T> {
        let most = if self.depth == 0 { self.limit } else { MAX_INNER };
        error(format!("the value is longer than {} MiB", most >> 20))
    }

    /// Reads up to `stop`, which is used up, or to the end when there is no `stop`.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Built> {
        let outer = std::mem::replace(&mut self.raw, raw);
        let built = self.until_stop(stop);
        self.raw = outer;
        built
    }

    fn until_stop(&mut self, stop: Option<char>) -> Result<Built> {
        let mut built = Built::default();
        let mut buffer = [0; 4];
        while let Some(c) = self.next() {
            match c {
                c if Some(c) == stop => return Ok(built),
                '$' => {
                    let value = self.dollar()?;
                    built.push_split(&value);
                }
                '\'' if self.quotes => {
                    let Some((text, rest)) = self.rest.split_once('\'') else {
                        return error(
                            "unexpected end of statement while looking for matching single-quote",
                        );
                    };
                    self.rest = rest;
                    built.push_whole(text);
                }
                '"' if self.quotes => {
                    let text = self.double_quoted()?;
                    built.push_whole(&text);
                }
                c if c == self.escape => {
                    if self.raw {
                        built.push_whole(c.encode_utf8(&mut buffer));
                    }
                    // At the end of the word it vanishes.
                    if let Some(c) = self.next() {
                        built.push_whole(c.encode_utf8(&mut buffer));
                    }
                }
                c => built.push_split(c.encode_utf8(&mut buffer)),
            }
            self.check(built.value.len())?;
        }
        match stop {
            Some('}') => error("syntax error: missing '}'"),
            Some(_) => error("syntax error: missing '/' in ${}"),
            None => Ok(built),
        }
    }

    /// Behind the opening quote, up to and with the closing one.
    fn double_quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => return Ok(text),
                '$' => text.push_str(&self.dollar()?),
                c if c == self.escape => {
                    if self.raw {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            text.push(next);
                            self.next();
                        }
                        Some(_) => text.push(c),
                    }
                }
                c => text.push(c),
            }
            self.check(text.len())?;
        }
        error("unexpected end of statement while looking for matching double-quote")
    }

    /// Behind a `$`.
    fn dollar(&mut self) -> Result<String> {
        if self.eat('{') {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return error(format!("variables are nested deeper than {MAX_DEPTH} levels"));
            }
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok((self.env)(name).unwrap_or_default())
    }

    /// A name, or nothing: all digits after a leading digit, a special parameter, or letters, digits, `_`.
    fn name(&mut self) -> &'t str {
        let text = self.rest;
        let length = match text.chars().next() {
            Some(c) if c.is_numeric() => text.find(|c: char| !c.is_numeric()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => text.find(|c: char| c != '_' && !c.is_alphanumeric()),
        };
        let (name, rest) = text.split_at(length.unwrap_or(text.len()));
        self.rest = rest;
        name
    }

    /// Behind `${`.
    fn braced(&mut self) -> Result<String> {
        match self.peek() {
            None => return error("syntax error: missing '}'"),
            Some('{' | '}' | ':') => return error("syntax error: bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        let Some(operator) = self.next() else { return error("syntax error: missing '}'") };
        match operator {
            '}' => Ok((self.env)(name).unwrap_or_default()),
            ':' => match self.next() {
                None => error("syntax error: missing '}'"),
                Some(modifier @ ('-' | '+' | '?')) => self.default(name, modifier, true),
                Some(other) => error(format!("unsupported modifier (:{other}) in substitution")),
            },
            '-' | '+' | '?' => self.default(name, operator, false),
            '#' | '%' => self.strip(name, operator),
            '/' => self.replace(name),
            other => error(format!("unsupported modifier ({other}) in substitution")),
        }
    }

    /// `${v-w}`, `${v+w}`, `${v?w}`; with `:` an empty value counts as unset.
    fn default(&mut self, name: &str, modifier: char, empty_is_unset: bool) -> Result<String> {
        let word = self.until(Some('}'), false)?.value;
        let value = (self.env)(name);
        let unset = value.is_none();
        let value = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) if !word.is_empty() => error(format!("{name}: {word}")),
            (_, None) if unset => error(format!("{name}: is not allowed to be unset")),
            (_, None) => error(format!("{name}: is not allowed to be empty")),
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn strip(&mut self, name: &str, operator: char) -> Result<String> {
        let word = self.until(Some('}'), true)?.value;
        let (longest, pattern) =
            word.strip_prefix(operator).map_or((false, word.as_str()), |rest| (true, rest));
        let pattern = compile(pattern)?;
        let value = (self.env)(name).unwrap_or_default();
        Ok(if operator == '#' {
            pattern.strip_prefix(&value, longest)
        } else {
            pattern.strip_suffix(&value, longest)
        })
    }

    /// `${v/p/r}`, `${v//p/r}`.
    fn replace(&mut self, name: &str) -> Result<String> {
        let all = self.eat('/');
        let pattern = self.until(Some('/'), true)?.value;
        let replacement = self.until(Some('}'), true)?.value;
        let pattern = compile(&pattern)?;
        let value = (self.env)(name).unwrap_or_default();
        pattern.replace(&value, &replacement, all, self.limit).map_or_else(|| self.too_long(), Ok)
    }
}

fn compile(pattern: &str) -> Result<Pattern> {
    Pattern::parse(pattern).map_err(|reason| ExpandError {
        message: format!("invalid pattern ({pattern}) in substitution: {reason}"),
    })
}

#[cfg(test)]
mod tests;
