//! The verbs that write images and names: copy, convert, tag, rm.

use super::{location, platform, print_data, tell};
use crate::cli::args::CompressionName;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::compress::Compression;
use crate::oci::Digest;
use crate::transfer::convert::{Convert, Types};
use crate::transfer::copy::{CopyOptions, copy as transfer};
use crate::transfer::{Access, Location, change};
use clap::{Args, ValueEnum};

/// `image copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Image
    pub source: String,
    /// Where to; for `docker-archive:` and `oci-archive:` the path `-` is standard output
    pub target: String,
    /// Copy only the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all")]
    pub platform: Option<String>,
    /// Copy an index whole, also from a registry
    #[arg(long)]
    pub all: bool,
    /// Fail where a digest could not stay
    #[arg(long)]
    pub preserve_digests: bool,
    /// Copy what refers to the image, too
    #[arg(long)]
    pub referrers: bool,
    /// Fail and write nothing unless the result has this digest: of an archive's bytes, else of the manifest or index
    #[arg(long, value_name = "sha256:HEX")]
    pub expect: Option<String>,
}

/// `image convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Image
    pub source: String,
    /// Where to
    pub target: String,
    /// Compression of all layers
    #[arg(long, value_enum)]
    pub compression: Option<CompressionName>,
    /// Level; packs again what has this compression already
    #[arg(long, value_name = "N", requires = "compression")]
    pub compression_level: Option<i32>,
    /// Media types
    #[arg(long = "type", value_enum)]
    pub types: Option<TypeName>,
    /// Only the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all")]
    pub platform: Option<String>,
    /// An index whole, also from a registry
    #[arg(long)]
    pub all: bool,
}

/// `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TypeName {
    /// Of the OCI image specification
    Oci,
    /// Docker's, schema 2
    Docker,
}

pub(super) fn copy(access: &Access<'_>, args: &CopyArgs) -> Result<()> {
    let expect = args.expect.as_deref().map(Digest::parse).transpose();
    let options = CopyOptions {
        platform: platform(args.platform.as_deref())?,
        all: args.all,
        preserve_digests: args.preserve_digests,
        referrers: args.referrers,
        expect: expect.map_err(|error| error.with_kind(ErrorKind::Usage))?,
        convert: None,
    };
    deliver(access, &args.source, &args.target, &options)
}

/// What goes to standard output leaves no room for a line about it.
fn deliver(access: &Access<'_>, from: &str, to: &str, options: &CopyOptions) -> Result<()> {
    let (from, to) = (location(from)?, location(to)?);
    let delivered = transfer(access, &from, &to, options)?;
    match &to {
        Location::LayoutArchive(path, _) | Location::DockerArchive(path, _)
            if path.as_os_str() == "-" =>
        {
            Ok(())
        }
        _ => tell(&delivered),
    }
}

pub(super) fn convert(access: &Access<'_>, args: &ConvertArgs) -> Result<()> {
    let compression = args.compression.map(|name| {
        let name = match name {
            CompressionName::Gzip => "gzip",
            CompressionName::Zstd => "zstd",
            CompressionName::None => "none",
        };
        Compression::parse(name, args.compression_level)
    });
    let convert = Convert {
        compression: compression.transpose()?,
        again: args.compression_level.is_some(),
        types: args.types.map(types),
    };
    if convert.compression.is_none() && convert.types.is_none() {
        return Err(Error::usage("nothing is to be converted")
            .hint("say what: `--compression`, `--type`; `image copy` copies without a change"));
    }
    check_target(args)?;
    let options = CopyOptions {
        platform: platform(args.platform.as_deref())?,
        all: args.all,
        convert: Some(convert),
        ..CopyOptions::default()
    };
    deliver(access, &args.source, &args.target, &options)
}

/// A docker-archive keeps neither packing nor media types.
fn check_target(args: &ConvertArgs) -> Result<()> {
    let target = location(&args.target)?;
    if target.holds_indexes() {
        return Ok(());
    }
    let refused = match (args.compression, args.types) {
        (Some(CompressionName::Gzip | CompressionName::Zstd), _) => {
            ("--compression", "its layers are unpacked")
        }
        (_, Some(TypeName::Oci)) => ("--type oci", "it has no media types"),
        _ => return Ok(()),
    };
    Err(Error::usage(format!("`{}` has no effect in `{target}`: {}", refused.0, refused.1))
        .hint(format!("use `oci-archive:`, or leave `{}` out", refused.0)))
}

fn types(name: TypeName) -> Types {
    match name {
        TypeName::Oci => Types::Oci,
        TypeName::Docker => Types::Docker,
    }
}

pub(super) fn tag(access: &Access<'_>, source: &str, target: &str) -> Result<()> {
    match change::tag(access, &location(source)?, &location(target)?)? {
        Some(pushed) => print_data(format!("{}\n", pushed.line()).as_bytes()),
        None => Ok(()),
    }
}

pub(super) fn remove(access: &Access<'_>, names: &[String], yes: bool) -> Result<()> {
    let all = names.iter().map(|name| location(name)).collect::<Result<Vec<_>>>()?;
    if let Some(remote) = all.iter().find(|one| matches!(one, Location::Registry(_)))
        && !yes
    {
        return Err(Error::usage(format!("`{remote}` would be removed from the registry"))
            .hint("add `--yes` when that is meant"));
    }
    for one in &all {
        if change::remove(access, one)? && one.reference().is_some_and(|name| name.digest.is_none())
        {
            access.emitter().note(format!(
                "the registry cannot remove a tag alone: the manifest of `{one}` is gone, and with it all its tags"
            ));
        }
    }
    Ok(())
}
