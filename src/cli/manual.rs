//! `nativebuild version`, `completion` and `man`: what the definition of the command line gives besides parsing.

use super::args::Cli;
use super::print_data;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

const NAME: &str = "nativebuild";

/// `nativebuild completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `nativebuild man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for every command into a directory instead
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Command whose page is printed [default: the program itself]
    #[arg(conflicts_with = "directory")]
    pub command: Vec<String>,
}

/// The line of `--version`.
pub(super) fn version() -> String {
    Cli::command().render_version()
}

pub(super) fn complete(args: &CompletionArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut text);
    print_data(&text)
}

pub(super) fn man(args: &ManArgs) -> Result<()> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    if let Some(directory) = &args.directory {
        let what = || format!("cannot write manual pages into {}", directory.display());
        std::fs::create_dir_all(directory).or_error(ErrorKind::Environment, what)?;
        return clap_mangen::generate_to(root, directory).or_error(ErrorKind::Environment, what);
    }
    let mut command = &root;
    for word in &args.command {
        let below = command.find_subcommand(word).filter(|below| !below.is_hide_set());
        command = below.ok_or_else(|| {
            Error::usage(format!("there is no command `{word}`"))
                .hint("`nativebuild --help` lists the commands")
        })?;
    }
    print_data(&page(command.clone())?)
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .or_error(ErrorKind::Internal, || "cannot write a manual page".to_owned())?;
    Ok(text)
}
