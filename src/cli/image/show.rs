//! The verbs that look and print.

use super::args::{DiffArgs, DiffVerb, InspectArgs, LayoutName, ListArgs};
use super::need::{self, Need};
use super::{location, platform, print_json, template};
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::cli::report::Style;
use crate::error::{Error, Result};
use crate::oci::spec::Descriptor;
use crate::oci::validate::{Problem, ProblemKind};
use crate::transfer::describe::{self, Description};
use crate::transfer::{
    Access, Location, change, check, diff as differ, manifests, referrers as refer,
};
use serde_json::{Value, json};
use std::path::Path;

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

/// `nativebuild diff`.
pub(in crate::cli) fn run_diff(
    args: &DiffVerb,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let DiffArgs { a, b, .. } = &args.diff;
    let mut need = Need::of_image(a).max(Need::of_image(b));
    if args.output.is_some() {
        need = need.max(Need::Room);
    }
    let opened = need::open(need, &args.place, environment)?;
    let access = super::access(&opened.store, &args.place, environment, style)?;
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
