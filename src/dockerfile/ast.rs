//! The syntax tree: what is written, with its places, before any variable is expanded.
//!
//! Words keep their quotes and `$` forms; [`super::expand`] works on them later, in `plan`, which knows the
//! variables. Instructions that BuildKit expands hold [`Word`]s; those it does not hold plain strings.

use super::lint::Warning;
use crate::source::{SourceFile, Span};
use std::sync::Arc;

/// A piece of text as written and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Word {
    /// Text after joining continued lines; quotes and variables still in it.
    pub text: String,
    /// Bytes in the file, from its first to its last character.
    pub span: Span,
}

/// A whole Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The text.
    pub source: Arc<SourceFile>,
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// ARGs before the first FROM.
    pub meta_args: Vec<ArgInstruction>,
    /// Stages in order; at least one.
    pub stages: Vec<Stage>,
    /// Things to tell the user that are no errors.
    pub warnings: Vec<Warning>,
}

/// Parser directives at the top of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// Value of `# syntax=`: reported, never fetched.
    pub syntax: Option<Word>,
    /// Escape character: `\` or a backtick.
    pub escape: char,
    /// Value of `# check=`: which checks count.
    pub check: Option<Word>,
    /// Where the last of them ends; comments behind it are comments.
    pub end: usize,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its FROM.
    pub from: FromInstruction,
    /// Its other instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// FROM.
#[derive(Clone, Debug)]
pub struct FromInstruction {
    /// Image or stage; expanded with meta args only.
    pub base: Word,
    /// `--platform=`.
    pub platform: Option<Word>,
    /// Name after AS, in lower case.
    pub name: Option<Word>,
    /// FROM as written, for checks.
    pub keyword: String,
    /// AS as written, for checks.
    pub as_keyword: Option<Word>,
    /// The name as written, for checks.
    pub written_name: Option<String>,
    /// Comments right above, without `#`.
    pub comments: Vec<String>,
    /// The whole instruction.
    pub span: Span,
}

/// An instruction of a stage.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What it is.
    pub kind: InstructionKind,
    /// The whole instruction, keyword to last character (heredoc bodies not included).
    pub span: Span,
    /// The instruction as written, joined to one line without comments, for progress and ONBUILD.
    pub text: String,
    /// True when it comes from an ONBUILD trigger.
    pub on_build: bool,
    /// Comments right above, without `#`.
    pub comments: Vec<String>,
}

impl Instruction {
    /// The keyword as written.
    pub fn keyword(&self) -> &str {
        self.text.split(super::words::is_blank).next().unwrap_or_default()
    }
}

/// One variant an instruction.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the instructions")]
pub enum InstructionKind {
    Arg(ArgInstruction),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Run(RunInstruction),
    Copy(CopyInstruction),
    Add(AddInstruction),
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Shell(Vec<String>),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    User(Word),
    Workdir(Word),
    StopSignal(Word),
    Healthcheck(HealthcheckInstruction),
    OnBuild(OnBuildInstruction),
    Maintainer(String),
}

/// `key=value` of ENV and LABEL; both sides are expanded later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Key as written.
    pub key: Word,
    /// Value as written.
    pub value: Word,
    /// True for the old form `ENV key value with blanks`.
    pub legacy: bool,
}

/// ARG, with one or more names.
#[derive(Clone, Debug)]
pub struct ArgInstruction {
    /// Names and defaults.
    pub args: Vec<ArgDeclaration>,
    /// Comments right above, without `#`.
    pub comments: Vec<String>,
    /// The whole instruction.
    pub span: Span,
}

/// One name of an ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// Name.
    pub name: Word,
    /// Default; `Some` with empty text for `ARG X=`.
    pub default: Option<Word>,
}

/// Shell form or exec (JSON) form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the shell.
    Shell(String),
    /// JSON array.
    Exec(Vec<String>),
}

/// A heredoc of RUN, COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// Unquoted name.
    pub name: String,
    /// False when any part of the name was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
    /// File descriptor written before `<<`, if any.
    pub fd: Option<u32>,
    /// Body with line ends, as written.
    pub body: String,
    /// Bytes of the body in the file.
    pub span: Span,
}

/// RUN.
#[derive(Clone, Debug)]
pub struct RunInstruction {
    /// The command. For a RUN with heredocs: the text of its first line.
    pub command: CommandLine,
    /// Heredocs in order of their tokens.
    pub heredocs: Vec<Heredoc>,
    /// Values of `--mount=`, not expanded.
    pub mounts: Vec<Word>,
    /// `--network=`.
    pub network: Option<Word>,
    /// `--security=`.
    pub security: Option<Word>,
    /// `--device=`.
    pub devices: Vec<Word>,
}

impl RunInstruction {
    /// True when the command is one heredoc token and nothing else: its body is then the script.
    pub fn has_only_heredoc(&self) -> bool {
        matches!(&self.command, CommandLine::Shell(text)
            if self.heredocs.len() == 1 && super::heredoc::is_single_token(text))
    }
}

/// Sources and destination, and the flags that COPY and ADD share.
#[derive(Clone, Debug, Default)]
pub struct CopyInstruction {
    /// Sources that are paths (or URLs for ADD), in order.
    pub sources: Vec<Word>,
    /// Sources that are heredocs, in order.
    pub heredocs: Vec<Heredoc>,
    /// Destination.
    pub destination: Word,
    /// `--from=`, not expanded.
    pub from: Option<Word>,
    /// `--chown=`.
    pub chown: Option<Word>,
    /// `--chmod=`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude=` patterns, not expanded.
    pub exclude: Vec<Word>,
}

/// ADD.
#[derive(Clone, Debug, Default)]
pub struct AddInstruction {
    /// What it shares with COPY (`from` and `parents` never set).
    pub copy: CopyInstruction,
    /// `--checksum=`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthcheckInstruction {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK [flags] CMD …`; durations in nanoseconds, `None` = not given.
    Cmd {
        /// The command.
        command: CommandLine,
        /// `--interval`.
        interval: Option<i64>,
        /// `--timeout`.
        timeout: Option<i64>,
        /// `--start-period`.
        start_period: Option<i64>,
        /// `--start-interval`.
        start_interval: Option<i64>,
        /// `--retries`.
        retries: Option<i64>,
    },
}

/// ONBUILD: the trigger as it is stored in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBuildInstruction {
    /// Raw text after ONBUILD, heredoc bodies appended.
    pub text: String,
    /// Where the text begins.
    pub span: Span,
}
