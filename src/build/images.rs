//! Base images: from the store, else from a registry (design §10.1).

use super::assemble::HistoryItem;
use super::jobs::Pending;
use super::request::{BuildRequest, PullPolicy};
use super::state::Slot;
use super::store::Store;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::net::{Registry, Wanted};
use crate::oci::layout::{NamedImage, Origin};
use crate::oci::spec::{Descriptor, ImageConfig, digest_of};
use crate::oci::{Digest, Platform, Reference, resolve};
use crate::plan::step::{BaseRef, BuildPlan, CopyFrom, RunMountKind, StepKind};
use crate::progress::Emitter;
use crate::source::Span;

/// An image to start from.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
}

impl BaseImage {
    /// Its layers for a stage.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let slot = |layer: &Layer| Slot {
            layer: Pending::ready(layer.clone()),
            snapshot: None,
            recorded: None,
        };
        self.layers.iter().map(slot).collect()
    }

    /// Its history for a stage.
    pub(super) fn history(&self) -> Vec<HistoryItem> {
        self.config.history.iter().cloned().map(HistoryItem::Inherited).collect()
    }
}

/// Images that steps copy or mount from, with the place of the step.
pub(super) fn copied_from(plan: &BuildPlan) -> Vec<(BaseRef, Span)> {
    let mut found = Vec::new();
    let mut add = |from: &CopyFrom, span: Span| {
        if let CopyFrom::Image(base) = from {
            found.push((base.clone(), span));
        }
    };
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        match &step.kind {
            StepKind::Copy(copy) => add(&copy.from, step.span),
            StepKind::Run(run) => {
                for mount in &run.mounts {
                    match &mount.kind {
                        RunMountKind::Bind { from, .. }
                        | RunMountKind::Cache { from: Some((from, _)), .. } => {
                            add(from, mount.span);
                        }
                        _ => {}
                    }
                }
            }
            StepKind::Config | StepKind::Workdir(_) => {}
        }
    }
    found
}

/// Finds an image, pulling it when the policy says so.
pub fn find(
    store: &Store,
    base: &BaseRef,
    request: &BuildRequest,
    emitter: &Emitter,
) -> Result<BaseImage> {
    let reference = Reference::parse(&base.reference)?;
    let stored = store.images().find(&reference)?;
    let descriptor = current(store, &reference, stored, base, request, emitter)?;
    open(store, &descriptor, &base.platform)
        .map_err(|error| error.wrap(format!("cannot use the image `{}`", base.reference)))
}

/// The descriptor to use: what is stored, or what the registry has now.
fn current(
    store: &Store,
    reference: &Reference,
    stored: Option<NamedImage>,
    base: &BaseRef,
    request: &BuildRequest,
    emitter: &Emitter,
) -> Result<Descriptor> {
    let policy = request.pull;
    let Some(stored) = stored else {
        if policy == PullPolicy::Never {
            return Err(not_found(store, base));
        }
        return pull(store, reference, base, request, emitter)
            .map_err(|error| explain_missing(store, base, error));
    };
    let ours = stored.origin != Origin::Pulled || reference.digest.is_some();
    let ask = match policy {
        PullPolicy::Always => true,
        PullPolicy::Check => !ours,
        PullPolicy::Missing | PullPolicy::Never => false,
    };
    if !ask {
        return Ok(stored.descriptor);
    }
    match Registry::new(&request.net)?.head(reference).map_err(Error::from) {
        Ok(Some(digest)) if digest == digest_of(&stored.descriptor)? => Ok(stored.descriptor),
        Ok(_) => pull(store, reference, base, request, emitter),
        Err(error) if policy == PullPolicy::Check => {
            emitter.warn(format!(
                "cannot ask for a newer `{}` ({}); the stored one is used",
                base.reference,
                error.message()
            ));
            Ok(stored.descriptor)
        }
        Err(error) => Err(error),
    }
}

fn pull(
    store: &Store,
    reference: &Reference,
    base: &BaseRef,
    request: &BuildRequest,
    emitter: &Emitter,
) -> Result<Descriptor> {
    emitter.note(format!("pulling {reference}"));
    let wanted = Wanted::One(base.platform.clone());
    let registry = Registry::new(&request.net)?;
    let descriptor = registry.pull(reference, &wanted, store.images(), emitter)?.root;
    store.images().set_name(reference, &descriptor, Origin::Pulled)?;
    Ok(descriptor)
}

fn not_found(store: &Store, base: &BaseRef) -> Error {
    let error = Error::image(format!("image `{}` is not in the store", base.reference));
    with_names(store, error)
}

fn explain_missing(store: &Store, base: &BaseRef, error: Error) -> Error {
    let message = format!("image `{}` is not in the store and cannot be pulled", base.reference);
    with_names(store, error.wrap(message))
}

fn with_names(store: &Store, error: Error) -> Error {
    let names: Vec<String> = store
        .images()
        .names()
        .unwrap_or_default()
        .iter()
        .take(8)
        .map(|image| format!("`{}`", image.name.familiar()))
        .collect();
    if names.is_empty() {
        return error
            .hint("the store is empty; `nativebuild image import NAME SOURCE` brings an image in");
    }
    error.hint(format!("the store has {}", names.join(", ")))
}

/// Reads manifest and config of one platform.
pub fn open(store: &Store, descriptor: &Descriptor, platform: &Platform) -> Result<BaseImage> {
    let image = resolve::resolve(store.images(), descriptor, platform)?;
    let manifest = digest_of(&image.manifest_descriptor)?;
    let mut layers = Vec::new();
    for (descriptor, diff_id) in image.layers_with_diff_ids() {
        let digest = digest_of(descriptor)?;
        if store.images().blob_size(&digest) != Some(descriptor.size()) {
            return Err(Error::integrity(format!("its layer {digest} is missing or cut short"))
                .hint("import or pull the image again"));
        }
        layers.push(Layer {
            digest,
            size: descriptor.size(),
            diff_id: diff_id.clone(),
            media_type: descriptor.media_type().to_string(),
        });
    }
    Ok(BaseImage { manifest, config: image.config, layers })
}
