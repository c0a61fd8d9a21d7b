//! Pulling an image into a layout: manifests first, then the missing blobs in parallel, then the manifests' bytes.
//!
//! In: a name and the wanted platforms; out: a [`Pulled`] whose descriptor and everything below it are in the layout,
//! each checked for size and digest. Blobs that the layout has are not fetched; a download that breaks off goes on
//! where it stopped, also after the program was killed. A failure leaves complete blobs and beginnings of large ones behind.
//!
//! Here is which documents and blobs are wanted; how these come, at once or beside other work, is in [`super::arrive`].

use super::arrive::{Blob, Documents};
use super::download::Download;
use super::failure::{NetError, NetResult, Trouble};
use super::manifest::{self, Document, Kind};
use super::patience::Timely;
use super::registry::Registry;
use crate::error::Error;
use crate::oci::digest::VerifyingReader;
use crate::oci::layout::Layout;
use crate::oci::media;
use crate::oci::spec::{self, Descriptor, ImageConfig};
use crate::oci::{Digest, Platform, Reference, platform};
use crate::progress::Emitter;
use std::collections::{HashMap, HashSet};
use std::io::Read;

/// Indexes in indexes.
const MAX_DEPTH: u32 = 4;
/// Indexes read while looking for one platform.
const MAX_INDEXES: usize = 64;
/// Manifests of one image together, as they are kept in memory until the blobs are there.
const MAX_DOCUMENTS: usize = 64 << 20;

/// A config that is read without being stored.
const MAX_CONFIG: u64 = 8 << 20;

/// What of an image is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything that the name leads to.
    All,
    /// The image for one platform. A name that leads to a single manifest gives that, whatever its platform.
    One(Platform),
}

/// What a pull stored. Both descriptors' own bytes are in the layout, and everything below `image`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// What the name led to, as [`Registry::head`] gives it. An index out of which one platform was chosen is there
    /// without the others.
    pub root: Descriptor,
    /// The chosen image; the same as `root` where there was nothing to choose.
    pub image: Descriptor,
}

impl Registry {
    /// Fetches what `wanted` asks for into `layout`.
    pub fn pull(
        &self,
        reference: &Reference,
        wanted: &Wanted,
        layout: &Layout,
        emitter: &Emitter,
    ) -> NetResult<Pulled> {
        let documents = self.documents(reference, wanted, layout, emitter)?;
        self.fetch(&documents, layout, emitter, &|_| ())
    }

    /// Whether there is an image of this operating system and architecture under the name, without fetching it.
    /// `layout` may have some of its documents already.
    pub fn offers(
        &self,
        reference: &Reference,
        platform: &Platform,
        layout: &Layout,
    ) -> NetResult<bool> {
        let pull = Pull { registry: self, reference, layout };
        match pull.platform_offered(platform) {
            Ok(offered) => {
                Ok((&offered.os, &offered.architecture) == (&platform.os, &platform.architecture))
            }
            Err(error) if error.trouble() == Trouble::NotFound => Ok(false),
            Err(error) => Err(error.wrap(format!("cannot look up `{reference}`"))),
        }
    }
}

pub(super) struct Pull<'a> {
    pub(super) registry: &'a Registry,
    pub(super) reference: &'a Reference,
    pub(super) layout: &'a Layout,
}

/// What is to be stored: documents with the children first, and blobs.
#[derive(Default)]
struct Plan {
    documents: Vec<Document>,
    bytes: usize,
    blobs: Vec<Blob>,
    sizes: HashMap<Digest, u64>,
    /// Of documents.
    seen: HashSet<Digest>,
}

impl Pull<'_> {
    /// Fetches the documents; which blobs are missing then.
    pub(super) fn documents(&self, wanted: &Wanted) -> NetResult<Documents> {
        let top = manifest::fetch(self.registry, self.reference, None)?;
        let root = top.descriptor();
        let mut plan = Plan::default();
        let image = if let (Wanted::One(platform), Kind::Index(children)) = (wanted, &top.kind) {
            let (chosen, indexes) = self.choose(platform, children)?;
            let document = self.child(&chosen)?;
            self.collect(document, &mut plan, 0)?;
            plan.documents.extend(indexes);
            plan.documents.push(top);
            bare(&chosen)
        } else {
            self.collect(top, &mut plan, 0)?;
            root.clone()
        };
        Ok(Documents {
            reference: self.reference.clone(),
            pulled: Pulled { root, image },
            list: plan.documents,
            missing: plan.blobs,
        })
    }

    /// What the best image for `platform` is made for.
    fn platform_offered(&self, platform: &Platform) -> NetResult<Platform> {
        let top = manifest::fetch(self.registry, self.reference, None)?;
        let blobs = match top.kind {
            Kind::Manifest(blobs) => blobs,
            Kind::Index(children) => {
                let (chosen, _) = self.choose(platform, &children)?;
                if let Some(stated) = Platform::of_descriptor(&chosen) {
                    return Ok(stated);
                }
                match self.child(&chosen)?.kind {
                    Kind::Manifest(blobs) => blobs,
                    Kind::Index(_) => return Err(NetError::broken("an image that is an index")),
                }
            }
        };
        let config =
            blobs.first().ok_or_else(|| NetError::broken("a manifest without a config"))?;
        let bytes = small_blob(self.registry, self.reference, config)?;
        let broken = |error| NetError::new(Trouble::Broken, error);
        let config: ImageConfig = spec::from_json("image config", &bytes).map_err(broken)?;
        Ok(Platform::of_config(&config))
    }

    /// The best image for `platform` in an index, and the indexes below that were read on the way since nothing
    /// above them fitted.
    fn choose(
        &self,
        platform: &Platform,
        children: &[Descriptor],
    ) -> NetResult<(Descriptor, Vec<Document>)> {
        let (mut offered, mut read) = (Vec::new(), Vec::new());
        let mut level = children.to_vec();
        for _ in 0..MAX_DEPTH {
            let (indexes, images): (Vec<_>, Vec<_>) =
                level.into_iter().partition(manifest::is_index);
            let images: Vec<_> =
                images.into_iter().filter(|image| !media::is_attestation(image)).collect();
            let platforms: Vec<_> = images.iter().map(Platform::of_descriptor).collect();
            let candidates =
                platforms.iter().enumerate().filter_map(|(at, found)| Some((at, found.clone()?)));
            if let Some(best) = platform::best(platform, candidates) {
                return Ok((images[best].clone(), read));
            }
            if let ([image], [None]) = (&images[..], &platforms[..]) {
                // Nothing to choose by and nothing to choose from.
                return Ok((image.clone(), read));
            }
            offered.extend(platforms.into_iter().flatten());
            level = Vec::new();
            for index in indexes {
                let document = self.child(&index)?;
                if let Kind::Index(below) = &document.kind {
                    level.extend(below.iter().cloned());
                }
                read.push(document);
                if read.len() > MAX_INDEXES {
                    return Err(NetError::broken("the index leads to too many further indexes"));
                }
            }
        }
        Err(no_platform(platform, offered))
    }

    fn child(&self, descriptor: &Descriptor) -> NetResult<Document> {
        if self.layout.has(descriptor)
            && let Ok(bytes) = self.layout.read_blob_small(descriptor)
            && let Some(document) = manifest::stored(bytes, descriptor)
        {
            return Ok(document);
        }
        if let Some(bytes) = manifest::inlined(descriptor)? {
            return manifest::stored(bytes, descriptor).ok_or_else(|| {
                let digest = descriptor.digest();
                NetError::broken(format!("the data field of {digest} is no manifest and no index"))
            });
        }
        let reference = self.reference.with_digest(digest_of(descriptor)?);
        manifest::fetch(self.registry, &reference, Some(descriptor))
    }

    fn collect(&self, document: Document, plan: &mut Plan, depth: u32) -> NetResult<()> {
        if !plan.seen.insert(document.digest.clone()) {
            return Ok(());
        }
        plan.bytes += document.bytes.len();
        if depth > MAX_DEPTH || plan.bytes > MAX_DOCUMENTS {
            return Err(NetError::broken(format!(
                "the index is nested deeper than {MAX_DEPTH} levels or larger than {} MiB",
                MAX_DOCUMENTS >> 20
            )));
        }
        match &document.kind {
            Kind::Index(children) => {
                for descriptor in children {
                    let child = self.child(descriptor)?;
                    self.collect(child, plan, depth + 1)?;
                }
            }
            Kind::Manifest(blobs) => {
                for descriptor in blobs {
                    let (digest, size) = (digest_of(descriptor)?, descriptor.size());
                    let known = plan.sizes.insert(digest.clone(), size);
                    if known.is_some_and(|known| known != size) {
                        let message = format!("blob {digest} is given two different sizes");
                        return Err(NetError::broken(message));
                    }
                    if known.is_some() || self.layout.blob_size(&digest) == Some(size) {
                        continue;
                    }
                    if let Some(bytes) = manifest::inlined(descriptor)? {
                        self.layout.put_blob(&bytes).map_err(local)?;
                    } else {
                        plan.blobs.push(Blob {
                            digest,
                            size,
                            foreign: media::is_foreign(descriptor),
                        });
                    }
                }
            }
        }
        plan.documents.push(document);
        Ok(())
    }
}

/// A config, checked and not stored.
pub(super) fn small_blob(
    registry: &Registry,
    reference: &Reference,
    descriptor: &Descriptor,
) -> NetResult<Vec<u8>> {
    let (digest, size) = (digest_of(descriptor)?, descriptor.size());
    if size > MAX_CONFIG {
        let message = format!("the config is larger than {} MiB", MAX_CONFIG >> 20);
        return Err(NetError::broken(message));
    }
    let mut download = Download::start(registry, reference, &digest, size, 0)?;
    let mut bytes = Vec::new();
    let timely = Timely::new(&mut download, registry.document_time());
    let read = VerifyingReader::new(timely, digest.clone(), size).read_to_end(&mut bytes);
    read.map_err(|error| {
        let error = NetError::from_read(error, &download.whom, download.url());
        registry.gives_up(download.url(), &error);
        error
    })?;
    Ok(bytes)
}

fn no_platform(wanted: &Platform, mut offered: Vec<Platform>) -> NetError {
    offered.retain(|found| found.os != "unknown");
    offered.sort();
    offered.dedup();
    let names: Vec<String> = offered.iter().take(20).map(Platform::to_string).collect();
    let error = Error::image(format!("there is no image for {wanted} under this name"))
        .hint(format!("it is there for: {}", names.join(", ")));
    NetError::new(Trouble::NotFound, error)
}

/// Type, digest, size and platform; nothing else of an index's entry belongs to the image itself.
fn bare(descriptor: &Descriptor) -> Descriptor {
    let mut bare = Descriptor::new(
        descriptor.media_type().clone(),
        descriptor.size(),
        descriptor.digest().clone(),
    );
    bare.set_platform(descriptor.platform().clone());
    bare
}

pub(super) fn digest_of(descriptor: &Descriptor) -> NetResult<Digest> {
    spec::digest_of(descriptor).map_err(|error| NetError::new(Trouble::Broken, error))
}

pub(super) fn local(error: Error) -> NetError {
    NetError::new(Trouble::Local, error)
}
