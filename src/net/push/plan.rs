//! What a push sends: blobs once each, and documents with the children first.

use crate::error::Error;
use crate::net::failure::{NetError, NetResult, Trouble};
use crate::net::manifest::{self, Document, Kind};
use crate::oci::Digest;
use crate::oci::layout::Layout;
use crate::oci::media;
use crate::oci::spec::{self, Descriptor};
use std::collections::HashSet;

/// Indexes in indexes.
const MAX_DEPTH: u32 = 4;
/// All documents of an image together: they are kept in memory until the names are given.
const MAX_DOCUMENTS: usize = 64 << 20;

/// A blob to be sent.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
}

impl Blob {
    pub(super) fn of(descriptor: &Descriptor) -> NetResult<Self> {
        let digest = spec::digest_of(descriptor).map_err(local)?;
        Ok(Self { digest, size: descriptor.size() })
    }
}

/// Everything below a descriptor.
pub(super) struct Plan {
    /// What the names will mean.
    pub(super) root: Descriptor,
    pub(super) top: Document,
    /// Manifests and indexes below the top.
    pub(super) documents: Vec<Document>,
    pub(super) layers: Vec<Blob>,
    pub(super) configs: Vec<Blob>,
    seen: HashSet<Digest>,
    bytes: usize,
}

impl Plan {
    /// Reads the documents below `root`. Layers that need not be distributed are left out where they are not here
    /// (image-spec layer.md, non-distributable layers); everything else must be in the layout.
    pub(super) fn of(source: &Layout, root: &Descriptor) -> NetResult<Self> {
        let top = read(source, root)?;
        let mut plan = Self {
            root: top.descriptor(),
            top,
            documents: Vec::new(),
            layers: Vec::new(),
            configs: Vec::new(),
            seen: HashSet::new(),
            bytes: 0,
        };
        let kind = std::mem::replace(&mut plan.top.kind, Kind::Index(Vec::new()));
        plan.below(source, &kind, 0)?;
        plan.top.kind = kind;
        Ok(plan)
    }

    fn below(&mut self, source: &Layout, kind: &Kind, depth: u32) -> NetResult<()> {
        match kind {
            Kind::Index(children) => {
                for child in children {
                    let document = read(source, child)?;
                    if !self.seen.insert(document.digest.clone()) {
                        continue;
                    }
                    self.bytes += document.bytes.len();
                    if depth >= MAX_DEPTH || self.bytes > MAX_DOCUMENTS {
                        return Err(NetError::broken(format!(
                            "the index is nested deeper than {MAX_DEPTH} levels or larger than {} MiB",
                            MAX_DOCUMENTS >> 20
                        )));
                    }
                    self.below(source, &document.kind, depth + 1)?;
                    self.documents.push(document);
                }
            }
            Kind::Manifest(blobs) => {
                for (at, descriptor) in blobs.iter().enumerate() {
                    let blob = Blob::of(descriptor)?;
                    let there = source.has(descriptor);
                    if !there && media::is_foreign(descriptor) {
                        continue;
                    }
                    if !there {
                        return Err(missing(source, descriptor));
                    }
                    if self.seen.insert(blob.digest.clone()) {
                        // The config is the first (net::manifest).
                        let list = if at == 0 { &mut self.configs } else { &mut self.layers };
                        list.push(blob);
                    }
                }
            }
        }
        Ok(())
    }
}

fn read(source: &Layout, descriptor: &Descriptor) -> NetResult<Document> {
    let bytes = source.read_blob_small(descriptor).map_err(local)?;
    manifest::stored(bytes, descriptor).ok_or_else(|| {
        let digest = descriptor.digest();
        local(Error::image(format!("{digest} is no manifest and no index that can be pushed")))
    })
}

fn missing(source: &Layout, descriptor: &Descriptor) -> NetError {
    let place = source.root().display();
    let error = Error::integrity(format!("blob {} is not in {place}", descriptor.digest()))
        .hint("pull or build the image again for all its platforms, or push one platform");
    local(error)
}

fn local(error: Error) -> NetError {
    NetError::new(Trouble::Local, error)
}
