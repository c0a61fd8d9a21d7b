//! Layers are copied for an output in a directory while later steps work: those of the base image, and those that are
//! done.

use super::push::chain;
use super::request::OutputKind;
use super::stage::Builder;
use super::store::Store;
use crate::executor::sandbox::Cancel;
use crate::oci::spec::descriptor;
use crate::sys::writeback::{self, PART};
use crate::timings::Phase;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The directory in whose file system an output will lie that is a layout, if it is there.
pub(super) fn near<'b>(builder: &'b Builder<'_>) -> Option<&'b Path> {
    let layout = |kind: OutputKind| matches!(kind, OutputKind::OciDirectory);
    let output = builder.request.outputs.iter().find(|output| layout(output.kind))?;
    let path = output.dest.as_deref()?;
    let above =
        path.parent().map(|above| if above == Path::new("") { Path::new(".") } else { above });
    [Some(path), above].into_iter().flatten().find(|path| path.is_dir())
}

/// Copies the layers of one target as they get done, until all of its steps are: the rest is copied with the output, by
/// several threads.
pub(super) fn follow(builder: &Builder<'_>, target: usize, near: &Path, cancel: &Cancel) {
    let mut seen = 0;
    let is_synced = shares_file_system(builder.store, near);
    for stage in chain(builder, target) {
        while let Some((slots, complete)) = builder.states.slots_after(stage, seen) {
            if complete && stage == target {
                return;
            }
            for slot in &slots {
                let Ok(layer) = slot.layer.wait() else { return };
                if cancel.is_cancelled() {
                    return;
                }
                let mut span = builder.emitter.span(Phase::Output);
                span.gave(layer.size);
                span.about(&layer.digest);
                let blob = descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size);
                let mut is_copied = false;
                let copied = |file: &File| {
                    is_copied = true;
                    if is_synced {
                        begin(file, layer.size, cancel);
                    }
                };
                builder.store.images().copy_early(&blob, near, copied);
                if !is_copied {
                    span.forget();
                }
            }
            seen += slots.len();
            if complete {
                break;
            }
        }
    }
}

/// Whether the sync at the end of the build waits for what is in a directory too.
fn shares_file_system(store: &Store, near: &Path) -> bool {
    let device = |dir: &Path| dir.metadata().ok().map(|found| found.dev());
    device(near).is_some() && device(near) == device(store.images().root())
}

/// Has the disk take a copy while there is time. A part may have to wait for the disk, so who stops the build is asked
/// between them.
fn begin(file: &File, size: u64, cancel: &Cancel) {
    for at in (0..size).step_by(PART as usize) {
        if cancel.is_cancelled() {
            return;
        }
        writeback::begin(file, at, PART.min(size - at));
    }
}
