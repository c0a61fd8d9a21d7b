//! From plans to an image: layers into the store, or straight into an archive.

use super::base::{DESCRIPTION, Described};
use super::layering::Plan;
use super::spec::Tag;
use super::{Assembly, image};
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::Layer;
use crate::layers::compress::{Workers, compress_layer};
use crate::layers::tar_stream::write_members;
use crate::nix::base32;
use crate::oci::archive::{StreamedLayer, stream_docker};
use crate::oci::digest::HashingWriter;
use crate::oci::spec::{self, Descriptor, ImageConfig, descriptor};
use crate::oci::{DiffId, Digest, Reference};
use crate::timings::Phase;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Digits of a digest that make a tag.
const TAG: usize = 32;

/// An image in the store, under no name yet.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Of its manifest.
    pub descriptor: Descriptor,
    /// Of its config.
    pub config_digest: Digest,
    /// Its name, when it has one.
    pub name: Option<Reference>,
}

impl Assembly<'_> {
    /// Writes all layers into the store, and config and manifest.
    pub fn store(&self) -> Result<Assembled> {
        let mut layers = Vec::new();
        for plan in &self.plans {
            layers.push(self.layer(plan)?);
        }
        let new: Vec<(DiffId, String)> = layers
            .iter()
            .zip(&self.plans)
            .map(|(layer, plan)| (layer.diff_id.clone(), plan.about.clone()))
            .collect();
        let writing = self.request.emitter.span(Phase::Manifest);
        let config = self.config(&new)?;
        let images = self.request.store.images();
        let (made, config_digest) =
            image::write(self.request.spec, images, &config, &self.base, &layers)?;
        drop(writing);
        let syncing = self.request.emitter.span(Phase::Sync);
        images.sync()?;
        drop(syncing);
        let name = self.name(&config_digest)?;
        Ok(Assembled { descriptor: made, config_digest, name })
    }

    fn config(&self, new: &[(DiffId, String)]) -> Result<ImageConfig> {
        image::config(self.request.spec, &self.base, &self.given, new, &self.created)
    }

    fn layer(&self, plan: &Plan) -> Result<Layer> {
        self.interrupted()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut span = self.request.emitter.span(Phase::Layer);
        let blob = self.request.store.images().blob_writer()?;
        let (blob, layer) = compress_layer(self.compression, &Workers::new(cores), blob, |out| {
            write_members(plan.members(&self.tree), out)
        })?;
        blob.commit(&layer.digest)?;
        span.gave(layer.size);
        span.about(&layer.digest);
        Ok(layer)
    }

    /// What ran the commands, when there were any.
    pub fn worker(&self) -> Option<&Worker> {
        self.shop.as_ref().map(|shop| &shop.worker)
    }

    fn interrupted(&self) -> Result<()> {
        let cancel = self.worker().map(|worker| &worker.cancel);
        cancel.and_then(|cancel| cancel.interrupted()).map_or(Ok(()), Err)
    }

    /// The name that the spec gives it.
    fn name(&self, config: &Digest) -> Result<Option<Reference>> {
        let spec = self.request.spec;
        let Some(name) = &spec.name else { return Ok(None) };
        let tag = match &spec.tag {
            Tag::Given(tag) => tag.clone(),
            Tag::Digest => config.hex()[..TAG].to_owned(),
            Tag::Nix => base32::encode(&config.bytes())[..TAG].to_owned(),
        };
        let reference = Reference::parse(&format!("{}:{tag}", name.value));
        reference.map(Some).map_err(|error| error.at(&spec.source, name.span))
    }

    /// Writes a docker-archive without storing anything: every layer is made twice, once for its digest and size, once into
    /// the archive. Gives the config's digest.
    pub fn stream(&self, name: Option<&Reference>, out: &mut dyn Write) -> Result<Digest> {
        let mut new = Vec::new();
        let mut sizes = Vec::new();
        for plan in &self.plans {
            self.interrupted()?;
            let (digest, size) = self.measure(plan)?;
            new.push((DiffId(digest), plan.about.clone()));
            sizes.push(size);
        }
        let config = spec::to_json(&self.config(&new)?)?;
        let config_digest = Digest::of(&config);
        let own = self.name(&config_digest)?;
        let name = name.cloned().or(own);
        let stored: Vec<(Descriptor, &DiffId)> = self
            .base
            .image
            .layers
            .iter()
            .map(|layer| {
                let media_type = layer.media_type.as_str().into();
                (descriptor(media_type, &layer.digest, layer.size), &layer.diff_id)
            })
            .collect();
        let producers: Vec<_> = self
            .plans
            .iter()
            .map(|plan| move |out: &mut dyn Write| write_members(plan.members(&self.tree), out))
            .collect();
        let mut layers: Vec<StreamedLayer<'_>> = stored
            .iter()
            .map(|(descriptor, diff_id)| StreamedLayer::Stored(descriptor, diff_id))
            .collect();
        for ((diff_id, size), produce) in new.iter().map(|(id, _)| id).zip(sizes).zip(&producers) {
            layers.push(StreamedLayer::Made(diff_id, size, produce));
        }
        let names: Vec<Reference> = name.into_iter().collect();
        let mut out = BufWriter::with_capacity(256 << 10, out);
        stream_docker(self.request.store.images(), &config, &layers, &names, &mut out)?;
        out.flush().or_error(ErrorKind::Environment, || "cannot write the archive".to_owned())?;
        Ok(config_digest)
    }

    fn measure(&self, plan: &Plan) -> Result<(Digest, u64)> {
        let mut hash = BufWriter::with_capacity(256 << 10, HashingWriter::new(io::sink()));
        write_members(plan.members(&self.tree), &mut hash)?;
        let hash = hash.into_inner().map_err(|_| Error::internal("a sink that fails"))?;
        let (_, digest, size) = hash.finish();
        Ok((digest, size))
    }

    /// Writes the only layer and its description into a directory.
    pub fn layer_only(&self, dir: &Path) -> Result<Layer> {
        let [plan] = &self.plans[..] else {
            let count = self.plans.len();
            let error =
                Error::usage(format!("`--layer-only` writes one layer, and there are {count}"));
            return Err(error.hint(match count {
                0 => "nothing in the spec is new on the base",
                _ => "use `layers: {strategy: one}`",
            }));
        };
        let what = || format!("cannot write `{}`", dir.display());
        std::fs::create_dir_all(dir).or_error(ErrorKind::Environment, what)?;
        let name = format!("layer{}", self.compression.suffix());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let file = std::fs::File::create(dir.join(&name)).or_error(ErrorKind::Environment, what)?;
        let (mut file, layer) =
            compress_layer(self.compression, &Workers::new(cores), file, |out| {
                write_members(plan.members(&self.tree), out)
            })?;
        file.flush().or_error(ErrorKind::Environment, what)?;
        let told = Described {
            version: 1,
            file: name,
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
            diff_id: layer.diff_id.clone(),
            about: plan.about.clone(),
        };
        let mut text = spec::to_json(&told)?;
        text.push(b'\n');
        std::fs::write(dir.join(DESCRIPTION), text).or_error(ErrorKind::Environment, what)?;
        Ok(layer)
    }
}
