//! The verbs that stay within the store and files: import, load, ls, save.

use super::{parse_platform, reference};
use crate::build::output;
use crate::build::packer::Packer;
use crate::build::store::Store;
use crate::cli::print_data;
use crate::error::{Error, Result};
use crate::oci::archive::{self, Expect, Import, Imported, Input, RootFs, SaveFormat, Select};
use crate::oci::layout::{NamedImage, Origin};
use crate::oci::resolve::{self, ResolvedImage};
use crate::oci::{Platform, merge};
use clap::ValueEnum;
use std::path::Path;

/// `--format` of `image save`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// OCI layout as a directory
    Oci,
    /// OCI layout as a tar
    OciArchive,
    /// What `docker save` writes today
    DockerArchive,
    /// The older form with a directory for each layer
    DockerArchiveV1,
    /// Flat blobs, as dockerTools once wrote them
    DockerArchiveFlat,
}

pub(super) fn import(
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

pub(super) fn load(store: &Store, source: &str, all: bool) -> Result<()> {
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

pub(super) fn list(store: &Store, json: bool) -> Result<()> {
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

pub(super) fn save(
    store: &Store,
    image: &NamedImage,
    path: &Path,
    format: Format,
    platform: Option<&str>,
) -> Result<()> {
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
        choose(store, image, platform)?.manifest_descriptor
    } else {
        image.descriptor.clone()
    };
    let path = (path != Path::new("-")).then_some(path);
    output::save(store, &descriptor, std::slice::from_ref(&image.name), format, path)
}
