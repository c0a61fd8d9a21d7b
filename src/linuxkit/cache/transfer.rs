//! Images on their way out of the cache and into it: to a build, to files, from files (linuxkit.md §4.5, §5.4).
//!
//! A root file system needs a build's isolation to be unpacked: lend the image to the store and take it from there.

use super::{Listed, PkgCache, canonical, lookup, names};
use crate::{
    build::output,
    error::{Error, ErrorKind, Result},
    oci::{
        Digest, Platform, Reference,
        archive::{self, Expect, Import, Input, SaveFormat, Select},
        layout::{Check, Layout},
        media,
        resolve::{self, ResolvedImage},
        spec::{self, Descriptor},
    },
};
use std::path::Path;

/// Form of a file that an image is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// An OCI archive.
    Oci,
    /// What `docker load` reads.
    Docker,
}

/// What an import brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Brought {
    /// Names that were set, in the order of the source.
    pub named: Vec<Listed>,
    /// Images whose name the source does not say: only their blobs are here.
    pub unnamed: Vec<Digest>,
}

impl PkgCache {
    /// Gives the image of one platform behind a root entry to a layout, and says what its manifest is there. Nothing
    /// when the image is not here as a whole.
    pub fn lend(
        &self,
        to: &Layout,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Result<Option<Descriptor>> {
        let Some(image) = lookup::complete(&self.layout, descriptor, platform)? else {
            return Ok(None);
        };
        let layers = image.layers.iter();
        let layers = layers.filter(|layer| self.layout.has(layer) || !media::is_foreign(layer));
        let documents = [image.manifest.config(), &image.manifest_descriptor];
        for blob in layers.chain(documents) {
            // Others write here, so nothing is believed.
            to.take_blob(&self.layout, blob, Check::Content).map_err(|error| {
                match error.kind() {
                    ErrorKind::Integrity => error
                        .wrap("an image in the LinuxKit cache is damaged")
                        .hint("remove it from the cache, then build or pull it again"),
                    _ => error,
                }
            })?;
        }
        Ok(Some(image.manifest_descriptor))
    }

    /// The same by the name that a Dockerfile says.
    pub fn lend_named(
        &self,
        to: &Layout,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Descriptor>> {
        for name in names::spellings(reference) {
            let lent = self.settled(&name, |root| match root {
                Some(root) => self.lend(to, root, platform),
                None => Ok(None),
            })?;
            if lent.is_some() {
                return Ok(lent);
            }
        }
        Ok(None)
    }

    /// The image of a platform, for a user who named it: short names are expanded, absence is an error.
    pub fn image_named(&self, name: &str, platform: &Platform) -> Result<ResolvedImage> {
        let full = canonical(name);
        if let Some(image) = self.image(&full, platform)? {
            return Ok(image);
        }
        let Some(root) = self.find(&full)? else { return Err(self.unknown(name)) };
        let mut error =
            Error::image(format!("the cache has no complete image `{name}` for {platform}"));
        let known = resolve::platforms(&self.layout, &root).unwrap_or_default();
        if !known.is_empty() {
            let shown: Vec<String> = known.iter().map(Platform::to_string).collect();
            error = error.hint(format!("its index names {}", shown.join(", ")));
        }
        Err(error)
    }

    /// Writes the image of one platform to a file, or to standard output, under its own name or another.
    pub fn export(
        &self,
        name: &str,
        platform: &Platform,
        format: ExportFormat,
        rename: Option<&str>,
        out: Option<&Path>,
    ) -> Result<()> {
        let shown = Reference::parse(&canonical(rename.unwrap_or(name)))?;
        let image = self.image_named(name, platform)?;
        let format = match format {
            ExportFormat::Oci => SaveFormat::OciArchive,
            ExportFormat::Docker => SaveFormat::DockerArchive,
        };
        output::save_from(&self.layout, &image.manifest_descriptor, &[shown], format, out)
    }

    /// Takes in the images of an archive or layout, each under the full names that it has there.
    pub fn import(&self, input: Input) -> Result<Brought> {
        let writer = self.writer()?;
        let (expect, select, tmp) = (Expect::Image, Select::All, self.layout.root());
        let request = Import { input, expect, select, tmp, rootfs: None };
        let imported = archive::import(request, &self.layout)?;
        let mut brought = Brought::default();
        let mut set = Vec::new();
        for image in &imported.images {
            if image.names.is_empty() {
                brought.unnamed.push(spec::digest_of(&image.descriptor)?);
            }
            for name in &image.names {
                let (name, digest) = (name.to_string(), image.descriptor.digest().to_string());
                set.push((name.clone(), image.descriptor.clone()));
                brought.named.push(Listed { name, digest });
            }
        }
        writer.set(&set)?;
        Ok(brought)
    }
}
