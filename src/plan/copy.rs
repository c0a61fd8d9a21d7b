//! COPY and ADD: from the syntax tree to a [`CopyStep`].
//!
//! In: the instruction, the scope before it, where `--from` leads. Out: expanded sources and flags, checked as far as
//! the text alone allows; dockerfile.md §1.7 (flags) and §1.4 (heredocs).

use super::chmod;
use super::expander::Expander;
use super::remote::RemoteSource;
use super::step::{CopyFrom, CopyStep};
use crate::dockerfile::ast::{AddInstruction, CopyInstruction, Heredoc, Word};
use crate::dockerfile::expand::{self, Lookup};
use crate::error::{Error, Result};
use crate::oci::git_url::is_http;

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
    let step = &mut copied.step;
    let checksum =
        add.checksum.as_ref().map(|word| place.expander.word(word, place.env)).transpose()?;
    for (at, (text, span)) in step.sources.iter().enumerate() {
        let keep = add.keep_git_dir.unwrap_or(false);
        let found = RemoteSource::parse(text, checksum.as_deref(), keep)
            .map_err(|error| error.at(source, *span))?;
        step.remotes.extend(found.map(|found| (at, found)));
    }
    if let Some(word) = &add.checksum {
        let message = match (step.sources.len() + step.heredocs.len(), step.remotes.len()) {
            (1, 1) => None,
            (1, _) => Some("checksum requires HTTP(S) or Git sources"),
            _ => Some("checksum can't be specified for multiple sources"),
        };
        if let Some(message) = message {
            return Err(Error::dockerfile(message).at(source, word.span));
        }
    }
    copied.step.unpack_remote = add.unpack == Some(true);
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
        remotes: Vec::new(),
        unpack_remote: false,
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
