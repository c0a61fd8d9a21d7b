//! The verbs that write: copy, convert, tag, rm, index.

use super::args::{AnnotateArgs, ConvertArgs, CopyArgs, CreateArgs, IndexCommand, TypeName};
use super::{location, platform, print_data, show, tell};
use crate::cli::args::CompressionName;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::compress::Compression;
use crate::oci::Digest;
use crate::transfer::convert::{Convert, Types};
use crate::transfer::copy::{CopyOptions, copy as transfer};
use crate::transfer::index::{self as indexes, Annotate, Create, Member, Stated};
use crate::transfer::{Access, Location, change, spec_file};
use std::collections::BTreeMap;

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

pub(super) fn index(access: &Access<'_>, command: IndexCommand) -> Result<()> {
    let delivered = match command {
        IndexCommand::Create(args) => create(access, &args)?,
        IndexCommand::Add { index, images } => {
            let members = images.iter().map(|image| member(image)).collect::<Result<Vec<_>>>()?;
            indexes::add(access, &location(&index)?, &members)?
        }
        IndexCommand::Rm { index, entries } => {
            indexes::remove(access, &location(&index)?, &entries)?
        }
        IndexCommand::Annotate(args) => annotate(access, &args)?,
        IndexCommand::Inspect(args) => return show::list(access, &args),
    };
    tell(&delivered)
}

fn member(image: &str) -> Result<Member> {
    Ok(Member { location: location(image)?, platform: None })
}

fn create(access: &Access<'_>, args: &CreateArgs) -> Result<crate::transfer::copy::Delivered> {
    let split = |lists: &[String]| -> Vec<String> {
        let words = lists.iter().flat_map(|list| list.split(','));
        words.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut options = Create {
        docker: args.types == TypeName::Docker,
        ignore_missing: args.ignore_missing,
        annotations: annotations(&args.annotations)?,
        tags: split(&args.tags),
    };
    if let Some(path) = &args.spec {
        let spec = spec_file::read(path)?;
        options.tags.extend(spec.tags);
        let mut all = spec.annotations;
        all.extend(std::mem::take(&mut options.annotations));
        options.annotations = all;
        return indexes::create(access, &spec.target, &spec.members, &options);
    }
    let name = args.index.as_deref().ok_or_else(|| Error::usage("the index has no name"))?;
    let members = match &args.template {
        None => args.images.iter().map(|image| member(image)).collect::<Result<Vec<_>>>()?,
        Some(template) => {
            if !template.contains("ARCH") {
                return Err(Error::usage(format!("the template `{template}` has no ARCH in it")));
            }
            let of = |text: &String| -> Result<Member> {
                let stated =
                    Stated::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))?;
                Ok(Member { location: location(&stated.fill(template))?, platform: Some(stated) })
            };
            split(&args.platforms).iter().map(of).collect::<Result<Vec<_>>>()?
        }
    };
    if members.is_empty() {
        return Err(Error::usage("there is no image for the index")
            .hint("name images, or use `--template` with `--platforms`, or `--spec`"));
    }
    indexes::create(access, &location(name)?, &members, &options)
}

fn annotate(access: &Access<'_>, args: &AnnotateArgs) -> Result<crate::transfer::copy::Delivered> {
    let change = Annotate {
        which: args.entry.clone(),
        annotations: annotations(&args.annotations)?,
        platform: Stated {
            os: args.os.clone().unwrap_or_default(),
            architecture: args.arch.clone().unwrap_or_default(),
            variant: args.variant.clone(),
            os_version: args.os_version.clone(),
            os_features: args.os_features.clone(),
        },
    };
    if change.annotations.is_empty() && change.platform == Stated::default() {
        return Err(
            Error::usage("nothing is to be changed").hint("for example `--annotation KEY=VALUE`")
        );
    }
    indexes::annotate(access, &location(&args.index)?, &change)
}

fn annotations(words: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("bad annotation `{word}`: expected KEY=VALUE"))
            .hint("`KEY=` removes an annotation")),
    };
    words.iter().map(pair).collect()
}
