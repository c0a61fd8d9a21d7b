//! `nativebuild pull`: words → [`crate::transfer::pull`].

use super::args::PlaceArgs;
use super::need::{self, Need};
use super::{access, location, platform, print_json, reference};
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::cli::report::Style;
use crate::error::{Error, Result};
use crate::oci::{Reference, hash_forms};
use crate::transfer::Location;
use crate::transfer::pull::{Pull, prefetched, pull};
use clap::Args;
use std::path::{Path, PathBuf};

/// The form of docker-archives that there is; another one gets another number.
const ARCHIVE_FORMAT: u32 = 1;

/// `nativebuild pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "A docker-archive has the same bytes for the same digest, platform and name, on every machine: its hash can be pinned."
)]
pub struct PullArgs {
    /// Image in a registry, best with its digest: `NAME[:TAG]@sha256:HEX`
    #[arg(value_name = "NAME")]
    pub image: String,
    /// Which platform of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// `docker-archive:PATH`, `oci-archive:PATH` or `oci:PATH`; PATH `-` is standard output [default: the store]
    #[arg(short, long, value_name = "WHERE")]
    pub output: Option<String>,
    /// Name in the archive or in the store [default: the image's own]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// Fail and write nothing unless the archive has this SHA-256: `sha256:HEX`, `sha256-BASE64` or Nix's 52 digits
    #[arg(long, value_name = "HASH")]
    pub expect: Option<String>,
    /// Print what nix-prefetch-docker prints, with the hash of the docker-archive; none needs to be written
    #[arg(long)]
    pub print_hash: bool,
    /// Write what the image is made of as JSON, or compare with what the file has
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Form of the docker-archive
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub archive_format: u32,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(in crate::cli) fn run(args: &PullArgs, environment: &Environment, style: Style) -> Result<()> {
    let name = match location(&args.image)? {
        Location::Store(name) | Location::Registry(name) => name,
        other => {
            return Err(Error::usage(format!("`{other}` is not in a registry")).hint(
                "`image copy` copies from layouts and archives, `image import` takes them in",
            ));
        }
    };
    if args.archive_format != ARCHIVE_FORMAT {
        return Err(Error::usage(format!("archive format `{}` is not known", args.archive_format))
            .hint(format!("known is {ARCHIVE_FORMAT}")));
    }
    let final_name = args.name.as_deref().map(plain_name).transpose()?;
    let to = args.output.as_deref().map(location).transpose()?;
    let wanted = Pull {
        name: &name,
        platform: platform(args.platform.as_deref())?,
        to: to.map(|to| target(to, final_name.as_ref(), &name)).transpose()?,
        final_name,
        expect: args.expect.as_deref().map(hash_forms::parse).transpose()?,
        hash: args.print_hash,
        lock: args.lock.as_deref(),
    };
    check(&wanted)?;
    let keeps = wanted.to.is_none() && !wanted.hash && wanted.expect.is_none();
    let need = if keeps { Need::All } else { Need::Room };
    let opened = need::open(need, &args.place, environment)?;
    let access = access(&opened.store, &args.place, environment, style)?;
    let brought = pull(&access, &wanted)?;
    if let Some(found) = prefetched(&name, &brought).filter(|_| wanted.hash) {
        return print_json(&found);
    }
    match (&wanted.to, brought.written) {
        (Some(to), _) if is_stdout(to) => Ok(()),
        (_, Some(digest)) => print_data(format!("{digest}\n").as_bytes()),
        _ if keeps => {
            let plain = Reference { digest: None, ..name.clone() };
            print_data(format!("{}@{}\n", plain.familiar(), brought.digest).as_bytes())
        }
        _ => print_data(format!("{}\n", brought.digest).as_bytes()),
    }
}

/// A name with a tag and without a digest.
fn plain_name(text: &str) -> Result<Reference> {
    let name = reference(text)?;
    if name.digest.is_some() {
        return Err(Error::usage(format!(
            "`{text}` has a digest: only a name and a tag can be given"
        )));
    }
    Ok(name)
}

/// The output with the name that is in it.
fn target(to: Location, final_name: Option<&Reference>, name: &Reference) -> Result<Location> {
    let own = match &to {
        Location::DockerArchive(_, own)
        | Location::Layout(_, own)
        | Location::LayoutArchive(_, own) => own,
        other => {
            return Err(Error::usage(format!("an image cannot be pulled to `{other}`"))
                .hint("it can go to `docker-archive:`, `oci-archive:` or `oci:`, and without `-o` to the store"));
        }
    };
    if own.is_some() && final_name.is_some() {
        return Err(Error::usage(format!("`{to}` has a name, and `--name` is another one"))
            .hint("leave one of them out"));
    }
    Ok(match to {
        Location::DockerArchive(path, None) => {
            let name = final_name.unwrap_or(name);
            let tag = name.tag.clone().or_else(|| Some("latest".to_owned()));
            let name = Reference { digest: None, tag, ..name.clone() };
            Location::DockerArchive(path, Some(name.familiar()))
        }
        Location::Layout(path, None) => Location::Layout(path, final_name.map(Reference::familiar)),
        Location::LayoutArchive(path, None) => {
            Location::LayoutArchive(path, final_name.map(Reference::familiar))
        }
        named => named,
    })
}

fn check(wanted: &Pull<'_>) -> Result<()> {
    let Some(to) = &wanted.to else { return Ok(()) };
    if wanted.hash && is_stdout(to) {
        return Err(Error::usage(
            "`--print-hash` and the archive cannot both go to standard output",
        ));
    }
    match to {
        Location::Layout(..) if wanted.expect.is_some() => {
            Err(Error::usage(format!("`--expect` is for a file, and `{to}` is a directory"))
                .hint("the digest of the image is pinned in its name: `NAME@sha256:…`"))
        }
        _ => Ok(()),
    }
}

fn is_stdout(to: &Location) -> bool {
    matches!(to, Location::DockerArchive(path, _) | Location::LayoutArchive(path, _) if path == Path::new("-"))
}
