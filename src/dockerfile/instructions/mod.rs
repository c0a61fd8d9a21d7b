//! From a cut-up line to the typed instruction: FROM and everything without heredocs.
//!
//! Each function checks exactly what BuildKit checks before expansion; what needs the value of a variable
//! is the plan's. dockerfile.md §1.2, §1.6.

mod copy;
mod duration;
mod healthcheck;

use super::{
    ast::{
        ArgDeclaration, ArgInstruction, FromInstruction, Heredoc, InstructionKind,
        OnBuildInstruction, Pair, Word,
    },
    flags::{Flags, Takes},
    heredoc::Token,
    node::Node,
    suggest, words,
};
use crate::error::{Error, Result};

/// Heredocs of an instruction: tokens of its line and, in the same order, bodies.
pub(super) struct Heredocs {
    /// Tokens.
    pub(super) tokens: Vec<Token>,
    /// Bodies.
    pub(super) bodies: Vec<Heredoc>,
}

/// All keywords.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A typed line.
#[derive(Debug)]
pub(super) enum Typed {
    /// FROM opens a stage.
    From(FromInstruction),
    /// Anything else belongs to one.
    Other(InstructionKind),
}

/// Gives a node its type.
pub(super) fn parse(node: &Node<'_>, heredocs: Heredocs) -> Result<Typed> {
    let keyword = node.keyword();
    let kind = match keyword.as_str() {
        "FROM" => return from(node).map(Typed::From),
        "RUN" => InstructionKind::Run(copy::run(node, heredocs)?),
        "COPY" => InstructionKind::Copy(copy::copy(node, heredocs)?),
        "ADD" => InstructionKind::Add(copy::add(node, heredocs)?),
        "HEALTHCHECK" => InstructionKind::Healthcheck(healthcheck::parse(node)?),
        "ONBUILD" => InstructionKind::OnBuild(on_build(node, heredocs)?),
        known if KEYWORDS.contains(&known) => {
            Flags::check(node, &[])?;
            without_flags(node, known)?
        }
        _ => return Err(unknown(node)),
    };
    Ok(Typed::Other(kind))
}

fn without_flags(node: &Node<'_>, keyword: &str) -> Result<InstructionKind> {
    Ok(match keyword {
        "ARG" => InstructionKind::Arg(arg(node)?),
        "ENV" => InstructionKind::Env(pairs(node)?),
        "LABEL" => InstructionKind::Label(pairs(node)?),
        "CMD" => InstructionKind::Cmd(copy::command_line(node)?),
        "ENTRYPOINT" => InstructionKind::Entrypoint(copy::command_line(node)?),
        "SHELL" => InstructionKind::Shell(shell(node)?),
        "EXPOSE" => {
            node.require_args()?;
            InstructionKind::Expose(node.plain())
        }
        "VOLUME" => InstructionKind::Volume(volume(node)?),
        "USER" => InstructionKind::User(one_argument(node)?),
        "WORKDIR" => InstructionKind::Workdir(one_argument(node)?),
        "STOPSIGNAL" => InstructionKind::StopSignal(one_argument(node)?),
        "MAINTAINER" => InstructionKind::Maintainer(one_argument(node)?.text),
        _ => return Err(unknown(node)),
    })
}

fn unknown(node: &Node<'_>) -> Error {
    let written = node.written_keyword();
    let error =
        node.error_at(node.keyword_span(), format!("unknown instruction: {}", shortened(written)));
    match suggest::nearest(written, &KEYWORDS) {
        Some(keyword) => error.hint(format!("did you mean `{keyword}`?")),
        None => error,
    }
}

/// What a stored trigger would say where it runs, when its first word is no instruction.
pub fn unknown_trigger(trigger: &OnBuildInstruction) -> Option<String> {
    let word = trigger.text.split(words::is_blank).next().unwrap_or_default();
    if KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word)) {
        return None;
    }
    let near = suggest::nearest(word, &KEYWORDS);
    let near = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
    Some(format!("unknown instruction: {}{near}", shortened(word)))
}

/// Hostile words stay short in messages.
fn shortened(word: &str) -> String {
    match word.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &word[..cut]),
        None => word.to_owned(),
    }
}

fn from(node: &Node<'_>) -> Result<FromInstruction> {
    let flags = Flags::check(node, &[("platform", Takes::Text)])?;
    let mut words = node.plain().into_iter();
    let (base, keyword, name) = (words.next(), words.next(), words.next());
    let (base, named) = match (base, keyword, name, words.next()) {
        (Some(base), None, ..) => (base, None),
        (Some(base), Some(keyword), Some(name), None)
            if keyword.text.eq_ignore_ascii_case("as") =>
        {
            let written = name.text.clone();
            (base, Some((keyword, stage_name(node, name)?, written)))
        }
        _ => {
            return Err(node
                .error_at_args("FROM requires either one or three arguments")
                .hint("write `FROM IMAGE` or `FROM IMAGE AS NAME`"));
        }
    };
    let (as_keyword, name, written_name) = match named {
        Some((keyword, name, written)) => (Some(keyword), Some(name), Some(written)),
        None => (None, None, None),
    };
    Ok(FromInstruction {
        base,
        platform: flags.filled("platform"),
        name,
        keyword: node.written_keyword().to_owned(),
        as_keyword,
        written_name,
        comments: node.comments(),
        span: node.whole_span(),
    })
}

fn stage_name(node: &Node<'_>, written: Word) -> Result<Word> {
    let text = written.text.to_lowercase();
    let valid = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if !valid {
        let message = format!(
            "invalid name for build stage: \"{}\", name can't start with a number or contain symbols",
            shortened(&written.text)
        );
        return Err(node.error_at(written.span, message));
    }
    Ok(Word { text, span: written.span })
}

fn one_argument(node: &Node<'_>) -> Result<Word> {
    if node.args.is_empty() {
        let message = format!("{} requires exactly one argument", node.keyword());
        return Err(node.error_at_args(message));
    }
    Ok(node.word(node.args.clone()))
}

fn arg(node: &Node<'_>) -> Result<ArgInstruction> {
    node.require_args()?;
    let mut args = Vec::new();
    for range in words::split_quoted(node.text(), node.args.clone(), node.escape) {
        let (name, default) = match node.text()[range.clone()].find('=') {
            Some(0) => return Err(node.error(range, "ARG names can not be blank")),
            Some(length) => (
                range.start..range.start + length,
                Some(node.word(range.start + length + 1..range.end)),
            ),
            None => (range, None),
        };
        args.push(ArgDeclaration { name: node.word(name), default });
    }
    Ok(ArgInstruction { args, comments: node.comments(), span: node.whole_span() })
}

/// Arguments of ENV and LABEL. The first word decides: without `=` in it, it is the old form.
fn pairs(node: &Node<'_>) -> Result<Vec<Pair>> {
    node.require_args()?;
    let keyword = node.keyword();
    let words = words::split_quoted(node.text(), node.args.clone(), node.escape);
    let has_equals = |range: &std::ops::Range<usize>| node.text()[range.clone()].contains('=');
    if !words.first().is_some_and(has_equals) {
        return legacy_pair(node).map(|pair| vec![pair]);
    }
    let mut pairs = Vec::new();
    for range in words {
        let text = &node.text()[range.clone()];
        let Some(length) = text.find('=') else {
            let message = format!(
                "syntax error - can't find = in {:?}, must be of the form: name=value",
                shortened(text)
            );
            return Err(node.error(range, message).hint("put a value with blanks into quotes"));
        };
        if length == 0 {
            return Err(node.error(range, format!("{keyword} names can not be blank")));
        }
        let equals = range.start + length;
        pairs.push(Pair {
            key: node.word(range.start..equals),
            value: node.word(equals + 1..range.end),
            legacy: false,
        });
    }
    Ok(pairs)
}

fn legacy_pair(node: &Node<'_>) -> Result<Pair> {
    let text = node.args_text();
    let Some(length) = text.find(words::is_blank) else {
        let message = format!("{} must have two arguments", node.keyword());
        return Err(node
            .error_at_args(message)
            .hint(format!("write `{} NAME=VALUE`", node.keyword())));
    };
    let key = node.args.start..node.args.start + length;
    let value = words::trim(node.text(), key.end..node.args.end);
    Ok(Pair { key: node.word(key), value: node.word(value), legacy: true })
}

fn shell(node: &Node<'_>) -> Result<Vec<String>> {
    node.require_args()?;
    let Some(words) = node.json()? else {
        return Err(node
            .error_at_args("SHELL requires the arguments to be in JSON form")
            .hint("write `SHELL [\"executable\", \"parameter\"]`"));
    };
    if words.is_empty() {
        return Err(node.error_at_args("SHELL requires at least one argument"));
    }
    Ok(words.into_iter().map(|word| word.text).collect())
}

fn volume(node: &Node<'_>) -> Result<Vec<Word>> {
    node.require_args()?;
    let mut volumes = node.json()?.unwrap_or_else(|| node.plain());
    if volumes.is_empty() {
        return Err(node.error_at_args("VOLUME requires at least one argument"));
    }
    for volume in &mut volumes {
        volume.text = volume.text.trim().to_owned();
        if volume.text.is_empty() {
            return Err(node.error_at(volume.span, "VOLUME specified can not be an empty string"));
        }
    }
    Ok(volumes)
}

/// ONBUILD: the trigger is kept as text, but must be one that can run.
/// What is behind ONBUILD is not looked at further: it is an instruction only where it runs.
fn on_build(node: &Node<'_>, heredocs: Heredocs) -> Result<OnBuildInstruction> {
    Flags::check(node, &[])?;
    node.require_args()?;
    let rest = node.rest();
    let text = rest.text + &heredoc_text(&heredocs.bodies);
    if let Some(inner) = node.inner('\\') {
        refuse_trigger(&inner)?;
    }
    Ok(OnBuildInstruction { text, span: rest.span })
}

/// An instruction that ONBUILD may hold.
pub(super) fn trigger(node: &Node<'_>, heredocs: Heredocs) -> Result<InstructionKind> {
    refuse_trigger(node)?;
    match parse(node, heredocs)? {
        Typed::Other(kind) => Ok(kind),
        Typed::From(_) => Err(Error::internal("FROM passed as an ONBUILD trigger")),
    }
}

fn refuse_trigger(node: &Node<'_>) -> Result<()> {
    let keyword = node.keyword();
    let message = match keyword.as_str() {
        "ONBUILD" => "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        "FROM" | "MAINTAINER" => format!("{keyword} isn't allowed as an ONBUILD trigger"),
        _ => return Ok(()),
    };
    Err(node.error_at(node.keyword_span(), message))
}

/// Bodies and terminators as they follow the line in a stored trigger.
fn heredoc_text(heredocs: &[Heredoc]) -> String {
    heredocs.iter().flat_map(|heredoc| ["\n", &heredoc.body, &heredoc.name]).collect()
}
