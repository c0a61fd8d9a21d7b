//! Images in files: reading every form that people have, writing each form byte for byte the same every time.
//!
//! [`import`] takes a layout directory, or a tar (packed or not, seekable or not) that is told apart by what is in it:
//! an OCI archive, a docker-archive of any age, or a root file system. It fills a [`Layout`] with verified blobs and
//! gives descriptors; names are set afterwards, so that a damaged archive never gets a name. [`save`] is the way
//! back. Layers and configs are kept bit for bit.

mod container;
mod read_docker;
mod read_oci;
mod read_rootfs;
mod read_v1;
mod save;
mod stream;
mod write_docker;
mod write_oci;

pub use read_rootfs::{LayerPacker, PackedLayer, RootFs};
pub use save::{Output, SaveFormat, SaveImage, SaveOptions, save};
pub use stream::{Produce, StreamedLayer, stream_docker};

pub(super) use container::{Container, Form};

use super::{
    blobs::Blobs,
    digest::Digest,
    layout::{Layout, Origin},
    platform::Platform,
    reference::Reference,
    spec::Descriptor,
};
use crate::error::{Error, Result};
use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

/// Where an archive is.
pub enum Input {
    /// A file or directory.
    Path(PathBuf),
    /// A stream, for example standard input.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Input {
    /// As it is named in errors.
    pub fn shown(&self) -> String {
        match self {
            Self::Path(path) => format!("`{}`", path.display()),
            Self::Stream(_) => "the standard input".to_owned(),
        }
    }
}

/// What the user said it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An image in any form.
    Image,
    /// An image in any form, or else the tar of a root file system.
    ImageOrRootFs,
    /// An OCI layout, as directory or archive.
    Oci,
    /// A docker-archive of any age.
    Docker,
    /// The tar of a root file system, even when it looks like an image.
    RootFs,
}

/// Which images of a source with several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// The only one; an error that lists the names when there are more.
    Only,
    /// The one of this tag, full name, or digest.
    Named(String),
    /// All.
    All,
}

/// What to import.
#[derive(Debug)]
pub struct Import<'a> {
    /// Where.
    pub input: Input,
    /// What the user said it is.
    pub expect: Expect,
    /// Which of its images.
    pub select: Select,
    /// A directory for unpacked copies, best in the store's `tmp`.
    pub tmp: &'a Path,
    /// How to make an image of a root file system; `None` refuses one.
    pub rootfs: Option<RootFs<'a>>,
}

/// What was imported: its blobs are in the layout, under no name yet.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// In the order of the source.
    pub images: Vec<ImportedImage>,
}

/// One imported image or index.
#[derive(Clone, Debug)]
pub struct ImportedImage {
    /// Manifest or index, without the source's annotations.
    pub descriptor: Descriptor,
    /// Full names that the source gives it.
    pub names: Vec<Reference>,
    /// Bare tag that the source gives it.
    pub tag: Option<String>,
    /// Platforms of the index whose content was not in the source.
    pub incomplete: Vec<Platform>,
}

impl ImportedImage {
    /// Who asks for one name gets that one; a digest or a number means the image with all its names.
    fn keep_name(&mut self, wanted: &str) {
        if self.names.iter().any(|name| name_matches(name, wanted)) {
            self.names.retain(|name| name_matches(name, wanted));
        }
    }
}

impl Imported {
    /// Stores the images under `wanted` (one image only) or under their own names; gives the names.
    pub fn set_names(
        &self,
        layout: &Layout,
        wanted: Option<&Reference>,
        origin: Origin,
    ) -> Result<Vec<Reference>> {
        let mut names: Vec<(&Reference, &Descriptor)> = Vec::new();
        match (wanted, &self.images[..]) {
            (Some(name), [image]) => names.push((name, &image.descriptor)),
            (Some(name), images) => {
                return Err(Error::usage(format!(
                    "{} images cannot have the one name `{}`",
                    images.len(),
                    name.familiar()
                )));
            }
            (None, images) => {
                for image in images {
                    if image.names.is_empty() {
                        return Err(Error::usage(format!(
                            "the source gives no name to {}",
                            image.descriptor.digest()
                        ))
                        .hint("`image import NAME SOURCE` gives it one; so does `image copy`, from `oci:`, `oci-archive:` or `docker-archive:`"));
                    }
                    names.extend(image.names.iter().map(|name| (name, &image.descriptor)));
                }
            }
        }
        for (name, descriptor) in &names {
            layout.set_name(name, descriptor, origin)?;
        }
        Ok(names.into_iter().map(|(name, _)| name.clone()).collect())
    }
}

/// Takes images into `layout` and gives what they are; sets no names.
pub fn import(request: Import<'_>, layout: &Layout) -> Result<Imported> {
    let shown = request.input.shown();
    let inner = || -> Result<Imported> {
        let container = Container::open(request.input, request.tmp)?;
        let form = if request.expect == Expect::RootFs { None } else { container.form()? };
        let mut images = match (form, request.expect) {
            (Some(Form::Oci), Expect::Docker) if !container.has("manifest.json") => {
                return Err(Error::image("it is an OCI layout, not a docker-archive"));
            }
            (Some(Form::Docker | Form::V1), Expect::Oci) => {
                return Err(Error::image("it is a docker-archive, not an OCI layout"));
            }
            (Some(Form::Oci), _) => read_oci::read(&container, &request.select, layout)?,
            (Some(Form::Docker), _) => read_docker::read(&container, &request.select, layout)?,
            (Some(Form::V1), _) => read_v1::read(&container, &request.select, layout)?,
            (None, Expect::RootFs | Expect::ImageOrRootFs) => {
                let rootfs = request.rootfs.ok_or_else(|| {
                    Error::usage("the tar of a root file system cannot be used here")
                        .hint("make an image of it first, with `image import`")
                })?;
                vec![read_rootfs::read(&container, &rootfs, layout)?]
            }
            (None, _) => {
                return Err(Error::image(
                    "it is no image: neither an OCI layout nor a docker-archive",
                )
                .hint("the tar of a root file system is made an image by `image import`"));
            }
        };
        if let Select::Named(wanted) = &request.select {
            for image in &mut images {
                image.keep_name(wanted);
            }
        }
        Ok(Imported { images })
    };
    inner().map_err(|error| error.wrap(format!("cannot read an image from {shown}")))
}

/// An OCI archive that is looked at where it is: only what is asked for is read.
#[derive(Debug)]
pub struct OciArchive {
    container: Container,
}

impl OciArchive {
    /// Opens an archive and gives what `select` means in it; `tmp` is for one that is packed or comes by a pipe.
    pub fn open(input: Input, select: &Select, tmp: &Path) -> Result<(Self, Descriptor)> {
        let shown = input.shown();
        let inner = || -> Result<(Self, Descriptor)> {
            let container = Container::open(input, tmp)?;
            if container.form()? != Some(Form::Oci) {
                return Err(Error::image("it is no OCI layout"));
            }
            let root = read_oci::root(&container, select)?;
            Ok((Self { container }, root))
        };
        inner().map_err(|error| error.wrap(format!("cannot read an image from {shown}")))
    }
}

impl Blobs for OciArchive {
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        Blobs::open(&self.container, digest)
    }
}

/// Splits `PATH[:NAME]` at the first colon before which there is something on disk (or at `-:`).
pub fn split_source(text: &str) -> (PathBuf, Option<String>) {
    if Path::new(text).exists() {
        return (text.into(), None);
    }
    let colons = text.match_indices(':').map(|(at, _)| at);
    let split =
        colons.into_iter().find(|at| text[..*at] == *"-" || Path::new(&text[..*at]).exists());
    match split {
        Some(at) => (text[..at].into(), Some(text[at + 1..].to_owned())),
        None => (text.into(), None),
    }
}

/// The candidates that `select` means; `names` lists what can be said to choose each of them.
fn selected<T>(
    all: Vec<T>,
    select: &Select,
    is_named: impl Fn(&T, &str) -> bool,
    names: impl Fn(&T) -> Vec<String>,
) -> Result<Vec<T>> {
    let listed = |all: &[T]| {
        let mut names: Vec<String> = all.iter().flat_map(names).collect();
        names.dedup();
        names.join(", ")
    };
    match select {
        Select::All if all.is_empty() => Err(Error::image("there is no image in it")),
        Select::All => Ok(all),
        Select::Only if all.len() == 1 => Ok(all),
        Select::Only if all.is_empty() => Err(Error::image("there is no image in it")),
        Select::Only => {
            Err(Error::usage(format!("there are {} images in it", all.len())).hint(format!(
                "choose one with `SOURCE:NAME`, or take all with `image load --all`: {}",
                listed(&all)
            )))
        }
        Select::Named(wanted) => {
            let shown = listed(&all);
            let found: Vec<T> = all.into_iter().filter(|one| is_named(one, wanted)).collect();
            match found.len() {
                1 => Ok(found),
                0 => Err(Error::image(format!("there is no image `{wanted}` in it"))
                    .hint(format!("there are: {shown}"))),
                _ => Err(Error::image(format!("`{wanted}` means several images in it"))
                    .hint(format!("there are: {shown}"))),
            }
        }
    }
}

/// True when `wanted` is this full name, in any spelling, or its tag.
fn name_matches(name: &Reference, wanted: &str) -> bool {
    name.tag.as_deref() == Some(wanted)
        || Reference::parse(wanted).is_ok_and(|wanted| wanted == *name)
}

#[cfg(test)]
mod tests;
