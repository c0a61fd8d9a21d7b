//! `--push`: finished layers go to the registries while later steps still run, the rest when the image is whole.
//!
//! Whether the user may push is asked before the first step: nobody shall wait for a build whose result has no place to
//! go to. The early uploads are a head start and nothing else: their failures are forgotten, since the push at the end
//! tries everything anew and tells what is wrong.

use super::request::{BuildOutcome, BuildRequest, OutputKind};
use super::stage::Builder;
use super::store::Store;
use crate::error::{Error, Result};
use crate::executor::sandbox::Cancel;
use crate::layers::Layer;
use crate::net::{Pushed, Registry};
use crate::oci::Reference;
use crate::oci::spec::{descriptor, digest_of};
use crate::plan::step::StageBase;
use crate::progress::Emitter;
use std::sync::{Arc, OnceLock};

/// The registries that a build pushes to.
#[derive(Debug)]
pub(super) struct Pushing {
    registry: Arc<Registry>,
    names: Vec<Reference>,
    by_digest: bool,
    cancel: Arc<OnceLock<Arc<Cancel>>>,
}

impl Pushing {
    /// What a request pushes; none when it pushes nothing. Fails when a registry does not let us.
    pub(super) fn of(request: &BuildRequest) -> Result<Option<Self>> {
        if !request.outputs.iter().any(|output| output.kind == OutputKind::Registry) {
            return Ok(None);
        }
        let names = request.tags.clone();
        if names.is_empty() {
            return Err(Error::usage("there is no name to push the image under")
                .hint("name the image with `--tag REGISTRY/NAME:TAG`"));
        }
        let cancel = Arc::<OnceLock<Arc<Cancel>>>::default();
        let mut registry = Registry::new(&request.net)?;
        let known = Arc::clone(&cancel);
        registry.stop_uploads_when(move || known.get().is_some_and(|all| all.is_cancelled()));
        let registry = Arc::new(registry);
        let pushing = Self { registry, names, by_digest: request.push_by_digest, cancel };
        for name in pushing.repositories() {
            pushing.registry.check_push(name)?;
        }
        Ok(Some(pushing))
    }

    /// The client, which knows what it sent.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Uploads end when the build is stopped.
    pub(super) fn stop_with(&self, cancel: &Arc<Cancel>) {
        // A second attempt of a build has the same worker.
        let _same = self.cancel.set(Arc::clone(cancel));
    }

    /// One name for each repository.
    fn repositories(&self) -> impl Iterator<Item = &Reference> {
        let repository = |name: &Reference| (name.registry.clone(), name.repository.clone());
        self.names.iter().enumerate().filter_map(move |(at, name)| {
            let again = self.names[..at].iter().any(|known| repository(known) == repository(name));
            (!again).then_some(name)
        })
    }

    /// Uploads the layers of one target as they get done. Ends when the target is complete, failed or stopped.
    pub(super) fn follow(&self, builder: &Builder<'_>, target: usize) {
        let mut seen = 0;
        for stage in chain(builder, target) {
            while let Some((slots, complete)) = builder.states.slots_after(stage, seen) {
                for slot in &slots {
                    let Ok(layer) = slot.layer.wait() else { return };
                    self.send(builder.store, &layer, builder.emitter);
                }
                seen += slots.len();
                if complete {
                    break;
                }
            }
        }
    }

    fn send(&self, store: &Store, layer: &Layer, emitter: &Emitter) {
        let blob = descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size);
        for name in self.repositories() {
            // The push at the end does it again, and tells.
            let _head_start = self.registry.push_blob(store.images(), &blob, name, emitter);
        }
    }

    /// Layers of base images may be in the repositories that these came from.
    pub(super) fn note_bases(&self, builder: &Builder<'_>) {
        for (base, image) in &builder.images {
            let Ok(reference) = Reference::parse(&base.reference) else { continue };
            for layer in &image.layers {
                self.registry.note_home(&reference, &layer.digest);
            }
        }
    }

    /// Pushes the finished image under all its names.
    pub(super) fn finish(
        &self,
        store: &Store,
        outcome: &BuildOutcome,
        emitter: &Emitter,
    ) -> Result<Vec<Pushed>> {
        let mut names = self.names.clone();
        if self.by_digest {
            let digest = digest_of(&outcome.descriptor)?;
            let by_digest =
                |name: &Reference| Reference { tag: None, ..name.with_digest(digest.clone()) };
            names = self.repositories().map(by_digest).collect();
        }
        let _heeding = self.cancel.get().map(|cancel| cancel.heed());
        let done = self.registry.push(store.images(), &outcome.descriptor, &names, emitter);
        let interrupted = self.cancel.get().and_then(|cancel| cancel.interrupted());
        done.map_err(|error| interrupted.unwrap_or_else(|| error.into_error()))
    }
}

/// The stages whose layers end up in a target, the lowest first.
pub(super) fn chain(builder: &Builder<'_>, target: usize) -> Vec<usize> {
    let mut stages = vec![target];
    while let Some(StageBase::Stage(below)) =
        stages.last().map(|stage| &builder.plan.stages[*stage].base)
    {
        stages.push(*below);
    }
    stages.reverse();
    stages
}
