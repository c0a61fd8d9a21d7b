//! RUN, COPY and ADD: the instructions with many flags and with heredocs.
//!
//! dockerfile.md §1.4, §1.6.

use super::Heredocs;
use crate::{
    dockerfile::{
        ast::{AddInstruction, CommandLine, CopyInstruction, RunInstruction, Word},
        flags::{Flags, Takes},
        heredoc::{self, RunScript, Token},
        node::Node,
        suggest, words,
    },
    error::{Error, Result},
};

/// Shell form or JSON form.
pub(super) fn command_line(node: &Node<'_>) -> Result<CommandLine> {
    Ok(match node.json()? {
        Some(words) => CommandLine::Exec(words.into_iter().map(|word| word.text).collect()),
        None => CommandLine::Shell(node.args_text().to_owned()),
    })
}

/// RUN.
pub(super) fn run(node: &Node<'_>, heredocs: Heredocs) -> Result<RunInstruction> {
    let known = [
        ("mount", Takes::List),
        ("network", Takes::Text),
        ("security", Takes::Text),
        ("device", Takes::List),
    ];
    let flags = Flags::check(node, &known)?;
    let run = RunInstruction {
        command: command_line(node)?,
        heredocs: heredocs.bodies,
        mounts: flags.list("mount"),
        network: flags.text("network"),
        security: flags.text("security"),
        devices: flags.list("device"),
    };
    one_of(node, "network mode", run.network.as_ref(), &["default", "none", "host"])?;
    one_of(node, "security mode", run.security.as_ref(), &["sandbox", "insecure"])?;
    if let (RunScript::Script { name, .. }, [token]) =
        (heredoc::run_script(&run), heredocs.tokens.as_slice())
    {
        check_file_name(node, token, &name)?;
    }
    Ok(run)
}

fn one_of(node: &Node<'_>, what: &str, word: Option<&Word>, known: &[&str]) -> Result<()> {
    let Some(word) = word.filter(|word| !known.contains(&word.text.as_str())) else {
        return Ok(());
    };
    let error = node.error_at(word.span, format!("invalid {what} `{}`", word.text));
    Err(match suggest::nearest(&word.text, known) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint(format!("it is one of `{}`", known.join("`, `"))),
    })
}

/// COPY.
pub(super) fn copy(node: &Node<'_>, heredocs: Heredocs) -> Result<CopyInstruction> {
    let known = [
        ("from", Takes::Text),
        ("chown", Takes::Text),
        ("chmod", Takes::Text),
        ("link", Takes::Bool),
        ("parents", Takes::Bool),
        ("exclude", Takes::List),
    ];
    let flags = Flags::check(node, &known)?;
    let mut copy = sources_and_destination(node, heredocs)?;
    shared_flags(&flags, &mut copy);
    copy.parents = flags.bool("parents").unwrap_or(false);
    copy.from = flags.filled("from");
    if let Some(from) = copy.from.as_ref().filter(|from| from.text.contains('$')) {
        return Err(node.error_at(
            from.span,
            "variable expansion is not supported for --from, define a new stage with FROM using \
             ARG from global scope as a workaround",
        ));
    }
    Ok(copy)
}

/// ADD.
pub(super) fn add(node: &Node<'_>, heredocs: Heredocs) -> Result<AddInstruction> {
    let known = [
        ("chown", Takes::Text),
        ("chmod", Takes::Text),
        ("link", Takes::Bool),
        ("keep-git-dir", Takes::Bool),
        ("checksum", Takes::Text),
        ("unpack", Takes::Bool),
        ("exclude", Takes::List),
    ];
    let flags = Flags::check(node, &known)?;
    let mut copy = sources_and_destination(node, heredocs)?;
    shared_flags(&flags, &mut copy);
    Ok(AddInstruction {
        copy,
        checksum: flags.filled("checksum"),
        keep_git_dir: flags.bool("keep-git-dir"),
        unpack: flags.bool("unpack"),
    })
}

fn shared_flags(flags: &Flags<'_>, copy: &mut CopyInstruction) {
    copy.chown = flags.filled("chown");
    copy.chmod = flags.filled("chmod");
    copy.link = flags.bool("link").unwrap_or(false);
    copy.exclude = flags.list("exclude");
}

/// One word of the plain form: a path or a heredoc, by its index.
enum Piece {
    Path(Word),
    Heredoc(usize),
}

fn sources_and_destination(node: &Node<'_>, heredocs: Heredocs) -> Result<CopyInstruction> {
    let mut pieces = match node.json()? {
        Some(words) => words.into_iter().map(Piece::Path).collect(),
        None => plain_pieces(node, &heredocs.tokens),
    };
    let last = pieces.pop();
    let destination = match last {
        Some(Piece::Path(destination)) if !pieces.is_empty() => destination,
        Some(Piece::Heredoc(index)) if !pieces.is_empty() => {
            let message = format!("{} cannot accept a heredoc as a destination", node.keyword());
            return Err(node.error(heredocs.tokens[index].range.clone(), message));
        }
        _ => return Err(no_destination(node)),
    };
    for token in &heredocs.tokens {
        check_file_name(node, token, &token.name)?;
    }
    let sources = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Path(word) => Some(word),
        Piece::Heredoc(_) => None,
    });
    let sources = sources.collect();
    Ok(CopyInstruction { sources, heredocs: heredocs.bodies, destination, ..Default::default() })
}

fn plain_pieces(node: &Node<'_>, tokens: &[Token]) -> Vec<Piece> {
    let paths = |range| words::split_plain(node.text(), range).into_iter();
    let mut pieces = Vec::new();
    let mut at = node.args.start;
    for (index, token) in tokens.iter().enumerate() {
        pieces.extend(paths(at..token.range.start).map(|range| Piece::Path(node.word(range))));
        pieces.push(Piece::Heredoc(index));
        at = token.range.end;
    }
    pieces.extend(paths(at..node.args.end).map(|range| Piece::Path(node.word(range))));
    pieces
}

fn no_destination(node: &Node<'_>) -> Error {
    let given = if node.args.is_empty() { "none" } else { "only one" };
    node.error_at_args(format!(
        "{} requires at least two arguments, but {given} was provided: destination could not be \
         determined",
        node.keyword()
    ))
    .hint(format!("write `{} SOURCE… DESTINATION`", node.keyword()))
}

/// A heredoc that becomes a file needs a name that is a file's.
fn check_file_name(node: &Node<'_>, token: &Token, name: &str) -> Result<()> {
    if name.contains(['/', '\0']) || name == "." || name == ".." {
        let message = format!("heredoc name `{name}` cannot be the name of a file");
        return Err(node.error(token.range.clone(), message));
    }
    Ok(())
}
