//! The `dir:` form: one image as plain files. `manifest.json` is its manifest or index, `<hex>` a blob, and
//! `<hex>.manifest.json` a manifest that the index names.
//!
//! Files are found by digest only and verified on reading; pipes and devices count as missing. A new directory gets its
//! name when it is whole.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use crate::oci::blobs::{Blobs, DOCUMENT_LIMIT, reachable};
use crate::oci::digest::VerifyingReader;
use crate::oci::layout::Layout;
use crate::oci::media;
use crate::oci::spec::{self, Descriptor};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const VERSION: &str = "Directory Transport Version: 1.1\n";
const BUFFER: usize = 128 << 10;

/// An image in a directory.
#[derive(Debug)]
pub(super) struct DirImage {
    path: PathBuf,
    /// Digest of `manifest.json`.
    root: Digest,
}

impl DirImage {
    /// Opens a directory and gives the image in it.
    pub(super) fn open(path: &Path) -> Result<(Self, Descriptor)> {
        let mut image = Self { path: path.to_owned(), root: Digest::of(b"") };
        let shown = || format!("`{}` is no image of the `dir:` form", path.display());
        if let Some((mut file, _)) = image.file("version")? {
            let mut text = String::new();
            file.by_ref().take(1024).read_to_string(&mut text).or_error(ErrorKind::Image, shown)?;
            if !text.starts_with("Directory Transport Version: 1.") {
                return Err(Error::image(shown()).cause(format!(
                    "wrong version: expected `{}`, found `{}`",
                    VERSION.trim_end(),
                    text.trim_end().escape_debug()
                )));
            }
        }
        let (file, size) = image
            .file("manifest.json")?
            .ok_or_else(|| Error::image(shown()).cause("there is no file `manifest.json` in it"))?;
        if size > DOCUMENT_LIMIT {
            return Err(Error::integrity(format!(
                "`manifest.json` has {size} bytes, more than the {DOCUMENT_LIMIT} that are allowed"
            )));
        }
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).or_error(ErrorKind::Image, shown)?;
        image.root = Digest::of(&bytes);
        let media_type = super::read::media_type_of(&bytes)?;
        let root = spec::descriptor(media_type.as_str().into(), &image.root, bytes.len() as u64);
        Ok((image, root))
    }

    fn file(&self, name: &str) -> Result<Option<(File, u64)>> {
        let path = self.path.join(name);
        // Pipes and devices would hang or lie.
        let Some(metadata) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else {
            return Ok(None);
        };
        let file = File::open(&path)
            .or_error(ErrorKind::Image, || format!("cannot open `{}`", path.display()))?;
        Ok(Some((file, metadata.len())))
    }
}

impl Blobs for DirImage {
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        let hex = digest.hex();
        for name in [hex.to_owned(), format!("{hex}.manifest.json")] {
            if let Some((file, size)) = self.file(&name)? {
                return Ok(Some((Box::new(file), size)));
            }
        }
        if *digest != self.root {
            return Ok(None);
        }
        let file = self.file("manifest.json")?;
        Ok(file.map(|(file, size)| (Box::new(file) as Box<dyn Read + Send>, size)))
    }
}

/// Writes an image as a directory; what was an image there before is replaced, anything else is refused.
pub(super) fn write(layout: &Layout, root: &Descriptor, path: &Path) -> Result<()> {
    let fail = || format!("cannot write `{}`", path.display());
    let there = fs::read_dir(path);
    let occupied = match there {
        Ok(mut entries) => entries.next().is_some() && !path.join("version").is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).or_error(ErrorKind::Environment, fail),
    };
    if occupied {
        return Err(Error::image(fail())
            .cause("the directory has content that is no image of the `dir:` form")
            .hint("choose a new or empty directory"));
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).or_error(ErrorKind::Environment, fail)?;
    let new = tempfile::Builder::new()
        .prefix(".nativebuild-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(parent)
        .or_error(ErrorKind::Environment, fail)?;
    fill(layout, root, new.path())?;
    let old = tempfile::Builder::new()
        .prefix(".nativebuild-")
        .tempdir_in(parent)
        .or_error(ErrorKind::Environment, fail)?;
    let before = old.path().join("old");
    let replaces = path.exists();
    if replaces {
        fs::rename(path, &before).or_error(ErrorKind::Environment, fail)?;
    }
    let named = fs::rename(new.path(), path).or_error(ErrorKind::Environment, fail);
    if named.is_err() && replaces {
        // What was there stays there.
        fs::rename(&before, path).or_error(ErrorKind::Environment, fail)?;
    }
    named
}

fn fill(layout: &Layout, root: &Descriptor, into: &Path) -> Result<()> {
    let found = reachable(layout, root)?;
    found.require_one_complete()?;
    for blob in &found.blobs {
        let digest = spec::digest_of(blob)?;
        let is_document = media::kind_of(blob.media_type().as_ref()).is_some();
        let name = match is_document {
            _ if blob.digest() == root.digest() => "manifest.json".to_owned(),
            true => format!("{}.manifest.json", digest.hex()),
            false => digest.hex().to_owned(),
        };
        let fail = || format!("cannot write `{name}`");
        let (reader, _) = layout.open(&digest)?.ok_or_else(|| crate::oci::blobs::missing(blob))?;
        let reader = VerifyingReader::new(reader, digest.clone(), blob.size());
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        let mut file = File::create_new(into.join(&name)).or_error(ErrorKind::Environment, fail)?;
        io::copy(&mut reader, &mut file).or_error(ErrorKind::Environment, fail)?;
    }
    fs::write(into.join("version"), VERSION)
        .or_error(ErrorKind::Environment, || "cannot write `version`".to_owned())
}
