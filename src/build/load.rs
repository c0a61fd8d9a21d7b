//! Loads the finished image into a running engine: `--load`.
//!
//! The engine is looked for before the build does anything, and is the one that gets the image in the end. It takes
//! one platform: of several that were built, this machine's.

use super::output::of_this_machine;
use super::request::{BuildOutcome, BuildRequest, OutputKind};
use super::store::Store;
use super::worker::Worker;
use crate::error::Result;
use crate::net::Engine;
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::progress::Emitter;

/// The engine that a request needs; none when it loads nothing.
pub(super) fn find_engine(request: &BuildRequest) -> Result<Option<Engine>> {
    let wanted = request.outputs.iter().any(|output| output.kind == OutputKind::Load);
    wanted.then(|| Engine::find(&request.engine)).transpose()
}

/// Sends the image that was built, under the names of the request.
pub(super) fn load(
    engine: &Engine,
    request: &BuildRequest,
    store: &Store,
    outcome: &BuildOutcome,
    worker: Option<&Worker>,
    emitter: &Emitter,
) -> Result<()> {
    let descriptor = of_this_machine(outcome)?;
    let _heeding = worker.map(|worker| worker.cancel.heed());
    let stop = worker.map(|worker| worker.cancel.watch()).transpose()?;
    let loaded = engine.load(stop, |out| {
        let images = [SaveImage { descriptor, names: &request.tags }];
        let options = SaveOptions::new(SaveFormat::DockerArchive);
        archive::save(store.images(), &images, &options, Output::Stream(out))
    });
    let interrupted = || worker.and_then(|worker| worker.cancel.interrupted());
    let names = loaded.map_err(|error| interrupted().unwrap_or(error))?;
    emitter.note(format!("loaded {} into {engine}", names.join(", ")));
    Ok(())
}
