//! A docker-archive of an image whose layers are not stored anywhere: each is produced while it is written.
//!
//! The bytes are those that [`super::save`] would write of the same image.

use super::save::{BUFFER, TarOut};
use super::write_docker::docker_name;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::decompress;
use crate::oci::layout::Layout;
use crate::oci::spec::{self, Descriptor};
use crate::oci::{DiffId, Digest, Reference};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufReader, Write};

/// Writes a layer's tar; the same bytes each time.
pub type Produce<'a> = &'a dyn Fn(&mut dyn Write) -> Result<()>;

/// A layer of an archive.
pub enum StreamedLayer<'a> {
    /// One that the layout has, packed or not.
    Stored(&'a Descriptor, &'a DiffId),
    /// One that is written now: digest and size of its tar, and what writes it.
    Made(&'a DiffId, u64, Produce<'a>),
}

impl fmt::Debug for StreamedLayer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.diff_id())
    }
}

impl StreamedLayer<'_> {
    fn diff_id(&self) -> &DiffId {
        match self {
            Self::Stored(_, diff_id) | Self::Made(diff_id, ..) => diff_id,
        }
    }
}

/// Writes the archive of one image.
pub fn stream_docker(
    layout: &Layout,
    config: &[u8],
    layers: &[StreamedLayer<'_>],
    names: &[Reference],
    out: &mut dyn Write,
) -> Result<()> {
    let mut tar = TarOut::new(out, 0);
    let config_name = format!("{}.json", Digest::of(config).hex());
    tar.bytes(&config_name, config)?;
    let mut written = BTreeSet::new();
    let mut listed = Vec::new();
    for layer in layers {
        let name = format!("{}.tar", layer.diff_id().0.hex());
        listed.push(name.clone());
        if !written.insert(name.clone()) {
            continue;
        }
        match layer {
            StreamedLayer::Made(diff_id, size, produce) => {
                tar.produced(&name, *size, &diff_id.0, produce)?;
            }
            StreamedLayer::Stored(descriptor, _) => {
                let open = || {
                    let blob = layout.open_blob(descriptor)?;
                    Ok::<_, Error>(
                        decompress::decompressor(BufReader::with_capacity(BUFFER, blob))?.1,
                    )
                };
                let what = || format!("cannot read layer {}", descriptor.digest());
                let size =
                    io::copy(&mut open()?, &mut io::sink()).or_error(ErrorKind::Integrity, what)?;
                tar.file(&name, size, &mut open()?)?;
            }
        }
    }
    let tags: Vec<String> =
        names.iter().filter(|name| name.tag.is_some()).map(docker_name).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": listed }]);
    tar.bytes("manifest.json", &spec::to_json(&manifest)?)?;
    tar.finish()
}
