//! From layers to a tree: finds the snapshot of a stack, or unpacks what is missing from blobs.

use super::apart::beside;
use super::images::BaseImage;
use super::made::empty_diff_id;
use super::request::ContextSource;
use super::stage::Builder;
use super::state::{Slot, StageState};
use super::store::Store;
use super::unpacking::Alone;
use super::worker::Worker;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::Layer;
use crate::layers::ahead::read_ahead;
use crate::layers::apply::{AppliedStats, ApplyOptions, Devices, apply};
use crate::layers::compress::guarded_within;
use crate::layers::snapshot::{Draft, Snapshot};
use crate::layers::tar_read::Limits;
use crate::oci::decompress::MEMORY_LIMIT;
use crate::oci::digest::HashingReader;
use crate::oci::spec::descriptor;
use crate::plan::step::CopyFrom;
use crate::timings::Phase;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The tree of an image of the store, for `image export`.
pub fn of_image(
    store: &Store,
    image: &BaseImage,
    worker: &Worker,
) -> Result<Option<Arc<Snapshot>>> {
    materialise(store, &base_state(image), worker)
}

pub(super) fn base_state(image: &BaseImage) -> StageState {
    let key = super::keys::base(Some(&image.manifest));
    StageState::new(key, image.slots(), Vec::new())
}

/// The tree of all layers of a state so far; `None` is the empty tree.
pub(super) fn materialise(
    store: &Store,
    state: &StageState,
    worker: &Worker,
) -> Result<Option<Arc<Snapshot>>> {
    if worker.snapshots.are_whole() {
        // Nobody waits for a layer with a tree in hand that somebody else may want to take over.
        wait_for_all(&state.slots)?;
    }
    let mut have = state.slots.len();
    let mut tree = None;
    while have > 0 {
        tree = find(state, have, worker);
        if tree.is_some() {
            break;
        }
        have -= 1;
    }
    if have == state.slots.len() {
        return Ok(tree);
    }
    // Stages that wait for the same layers: one has them unpacked as they come, the others find the tree.
    let open = state.slots[have..].iter().find(|slot| slot.layer.is_open());
    let _turn = open.map(|slot| slot.layer.turn());
    beside(store, &state.slots[have..], worker, |apart, begin| {
        if state.slots[have].layer.is_open() {
            begin();
        }
        for (at, slot) in state.slots[have..].iter().enumerate() {
            worker.cancel.check()?;
            slot.layer.wait()?;
            // None while a layer below is still being written: then the stack is this build's own.
            let chain = state.chain(have + at + 1);
            let alone =
                chain.as_ref().map(|chain| Alone::with(store, chain, worker)).transpose()?;
            if let (Some(chain), Some(Some(_))) = (&chain, &alone)
                && let Some(found) = worker.snapshots.by_chain(chain)
            {
                tree = Some(found);
                continue;
            }
            // Not before: whoever holds the lock does all of it.
            begin();
            tree = match (apart.take(at), &tree) {
                (Some(made), Some(below)) => Some(made.onto(below)?),
                _ => unpack(store, slot, tree.take(), worker)?,
            };
            if let (Some(tree), Some(chain)) = (&tree, &chain) {
                worker.snapshots.alias(chain, tree)?;
            }
        }
        Ok(tree.take())
    })
}

fn wait_for_all(slots: &[Slot]) -> Result<()> {
    slots.iter().try_for_each(|slot| slot.layer.wait().map(drop))
}

fn unpack(
    store: &Store,
    slot: &Slot,
    below: Option<Arc<Snapshot>>,
    worker: &Worker,
) -> Result<Option<Arc<Snapshot>>> {
    let layer = slot.layer.wait()?;
    if layer.diff_id == empty_diff_id() {
        return Ok(below);
    }
    let mut span = worker.timings.span(Phase::Unpack);
    span.about(&layer.digest);
    span.took(layer.size);
    let Some(draft) = worker.snapshots.prepare(below.as_ref(), false)? else {
        return Err(taken());
    };
    let root = draft.mount(None, false)?;
    let root = crate::sys::fs::reopen_dir(&root)
        .map_err(|error| Error::environment("cannot open a tree of the store").cause(error))?;
    let options = ApplyOptions::layer(devices(worker));
    let is_over = || worker.cancel.is_cancelled();
    let stats = unpack_into(store, &layer, (&root, &options), (MEMORY_LIMIT, &is_over));
    worker.cancel.check()?;
    let stats = stats.map_err(|error| {
        if error.kind() == ErrorKind::Integrity {
            worker.unfit.add(&layer.digest);
        }
        error.wrap(format!("cannot unpack layer {}", layer.digest))
    })?;
    if stats.placeholders > 0 {
        draft.note_placeholders();
    }
    draft.commit().map(Some)
}

/// A draft on the tree of an image of the store.
pub fn draft_on<'w>(store: &Store, image: &BaseImage, worker: &'w Worker) -> Result<Draft<'w>> {
    draft(store, &base_state(image), worker, false)
}

/// A draft on the tree of a state, and that tree. What a step took over meanwhile is unpacked again. With `keep` it stays
/// for others.
pub(super) fn draft<'w>(
    store: &Store,
    state: &StageState,
    worker: &'w Worker,
    keep: bool,
) -> Result<Draft<'w>> {
    if worker.snapshots.are_whole() {
        // Their layers are written from the tree that is about to change.
        wait_for_all(&state.slots)?;
    }
    for _ in 0..ATTEMPTS {
        let tree = materialise(store, state, worker)?;
        if let Some(draft) = worker.snapshots.prepare(tree.as_ref(), keep)? {
            return Ok(draft);
        }
    }
    Err(taken())
}

/// The files of a state, only to be read.
pub(super) fn view(store: &Store, state: &StageState, worker: &Worker) -> Result<OwnedFd> {
    for _ in 0..ATTEMPTS {
        let tree = materialise(store, state, worker)?;
        if let Some(view) = worker.snapshots.view(tree.as_ref())? {
            return Ok(view);
        }
    }
    Err(taken())
}

/// How often a tree may be taken away by another step between being found and being used.
const ATTEMPTS: usize = 20;

fn taken() -> Error {
    Error::environment("other builds take the same tree over again and again")
        .hint("give each build a store of its own with `--root`")
}

/// Bytes of a blob from which on it is decompressed beside the work on the tree.
pub(super) const WORTH_A_THREAD: u64 = 128 << 10;

/// Applies a layer to a root, until `is_over`; its decompression may take so much `memory`.
pub(super) fn unpack_into(
    store: &Store,
    layer: &Layer,
    (root, options): (&OwnedFd, &ApplyOptions),
    (memory, is_over): (u32, &(dyn Fn() -> bool + Sync)),
) -> Result<AppliedStats> {
    let limits = Limits::default();
    let descriptor = descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size);
    let blob = store.images().open_blob(&descriptor)?;
    let plain = guarded_within(BufReader::with_capacity(1 << 18, blob), limits.ratio, memory)?;
    let plain = Until { plain, is_over };
    let (stats, found) = if layer.size < WORTH_A_THREAD {
        let mut hashed = HashingReader::new(plain);
        let stats = apply(&mut hashed, root.as_fd(), options)?;
        drain(&mut hashed)?;
        (stats, hashed.finish())
    } else {
        read_ahead(plain, |plain| apply(plain, root.as_fd(), options))?
    };
    if found != layer.diff_id.0 {
        return Err(Error::integrity(format!(
            "its content has the wrong digest: expected {}, found {found}",
            layer.diff_id
        )));
    }
    Ok(stats)
}

/// Reads until somebody says that it is over.
struct Until<'a, R> {
    plain: R,
    is_over: &'a (dyn Fn() -> bool + Sync),
}

impl<R: Read> Read for Until<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if (self.is_over)() {
            return Err(std::io::Error::other("it was stopped"));
        }
        self.plain.read(buffer)
    }
}

impl Builder<'_> {
    /// The layers of the image below a stage.
    fn base_slots<'s>(&self, state: &'s StageState, stage: usize) -> Result<&'s [Slot]> {
        let of_image = self.image_below(stage)?.map_or(0, |image| image.layers.len());
        Ok(state.slots.get(..of_image).unwrap_or_default())
    }

    /// Whether some of them are on their way.
    pub(super) fn is_base_coming(&self, state: &StageState, stage: usize) -> Result<bool> {
        Ok(self.base_slots(state, stage)?.iter().any(|slot| slot.layer.is_open()))
    }

    /// Unpacks them as they come.
    pub(super) fn await_base(
        &self,
        state: &StageState,
        stage: usize,
        worker: &Worker,
    ) -> Result<()> {
        let slots = self.base_slots(state, stage)?;
        let _span = self.emitter.span(Phase::WaitBase);
        if worker.snapshots.are_whole() {
            // Each stage would unpack a tree of its own, and the step another one.
            return wait_for_all(slots);
        }
        materialise(self.store, &state.on(slots.to_vec()), worker)?;
        Ok(())
    }

    fn named_tree(&self, name: &str) -> Result<FileTree> {
        match self.request.contexts.get(name) {
            Some(ContextSource::Files(tree)) => Ok(tree.clone()),
            _ => Err(Error::internal(format!("the context `{name}` has no files"))),
        }
    }

    /// The files that a COPY or a bind mount takes from; `None` when that needs a worker and there is none.
    pub(super) fn source(
        &self,
        from: &CopyFrom,
        worker: Option<&Worker>,
    ) -> Result<Option<FileTree>> {
        let state = match from {
            CopyFrom::Context => return Ok(Some(self.request.context.clone())),
            CopyFrom::Named(name) => return self.named_tree(name).map(Some),
            CopyFrom::Stage(stage) => match worker {
                None => return Ok(None),
                Some(_) => self.wait_for(*stage)?,
            },
            CopyFrom::Image(base) => base_state(self.image(base)?),
        };
        let Some(worker) = worker else { return Ok(None) };
        Ok(Some(FileTree::rootfs(view(self.store, &state, worker)?)))
    }
}

fn find(state: &StageState, count: usize, worker: &Worker) -> Option<Arc<Snapshot>> {
    let slot = &state.slots[count - 1];
    if let Some(snapshot) = slot.snapshot.as_ref().filter(|snapshot| !snapshot.is_gone()) {
        return Some(Arc::clone(snapshot));
    }
    if let Some(snapshot) = slot.recorded.as_ref().and_then(|id| worker.snapshots.find(id)) {
        return Some(snapshot);
    }
    worker.snapshots.by_chain(&state.chain(count)?)
}

fn drain(reader: &mut dyn Read) -> Result<()> {
    std::io::copy(reader, &mut std::io::sink())
        .or_error(ErrorKind::Integrity, || "its end cannot be read".to_owned())
        .map(drop)
}

/// How device nodes of layers are unpacked.
pub fn devices_of(worker: &Worker) -> Devices {
    devices(worker)
}

/// Device nodes of layers: real ones where they can be made.
pub(super) fn devices(worker: &Worker) -> Devices {
    if worker.isolation.placeholders() { Devices::Placeholder } else { Devices::Real }
}
