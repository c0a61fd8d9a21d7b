//! Writes docker-archives: today's form, the older one by layer ids, and the flat one.
//!
//! Docker's readers want unpacked layers in the first two: a layer is unpacked twice, once to learn (and check) its
//! size and digest for the header, once to write it; no temporary files. In the flat form gzip layers keep their bytes.

use super::save::{BUFFER, SaveFormat, SaveImage, SaveOptions, TarOut, single};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        ChainId, DiffId, Digest, Reference,
        decompress::{self, Detected},
        digest::HashingWriter,
        layout::Layout,
        resolve::ResolvedImage,
        spec::{self, Descriptor},
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufReader, Read, Write},
};

/// Writes one archive of all images.
pub(super) fn write(
    layout: &Layout,
    images: &[SaveImage<'_>],
    options: &SaveOptions<'_>,
    stream: &mut dyn Write,
) -> Result<()> {
    let mut resolved = Vec::new();
    for image in images {
        resolved.push((single(layout, image.descriptor, options.platform)?, image.names));
    }
    let mut writer = Writer {
        layout,
        format: options.format,
        tar: TarOut::new(stream, options.mtime),
        written: BTreeSet::new(),
        repositories: BTreeMap::new(),
    };
    let mut manifest = Vec::new();
    for (image, names) in &resolved {
        manifest.push(writer.image(image, names)?);
    }
    writer.tar.bytes("manifest.json", &spec::to_json(&manifest)?)?;
    if options.format == SaveFormat::DockerArchiveV1 {
        let repositories = spec::to_json(&writer.repositories)?;
        writer.tar.bytes("repositories", &repositories)?;
    }
    writer.tar.finish()
}

struct Writer<'a> {
    layout: &'a Layout,
    format: SaveFormat,
    tar: TarOut<'a>,
    /// Names of members that are in the tar already: images share layers.
    written: BTreeSet<String>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Writer<'_> {
    /// Writes config and layers; gives the entry for `manifest.json`.
    fn image(&mut self, image: &ResolvedImage, names: &[Reference]) -> Result<Value> {
        let hex = Digest::of(&image.config_bytes).hex().to_owned();
        let config = match self.format {
            SaveFormat::DockerArchiveFlat => format!("sha256:{hex}"),
            _ => format!("{hex}.json"),
        };
        if self.written.insert(config.clone()) {
            self.tar.bytes(&config, &image.config_bytes)?;
        }
        let mut layers = Vec::new();
        let mut ids = V1Ids::new(image);
        for (descriptor, diff_id) in image.layers_with_diff_ids() {
            layers.push(match self.format {
                SaveFormat::DockerArchiveV1 => {
                    let (id, json) = ids.next(diff_id)?;
                    self.v1_layer(&id, &json, descriptor, diff_id)?
                }
                SaveFormat::DockerArchiveFlat => self.flat_layer(descriptor, diff_id)?,
                _ => {
                    let name = format!("{}.tar", diff_id.0.hex());
                    self.unpacked(&name, descriptor, diff_id)?;
                    name
                }
            });
        }
        let tagged = names.iter().filter(|name| name.tag.is_some());
        let tags: Vec<String> = tagged.clone().map(docker_name).collect();
        if let Some(top) = ids.parent {
            for tag in &tags {
                let (name, tag) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
                let of_name = self.repositories.entry(name.to_owned()).or_default();
                of_name.insert(tag.to_owned(), top.clone());
            }
        }
        Ok(json!({ "Config": config, "RepoTags": tags, "Layers": layers }))
    }

    fn v1_layer(
        &mut self,
        id: &str,
        json: &[u8],
        descriptor: &Descriptor,
        diff_id: &DiffId,
    ) -> Result<String> {
        let name = format!("{id}/layer.tar");
        let dir = format!("{id}/");
        if self.written.insert(dir.clone()) {
            self.tar.dir(&dir)?;
            self.tar.bytes(&format!("{id}/VERSION"), b"1.0")?;
            self.tar.bytes(&format!("{id}/json"), json)?;
        }
        self.unpacked(&name, descriptor, diff_id)?;
        Ok(name)
    }

    /// A gzip layer as it is; any other unpacked, since the form's readers know no other packing.
    fn flat_layer(&mut self, descriptor: &Descriptor, diff_id: &DiffId) -> Result<String> {
        let (detected, _) = self.open(descriptor)?;
        if detected != Detected::Gzip {
            let name = format!("sha256:{}", diff_id.0.hex());
            self.unpacked(&name, descriptor, diff_id)?;
            return Ok(name);
        }
        let name = spec::digest_of(descriptor)?.to_string();
        if self.written.insert(name.clone()) {
            let mut reader = self.layout.open_blob(descriptor)?;
            self.tar.file(&name, descriptor.size(), &mut reader)?;
        }
        Ok(name)
    }

    fn unpacked(&mut self, name: &str, descriptor: &Descriptor, diff_id: &DiffId) -> Result<()> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let mut counter = HashingWriter::new(io::sink());
        io::copy(&mut self.open(descriptor)?.1, &mut counter)
            .or_error(ErrorKind::Integrity, || {
                format!("cannot read layer {}", descriptor.digest())
            })?;
        let (_, found, size) = counter.finish();
        if found != diff_id.0 {
            return Err(Error::integrity(format!(
                "layer {} does not have its diff_id: expected {diff_id}, found {found}",
                descriptor.digest()
            )));
        }
        let mut unpacked = self.open(descriptor)?.1;
        self.tar.file(name, size, &mut unpacked)
    }

    fn open(&self, descriptor: &Descriptor) -> Result<(Detected, Box<dyn Read + Send>)> {
        let reader = self.layout.open_blob(descriptor)?;
        decompress::decompressor(BufReader::with_capacity(BUFFER, reader))
    }
}

/// Ids of layers in the older form: a digest of what the layer's JSON says, which holds the parent's id.
struct V1Ids<'a> {
    image: &'a ResolvedImage,
    chain: Option<ChainId>,
    parent: Option<String>,
    count: usize,
}

impl<'a> V1Ids<'a> {
    fn new(image: &'a ResolvedImage) -> Self {
        Self { image, chain: None, parent: None, count: 0 }
    }

    /// Id and JSON of the next layer; the top one carries the image's config.
    fn next(&mut self, diff_id: &DiffId) -> Result<(String, Vec<u8>)> {
        let chain = ChainId::next(self.chain.as_ref(), diff_id);
        self.count += 1;
        let mut json = json!({ "created": "1970-01-01T00:00:00Z" });
        if self.count == self.image.layers.len() {
            json = serde_json::to_value(&self.image.config)
                .map_err(|error| Error::internal("JSON of an image config").cause(error))?;
            if let Some(members) = json.as_object_mut() {
                members.remove("rootfs");
                members.remove("history");
            }
        }
        if let Some(parent) = &self.parent {
            json["parent"] = Value::String(parent.clone());
        }
        json["layer_id"] = Value::String(chain.to_string());
        let id = Digest::of(&spec::to_json(&json)?).hex().to_owned();
        json["id"] = Value::String(id.clone());
        self.chain = Some(chain);
        self.parent = Some(id.clone());
        Ok((id, spec::to_json(&json)?))
    }
}

/// As `docker save` writes it: short, with the tag and without a digest.
pub(super) fn docker_name(name: &Reference) -> String {
    Reference { digest: None, ..name.clone() }.familiar()
}
