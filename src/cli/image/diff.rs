//! `diff` and `image diff`: words → [`crate::transfer::diff`].

use super::args::{LOCATIONS, PlaceArgs};
use super::need::{self, Need};
use super::{access, location, platform, print_json};
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::cli::report::Style;
use crate::error::{Error, Result};
use crate::transfer::{Access, diff as differ};
use clap::Args;
use std::path::{Path, PathBuf};

/// `nativebuild diff`.
#[derive(Debug, Args)]
#[command(after_help = LOCATIONS)]
pub struct DiffVerb {
    /// What is compared.
    #[command(flatten)]
    pub diff: DiffArgs,
    /// Write the layer that makes the second image's files of the first one's; `-` writes it to standard output, alone
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `image diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Image
    pub a: String,
    /// Image
    pub b: String,
    /// Which platform of images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `nativebuild diff`.
pub(in crate::cli) fn run(args: &DiffVerb, environment: &Environment, style: Style) -> Result<()> {
    let DiffArgs { a, b, .. } = &args.diff;
    let mut need = Need::of_image(a).max(Need::of_image(b));
    if args.output.is_some() {
        need = need.max(Need::Room);
    }
    let opened = need::open(need, &args.place, environment)?;
    let access = access(&opened.store, &args.place, environment, style)?;
    diff(&access, &args.diff, args.output.as_deref())
}

pub(super) fn diff(access: &Access<'_>, args: &DiffArgs, output: Option<&Path>) -> Result<()> {
    let (a, b) = (&args.a, &args.b);
    let wanted = platform(args.platform.as_deref())?;
    let pair = differ::Pair::open(access, &location(a)?, &location(b)?, wanted.as_ref())?;
    if let Some(path) = output {
        pair.write_layer(path)?;
        if path == Path::new("-") {
            return Ok(());
        }
    }
    let found = pair.diff()?;
    if args.json {
        print_json(&found.json())?;
    } else {
        print_data(found.text().as_bytes())?;
    }
    // Whoever asks for the layer got it, and no answer to a question.
    if found.is_empty() || output.is_some() {
        return Ok(());
    }
    Err(Error::image(format!("`{a}` and `{b}` differ")))
}
