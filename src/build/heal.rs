//! What makes a second attempt worth while: blobs that are not what their name says, and layers of caches that are, and
//! still cannot be unpacked.
//!
//! Only blobs that the attempt opened and did not read whole are looked at: what else is damaged in the store is nothing
//! to a build that does not need it, and its error is the one to show.

use super::images::BaseImage;
use super::planning::Images;
use super::store::Store;
use super::worker::Worker;
use super::{Inputs, blobs};
use crate::error::{Error, Result};
use crate::oci::Digest;
use std::sync::{Mutex, PoisonError};

/// Layers that could not be unpacked since they are not what a layer has to be.
#[derive(Debug, Default)]
pub struct Unfit(Mutex<Vec<Digest>>);

impl Unfit {
    /// Notes one.
    pub(super) fn add(&self, layer: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(layer.clone());
    }

    fn take(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// After an attempt that found wrong bytes: true when the next one makes them again.
pub(super) fn heal(inputs: &Inputs<'_>, worker: Option<&Worker>) -> Result<bool> {
    let damaged = remove_damaged(inputs.store, inputs.images)?;
    let unfit = worker.map(|worker| worker.unfit.take()).unwrap_or_default();
    let made_by_steps = unfit.iter().filter(|layer| base_of(inputs.images, layer).is_none());
    // Their steps are carried out, and the new records take the place of those that led here.
    let refused = made_by_steps.map(|layer| inputs.imports.refuse(layer)).count();
    Ok(damaged || refused > 0)
}

/// Removes what the attempt found damaged; true when there was something that can be made again.
fn remove_damaged(store: &Store, images: &Images) -> Result<bool> {
    let mut found = false;
    for digest in store.images().take_doubts() {
        match base_of(images, &digest) {
            None => found |= blobs::remove_damaged(store, &digest),
            Some(name) if blobs::is_damaged(store, &digest) => {
                return Err(Error::integrity(format!(
                    "layer {digest} of the base image `{name}` is damaged"
                ))
                .hint("import or pull the image again; nothing else is lost"));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

/// Name of the base image that a layer belongs to.
fn base_of<'i>(images: &'i Images, layer: &Digest) -> Option<&'i str> {
    let has = |image: &BaseImage| image.layers.iter().any(|found| found.digest == *layer);
    images.iter().find(|(_, image)| has(image)).map(|(base, _)| base.reference.as_str())
}
