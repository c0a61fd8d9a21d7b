//! Brings everything that a build needs into the store, without building: `image prefetch` (docs/offline.md).
//!
//! In: a request whose lock file collects; out: nothing but what the lock file noted. Planning finds the images, of which
//! the rest comes here; what ADD fetches is asked for as the steps would.

use super::finder::Finder;
use super::planning;
use super::request::BuildRequest;
use super::store::Store;
use crate::dockerfile;
use crate::error::Result;
use crate::oci::Platform;
use crate::plan::remote::RemoteSource;
use crate::plan::step::{BaseRef, StepKind};
use crate::progress::Emitter;

/// Brings it in, for all platforms of the request.
pub fn collect(request: &BuildRequest, store: &Store, emitter: &Emitter) -> Result<()> {
    let dockerfile = dockerfile::parse(&request.dockerfile)?;
    let planned = planning::plan_all(&dockerfile, request, store, emitter)?;
    planned.downloads.finish(store, emitter)?;
    planning::warn(&planned.plan, emitter);
    let sources = request.sources(store, emitter);
    for step in planned.plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepKind::Copy(copy) = &step.kind else { continue };
        for (at, source) in &copy.remotes {
            let span = copy.sources.get(*at).map_or(step.span, |(_, span)| *span);
            let brought = match source {
                RemoteSource::Http { url, checksum, .. } => {
                    sources.file(url, checksum.as_ref()).map(drop)
                }
                RemoteSource::Git(url) => {
                    sources.commit(url).and_then(|commit| sources.keep_tree(url, &commit))
                }
            };
            brought.map_err(|error| error.at(&planned.plan.source, span))?;
        }
    }
    if let Some(name) = &request.qemu_image {
        let base = BaseRef { reference: name.familiar(), platform: Platform::host() };
        Finder::new(store, request, emitter).find_whole(&base)?;
    }
    Ok(())
}
