//! `image convert`: other packing of layers, other media types. What an image contains stays: its config keeps its bytes.
//!
//! Everything is done on JSON values, so that members that we do not know stay. A document in which nothing changes
//! keeps its bytes. Attestations describe other digests afterwards and are left out, which is told.

use super::Access;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::compress::{Compression, Workers, compress_layer, guarded};
use crate::layers::tar_read::Limits;
use crate::oci::DiffId;
use crate::oci::blobs::{self, Blobs, Parsed};
use crate::oci::decompress::{self, Detected};
use crate::oci::layout::{Check, Layout};
use crate::oci::media::{self, Packing};
use crate::oci::spec::{self, Descriptor, ImageConfig, ImageManifest};
use serde_json::Value;
use std::io::{self, BufReader, Read};

/// Whose media types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// Of the image specification.
    Oci,
    /// Docker's, schema 2.
    Docker,
}

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convert {
    /// Packing of all layers.
    pub compression: Option<Compression>,
    /// Layers that are packed so already are packed again, with the level of `compression`.
    pub again: bool,
    /// Media types of all documents and layers.
    pub types: Option<Types>,
}

/// Converts what is behind `root` into another layout; gives what it is there.
pub fn convert(
    access: &Access<'_>,
    from: &Layout,
    root: &Descriptor,
    wanted: &Convert,
    to: &Layout,
) -> Result<Descriptor> {
    // Without a wish for types an image with Docker's gets one that Docker does not have, see `layer_type`.
    let zstd = matches!(wanted.compression, Some(Compression::Zstd { .. }));
    if zstd && wanted.types == Some(Types::Docker) {
        return Err(Error::usage("Docker's media types have none for zstd")
            .hint("use `--type oci`, or `--compression gzip`"));
    }
    let workers = Workers::new(std::thread::available_parallelism().map_or(1, usize::from));
    let job = Job { access, from, to, wanted, workers };
    job.document(root)?.ok_or_else(|| blobs::missing(root))
}

struct Job<'a> {
    access: &'a Access<'a>,
    from: &'a Layout,
    to: &'a Layout,
    wanted: &'a Convert,
    workers: Workers,
}

impl Job<'_> {
    /// `None` for a document that is not here.
    fn document(&self, descriptor: &Descriptor) -> Result<Option<Descriptor>> {
        let Some(bytes) = self.from.document(descriptor)? else { return Ok(None) };
        let value: Value = spec::from_json(&format!("document {}", descriptor.digest()), &bytes)?;
        let (changed, index) = match blobs::parse(descriptor, &bytes)? {
            Parsed::Index(index) => (self.index(value.clone(), index.manifests())?, true),
            Parsed::Manifest(manifest) => (self.manifest(value.clone(), &manifest)?, false),
        };
        let media_type = match self.wanted.types {
            Some(Types::Oci) if index => media::OCI_INDEX,
            Some(Types::Oci) => media::OCI_MANIFEST,
            Some(Types::Docker) if index => media::DOCKER_LIST,
            Some(Types::Docker) => media::DOCKER_MANIFEST,
            None => descriptor.media_type().as_ref(),
        };
        let mut changed = changed;
        if self.wanted.types.is_some() {
            changed["mediaType"] = media_type.into();
        }
        // What is the same as before keeps its bytes, however they are spelt.
        let bytes = if changed == value { bytes } else { spec::to_json(&changed)? };
        let mut stored = self.to.put_document(media_type, &bytes)?;
        stored.set_platform(descriptor.platform().clone());
        Ok(Some(stored))
    }

    fn index(&self, mut value: Value, children: &[Descriptor]) -> Result<Value> {
        let mut entries = Vec::new();
        for (at, child) in children.iter().enumerate() {
            let digest = child.digest();
            if media::is_attestation(child) {
                self.access.emitter().note(format!(
                    "the attestation {digest} is left out: it is about an image with another digest"
                ));
                continue;
            }
            let Some(stored) = self.document(child)? else {
                self.access
                    .emitter()
                    .note(format!("{digest} is left out: it is not in the source"));
                continue;
            };
            entries.push(replaced(&value["manifests"][at], &stored));
        }
        value["manifests"] = entries.into();
        Ok(value)
    }

    fn manifest(&self, mut value: Value, manifest: &ImageManifest) -> Result<Value> {
        let config = manifest.config();
        self.to.take_blob(self.from, config, Check::Content)?;
        if !media::is_image_config(config.media_type()) {
            // Some other artifact.
            for layer in manifest.layers() {
                self.to.take_blob(self.from, layer, Check::Content)?;
            }
            return Ok(value);
        }
        let parsed: ImageConfig = spec::from_json("image config", &self.from.required(config)?)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers().len() {
            return Err(Error::integrity(format!(
                "manifest and config do not fit: {} layers, {} diff_ids",
                manifest.layers().len(),
                diff_ids.len()
            )));
        }
        for (at, (layer, diff_id)) in manifest.layers().iter().zip(diff_ids).enumerate() {
            let stored = self
                .layer(layer, diff_id)
                .map_err(|error| error.wrap(format!("cannot convert layer {}", layer.digest())))?;
            value["layers"][at] = replaced(&value["layers"][at], &stored);
        }
        if let Some(types) = self.wanted.types {
            value["config"]["mediaType"] = match types {
                Types::Oci => media::OCI_CONFIG.into(),
                Types::Docker => media::DOCKER_CONFIG.into(),
            };
        }
        Ok(value)
    }

    fn layer(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<Descriptor> {
        let retyped = |media_type: String| {
            let mut layer = layer.clone();
            layer.set_media_type(media_type.as_str().into());
            layer
        };
        if media::is_foreign(layer) {
            // Not ours to repack; it may not even be here.
            if self.from.has(layer) {
                self.to.take_blob(self.from, layer, Check::Content)?;
            }
            return Ok(retyped(foreign_type(layer.media_type().as_ref(), self.wanted.types)));
        }
        let present = self.packing(layer)?;
        let keep = match self.wanted.compression {
            None => true,
            Some(wanted) => !self.wanted.again && packing_of(wanted) == present,
        };
        if keep {
            self.to.take_blob(self.from, layer, Check::Content)?;
            return Ok(retyped(self.layer_type(layer.media_type().as_ref(), present)?));
        }
        let compression = self.wanted.compression.unwrap_or_default();
        let blob = BufReader::with_capacity(256 << 10, self.from.open_blob(layer)?);
        let mut plain = guarded(blob, Limits::default().ratio)?;
        let writer = self.to.blob_writer()?.trusted();
        let (writer, made) = compress_layer(compression, &self.workers, writer, |mut out| {
            io::copy(&mut plain, &mut out)
                .or_error(ErrorKind::Integrity, || "it cannot be unpacked".to_owned())
                .map(drop)
        })?;
        if made.diff_id != *diff_id {
            return Err(Error::integrity(format!(
                "it does not have its diff_id: expected {diff_id}, found {}",
                made.diff_id
            )));
        }
        writer.commit(&made.digest)?;
        let media_type = self.layer_type(layer.media_type().as_ref(), packing_of(compression))?;
        Ok(spec::descriptor(media_type.as_str().into(), &made.digest, made.size))
    }

    /// How a layer is packed, by its bytes.
    fn packing(&self, layer: &Descriptor) -> Result<Packing> {
        if media::layer_packing(layer.media_type()).is_none() {
            let media_type = layer.media_type();
            return Err(Error::image(format!("`{media_type}` is no layer's media type")));
        }
        let mut head = Vec::new();
        self.from
            .open_blob(layer)?
            .take(decompress::HEAD as u64)
            .read_to_end(&mut head)
            .or_error(ErrorKind::Integrity, || "it cannot be read".to_owned())?;
        match decompress::detect(&head) {
            Detected::Plain => Ok(Packing::Tar),
            Detected::Gzip => Ok(Packing::Gzip),
            Detected::Zstd => Ok(Packing::Zstd),
            Detected::Bzip2 | Detected::Xz => Err(Error::image("no media type says its packing")),
        }
    }

    /// The media type of a packing; the layer's own family where none is asked for, even for zstd, for which Docker has
    /// no type.
    fn layer_type(&self, present: &str, packing: Packing) -> Result<String> {
        let docker = match self.wanted.types {
            Some(types) => types == Types::Docker,
            None => present.starts_with("application/vnd.docker."),
        };
        let docker_base = "application/vnd.docker.image.rootfs.diff.tar";
        Ok(match (docker, packing) {
            (true, Packing::Tar) => docker_base.to_owned(),
            (true, Packing::Gzip) => format!("{docker_base}.gzip"),
            (true, _) if self.wanted.types.is_some() => {
                return Err(Error::image("Docker's media types have none for zstd")
                    .hint("add `--compression gzip`"));
            }
            (true, _) => format!("{docker_base}.zstd"),
            (false, Packing::Tar) => media::OCI_LAYER.to_owned(),
            (false, Packing::Zstd) => media::OCI_LAYER_ZSTD.to_owned(),
            (false, _) => media::OCI_LAYER_GZIP.to_owned(),
        })
    }
}

fn packing_of(compression: Compression) -> Packing {
    match compression {
        Compression::None => Packing::Tar,
        Compression::Gzip { .. } => Packing::Gzip,
        Compression::Zstd { .. } => Packing::Zstd,
    }
}

fn foreign_type(present: &str, types: Option<Types>) -> String {
    let docker = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let oci = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    match types {
        Some(Types::Oci) if present == docker => oci.to_owned(),
        Some(Types::Docker) if present == oci => docker.to_owned(),
        _ => present.to_owned(),
    }
}

/// An entry's JSON with another type, digest and size; everything else that it says stays.
fn replaced(entry: &Value, by: &Descriptor) -> Value {
    let mut entry = entry.clone();
    entry["mediaType"] = by.media_type().to_string().into();
    entry["digest"] = by.digest().to_string().into();
    entry["size"] = by.size().into();
    if let Some(members) = entry.as_object_mut() {
        // A copy of the bytes that the digest no longer means.
        members.remove("data");
    }
    entry
}
