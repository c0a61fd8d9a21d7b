//! Re-reads an image and checks every promise that it makes.
//!
//! Digests and sizes of all blobs, media types, index → manifest → config → layers, platforms, diff_ids, history
//! against layers, and whether each layer is a tar that can be unpacked safely. All mismatches are collected, each
//! with both sides; only what hinders reading at all is an error.

mod layer;

use super::{
    archive::{self, Container, Expect, Form, Import, Input, Select},
    blobs::{self, Blobs, DOCUMENT_LIMIT, Parsed, parse},
    decompress::{self, Detected},
    digest::{DiffId, Digest, HashingWriter},
    layout::Layout,
    media::{self, Packing},
    platform::Platform,
    spec::{self, Descriptor, ImageConfig, ImageIndex, ImageManifest},
};
use crate::error::{Error, Result};
use layer::Layers;
use std::{
    collections::HashSet,
    fmt,
    io::{self, BufReader, Read},
    path::Path,
};

/// What sort of mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Something that is there is wrong.
    Wrong,
    /// Content of a platform of an index is not here; normal where only one platform was copied.
    Absent,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, for example `layer 2 of sha256:…`.
    pub place: String,
    /// What, with both sides.
    pub message: String,
    /// What sort.
    pub kind: ProblemKind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Checks everything behind a descriptor in a layout.
pub fn validate(layout: &Layout, descriptor: &Descriptor) -> Result<Vec<Problem>> {
    let mut check = Check::new(layout);
    check.tree(descriptor, 0);
    Ok(check.problems)
}

/// Checks everything behind a descriptor, wherever its blobs are.
pub fn validate_in(blobs: &dyn Blobs, descriptor: &Descriptor) -> Vec<Problem> {
    let mut check = Check::new(blobs);
    check.tree(descriptor, 0);
    check.problems
}

/// Checks all images in a layout directory, an OCI archive or a docker-archive; `tmp` is for unpacked copies.
pub fn validate_source(path: &Path, tmp: &Path) -> Result<Vec<Problem>> {
    let container = Container::open(Input::Path(path.to_owned()), tmp)?;
    match container.form()? {
        Some(Form::Oci) => Ok(validate_oci(&container)),
        Some(_) => validate_docker(path, tmp),
        None => Err(Error::image(format!(
            "`{}` is no image: neither an OCI layout nor a docker-archive",
            path.display()
        ))),
    }
}

fn validate_oci(container: &Container) -> Vec<Problem> {
    let mut check = Check::new(container);
    match container.json::<serde_json::Value>("oci-layout") {
        Ok(value) if value.get("imageLayoutVersion") == Some(&"1.0.0".into()) => {}
        Ok(value) => check.wrong(
            "oci-layout",
            format!("wrong version: expected `imageLayoutVersion` 1.0.0, found `{value}`"),
        ),
        Err(error) => check.wrong("oci-layout", error.to_string()),
    }
    match container.json::<ImageIndex>("index.json") {
        Ok(index) => {
            check.schema_version("index.json", index.schema_version());
            for descriptor in index.manifests() {
                check.tree(descriptor, 0);
            }
        }
        Err(error) => check.wrong("index.json", error.to_string()),
    }
    check.problems
}

/// A docker-archive makes few promises; the import checks them, the rest is checked on what it makes.
fn validate_docker(path: &Path, tmp: &Path) -> Result<Vec<Problem>> {
    let dir = tempfile::tempdir_in(tmp)
        .map_err(|error| Error::environment("cannot make a temporary directory").cause(error))?;
    let layout = Layout::create(dir.path())?;
    let request = Import {
        input: Input::Path(path.to_owned()),
        expect: Expect::Docker,
        select: Select::All,
        tmp,
        rootfs: None,
    };
    let imported = match archive::import(request, &layout) {
        Ok(imported) => imported,
        Err(error) => {
            return Ok(vec![Problem {
                place: format!("`{}`", path.display()),
                message: error.to_string(),
                kind: ProblemKind::Wrong,
            }]);
        }
    };
    let mut check = Check::new(&layout);
    for image in &imported.images {
        check.tree(&image.descriptor, 0);
    }
    Ok(check.problems)
}

struct Check<'a> {
    blobs: &'a dyn Blobs,
    problems: Vec<Problem>,
    /// Documents that were checked: several names may mean one image.
    seen: HashSet<String>,
    /// What an absent blob of the present document is: an index may be there without all its platforms.
    if_absent: ProblemKind,
}

impl<'a> Check<'a> {
    fn new(blobs: &'a dyn Blobs) -> Self {
        Self { blobs, problems: Vec::new(), seen: HashSet::new(), if_absent: ProblemKind::Wrong }
    }

    fn wrong(&mut self, place: impl Into<String>, message: impl Into<String>) {
        let (place, message) = (place.into(), message.into());
        self.problems.push(Problem { place, message, kind: ProblemKind::Wrong });
    }

    fn tree(&mut self, descriptor: &Descriptor, depth: usize) {
        let place = descriptor.digest().to_string();
        if !self.seen.insert(format!("{} {place}", descriptor.media_type())) {
            return;
        }
        if depth > 8 {
            return self.wrong(place, "indexes are nested deeper than 8");
        }
        self.if_absent = if depth == 0 { ProblemKind::Wrong } else { ProblemKind::Absent };
        let Some(bytes) = self.document(&place, descriptor) else { return };
        if media::kind_of(descriptor.media_type().as_ref()).is_none() {
            self.wrong(
                place.as_str(),
                format!("`{}` is no media type of a manifest or index", descriptor.media_type()),
            );
        }
        match parse(descriptor, &bytes) {
            Ok(Parsed::Index(index)) => self.index(&place, descriptor, &index, depth),
            Ok(Parsed::Manifest(manifest)) => self.manifest(&place, descriptor, &manifest),
            Err(error) => self.wrong(place, error.to_string()),
        }
    }

    fn index(&mut self, place: &str, descriptor: &Descriptor, index: &ImageIndex, depth: usize) {
        self.schema_version(place, index.schema_version());
        for child in index.manifests() {
            self.tree(child, depth + 1);
        }
        // An index without some of its platforms is normal, one without any is not.
        if depth == 0
            && let Ok(found) = blobs::reachable(self.blobs, descriptor)
            && let Err(error) = found.require_one_complete()
        {
            self.wrong(place, format!("none of its platforms is complete: {error}"));
        }
    }

    fn manifest(&mut self, place: &str, descriptor: &Descriptor, manifest: &ImageManifest) {
        self.schema_version(place, manifest.schema_version());
        let config_place = format!("config of {place}");
        if !media::is_image_config(manifest.config().media_type())
            || media::is_attestation(descriptor)
        {
            // Some other artifact: only its blobs can be checked.
            self.blob(&config_place, manifest.config());
            for (at, layer) in manifest.layers().iter().enumerate() {
                self.blob(&format!("layer {} of {place}", at + 1), layer);
            }
            return;
        }
        let config =
            self.document(&config_place, manifest.config()).and_then(
                |bytes| match spec::from_json::<ImageConfig>("it", &bytes) {
                    Ok(config) => Some(config),
                    Err(error) => {
                        self.wrong(config_place.as_str(), error.to_string());
                        None
                    }
                },
            );
        if let Some(config) = &config {
            self.config(&config_place, config, descriptor, manifest.layers().len());
        }
        let diff_ids = config.map(|config| config.rootfs.diff_ids).unwrap_or_default();
        let mut layers = Layers::default();
        for (at, layer) in manifest.layers().iter().enumerate() {
            let layer_place = format!("layer {} of {place}", at + 1);
            self.layer(&layer_place, layer, diff_ids.get(at), &mut layers);
        }
    }

    fn config(
        &mut self,
        place: &str,
        config: &ImageConfig,
        descriptor: &Descriptor,
        layers: usize,
    ) {
        for (member, value) in [("os", &config.os), ("architecture", &config.architecture)] {
            if value.is_empty() {
                self.wrong(place, format!("it has no `{member}`"));
            }
        }
        let own = Platform::of_config(config);
        if let Some(said) = Platform::of_descriptor(descriptor) {
            // A config may leave the variant out (many of Docker's arm images do).
            let own = match config.variant {
                Some(_) => own.clone(),
                None => Platform::new(&own.os, &own.architecture, &said.variant),
            };
            if said != own {
                self.wrong(
                    place,
                    format!("wrong platform: the descriptor says `{said}`, the config `{own}`"),
                );
            }
        }
        if config.rootfs.kind != "layers" {
            let kind = &config.rootfs.kind;
            self.wrong(place, format!("wrong `rootfs.type`: expected `layers`, found `{kind}`"));
        }
        let diff_ids = config.rootfs.diff_ids.len();
        if diff_ids != layers {
            self.wrong(
                place,
                format!("the manifest has {layers} layers, the config {diff_ids} diff_ids"),
            );
        }
        let entries = config.history.iter().filter(|entry| !entry.empty_layer).count();
        if !config.history.is_empty() && entries != layers {
            self.wrong(
                place,
                format!("the manifest has {layers} layers, the history {entries} that made one"),
            );
        }
        let times = config.history.iter().map(|entry| &entry.created);
        for time in std::iter::once(&config.created).chain(times).flatten() {
            if time.parse::<jiff::Timestamp>().is_err() {
                self.wrong(place, format!("`{time}` is no RFC 3339 time"));
            }
        }
    }

    fn layer(
        &mut self,
        place: &str,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
        layers: &mut Layers,
    ) {
        if !self.blob(place, descriptor) {
            return;
        }
        let Some(promised) = media::layer_packing(descriptor.media_type()) else {
            return self
                .wrong(place, format!("`{}` is no layer's media type", descriptor.media_type()));
        };
        let Some((reader, _)) = self.open(place, descriptor) else { return };
        let (detected, unpacked) = match decompress::decompressor(BufReader::new(reader)) {
            Ok(opened) => opened,
            Err(error) => return self.wrong(place, error.to_string()),
        };
        let fits = match promised {
            Packing::Tar => detected == Detected::Plain,
            Packing::Gzip => detected == Detected::Gzip,
            Packing::Zstd => detected == Detected::Zstd,
            Packing::Any => true,
        };
        if !fits {
            let media_type = descriptor.media_type();
            self.wrong(
                place,
                format!("wrong packing: expected `{media_type}`, found {detected:?}"),
            );
        }
        let mut found = Vec::new();
        let read = layers.check(unpacked, &mut found);
        for message in found {
            self.wrong(place, message);
        }
        match (read, diff_id) {
            (Ok(read), Some(promised)) if read != *promised => {
                self.wrong(place, format!("wrong diff_id: expected {promised}, found {read}"));
            }
            (Ok(_), _) => {}
            (Err(error), _) => self.wrong(place, error.to_string()),
        }
    }

    fn schema_version(&mut self, place: &str, found: u32) {
        if found != 2 {
            self.wrong(place, format!("wrong `schemaVersion`: expected 2, found {found}"));
        }
    }

    /// Checks size and digest of a blob of any size; false when it cannot be read.
    fn blob(&mut self, place: &str, descriptor: &Descriptor) -> bool {
        let Some((mut reader, size)) = self.open(place, descriptor) else {
            if !media::is_foreign(descriptor) {
                self.absent(place, descriptor);
            }
            return false;
        };
        let mut hash = HashingWriter::new(io::sink());
        if let Err(error) = io::copy(&mut reader, &mut hash) {
            drop(reader);
            self.wrong(place, format!("it cannot be read: {error}"));
            return false;
        }
        drop(reader);
        let (_, found, _) = hash.finish();
        self.compare(place, descriptor, size, &found);
        true
    }

    /// Bytes of a document, even when they are not the right ones.
    fn document(&mut self, place: &str, descriptor: &Descriptor) -> Option<Vec<u8>> {
        let Some((reader, size)) = self.open(place, descriptor) else {
            self.absent(place, descriptor);
            return None;
        };
        let mut bytes = Vec::new();
        let read = reader.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes);
        if let Err(error) = read {
            self.wrong(place, format!("it cannot be read: {error}"));
            return None;
        }
        if size > DOCUMENT_LIMIT {
            self.wrong(place, format!("it is larger than {DOCUMENT_LIMIT} bytes"));
            return None;
        }
        self.compare(place, descriptor, size, &Digest::of(&bytes));
        Some(bytes)
    }

    fn absent(&mut self, place: &str, descriptor: &Descriptor) {
        let message = format!("blob {} is missing", descriptor.digest());
        let kind = self.if_absent;
        self.problems.push(Problem { place: place.to_owned(), message, kind });
    }

    fn compare(&mut self, place: &str, descriptor: &Descriptor, size: u64, digest: &Digest) {
        if size != descriptor.size() {
            let expected = descriptor.size();
            self.wrong(place, format!("wrong size: expected {expected} bytes, found {size}"));
        }
        let expected = descriptor.digest().to_string();
        if expected != digest.as_str() {
            self.wrong(place, format!("wrong content: expected {expected}, found {digest}"));
        }
    }

    fn open(
        &mut self,
        place: &str,
        descriptor: &Descriptor,
    ) -> Option<(Box<dyn Read + Send + 'a>, u64)> {
        match spec::digest_of(descriptor).and_then(|digest| self.blobs.open(&digest)) {
            Ok(opened) => opened,
            Err(error) => {
                self.wrong(place, error.to_string());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
