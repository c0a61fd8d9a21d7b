//! `image index`: words → [`crate::transfer::index`].

use super::change::TypeName;
use super::show::{self, ListArgs};
use super::{location, tell};
use crate::error::{Error, ErrorKind, Result};
use crate::transfer::copy::Delivered;
use crate::transfer::index::{self as indexes, Annotate, Create, Member, Stated};
use crate::transfer::{Access, spec_file};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The verbs of `image index`.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Make an index of images
    Create(CreateArgs),
    /// Add images to an index; one for a platform that is there already takes its place
    Add {
        /// Index
        index: String,
        /// Images
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove entries from an index
    Rm {
        /// Index
        index: String,
        /// Digests or platforms
        #[arg(required = true)]
        entries: Vec<String>,
    },
    /// Change annotations of an index or of an entry, and what an entry says it is made for
    Annotate(AnnotateArgs),
    /// Show the entries of an index
    Inspect(ListArgs),
}

/// `image index create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the index; not with `--spec`
    #[arg(required_unless_present = "spec", conflicts_with = "spec")]
    pub index: Option<String>,
    /// Images
    #[arg(conflicts_with_all = ["spec", "template"])]
    pub images: Vec<String>,
    /// Name of each platform's image, with OS, ARCH and VARIANT in it: `docker://repo:tag-ARCH`
    #[arg(long, value_name = "TEMPLATE", requires = "platforms")]
    pub template: Option<String>,
    /// Platforms for the template
    #[arg(long, value_name = "OS/ARCH[/VARIANT],…", requires = "template")]
    pub platforms: Vec<String>,
    /// manifest-tool's YAML with the name, tags and images
    #[arg(long, value_name = "FILE", conflicts_with = "template")]
    pub spec: Option<PathBuf>,
    /// Leave out images that are not there
    #[arg(long)]
    pub ignore_missing: bool,
    /// Further tags for the index
    #[arg(long, value_name = "TAG,…")]
    pub tags: Vec<String>,
    /// Media type
    #[arg(long = "type", value_enum, default_value = "oci")]
    pub types: TypeName,
    /// Annotation of the index; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
}

/// `image index annotate`.
#[derive(Debug, Args)]
pub struct AnnotateArgs {
    /// Index
    pub index: String,
    /// Digest or platform of an entry [default: the index itself]
    pub entry: Option<String>,
    /// Annotation, without a value to remove it; may be repeated
    #[arg(long = "annotation", value_name = "KEY=[VALUE]")]
    pub annotations: Vec<String>,
    /// Operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// Variant
    #[arg(long)]
    pub variant: Option<String>,
    /// Version of the operating system
    #[arg(long)]
    pub os_version: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "FEATURE,…", value_delimiter = ',')]
    pub os_features: Vec<String>,
}

pub(super) fn run(access: &Access<'_>, command: IndexCommand) -> Result<()> {
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

fn create(access: &Access<'_>, args: &CreateArgs) -> Result<Delivered> {
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

fn annotate(access: &Access<'_>, args: &AnnotateArgs) -> Result<Delivered> {
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
