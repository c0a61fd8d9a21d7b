//! Layers further up in a tree are unpacked while those below them are unpacked, or still come.
//!
//! In: the layers that a tree lacks. Out: those that need nothing of what is below, each in a draft of its own that only
//! has to be put where it belongs; the rest is unpacked in its turn, and so is everything that goes wrong here, which then
//! says why. Nobody waits for a thread that waits for a layer: they end with whoever unpacks the tree.

use super::made::empty_diff_id;
use super::state::Slot;
use super::store::Store;
use super::tree::{WORTH_A_THREAD, devices, unpack_into};
use super::worker::Worker;
use crate::error::Result;
use crate::layers::Layer;
use crate::layers::apply::ApplyOptions;
use crate::layers::snapshot::{Draft, Snapshot};
use crate::oci::DiffId;
use crate::timings::Phase;
use std::cell::Cell;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Layers that are unpacked apart at once in a build.
const AT_ONCE: usize = 4;

/// Bytes that the window or dictionary of such a layer may have: several of the usual ones fit into what one may ask for.
const MEMORY: u32 = 32 << 20;

/// The layers that a tree lacks, the lowest first.
pub(super) struct Apart<'a> {
    store: &'a Store,
    slots: &'a [Slot],
    worker: &'a Worker,
    states: Mutex<Vec<State<'a>>>,
    made: Condvar,
    over: AtomicBool,
}

enum State<'a> {
    /// Nobody has begun.
    Open,
    /// A thread unpacks it, or waits for it.
    Begun,
    /// It is here, or has to be unpacked in its turn.
    Made(Option<Made<'a>>),
}

/// A layer that was unpacked apart.
pub(super) struct Made<'a> {
    draft: Draft<'a>,
    own_root: bool,
    /// Keeps other builds from doing the same.
    _lock: File,
}

impl Made<'_> {
    /// Makes it a snapshot on what it belongs on.
    pub(super) fn onto(self, below: &Arc<Snapshot>) -> Result<Arc<Snapshot>> {
        self.draft.onto(below, self.own_root)?.commit()
    }
}

/// Lets `work` unpack the layers of a tree in their turn; threads begin with those further up when it says so.
pub(super) fn beside<T>(
    store: &Store,
    slots: &[Slot],
    worker: &Worker,
    work: impl FnOnce(&Apart<'_>, &dyn Fn()) -> Result<T>,
) -> Result<T> {
    let states = Mutex::new(slots.iter().map(|_| State::Open).collect());
    let (made, over) = (Condvar::new(), AtomicBool::new(false));
    let apart = Apart { store, slots, worker, states, made, over };
    let (apart, begun) = (&apart, Cell::new(apart.threads() == 0));
    let place = worker.timings.place();
    thread::scope(|scope| {
        let _end = End { over: &apart.over, slots };
        let begin = || {
            if !begun.replace(true) {
                let helpers = (0..apart.threads()).map_while(|_| Helper::of(worker));
                for helper in helpers {
                    let thread = thread::Builder::new().name("unpack-apart".to_owned());
                    // Without it there is only less help.
                    let _started = thread.spawn_scoped(scope, move || {
                        let _counted = helper;
                        let _at = worker.timings.at(place);
                        apart.run();
                    });
                }
            }
        };
        work(apart, &begin)
    })
}

/// One of the threads of a build.
struct Helper<'a>(&'a AtomicUsize);

impl<'a> Helper<'a> {
    /// `None` when there are enough.
    fn of(worker: &'a Worker) -> Option<Self> {
        let more = |count: usize| (count < AT_ONCE).then_some(count + 1);
        let counted = worker.helpers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.is_ok().then_some(Self(&worker.helpers))
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the threads, however the work ends.
struct End<'a> {
    over: &'a AtomicBool,
    slots: &'a [Slot],
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.slots.iter().for_each(|slot| slot.layer.wake());
    }
}

impl<'a> Apart<'a> {
    /// The layer at `at`, if it was unpacked apart; waits for it where that was begun.
    pub(super) fn take(&self, at: usize) -> Option<Made<'a>> {
        let mut states = self.states();
        while matches!(states[at], State::Begun) {
            states = self.made.wait(states).unwrap_or_else(PoisonError::into_inner);
        }
        match std::mem::replace(&mut states[at], State::Made(None)) {
            State::Made(made) => made,
            State::Open | State::Begun => None,
        }
    }

    fn states(&self) -> MutexGuard<'_, Vec<State<'a>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have something to do: none where there is one processor, or each tree is a directory of its own.
    fn threads(&self) -> usize {
        let upper = self.slots.iter().skip(1);
        let worth = upper.filter(|slot| slot.layer.get().is_none_or(|layer| is_worth_it(&layer)));
        let one = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        if one || self.worker.snapshots.are_whole() { 0 } else { worth.count().min(AT_ONCE) }
    }

    fn run(&self) {
        while let Some(mut begun) = self.next() {
            begun.made = self.unpack(begun.at);
        }
    }

    /// The lowest one that is here and that nobody has begun with, or else the lowest that comes.
    fn next(&self) -> Option<Begun<'_, 'a>> {
        let mut states = self.states();
        let open = |at: &usize| matches!(states[*at], State::Open);
        let here = |at: &usize| open(at) && !self.slots[*at].layer.is_open();
        let at = (1..states.len()).find(here).or_else(|| (1..states.len()).find(open))?;
        states[at] = State::Begun;
        Some(Begun { apart: self, at, made: None })
    }

    fn unpack(&self, at: usize) -> Option<Made<'a>> {
        let is_over = || self.over.load(Ordering::Relaxed) || self.worker.cancel.is_cancelled();
        let layer = self.slots[at].layer.wait_until(&is_over)?;
        if !is_worth_it(&layer) {
            return None;
        }
        let lock = lock(self.store, &layer.diff_id)?;
        let mut span = self.worker.timings.span(Phase::Unpack);
        span.about(&layer.digest);
        span.took(layer.size);
        let snapshots = &self.worker.snapshots;
        let draft = snapshots.prepare(None, false).ok().flatten()?;
        let root = draft.mount(None, false).ok()?;
        let apart = Some(snapshots.xattr_flavour());
        let options = ApplyOptions { apart, ..ApplyOptions::layer(devices(self.worker)) };
        let unpacked = unpack_into(self.store, &layer, (&root, &options), (MEMORY, &is_over));
        let Ok(stats) = unpacked else {
            span.forget();
            // Before it is unpacked again: there may not be room for both.
            draft.discard();
            return None;
        };
        if stats.placeholders > 0 {
            draft.note_placeholders();
        }
        Some(Made { draft, own_root: stats.root, _lock: lock })
    }
}

/// A layer with which a thread has begun. Dropped, it tells what became of it.
struct Begun<'s, 'a> {
    apart: &'s Apart<'a>,
    at: usize,
    made: Option<Made<'a>>,
}

impl Drop for Begun<'_, '_> {
    fn drop(&mut self) {
        self.apart.states()[self.at] = State::Made(self.made.take());
        self.apart.made.notify_all();
    }
}

fn is_worth_it(layer: &Layer) -> bool {
    layer.size >= WORTH_A_THREAD && layer.diff_id != empty_diff_id()
}

/// `None` while another build does it: that one will have the tree first.
fn lock(store: &Store, diff_id: &DiffId) -> Option<File> {
    // A fixed set of files, which are never removed; two layers that share one are only not helped both.
    let path = store.sub("locks").join(format!("apart-{}", &diff_id.0.hex()[..2]));
    let file = File::options().create(true).append(true).open(path).ok()?;
    file.try_lock().ok()?;
    Some(file)
}
