//! Layers in the background: tar, compress and hash while later steps already run on the snapshot.
//!
//! A step hands over its change stream and gets a [`Pending`] layer. A few threads take jobs from a bounded queue;
//! memory is bounded by the queue, not by the size of layers.

use super::beforehand::{Beforehand, Watched};
use super::care;
use super::naming::Blame;
use super::planned::Planned;
use super::store::Store;
use super::unread::Unread;
use crate::error::{Error, Result};
use crate::executor::sandbox::Cancel;
use crate::executor::spawner::Errands;
use crate::layers::beforehand::Manner;
use crate::layers::blocks::Blocks;
use crate::layers::compress::{Compression, Workers, compress_layer_noting};
use crate::layers::fresh::write_fresh_layer;
use crate::layers::snapshot::Snapshot;
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::layers::{Changes, Layer};
use crate::oci::layout::BlobWriter;
use crate::progress::{Emitter, Event};
use crate::sys::writeback::{self, PART};
use crate::timings::{Phase, Place};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A layer that is there, or will be.
#[derive(Debug, Default)]
pub(super) struct Pending {
    result: Mutex<Option<Result<Layer>>>,
    done: Condvar,
    turn: Mutex<()>,
}

impl Pending {
    /// One that is there.
    pub(super) fn ready(layer: Layer) -> Arc<Self> {
        Arc::new(Self { result: Mutex::new(Some(Ok(layer))), ..Self::default() })
    }

    /// True until it is there, or will never be.
    pub(super) fn is_open(&self) -> bool {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).is_none()
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

    /// Waits for the layer, or until it will never come, or `is_over` says so after somebody was woken.
    pub(super) fn wait_until(&self, is_over: &dyn Fn() -> bool) -> Option<Layer> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        while result.is_none() && !is_over() {
            result = self.done.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
        result.as_ref()?.as_ref().ok().cloned()
    }

    /// The right to unpack it and what comes with it; waits until nobody else has it.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all who wait look again.
    pub(super) fn wake(&self) {
        // Whoever looked before waits by now.
        drop(self.result.lock());
        self.done.notify_all();
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
    pub(super) content: Content,
    /// Whose layer it is, for errors: they come when the step itself is long done.
    pub(super) blame: Blame,
    /// File times.
    pub(super) times: TimePolicy,
    /// The step it is for, where that is recorded.
    pub(super) place: Option<Place>,
    /// Since when it waits, likewise.
    pub(super) queued: Option<Instant>,
    /// What was packed of it beforehand.
    pub(super) watched: Option<Arc<Watched>>,
}

/// Changes, and where the bytes of their files are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// In the upper directory of a snapshot; in none when nothing changed.
    Tree(Arc<Changes>, Option<Arc<Snapshot>>),
    /// The same, and what changed is still to be read.
    Unread(Arc<Unread>),
    /// Where they come from.
    Planned(Arc<Planned>),
}

impl Content {
    /// With what changed.
    fn read(&self, times: &TimePolicy, emitter: &Emitter) -> Result<Self> {
        let Self::Unread(unread) = self else { return Ok(self.clone()) };
        let _diff = emitter.span(Phase::Diff);
        let changes = Arc::new(unread.changes(times)?);
        Ok(Self::Tree(changes, Some(Arc::clone(&unread.snapshot))))
    }

    /// Writes the tar.
    fn write(&self, store: &Store, times: &TimePolicy, out: &mut dyn Write) -> Result<()> {
        match self {
            // The next step changes this very tree as soon as its layer is written: what it overwrites or removes would
            // have gone to the disk for nothing.
            Self::Tree(changes, Some(snapshot)) if snapshot.is_whole() => {
                write_layer(&**changes, snapshot.upper(), times, out)
            }
            Self::Tree(changes, snapshot) => {
                let root = snapshot.as_ref().map_or(store.dir(), |snapshot| snapshot.upper());
                write_fresh_layer(changes, root.as_fd(), times, out)
            }
            Self::Unread(_) => Err(Error::internal("what changed was not read")),
            Self::Planned(planned) => planned.write(times, out),
        }
    }
}

/// The threads that write layers.
#[derive(Debug)]
pub(super) struct Jobs {
    beforehand: Option<Beforehand>,
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Jobs {
    /// Starts them. Without `errands` nothing is packed beforehand.
    pub(super) fn start(
        store: &Arc<Store>,
        compression: Compression,
        emitter: &Emitter,
        (cancel, errands): (&Arc<Cancel>, Option<Errands>),
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (queue, jobs) = sync_channel::<Job>(64);
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = Arc::new(Workers::new(cores));
        let blocks = match compression {
            Compression::Gzip { level } if level > 0 => known_blocks(store, level),
            _ => None,
        };
        let threads = (0..cores.clamp(1, 4))
            .map(|_| {
                let (jobs, store) = (Arc::clone(&jobs), Arc::clone(store));
                let (workers, emitter) = (Arc::clone(&workers), emitter.clone());
                let (cancel, blocks) = (Arc::clone(cancel), blocks.clone());
                std::thread::spawn(move || {
                    while let Some(job) = next(&jobs) {
                        let _at = emitter.timings().at(job.place);
                        emitter.timings().waited(Phase::Queue, job.queued);
                        let result = match cancel.interrupted() {
                            Some(error) => Err(error),
                            None => write(
                                &job,
                                &store,
                                (compression, &workers, blocks.as_ref()),
                                &emitter,
                            )
                            .map_err(|error| job.blame.placed(error)),
                        };
                        if let Ok(layer) = &result {
                            let digest = layer.digest.to_string();
                            emitter.emit(Event::LayerDone { digest, size: layer.size });
                        }
                        job.slot.set(result);
                        drop(job.watched);
                    }
                })
            })
            .collect();
        let beforehand = blocks.filter(|_| store.room().limit.is_none()).zip(errands);
        let beforehand = beforehand.and_then(|(blocks, errands)| Beforehand::new(&blocks, errands));
        Self { beforehand, queue: Some(queue), threads }
    }

    /// A command begins to write into this upper directory, of which a layer is made in this manner. What is packed of it
    /// goes with the value.
    pub(super) fn watch(&self, upper: BorrowedFd<'_>, manner: Manner) -> Option<Arc<Watched>> {
        self.beforehand.as_ref()?.watch(upper, manner)
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

/// What the store knows of packed blocks; without it everything is packed.
fn known_blocks(store: &Store, level: u8) -> Option<Arc<Blocks>> {
    let (dir, blobs) = (store.sub("cache/blocks"), store.images().blob_dir());
    std::fs::create_dir_all(&dir).ok()?;
    std::fs::create_dir_all(&blobs).ok()?;
    Blocks::open(&dir, &blobs, level).ok()
}

fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn write(
    job: &Job,
    store: &Store,
    (compression, workers, blocks): (Compression, &Workers, Option<&Arc<Blocks>>),
    emitter: &Emitter,
) -> Result<Layer> {
    let content = job.content.read(&job.times, emitter)?;
    let mut span = emitter.span(Phase::Layer);
    let blob = Eager { blob: store.images().blob_writer()?.trusted(), begun: 0 };
    let mut journal = blocks.map(|blocks| blocks.journal(&blob.blob.name()));
    let target = (blob, journal.as_mut());
    let (blob, layer) = compress_layer_noting(compression, workers, target, |out| {
        let mut out = Counting { out, bytes: 0 };
        let written = content.write(store, &job.times, &mut out);
        span.took(out.bytes);
        written
    })?;
    span.gave(layer.size);
    if let Some(journal) = &journal {
        span.knew(journal.known());
    }
    span.about(&layer.digest);
    care::room::check(store, emitter)?;
    blob.blob.commit(&layer.digest)?;
    if let Some(journal) = journal {
        journal.finish(&layer.digest);
    }
    Ok(layer)
}

/// Counts what passes through.
struct Counting<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A blob that goes to the disk while it grows, so that little is left for the sync at the end of the build.
struct Eager {
    blob: BlobWriter,
    /// Bytes that are on their way.
    begun: u64,
}

impl Write for Eager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.blob.write(bytes)?;
        let grown = self.blob.size() - self.begun;
        if grown >= PART {
            writeback::begin(self.blob.as_file(), self.begun, grown);
            self.begun += grown;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Change, ChangeKind, Entry, EntryKind};
    use crate::source::{SourceFile, Span};

    /// Found by building while somebody wrote to a file: the error had no place, since the step was long done.
    #[test]
    fn a_layer_that_fails_later_points_at_its_instruction() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        let cancel = Arc::new(Cancel::new().unwrap());
        let jobs = Jobs::start(&store, Compression::default(), &Emitter::silent(), (&cancel, None));
        let kind = EntryKind::File { size: 1 };
        let entry = Entry { kind, mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };
        let change = Change { path: b"gone".to_vec(), kind: ChangeKind::Present(entry) };
        let slot = Arc::new(Pending::default());
        let source = Arc::new(SourceFile::new("Dockerfile", "FROM scratch\nCOPY gone /\n"));
        jobs.submit(Job {
            slot: Arc::clone(&slot),
            content: Content::Tree(Arc::new([change].into_iter().collect()), None),
            blame: Blame { source, span: Span::new(13, 25), platform: Some("linux/s390x".into()) },
            times: TimePolicy { epoch: None, started: (0, 0) },
            place: None,
            queued: None,
            watched: None,
        });
        let error = slot.wait().unwrap_err();
        let place = error.place().expect("it has a place");
        assert_eq!((place.source.name(), place.span), ("Dockerfile", Span::new(13, 25)));
        assert_eq!(error.causes().last().unwrap(), "this was for the platform linux/s390x");
        jobs.finish();
    }
}
