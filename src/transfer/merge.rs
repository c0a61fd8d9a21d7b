//! `archive merge`: the images of several archives in one docker-archive.
//!
//! In: docker-archives of any form, OCI archives and layouts, packed or not. Out: one docker-archive in the order of the
//! inputs, in which a layer that several images have is there once. Images are the same when their configs are; then they
//! become one, with the names of all. A name that means two images is an error.

use super::{file, read};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::archive::{
    self, Expect, Import, Input, Output, SaveFormat, SaveImage, SaveOptions, Select,
};
use crate::oci::layout::Layout;
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Platform, Reference};
use std::collections::BTreeMap;
use std::path::Path;

/// One input.
#[derive(Debug)]
pub struct Part {
    /// Where.
    pub input: Input,
    /// Which of its images.
    pub select: Select,
    /// As the user wrote it.
    pub shown: String,
}

struct Image {
    manifest: Descriptor,
    /// Digest of its config.
    config: String,
    names: Vec<Reference>,
}

/// Writes the archive; `-` is standard output. `tmp` is for what is unpacked on the way.
pub fn merge(
    parts: Vec<Part>,
    platform: Option<&Platform>,
    to: &Path,
    tmp: &Path,
) -> Result<Digest> {
    let dir = tempfile::tempdir_in(tmp).or_error(ErrorKind::Environment, || {
        format!("cannot make a temporary directory in `{}`", tmp.display())
    })?;
    let layout = Layout::create(dir.path().join("layout"))?;
    let mut images: Vec<Image> = Vec::new();
    // Whose a name is: the image's config, and the input that said it first.
    let mut owners: BTreeMap<Reference, (String, String)> = BTreeMap::new();
    for Part { input, select, shown } in parts {
        let request = Import { input, expect: Expect::Image, select, tmp, rootfs: None };
        for found in archive::import(request, &layout)?.images {
            let image = read::choose(&layout, &found.descriptor, platform)
                .map_err(|error| error.wrap(format!("cannot take an image from `{shown}`")))?;
            let config = image.manifest.config().digest().to_string();
            let at = images.iter().position(|known| known.config == config);
            let at = at.unwrap_or_else(|| {
                let manifest = image.descriptor.clone();
                images.push(Image { manifest, config: config.clone(), names: Vec::new() });
                images.len() - 1
            });
            for name in found.names {
                let name = Reference { digest: None, ..name };
                let owner =
                    owners.entry(name.clone()).or_insert_with(|| (config.clone(), shown.clone()));
                if owner.0 != config {
                    return Err(twice(&name, owner, (&config, &shown)));
                }
                if name.tag.is_some() && !images[at].names.contains(&name) {
                    images[at].names.push(name);
                }
            }
        }
    }
    let all: Vec<SaveImage<'_>> = images
        .iter()
        .map(|image| SaveImage { descriptor: &image.manifest, names: &image.names })
        .collect();
    let options = SaveOptions::new(SaveFormat::DockerArchive);
    file::write(to, None, tmp, |out| archive::save(&layout, &all, &options, Output::Stream(out)))
}

fn twice(name: &Reference, first: &(String, String), second: (&str, &str)) -> Error {
    let name = name.familiar();
    Error::image(format!("`{name}` means two images: of `{}` and of `{}`", first.1, second.1))
        .cause(format!("their configs are {} and {}", first.0, second.0))
        .hint(
            "choose images by name, as in `FILE:NAME`, or give one another name with `image copy`",
        )
}
