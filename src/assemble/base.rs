//! What the new layers stand on: the base image's layers and those that were made before, as one view.

use super::spec::{From, PlatformWish, Spec};
use super::tree::split;
use crate::build::images::{self, BaseImage};
use crate::build::store::Store;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::compress::Compression;
use crate::layers::{ImagePath, Layer};
use crate::oci::decompress::{Detected, decompressor};
use crate::oci::digest::HashingReader;
use crate::oci::spec::{Descriptor, History, ImageConfig, descriptor, digest_of};
use crate::oci::{DiffId, Digest, Platform, Reference, resolve};
use crate::transfer::flatten::{self, Files};
use crate::transfer::{Access, Choice, Location};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// Name of the description beside a layer of `--layer-only`.
pub(super) const DESCRIPTION: &str = "layer.json";

/// Longest description that is read.
const MAX_DESCRIPTION: u64 = 64 << 10;

/// The files below the new layers, whiteouts applied.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) files: Files,
    /// Names in each directory that has any.
    children: BTreeMap<ImagePath, Vec<ImagePath>>,
}

impl View {
    pub(super) fn new(files: Files) -> Self {
        let mut children: BTreeMap<ImagePath, Vec<ImagePath>> = BTreeMap::new();
        for path in files.keys() {
            children.entry(split(path).0.to_vec()).or_default().push(path.clone());
        }
        Self { files, children }
    }

    /// The paths directly below a directory.
    pub(super) fn children(&self, path: &[u8]) -> Vec<ImagePath> {
        self.children.get(path).cloned().unwrap_or_default()
    }
}

/// A layer of `--layer-only`, as it is described beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    pub(super) version: u32,
    /// Name of the file.
    pub(super) file: String,
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) diff_id: DiffId,
    /// What is in it.
    pub(super) about: String,
}

/// What an image is made on.
#[derive(Debug)]
pub(super) struct Base {
    /// Layers and config; the layers that were made before are among them.
    pub(super) image: BaseImage,
    /// Its history, with an entry for each of its layers.
    pub(super) history: Vec<History>,
    pub(super) view: Arc<View>,
    pub(super) platform: Platform,
}

/// How base images are found.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    pub(super) spec: &'a Spec,
    pub(super) dir: &'a Path,
    pub(super) store: &'a Store,
    pub(super) access: &'a Access<'a>,
    pub(super) allow_tag: bool,
    /// Time for the entries of layers that were made before.
    pub(super) created: &'a str,
}

impl Finder<'_> {
    /// Brings the base into the store, and looks at all its files.
    pub(super) fn find(&self) -> Result<Base> {
        let (mut image, history) = match &self.spec.from {
            Some(from) => self.from(from).map_err(|error| match error.place() {
                None => error.at(&self.spec.source, from.image.span),
                Some(_) => error,
            })?,
            None => (empty(), Vec::new()),
        };
        let mut history = history;
        for prebuilt in &self.spec.layers.prebuilt {
            let (layer, about) = self
                .prebuilt(&self.dir.join(&prebuilt.value))
                .map_err(|error| error.at(&self.spec.source, prebuilt.span))?;
            image.layers.push(layer);
            history.push(super::image::entry(self.created, about));
        }
        let platform = platform(&self.spec.platform, &image.config);
        let diff_ids: Vec<DiffId> =
            image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let layers: Vec<Descriptor> = image
            .layers
            .iter()
            .map(|layer| descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size))
            .collect();
        let files = flatten::files(self.store.images(), &layers, Some(&diff_ids))?;
        Ok(Base { image, history, view: Arc::new(View::new(files)), platform })
    }

    fn from(&self, from: &From) -> Result<(BaseImage, Vec<History>)> {
        let location = self.location(&from.image.value)?;
        let pinned = location.reference().is_some_and(|name| name.digest.is_some());
        if matches!(location, Location::Registry(_))
            && !pinned
            && from.digest.is_none()
            && !self.allow_tag
        {
            return Err(Error::usage("a base image in a registry needs a digest")
                .cause("what a tag means may change, and with it the image")
                .hint("add `digest: sha256:…`, or allow it with `--allow-tag`"));
        }
        let wanted = from.platform.as_ref().map(|platform| platform.value.clone());
        let root = match &location {
            Location::Store(name) => self.stored(name)?,
            Location::Registry(name) => {
                let name = match &from.digest {
                    Some(digest) => name.with_digest(digest.value.clone()),
                    None => name.clone(),
                };
                self.fetch(&Location::Registry(name), wanted.as_ref())?
            }
            other => self.fetch(other, wanted.as_ref())?,
        };
        let images = self.store.images();
        let chosen = match &wanted {
            Some(wanted) => resolve::resolve_exactly(images, &root, wanted)?,
            None => resolve::resolve(images, &root, &self.host())?,
        };
        if let Some(digest) = &from.digest {
            let found = [digest_of(&root)?, digest_of(&chosen.manifest_descriptor)?];
            if !matches!(location, Location::Registry(_)) && !found.contains(&digest.value) {
                return Err(Error::integrity("the base image has another digest")
                    .cause(format!("expected {}, found {}", digest.value, found[1]))
                    .at(&self.spec.source, digest.span));
            }
        }
        self.check_platform(&chosen.platform, from)?;
        let image = images::open(self.store, &root, &chosen.platform)?;
        let history = image.entries();
        Ok((image, history))
    }

    /// An image of the store by its name, or by its digest whatever its name.
    fn stored(&self, name: &Reference) -> Result<Descriptor> {
        let Some(digest) = &name.digest else { return Ok(self.access.stored(name)?.descriptor) };
        let images = self.store.images();
        let tagged = Reference { digest: None, ..name.clone() };
        if let Some(found) = images.find(&tagged)?
            && digest_of(&found.descriptor)? == *digest
        {
            return Ok(found.descriptor);
        }
        images.document_of(digest)?.ok_or_else(|| {
            Error::image(format!("image `{name}` is not in the store"))
                .hint("an image in a registry is written `docker://NAME`")
        })
    }

    /// What of an index is meant when nobody says: the spec's platform, else this machine's.
    fn host(&self) -> Platform {
        let mut host = Platform::host();
        let wish = &self.spec.platform;
        if let Some(architecture) = &wish.architecture {
            host.architecture.clone_from(architecture);
            host.variant = wish.variant.clone().unwrap_or_default();
        }
        if let Some(os) = &wish.os {
            host.os.clone_from(os);
        }
        host
    }

    fn check_platform(&self, found: &Platform, from: &From) -> Result<()> {
        let wish = &self.spec.platform;
        let other = |wish: &Option<String>, found: &str| {
            wish.as_ref().is_some_and(|wish| !found.is_empty() && wish != found)
        };
        if other(&wish.architecture, &found.architecture) || other(&wish.os, &found.os) {
            let os = wish.os.as_deref().unwrap_or(&found.os);
            let architecture = wish.architecture.as_deref().unwrap_or(&found.architecture);
            let message = format!("the base image is not made for `{os}/{architecture}`");
            return Err(Error::image(message)
                .cause(format!("it is made for `{found}`"))
                .hint("`from.platform` chooses another image of an index")
                .at(&self.spec.source, from.image.span));
        }
        Ok(())
    }

    fn fetch(&self, location: &Location, wanted: Option<&Platform>) -> Result<Descriptor> {
        let choice = wanted.map_or(Choice::Here, |platform| Choice::One(platform.clone()));
        Ok(self.access.fetch(location, &choice, Some(self.store.images()))?.root)
    }

    /// A location whose path is one of the spec's; `#NAME` behind it is the same as `:NAME`.
    fn location(&self, text: &str) -> Result<Location> {
        let (text, name) = match text.rsplit_once('#') {
            Some((text, name)) if !text.is_empty() => (text, Some(name.to_owned())),
            _ => (text, None),
        };
        let location = Location::parse(text)?;
        let at = |path: std::path::PathBuf| self.dir.join(path);
        let named = |own: Option<String>| name.clone().or(own);
        Ok(match location {
            Location::Layout(path, own) => Location::Layout(at(path), named(own)),
            Location::LayoutArchive(path, own) => Location::LayoutArchive(at(path), named(own)),
            Location::DockerArchive(path, own) => Location::DockerArchive(at(path), named(own)),
            Location::Dir(path) => Location::Dir(at(path)),
            other if name.is_some() => {
                return Err(Error::usage(format!("`{other}` holds one image"))
                    .hint("`#NAME` chooses an image of an archive or a layout"));
            }
            other => other,
        })
    }

    /// A layer that `--layer-only` made, checked and brought into the store.
    fn prebuilt(&self, dir: &Path) -> Result<(Layer, String)> {
        let file = dir.join(DESCRIPTION);
        let what = || format!("cannot read the layer `{}`", dir.display());
        let mut text = Vec::new();
        let described = regular(&file).or_error(ErrorKind::Context, what)?;
        described
            .take(MAX_DESCRIPTION)
            .read_to_end(&mut text)
            .or_error(ErrorKind::Context, what)?;
        let told: Described = serde_json::from_slice(&text).map_err(|error| {
            Error::integrity(format!("`{}` is no description of a layer", file.display()))
                .cause(error)
        })?;
        let plain = Path::new(&told.file).components().count() == 1;
        if told.version != 1 {
            return Err(Error::integrity(format!("`{}` is of an unknown version", file.display())));
        }
        if !plain {
            return Err(Error::integrity(what())
                .cause(format!("its `file` is `{}`, which is no name beside it", told.file)));
        }
        let mut blob = self.store.images().blob_writer()?;
        let from = regular(&dir.join(&told.file)).or_error(ErrorKind::Context, what)?;
        let mut from = from.take(told.size.saturating_add(1));
        std::io::copy(&mut from, &mut blob).or_error(ErrorKind::Environment, what)?;
        if blob.size() != told.size {
            return Err(Error::integrity(what()).cause(format!(
                "expected {} bytes, found {}{}",
                told.size,
                blob.size(),
                if blob.size() > told.size { " or more" } else { "" }
            )));
        }
        blob.commit(&told.digest).map_err(|error| error.wrap(what()))?;
        let file = File::open(self.store.images().blob_path(&told.digest))
            .or_error(ErrorKind::Environment, what)?;
        let (detected, plain) = decompressor(BufReader::new(file))?;
        check_packing(detected, &told.media_type).map_err(|error| error.wrap(what()))?;
        let mut plain = HashingReader::new(plain);
        std::io::copy(&mut plain, &mut std::io::sink()).or_error(ErrorKind::Integrity, what)?;
        let found = plain.finish();
        if found != told.diff_id.0 {
            return Err(Error::integrity(what()).cause(format!(
                "its content has the wrong digest: expected {}, found {found}",
                told.diff_id
            )));
        }
        let Described { media_type, digest, size, diff_id, about, .. } = told;
        Ok((Layer { digest, size, diff_id, media_type }, about))
    }
}

/// A layer must be packed as its media type says, or nobody can unpack it.
fn check_packing(found: Detected, said: &str) -> Result<()> {
    let found = match found {
        Detected::Plain => Compression::None,
        Detected::Gzip => Compression::default(),
        Detected::Zstd => Compression::Zstd { level: 3 },
        Detected::Bzip2 | Detected::Xz => {
            return Err(Error::integrity("no layer is packed with bzip2 or xz"));
        }
    };
    if found.media_type() != said {
        return Err(Error::integrity(format!(
            "it is said to be `{said}`, and is `{}`",
            found.media_type()
        )));
    }
    Ok(())
}

/// Opens a file, and nothing that one would wait for.
fn regular(path: &Path) -> std::io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other(format!("`{}` is no regular file", path.display())));
    }
    File::open(path)
}

fn empty() -> BaseImage {
    BaseImage::new(Digest::of(b""), ImageConfig::default(), Vec::new())
}

/// What the image is for: the spec's word, the base's, this machine.
fn platform(wish: &PlatformWish, base: &ImageConfig) -> Platform {
    let known = Platform::of_config(base);
    let host = Platform::host();
    let known = if known.architecture.is_empty() { host } else { known };
    let architecture = wish.architecture.clone().unwrap_or_else(|| known.architecture.clone());
    let variant = match &wish.variant {
        Some(variant) => variant.clone(),
        None if architecture == known.architecture => known.variant.clone(),
        None => String::new(),
    };
    let os = wish.os.clone().unwrap_or_else(|| known.os.clone());
    Platform { os, os_version: known.os_version, architecture, variant }
}
