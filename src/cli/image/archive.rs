//! `nativebuild archive`: words → [`crate::transfer::merge`].

use super::need::{self, Need};
use super::{location, platform};
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::error::{Error, Result};
use crate::oci::archive::{self, Input, Select};
use crate::transfer::Location;
use crate::transfer::merge::{Part, merge};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// `nativebuild archive`.
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ArchiveCommand,
}

/// The verbs of `nativebuild archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Write the images of several archives into one docker-archive
    Merge {
        /// Docker-archives of any age, OCI archives, layouts; with `:NAME` behind it one image of several; `-` reads
        /// standard input
        #[arg(required = true, value_name = "ARCHIVE")]
        sources: Vec<String>,
        /// File; `-` writes to standard output
        #[arg(short, long, value_name = "PATH")]
        output: String,
        /// Which platform of an image for several [default: this machine's]
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<String>,
        /// Where images and the cache are kept
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
}

pub(in crate::cli) fn run(args: ArchiveArgs, environment: &Environment) -> Result<()> {
    let ArchiveCommand::Merge { sources, output, platform: wanted, root } = args.command;
    let parts = sources.iter().map(|source| part(source)).collect::<Result<Vec<_>>>()?;
    if parts.iter().filter(|part| matches!(part.input, Input::Stream(_))).count() > 1 {
        return Err(Error::usage("standard input can be only one of the archives"));
    }
    let to = target(&output)?;
    let wanted = platform(wanted.as_deref())?;
    let opened = need::open_at(Need::Room, root.as_ref(), environment)?;
    let digest = merge(parts, wanted.as_ref(), &to, &opened.store.sub("tmp"))?;
    if to == Path::new("-") {
        return Ok(());
    }
    print_data(format!("{digest}\n").as_bytes())
}

/// A path with or without a transport, and a name behind it.
fn part(text: &str) -> Result<Part> {
    let transports = ["docker-archive:", "oci-archive:", "oci:"];
    let (path, name) = if transports.iter().any(|transport| text.starts_with(transport)) {
        match location(text)? {
            Location::DockerArchive(path, name)
            | Location::LayoutArchive(path, name)
            | Location::Layout(path, name) => (path, name),
            other => return Err(Error::internal(format!("`{other}` is no archive"))),
        }
    } else {
        archive::split_source(text)
    };
    if path != Path::new("-") && !path.exists() {
        return Err(Error::usage(format!("there is no archive `{}`", path.display()))
            .hint("archives are files; `image save` writes one of an image of the store"));
    }
    let input = if path == Path::new("-") {
        Input::Stream(Box::new(std::io::stdin()))
    } else {
        Input::Path(path)
    };
    Ok(Part { input, select: name.map_or(Select::All, Select::Named), shown: text.to_owned() })
}

fn target(text: &str) -> Result<PathBuf> {
    let path = text.strip_prefix("docker-archive:").unwrap_or(text);
    for transport in ["oci:", "oci-archive:", "dir:", "docker://"] {
        if text.starts_with(transport) {
            return Err(Error::usage(format!("archives cannot be merged into `{text}`"))
                .hint("the result is a docker-archive: write the path of a file"));
        }
    }
    Ok(path.into())
}
