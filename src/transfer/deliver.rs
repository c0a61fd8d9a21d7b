//! Writing an image of a layout to a location.

use super::access::copy_blobs;
use super::{Access, Location, dir, file, read, referrers};
use crate::error::{Error, Result};
use crate::net::Pushed;
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::oci::blobs;
use crate::oci::layout::{Layout, Origin};
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Reference};
use std::path::Path;

/// What was written.
#[derive(Clone, Debug)]
pub enum Delivered {
    /// An image of this digest, or an archive whose bytes have it.
    Written(Digest),
    /// References in a registry.
    Pushed(Vec<Pushed>),
}

/// An image that is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'a> {
    pub(super) layout: &'a Layout,
    pub(super) root: &'a Descriptor,
    /// How the store remembers where it came from.
    pub(super) origin: Origin,
    /// Digest that the result must have: of an archive's bytes, else of the manifest or index.
    pub(super) expect: Option<&'a Digest>,
}

impl Access<'_> {
    /// A registry that has the blobs in one repository need not be sent them for another.
    pub(super) fn note_homes(
        &self,
        from: &Location,
        to: &Location,
        layout: &Layout,
        root: &Descriptor,
    ) -> Result<()> {
        if let (Location::Registry(from), Location::Registry(to)) = (from, to)
            && from.registry == to.registry
        {
            for blob in &blobs::reachable(layout, root)?.blobs {
                self.registry()?.note_home(from, &spec::digest_of(blob)?);
            }
        }
        Ok(())
    }

    /// Writes an image of the store that was made here.
    pub fn write(&self, root: &Descriptor, to: &Location) -> Result<Delivered> {
        let origin = Origin::Built;
        self.deliver(Parcel { layout: self.store(), root, origin, expect: None }, to)
    }

    pub(super) fn deliver(&self, parcel: Parcel<'_>, to: &Location) -> Result<Delivered> {
        let root = spec::digest_of(parcel.root)?;
        if !matches!(to, Location::LayoutArchive(..) | Location::DockerArchive(..)) {
            file::check(parcel.expect, &root)?;
        }
        match to {
            Location::Store(name) => self.store_as(parcel, name)?,
            Location::Registry(name) => return self.push(parcel, &root, name),
            Location::Dir(path) => dir::write(parcel.layout, parcel.root, path)?,
            Location::Layout(path, name) => write_layout(parcel, path, name.as_deref())?,
            Location::LayoutArchive(path, name) => {
                let options = named(SaveFormat::OciArchive, name.as_deref());
                return self.archive(parcel, path, &[], &options);
            }
            Location::DockerArchive(path, name) => {
                let name = name.as_deref().map(Reference::parse).transpose()?;
                let names: Vec<Reference> = name.into_iter().collect();
                if let Some(name) = names.iter().find(|name| name.tag.is_none()) {
                    return Err(Error::usage(format!("`{name}` has no tag for a docker-archive")));
                }
                let options = SaveOptions::new(SaveFormat::DockerArchive);
                return self.archive(parcel, path, &names, &options);
            }
        }
        Ok(Delivered::Written(root))
    }

    fn store_as(&self, parcel: Parcel<'_>, name: &Reference) -> Result<()> {
        if let Some(digest) = &name.digest
            && digest.as_str() != parcel.root.digest().as_ref()
        {
            return Err(Error::usage(
                "a name for the store cannot hold the digest of another image",
            ));
        }
        copy_blobs(parcel.layout, parcel.root, self.store())?;
        let name = Reference {
            digest: None,
            tag: name.tag.clone().or(Some("latest".into())),
            ..name.clone()
        };
        self.store().set_name(&name, parcel.root, parcel.origin)
    }

    fn push(&self, parcel: Parcel<'_>, root: &Digest, name: &Reference) -> Result<Delivered> {
        if let Some(wanted) = name.digest.as_ref().filter(|wanted| *wanted != root) {
            return Err(Error::usage(format!("`{name}` names another image"))
                .cause(format!("expected {wanted}, found {root}")));
        }
        let targets = std::slice::from_ref(name);
        let registry = self.registry()?;
        let pushed = registry.push(parcel.layout, parcel.root, targets, self.emitter())?;
        referrers::note_subject(self, parcel.layout, parcel.root, name)?;
        Ok(Delivered::Pushed(pushed))
    }

    fn archive(
        &self,
        parcel: Parcel<'_>,
        path: &Path,
        names: &[Reference],
        options: &SaveOptions<'_>,
    ) -> Result<Delivered> {
        // A form without indexes takes the image for this machine.
        let root = match options.format {
            SaveFormat::OciArchive => parcel.root.clone(),
            _ => read::choose(parcel.layout, parcel.root, None)?.descriptor,
        };
        let images = [SaveImage { descriptor: &root, names }];
        let written = file::write(path, parcel.expect, self.tmp(), |out| {
            archive::save(parcel.layout, &images, options, Output::Stream(out))
        });
        written.map(Delivered::Written)
    }
}

fn named(format: SaveFormat, name: Option<&str>) -> SaveOptions<'_> {
    SaveOptions { ref_name: name, ..SaveOptions::new(format) }
}

fn write_layout(parcel: Parcel<'_>, path: &Path, name: Option<&str>) -> Result<()> {
    let images = [SaveImage { descriptor: parcel.root, names: &[] }];
    let options = named(SaveFormat::OciDir, name);
    archive::save(parcel.layout, &images, &options, Output::Dir(path))
}
