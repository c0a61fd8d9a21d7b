//! Layers in the background: tar, compress and hash while later steps already run on the snapshot.
//!
//! A step hands over its change stream and gets a [`Pending`] layer. A few threads take jobs from a bounded queue;
//! memory is bounded by the queue, not by the size of layers.

use super::care;
use super::store::Store;
use crate::error::{Error, Result};
use crate::executor::sandbox::Cancel;
use crate::layers::compress::{Compression, Workers, compress_layer};
use crate::layers::snapshot::Snapshot;
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::layers::{Change, Layer};
use crate::progress::{Emitter, Event};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A layer that is there, or will be.
#[derive(Debug, Default)]
pub(super) struct Pending {
    result: Mutex<Option<Result<Layer>>>,
    done: Condvar,
}

impl Pending {
    /// One that is there.
    pub(super) fn ready(layer: Layer) -> Arc<Self> {
        Arc::new(Self { result: Mutex::new(Some(Ok(layer))), done: Condvar::new() })
    }

    /// The layer, if it is there by now.
    pub(super) fn get(&self) -> Option<Layer> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        result.as_ref().and_then(|result| result.as_ref().ok().cloned())
    }

    /// Waits for the layer.
    pub(super) fn wait(&self) -> Result<Layer> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            result = self.done.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives it to all who wait.
    pub(super) fn set(&self, value: Result<Layer>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.done.notify_all();
    }
}

/// One layer to write.
#[derive(Debug)]
pub(super) struct Job {
    /// Where the result goes.
    pub(super) slot: Arc<Pending>,
    /// What changed.
    pub(super) changes: Vec<Change>,
    /// Whose upper directory holds the files; none when nothing changed.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// File times.
    pub(super) times: TimePolicy,
}

/// The threads that write layers.
#[derive(Debug)]
pub(super) struct Jobs {
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Jobs {
    /// Starts them.
    pub(super) fn start(
        store: &Arc<Store>,
        compression: Compression,
        emitter: &Emitter,
        cancel: &Arc<Cancel>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (queue, jobs) = sync_channel::<Job>(64);
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = Arc::new(Workers::new(cores));
        let threads = (0..cores.clamp(1, 4))
            .map(|_| {
                let (jobs, store) = (Arc::clone(&jobs), Arc::clone(store));
                let (workers, emitter) = (Arc::clone(&workers), emitter.clone());
                let cancel = Arc::clone(cancel);
                std::thread::spawn(move || {
                    while let Some(job) = next(&jobs) {
                        let result = match cancel.interrupted() {
                            Some(error) => Err(error),
                            None => write(&job, &store, compression, &workers, &emitter),
                        };
                        if let Ok(layer) = &result {
                            let digest = layer.digest.to_string();
                            emitter.emit(Event::LayerDone { digest, size: layer.size });
                        }
                        job.slot.set(result);
                    }
                })
            })
            .collect();
        Self { queue: Some(queue), threads }
    }

    /// Queues a job; waits when too many are queued.
    pub(super) fn submit(&self, job: Job) {
        let slot = Arc::clone(&job.slot);
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(job).is_ok());
        if !sent {
            slot.set(Err(Error::internal("the layer threads are gone")));
        }
    }

    /// Waits until all jobs are done.
    pub(super) fn finish(mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked left its slots empty; their waiters were told by `work`.
            let _ended = thread.join();
        }
    }
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn write(
    job: &Job,
    store: &Store,
    compression: Compression,
    workers: &Workers,
    emitter: &Emitter,
) -> Result<Layer> {
    let blob = store.images().blob_writer()?;
    let root = job.snapshot.as_ref().map_or(store.dir(), |snapshot| snapshot.upper());
    let (blob, layer) = compress_layer(compression, workers, blob, |out| {
        write_layer(&job.changes, root.as_fd(), &job.times, out)
    })?;
    care::room::check(store, emitter)?;
    blob.commit(&layer.digest)?;
    Ok(layer)
}
