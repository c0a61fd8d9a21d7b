//! `--set KEY=VALUE`: the spec's tree with words of the command line put in.
//!
//! In: words. Out: the tree, or problems with places in the words. A path is keys with dots between them and `[N]` for
//! elements of lists; `\` before a character takes its meaning. The value is YAML.

use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
    yaml::{self, Node, Problems, Step, Value},
};
use std::{rc::Rc, sync::Arc};

/// Name of the texts in messages.
const NAME: &str = "--set";

/// The source with the words as further texts.
pub(super) fn joined(source: &Arc<SourceFile>, set: &[String]) -> Arc<SourceFile> {
    let word = |word: &String| Arc::new(SourceFile::new(NAME, word.as_bytes()));
    Arc::new(source.with_further(set.iter().map(word).collect()))
}

/// The tree with all words put in, in order; a word that is wrong is a problem, and changes nothing.
pub(super) fn apply(mut tree: Option<Rc<Node>>, problems: &mut Problems) -> Option<Rc<Node>> {
    let source = Arc::clone(problems.source());
    for (base, word) in source.further() {
        match put(tree.as_ref(), word, base, problems) {
            Ok(new) => tree = Some(new),
            Err(error) => problems.push(Span::new(base, base), error),
        }
    }
    tree
}

fn put(
    tree: Option<&Rc<Node>>,
    word: &Arc<SourceFile>,
    base: usize,
    problems: &mut Problems,
) -> Result<Rc<Node>> {
    let text = String::from_utf8_lossy(word.text()).into_owned();
    let source = Arc::clone(problems.source());
    let (steps, start) = path(&text, &source, base)?;
    let value = yaml::parse_further(problems, word, start, base)?.unwrap_or_else(|| {
        let nothing = Value::Scalar { text: String::new(), plain: true };
        Rc::new(Node::new(Span::new(base + start, base + start), nothing))
    });
    yaml::graft(problems, tree, &steps, value)
}

/// Reads `a.b[0].c` up to `=`: the steps, and where the value starts. `\` takes the meaning of what follows it.
fn path(text: &str, source: &Arc<SourceFile>, base: usize) -> Result<(Vec<Step>, usize)> {
    let mut steps = Vec::new();
    let mut reader = PathReader { text, at: 0, source, base };
    loop {
        let start = reader.at;
        let name = reader.name();
        if name.is_empty() {
            return Err(reader.error(start, "a key is missing"));
        }
        steps.push(Step::Key(name, reader.span(start)));
        while reader.peek() == Some('[') {
            steps.push(reader.index()?);
        }
        match reader.peek() {
            Some('.') => reader.at += 1,
            Some('=') => return Ok((steps, reader.at + 1)),
            Some(_) => {
                return Err(reader.error(reader.at, "after `]` there must be `.`, `[` or `=`"));
            }
            None => return Err(reader.error(reader.at, "there is no `=`")),
        }
    }
}

struct PathReader<'a> {
    text: &'a str,
    at: usize,
    source: &'a Arc<SourceFile>,
    base: usize,
}

impl PathReader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn span(&self, start: usize) -> Span {
        Span::new(self.base + start, self.base + self.at)
    }

    fn error(&self, start: usize, message: &str) -> Error {
        let span = Span::new(self.base + start, self.base + start + 1);
        let error = Error::usage(message).at(self.source, span);
        error
            .hint("write it as KEY=VALUE, for example `config.Labels.a=b` or `contents[0].dir=./x`")
    }

    /// A key; empty when there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '.' | '[' | '=' => break,
                '\\' => {
                    self.at += 1;
                    let Some(escaped) = self.peek() else { break };
                    name.push(escaped);
                    self.at += escaped.len_utf8();
                }
                c => {
                    name.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        name
    }

    /// `[N]`.
    fn index(&mut self) -> Result<Step> {
        let start = self.at;
        let inside = &self.text[start + 1..];
        let digits = inside.split_once(']').map(|(digits, _)| digits);
        let Some(digits) = digits.filter(|digits| digits.len() <= 6) else {
            return Err(self.error(start, "`[` must be followed by a number and `]`"));
        };
        let Some(index) = Some(digits)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
        else {
            return Err(self.error(start, "`[` must be followed by a number and `]`"));
        };
        self.at = start + digits.len() + 2;
        Ok(Step::Index(index, self.span(start)))
    }
}
