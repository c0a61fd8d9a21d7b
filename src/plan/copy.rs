//! COPY and ADD: from the syntax tree to a [`CopyStep`].
//!
//! In: the instruction, the scope before it, where `--from` leads. Out: expanded sources and flags, checked as far as
//! the text alone allows; dockerfile.md §1.7 (flags) and §1.4 (heredocs).

use super::chmod;
use super::expander::Expander;
use super::step::{CopyFrom, CopyStep};
use crate::dockerfile::ast::{AddInstruction, CopyInstruction, Heredoc, Word};
use crate::dockerfile::expand::{self, Lookup};
use crate::error::{Error, Result};

/// What the stage knows when the instruction comes.
pub(super) struct Place<'a> {
    pub(super) expander: Expander<'a>,
    pub(super) env: &'a Lookup<'a>,
    pub(super) cwd: &'a str,
}

/// A step, and the `--chmod` text that history shows.
pub(super) struct Copied {
    pub(super) step: CopyStep,
    pub(super) chmod: Option<String>,
}

/// COPY.
pub(super) fn copy(place: &Place<'_>, copy: &CopyInstruction, from: CopyFrom) -> Result<Copied> {
    let copied = shared(place, copy, from)?;
    if let Some((_, span)) = copied.step.sources.iter().find(|(source, _)| is_http(source)) {
        return Err(Error::dockerfile("source can't be a URL for COPY")
            .at(place.expander.source, *span)
            .hint("use ADD for a URL"));
    }
    Ok(copied)
}

/// ADD.
pub(super) fn add(place: &Place<'_>, add: &AddInstruction) -> Result<Copied> {
    let mut copied = shared(place, &add.copy, CopyFrom::Context)?;
    let source = place.expander.source;
    let remote = copied.step.sources.iter().find(|(text, _)| is_http(text) || is_git(text));
    if let Some(word) = &add.checksum {
        let count = copied.step.sources.len() + copied.step.heredocs.len();
        if count != 1 {
            return Err(Error::dockerfile("checksum can't be specified for multiple sources")
                .at(source, word.span));
        }
        if remote.is_none() {
            return Err(
                Error::dockerfile("checksum requires HTTP(S) or Git sources").at(source, word.span)
            );
        }
        copied.step.checksum = Some(place.expander.word(word, place.env)?);
    }
    if let Some((text, span)) = remote {
        let what = if is_http(text) && !is_git(text) { "a URL" } else { "a Git repository" };
        return Err(Error::dockerfile(format!("not yet supported: ADD of {what}"))
            .at(source, *span)
            .hint("download it into the build context before the build"));
    }
    copied.step.add = true;
    copied.step.unpack = add.unpack.unwrap_or(true);
    Ok(copied)
}

fn shared(place: &Place<'_>, copy: &CopyInstruction, from: CopyFrom) -> Result<Copied> {
    let word = |word: &Word| place.expander.word(word, place.env);
    // An empty value of `--chown` or `--chmod` means the flag was not given, as in BuildKit.
    let flag = |flag: &Option<Word>| -> Result<Option<String>> {
        let value = flag.as_ref().map(word).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    };
    // An empty source stays: it is the root of the context.
    let mut sources = Vec::with_capacity(copy.sources.len());
    for source in &copy.sources {
        sources.push((word(source)?, source.span));
    }
    let heredocs =
        copy.heredocs.iter().map(|heredoc| body(place, heredoc)).collect::<Result<Vec<_>>>()?;
    let chmod = flag(&copy.chmod)?;
    let mode = match (&chmod, &copy.chmod) {
        (Some(text), Some(word)) => {
            Some(chmod::parse(text).map_err(|error| error.at(place.expander.source, word.span))?)
        }
        _ => None,
    };
    let step = CopyStep {
        from,
        sources,
        heredocs,
        destination: word(&copy.destination)?,
        cwd: place.cwd.to_owned(),
        chown: flag(&copy.chown)?,
        chmod: mode,
        exclude: copy.exclude.iter().map(|pattern| pattern.text.clone()).collect(),
        parents: copy.parents,
        link: copy.link,
        unpack: false,
        add: false,
        checksum: None,
    };
    Ok(Copied { step, chmod })
}

fn body(place: &Place<'_>, heredoc: &Heredoc) -> Result<Heredoc> {
    let mut done = heredoc.clone();
    if heredoc.chomp {
        done.body = expand::chomp(&heredoc.body);
    }
    if heredoc.expand {
        done.body = place.expander.heredoc(&done.body, heredoc.span, place.env)?;
    }
    Ok(done)
}

fn is_http(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Git by scheme, by `user@host:path`, or by an http path that ends in `.git` before a `#` or `?`.
fn is_git(source: &str) -> bool {
    if source.starts_with("git://") || source.starts_with("ssh://") || source.starts_with("git@") {
        return true;
    }
    let path = source.split(['#', '?']).next().unwrap_or_default();
    is_http(source) && path.strip_suffix(".git").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_sources_are_told_apart() {
        for (source, http, git) in [
            ("https://h/x.tar.gz", true, false),
            ("http://h/r.git", true, true),
            ("https://h/r.git#main:sub", true, true),
            ("https://h/r.git?branch=a", true, true),
            ("git@h:r.git", false, true),
            ("ssh://h/r", false, true),
            ("git://h/r", false, true),
            ("dir/http", false, false),
            ("r.git", false, false),
        ] {
            assert_eq!((is_http(source), is_git(source)), (http, git), "{source}");
        }
    }
}
