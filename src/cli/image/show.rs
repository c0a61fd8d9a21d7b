//! The verbs that look and print.

use super::{location, platform, print_json, template};
use crate::cli::print_data;
use crate::error::{Error, Result};
use crate::oci::spec::Descriptor;
use crate::oci::validate::{Problem, ProblemKind};
use crate::transfer::describe::{self, Description};
use crate::transfer::{Access, Location, change, check, manifests, referrers as refer};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::Path;

/// `image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Image
    pub image: String,
    /// Which platform of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print the manifest or index as it is
    #[arg(long, conflicts_with_all = ["json", "format"])]
    pub raw: bool,
    /// Print the config as it is; `--raw` may stand beside it
    #[arg(long, conflicts_with_all = ["json", "format"])]
    pub config: bool,
    /// Print JSON with manifest and config
    #[arg(long)]
    pub json: bool,
    /// Print what a template says, for example `{{.digest}}` or `{{json .config.config.Env}}`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub format: Option<String>,
}

/// `manifest inspect`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Image
    pub image: String,
    /// Only the image for this platform
    #[arg(short, long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print the manifest or index as it is
    #[arg(long, conflicts_with_all = ["detail", "json", "layout"])]
    pub raw: bool,
    /// Print digest and size of what the name leads to, then the manifest or index as it is
    #[arg(long, conflicts_with_all = ["json", "layout"])]
    pub detail: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "layout")]
    pub json: bool,
    /// Whose layout: manifest-tool 1's or 2's
    #[arg(long, value_enum, default_value = "v1")]
    pub layout: LayoutName,
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are the values")]
pub enum LayoutName {
    V1,
    V2,
}

pub(super) fn inspect(access: &Access<'_>, args: &InspectArgs) -> Result<()> {
    let location = location(&args.image)?;
    let wanted = platform(args.platform.as_deref())?;
    let found = describe::describe(access, &location, wanted.as_ref())?;
    if args.config {
        return print_data(&image_of(&found)?.config_bytes);
    }
    if args.raw {
        return match wanted {
            Some(_) => print_data(&image_of(&found)?.bytes),
            None => print_data(&found.bytes),
        };
    }
    if let Some(text) = args.format.as_ref().filter(|text| *text != "json") {
        return print_data(template::render(text, &for_templates(&found)?)?.as_bytes());
    }
    if args.json || args.format.is_some() {
        return print_json(&found.json()?);
    }
    print_data(found.text(wanted.is_some()).as_bytes())
}

fn image_of(found: &Description) -> Result<&crate::transfer::read::Image> {
    found.image.as_ref().ok_or_else(|| {
        Error::image(format!("`{}` has no image for this machine", found.name))
            .hint("choose one with `--platform`")
    })
}

/// The JSON with the short names that templates of other tools have.
fn for_templates(found: &Description) -> Result<Value> {
    let mut value = found.json()?;
    value["digest"] = found.root.digest().to_string().into();
    value["mediaType"] = found.root.media_type().to_string().into();
    if let Some(image) = &found.image {
        value["layers"] = json!(image.manifest.layers());
        let config = value["config"].clone();
        for key in ["architecture", "os", "variant", "created", "author"] {
            value[key] = config[key].clone();
        }
        for (key, member) in
            [("env", "Env"), ("labels", "Labels"), ("cmd", "Cmd"), ("entrypoint", "Entrypoint")]
        {
            value[key] = config["config"][member].clone();
        }
    }
    Ok(value)
}

pub(super) fn digest(access: &Access<'_>, image: &str, size: bool) -> Result<()> {
    let location = location(image)?;
    let text = match &location {
        Location::Registry(name) if !size => format!("{}\n", change::digest(access, name)?),
        _ => match change::digest_and_size(access, &location)? {
            (digest, bytes) if size => format!("{digest} {bytes}\n"),
            (digest, _) => format!("{digest}\n"),
        },
    };
    print_data(text.as_bytes())
}

pub(super) fn tags(access: &Access<'_>, repository: &str) -> Result<()> {
    let location = location(repository)?;
    // A colon before the last slash is that of a port.
    let last = repository.rfind('/').map_or(0, |slash| slash + 1);
    if let (Some(at), Some(_)) = (repository[last..].find([':', '@']), location.reference()) {
        let text = "is one image, and tags are those of a repository";
        return Err(Error::usage(format!("`{repository}` {text}"))
            .hint(format!("write `{}`", &repository[..last + at])));
    }
    let tags = change::tags(access, &location)?;
    let mut text = tags.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    print_data(text.as_bytes())
}

pub(super) fn referrers(
    access: &Access<'_>,
    image: &str,
    artifact_type: Option<&str>,
    as_json: bool,
) -> Result<()> {
    let found = refer::list(access, &location(image)?, artifact_type)?;
    if as_json {
        return print_json(&json!(found));
    }
    let line = |one: &Descriptor| {
        let kind = one.artifact_type().as_ref().map_or("-", |kind| kind.as_ref());
        format!("{} {} {kind}\n", one.digest(), one.size())
    };
    print_data(found.iter().map(line).collect::<String>().as_bytes())
}

pub(super) fn validate(access: &Access<'_>, source: &str) -> Result<()> {
    // A path wins over a name, since it is what is written without a transport most often.
    let location = match Path::new(source) {
        path if path.is_dir() => Location::Layout(path.to_owned(), None),
        path if path.exists() => Location::LayoutArchive(path.to_owned(), None),
        _ => location(source)?,
    };
    let mut problems = check::validate(access, &location)?;
    if matches!(location, Location::Store(_)) {
        // A pull fetches one platform of an index; what was never here is not broken.
        let (absent, wrong) = problems.into_iter().partition(|one| one.kind == ProblemKind::Absent);
        problems = wrong;
        let absent: Vec<Problem> = absent;
        for one in &absent {
            access.emitter().note(format!("not here: {one}"));
        }
    }
    if problems.is_empty() {
        return print_data(b"valid\n");
    }
    let mut error = Error::integrity(format!("`{source}` breaks {} promises", problems.len()));
    for problem in problems {
        error = error.cause(problem);
    }
    Err(error)
}

pub(super) fn list(access: &Access<'_>, args: &ListArgs) -> Result<()> {
    let location = location(&args.image)?;
    let wanted = platform(args.platform.as_deref())?;
    let opened = access.open(&location)?;
    // As manifest-tool is called: without a transport.
    let name = args.image.strip_prefix("docker://").unwrap_or(&args.image);
    let found = manifests::list(&opened, name, wanted.as_ref())?;
    if args.raw {
        return print_data(&found.bytes);
    }
    if args.detail {
        return print_data(&found.detail());
    }
    if args.json {
        return print_json(&found.json());
    }
    let text = match args.layout {
        LayoutName::V1 => found.text(),
        LayoutName::V2 => found.text_v2(),
    };
    print_data(text.as_bytes())
}
