//! Base images: what a stage needs to know of one, and reading it from the store.

use super::assemble::HistoryItem;
use super::jobs::Pending;
use super::state::Slot;
use super::store::Store;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::oci::blobs::Blobs;
use crate::oci::spec::{Descriptor, History, ImageConfig, digest_of};
use crate::oci::{Digest, Platform, resolve};
use crate::plan::step::{BaseRef, BuildPlan, CopyFrom, RunMountKind, StepKind};
use crate::source::Span;
use std::sync::Arc;

/// An image to start from.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// The same as they come, where some are on their way; else nothing.
    coming: Vec<Arc<Pending>>,
}

impl BaseImage {
    /// One of which everything is here.
    pub fn new(manifest: Digest, config: ImageConfig, layers: Vec<Layer>) -> Self {
        Self { manifest, config, layers, coming: Vec::new() }
    }

    /// The same whose layers come like this.
    pub(super) fn coming(self, coming: Vec<Arc<Pending>>) -> Self {
        Self { coming, ..self }
    }

    /// Its layers for a stage; some of them may be on their way.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let slot = |(at, layer): (usize, &Layer)| {
            let coming = self.coming.get(at).cloned();
            let coming = coming.unwrap_or_else(|| Pending::ready(layer.clone()));
            Slot::of_image(coming, layer.diff_id.clone())
        };
        self.layers.iter().enumerate().map(slot).collect()
    }

    /// Waits until all of it is here.
    pub(super) fn wait(&self) -> Result<()> {
        self.coming.iter().try_for_each(|layer| layer.wait().map(drop))
    }

    /// Its history, which speaks of as many layers as there are.
    pub fn entries(&self) -> Vec<History> {
        matched(self.config.history.clone(), self.layers.len())
    }

    /// Its history for a stage.
    pub(super) fn history(&self) -> Vec<HistoryItem> {
        self.entries().into_iter().map(HistoryItem::Inherited).collect()
    }
}

/// A history that speaks of as many layers as there are, as BuildKit makes it before it adds its own: layers that other
/// programs left out get an entry without a text, and where there are too many entries the first ones lose their layer.
fn matched(mut history: Vec<History>, layers: usize) -> Vec<History> {
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    let surplus = history.iter_mut().filter(|entry| !entry.empty_layer);
    surplus.take(told.saturating_sub(layers)).for_each(|entry| entry.empty_layer = true);
    let lacking = layers.saturating_sub(told);
    history.extend(std::iter::repeat_n(History::default(), lacking));
    history
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

/// Reads manifest and config of one platform.
pub fn open(store: &Store, descriptor: &Descriptor, platform: &Platform) -> Result<BaseImage> {
    open_in(store.images(), descriptor, platform)
}

/// The same from any place that has the image.
pub(super) fn open_in(
    place: &impl Blobs,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<BaseImage> {
    let image = resolve::resolve(place, descriptor, platform)?;
    let manifest = digest_of(&image.manifest_descriptor)?;
    let mut layers = Vec::new();
    for (descriptor, diff_id) in image.layers_with_diff_ids() {
        let digest = digest_of(descriptor)?;
        if place.size(&digest)? != Some(descriptor.size()) {
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
    Ok(BaseImage::new(manifest, image.config, layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_speaks_of_as_many_layers_as_there_are() {
        let entry = |empty_layer| History { empty_layer, ..History::default() };
        let shape = |told: &[bool], layers| -> Vec<bool> {
            let history = told.iter().map(|empty| entry(*empty)).collect();
            matched(history, layers).iter().map(|entry| entry.empty_layer).collect()
        };
        assert_eq!(shape(&[false, true, false], 2), [false, true, false]);
        assert_eq!(shape(&[], 2), [false, false]);
        assert_eq!(shape(&[true, false], 2), [true, false, false]);
        assert_eq!(shape(&[false, true, false, false], 1), [true, true, true, false]);
    }
}
