//! `nativebuild debug`: one question to one room, for comparing with other builders (CONTRIBUTING.md, "Comparing").
//!
//! Answers go to standard output, one a line; input that has no answer is an error with code 1, whatever its kind.

use super::print_data;
use crate::context::{IgnoreRules, pattern};
use crate::dockerfile::{self, expand};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Platform;
use crate::source::SourceFile;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `nativebuild debug`.
#[derive(Debug, Args)]
pub struct DebugArgs {
    /// What to ask.
    #[command(subcommand)]
    pub command: DebugCommand,
}

/// The questions.
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Print the tree of a Dockerfile before names and flags are checked, one s-expression an instruction
    Ast {
        /// Dockerfile; `-` reads standard input
        file: PathBuf,
    },
    /// Print a word with its variables put in and its quotes removed
    Expand {
        /// A variable; may be repeated
        #[arg(long = "env", value_name = "K=V")]
        env: Vec<String>,
        /// Escape character
        #[arg(long, default_value_t = '\\', value_name = "C")]
        escape: char,
        /// Print the words that unquoted blanks make of it, one a line
        #[arg(long)]
        words: bool,
        /// The word
        #[arg(allow_hyphen_values = true)]
        word: String,
    },
    /// Print for each path whether a `.dockerignore` keeps or drops it, and which line decided
    Ignore {
        /// The file with patterns; `-` reads standard input
        #[arg(long, value_name = "F")]
        file: PathBuf,
        /// Paths relative to the build context
        #[arg(required = true, last = true)]
        paths: Vec<OsString>,
    },
    /// Print a platform in its normal form
    Platform {
        /// For example `linux/aarch64`
        platform: String,
    },
}

pub(super) fn run(args: &DebugArgs) -> Result<()> {
    let answer = match &args.command {
        DebugCommand::Ast { file } => read(file).and_then(|text| dockerfile::dump(&text)),
        DebugCommand::Expand { env, escape, words, word } => expanded(word, env, *escape, *words),
        DebugCommand::Ignore { file, paths } => {
            return print_data(&decisions(&IgnoreRules::parse(&read(file)?)?, paths));
        }
        DebugCommand::Platform { platform } => {
            Platform::parse(platform).map(|platform| format!("{platform}\n"))
        }
    };
    print_data(answer.map_err(|error| error.with_kind(ErrorKind::Dockerfile))?.as_bytes())
}

fn read(path: &Path) -> Result<Arc<SourceFile>> {
    let mut text = Vec::new();
    let shown =
        if path == Path::new("-") { "Dockerfile".into() } else { path.display().to_string() };
    let what = || format!("cannot read `{shown}`");
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text).or_error(ErrorKind::Dockerfile, what)?;
    } else {
        text = std::fs::read(path).or_error(ErrorKind::Dockerfile, what)?;
    }
    Ok(Arc::new(SourceFile::new(shown, text)))
}

fn expanded(word: &str, env: &[String], escape: char, words: bool) -> Result<String> {
    let pairs: Vec<(&str, &str)> = env
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .ok_or_else(|| Error::dockerfile(format!("`--env {pair}` is no `NAME=VALUE`")))
        })
        .collect::<Result<_>>()?;
    let lookup = |name: &str| {
        let found = pairs.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let failed = |error: expand::ExpandError| Error::dockerfile(error.message);
    if words {
        let list = expand::expand_words(word, escape, &lookup).map_err(failed)?;
        return Ok(list.into_iter().map(|word| word + "\n").collect());
    }
    Ok(expand::expand(word, escape, &lookup).map_err(failed)? + "\n")
}

/// `keep PATH`, or `drop PATH line:N PATTERN`.
fn decisions(rules: &IgnoreRules, paths: &[OsString]) -> Vec<u8> {
    let mut out = Vec::new();
    for path in paths {
        let clean = pattern::clean(path.as_bytes());
        let decision = rules.decide(clean.strip_prefix(b"/").unwrap_or(&clean));
        let (word, by) = match decision.by.filter(|_| !decision.included) {
            Some(line) => ("drop ", format!(" line:{line} {}", rules.pattern_of(line))),
            None => ("keep ", String::new()),
        };
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(by.as_bytes());
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_expanded_whole_or_as_words() {
        let env = ["A=x y".to_owned(), "A=1 2".to_owned()];
        let said = |word: &str, escape, words| {
            expanded(word, &env, escape, words).unwrap_or_else(|error| format!("{error}"))
        };
        assert_eq!(said("'$A'\"$A\" \\$A", '\\', false), "$A1 2 $A\n");
        assert_eq!(said("$A\"$A\"`$", '`', true), "1\n21 2$\n");
        assert_eq!(said("${B:?gone}", '\\', false), "B: gone");
        assert_eq!(
            expanded("x", &["A".to_owned()], '\\', false).unwrap_err().to_string(),
            "`--env A` is no `NAME=VALUE`"
        );
    }

    #[test]
    fn the_line_that_drops_a_path_is_named() {
        let source = SourceFile::new(".dockerignore", "# c\n*.md\n!a.md\n/docs/\n");
        let rules = IgnoreRules::parse(&Arc::new(source)).unwrap();
        let paths = ["a.md", "./b.md", "/docs/x", "y"].map(OsString::from);
        assert_eq!(
            String::from_utf8(decisions(&rules, &paths)).unwrap(),
            "keep a.md\ndrop ./b.md line:2 *.md\ndrop /docs/x line:4 /docs/\nkeep y\n"
        );
    }
}
