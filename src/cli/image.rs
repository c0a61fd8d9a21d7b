//! `nativebuild image`: import, load, ls, inspect, save, export, rm, validate (design §10.2).

use super::args::{Format, ImageArgs, ImageCommand};
use super::environment::Environment;
use super::report::Style;
use super::{du, prefetch, print_data};
use crate::build::images;
use crate::build::output;
use crate::build::packer::Packer;
use crate::build::store::Store;
use crate::build::tree;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::emulation::Places;
use crate::oci::archive::{self, Expect, Import, Imported, Input, RootFs, SaveFormat, Select};
use crate::oci::layout::{NamedImage, Origin};
use crate::oci::resolve::{self, ResolvedImage};
use crate::oci::{Platform, Reference, merge, validate};
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(args: ImageArgs, environment: &Environment, style: Style) -> Result<()> {
    let store = Arc::new(Store::open(&environment.store(args.root.as_ref())?)?);
    match args.command {
        ImageCommand::Import { name, source, platform, add } => {
            import(&store, &name, &source, platform.as_deref(), add)
        }
        ImageCommand::Load { source, all } => match prefetch::load(&store, &source, style)? {
            Some(()) => Ok(()),
            None => load(&store, &source, all),
        },
        ImageCommand::Prefetch(args) => prefetch::run(&args, &store, environment, style),
        ImageCommand::Du(args) => du::run(args, &store, environment),
        ImageCommand::Ls { json } => list(&store, json),
        ImageCommand::Inspect { name, platform, raw } => {
            inspect(&store, &name, platform.as_deref(), raw)
        }
        ImageCommand::Save { name, output, format, platform } => {
            save(&store, &name, &output, format, platform.as_deref())
        }
        ImageCommand::Export { name, output, directory, platform } => {
            let image = find(&store, &name)?;
            let chosen = choose(&store, &image, platform.as_deref())?.platform;
            export(&store, &image, &chosen, &output, directory, environment)
        }
        ImageCommand::Rm { names } => {
            for name in names {
                let image = find(&store, &name)?;
                store.images().remove_name(&image.name)?;
            }
            Ok(())
        }
        ImageCommand::Validate { source } => check(&store, &source),
    }
}

fn parse_platform(text: &str) -> Result<Platform> {
    Platform::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))
}

fn reference(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|error| error.with_kind(ErrorKind::Usage))
}

fn find(store: &Store, name: &str) -> Result<NamedImage> {
    let wanted = reference(name)?;
    if let Some(image) = store.images().find(&wanted)? {
        return Ok(image);
    }
    let names = store.images().names()?;
    let known: Vec<String> =
        names.iter().take(8).map(|image| format!("`{}`", image.name.familiar())).collect();
    let error = Error::image(format!("image `{name}` is not in the store"));
    Err(if known.is_empty() {
        error.hint("the store is empty; `nativebuild image import NAME SOURCE` brings an image in")
    } else {
        error.hint(format!("the store has {}", known.join(", ")))
    })
}

fn import(
    store: &Store,
    name: &str,
    source: &str,
    platform: Option<&str>,
    add: bool,
) -> Result<()> {
    let name = reference(name)?;
    if name.digest.is_some() {
        return Err(Error::usage("a name for the store cannot hold a digest"));
    }
    let rootfs = RootFs {
        platform: platform.map_or_else(|| Ok(Platform::host()), parse_platform)?,
        created: None,
        packer: &Packer,
    };
    let imported = take(store, source, Select::Only, Expect::ImageOrRootFs, Some(rootfs))?;
    let [image] = &imported.images[..] else {
        return Err(Error::image(format!("`{source}` does not hold exactly one image")));
    };
    let old = if add { store.images().find(&name)? } else { None };
    let descriptor = match old {
        Some(old) => merge::platforms(store.images(), &old.descriptor, &image.descriptor)?,
        None => image.descriptor.clone(),
    };
    store.images().set_name(&name, &descriptor, Origin::Imported)?;
    print_data(format!("{}\n", descriptor.digest()).as_bytes())
}

fn take(
    store: &Store,
    source: &str,
    otherwise: Select,
    expect: Expect,
    rootfs: Option<RootFs<'_>>,
) -> Result<Imported> {
    let (path, tag) = archive::split_source(source);
    let input = if path == Path::new("-") {
        Input::Stream(Box::new(std::io::stdin()))
    } else {
        Input::Path(path)
    };
    let select = tag.map_or(otherwise, Select::Named);
    let tmp = store.sub("tmp");
    archive::import(Import { input, expect, select, tmp: &tmp, rootfs }, store.images())
}

fn load(store: &Store, source: &str, all: bool) -> Result<()> {
    let select = if all { Select::All } else { Select::Only };
    let imported = take(store, source, select, Expect::Image, None)?;
    imported.set_names(store.images(), None, Origin::Imported)?;
    let mut text = String::new();
    for image in &imported.images {
        for name in &image.names {
            text.push_str(&format!("{} {name}\n", image.descriptor.digest()));
        }
    }
    print_data(text.as_bytes())
}

fn list(store: &Store, json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for image in store.images().names()? {
        let platforms = resolve::platforms(store.images(), &image.descriptor).unwrap_or_default();
        rows.push((image, platforms));
    }
    if json {
        let values: Vec<serde_json::Value> = rows
            .iter()
            .map(|(image, platforms)| {
                serde_json::json!({
                    "name": image.name.to_string(),
                    "digest": image.descriptor.digest().to_string(),
                    "media_type": image.descriptor.media_type().to_string(),
                    "origin": image.origin.to_string(),
                    "platforms": platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        let text = serde_json::to_string_pretty(&values)
            .map_err(|error| Error::internal("JSON of the list").cause(error))?;
        return print_data((text + "\n").as_bytes());
    }
    let mut table = vec![["NAME", "DIGEST", "ORIGIN", "PLATFORMS"].map(str::to_owned)];
    for (image, platforms) in &rows {
        let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let digest = image.descriptor.digest().to_string();
        table.push([
            image.name.familiar(),
            digest.chars().take(19).collect(),
            image.origin.to_string(),
            platforms.join(","),
        ]);
    }
    print_data(aligned(&table).as_bytes())
}

fn aligned(table: &[[String; 4]]) -> String {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The image of a platform: of the one that the user named, else this machine's; a manifest without an index is taken as it is then.
fn choose(store: &Store, image: &NamedImage, platform: Option<&str>) -> Result<ResolvedImage> {
    match platform {
        Some(text) => {
            resolve::resolve_exactly(store.images(), &image.descriptor, &parse_platform(text)?)
        }
        None => resolve::resolve(store.images(), &image.descriptor, &Platform::host()),
    }
}

fn inspect(store: &Store, name: &str, platform: Option<&str>, raw: bool) -> Result<()> {
    let image = find(store, name)?;
    if raw {
        return print_data(&store.images().read_blob_small(&image.descriptor)?);
    }
    let found = choose(store, &image, platform)?;
    let value = serde_json::json!({
        "name": image.name.to_string(),
        "origin": image.origin.to_string(),
        "descriptor": image.descriptor,
        "platforms": resolve::platforms(store.images(), &image.descriptor)?
            .iter().map(ToString::to_string).collect::<Vec<_>>(),
        "manifest_digest": found.manifest_descriptor.digest().to_string(),
        "manifest": found.manifest,
        "config": found.config,
    });
    let text = serde_json::to_string_pretty(&value)
        .map_err(|error| Error::internal("JSON of the image").cause(error))?;
    print_data((text + "\n").as_bytes())
}

fn save(
    store: &Store,
    name: &str,
    path: &Path,
    format: Format,
    platform: Option<&str>,
) -> Result<()> {
    let image = find(store, name)?;
    let format = match format {
        Format::Oci => SaveFormat::OciDir,
        Format::OciArchive => SaveFormat::OciArchive,
        Format::DockerArchive => SaveFormat::DockerArchive,
        Format::DockerArchiveV1 => SaveFormat::DockerArchiveV1,
        Format::DockerArchiveFlat => SaveFormat::DockerArchiveFlat,
    };
    let one = matches!(
        format,
        SaveFormat::DockerArchive | SaveFormat::DockerArchiveV1 | SaveFormat::DockerArchiveFlat
    );
    let descriptor = if platform.is_some() || one {
        choose(store, &image, platform)?.manifest_descriptor
    } else {
        image.descriptor.clone()
    };
    let path = (path != Path::new("-")).then_some(path);
    output::save(store, &descriptor, std::slice::from_ref(&image.name), format, path)
}

fn export(
    store: &Arc<Store>,
    image: &NamedImage,
    platform: &Platform,
    path: &Path,
    directory: bool,
    environment: &Environment,
) -> Result<()> {
    let base = images::open(store, &image.descriptor, platform)?;
    let worker = Worker::enter(store, &environment.account(None), &Places::default())?;
    let tree = tree::of_image(store, &base, &worker)?;
    let path = (path != Path::new("-")).then_some(path);
    output::write_tree(&worker, tree.as_ref(), path, directory, None)
}

fn check(store: &Store, source: &str) -> Result<()> {
    let problems = if Path::new(source).exists() {
        validate::validate_source(Path::new(source), &store.sub("tmp"))?
    } else {
        validate::validate(store.images(), &find(store, source)?.descriptor)?
    };
    if problems.is_empty() {
        return print_data(b"valid\n");
    }
    let mut error = Error::integrity(format!("`{source}` breaks {} promises", problems.len()));
    for problem in problems {
        error = error.cause(problem);
    }
    Err(error)
}
