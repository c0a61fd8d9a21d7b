//! Small files of a layer, made by several threads.
//!
//! Entries of a tar may depend on each other in any way: what comes later may replace a file, link to it, lie below it or
//! change its directory. So all that is not one more new file waits until those that were handed out are there
//! ([`Crew::settle`]), unless it cannot meet them. The tree is the same as that of one thread, and so is the error: that of
//! the earliest entry.

use super::make::{BUFFER, make_file};
use super::metadata::describe;
use super::{ApplyOptions, Owners};
use crate::error::{Error, Result};
use crate::layers::place::{Inode, Place};
use crate::layers::{Entry, ImagePath};
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Larger files are made by whoever reads the tar.
pub(super) const MOST: u64 = 128 << 10;

/// Files that wait.
const WAITING: usize = 32;

/// Threads at most.
const THREADS: usize = 3;

/// Layers with fewer files are not worth threads.
const FEW: u64 = if cfg!(test) { 1 } else { 200 };

#[cfg(test)]
thread_local! {
    /// No other threads for what this one applies.
    pub(in crate::layers) static ALONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A new file that can be made in any order with others.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) path: ImagePath,
    pub(super) place: Place,
    pub(super) entry: Entry,
    pub(super) body: Vec<u8>,
}

impl NewFile {
    fn make(&self, owners: Owners, buffer: &mut [u8]) -> Result<()> {
        make_file(&self.path, &self.place, &mut &self.body[..], buffer)?;
        describe(&self.path, &self.entry, &self.place, (owners, true))
    }
}

/// The threads, and what they have not made yet.
#[derive(Debug)]
pub(super) struct Crew {
    owners: Owners,
    /// How many there may be.
    most: usize,
    threads: Vec<JoinHandle<()>>,
    jobs: Option<SyncSender<(u64, NewFile)>>,
    shared: Arc<Shared>,
    /// Where files may be missing.
    pending: HashSet<(Inode, Vec<u8>)>,
    files: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// The earliest one.
    failed: Option<(u64, Error)>,
}

impl Crew {
    /// Starts nobody yet.
    pub(super) fn new(options: &ApplyOptions) -> Self {
        #[cfg(test)]
        let cores: usize = if ALONE.get() { 1 } else { 4 };
        #[cfg(not(test))]
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            owners: Owners::of(options),
            // One reads the tar, and one may unpack it.
            most: cores.saturating_sub(2).min(THREADS),
            threads: Vec::new(),
            jobs: None,
            shared: Arc::default(),
            pending: HashSet::new(),
            files: 0,
        }
    }

    /// Whether it is worth it to hand over a file of this size.
    pub(super) fn takes(&mut self, size: u64) -> bool {
        self.files += 1;
        self.most > 0 && size <= MOST && self.files >= FEW
    }

    /// Hands over a file, or makes it where all are busy, through the buffer.
    pub(super) fn give(&mut self, file: NewFile, buffer: &mut [u8]) -> Result<()> {
        let owners = self.owners;
        let key = (file.place.inode, file.place.name.clone());
        let Some(jobs) = self.started() else { return file.make(owners, buffer) };
        self.shared.lock().open += 1;
        match jobs.try_send((self.files, file)) {
            Ok(()) => {
                self.pending.insert(key);
                self.shared.failure()
            }
            Err(TrySendError::Full((_, file)) | TrySendError::Disconnected((_, file))) => {
                self.shared.close(None);
                file.make(owners, buffer)
            }
        }
    }

    /// The way to the threads; none where there are none to be had.
    fn started(&mut self) -> Option<SyncSender<(u64, NewFile)>> {
        if self.jobs.is_none() {
            let (jobs, waiting) = sync_channel(WAITING);
            let waiting = Arc::new(Mutex::new(waiting));
            let start = |_| {
                let (waiting, shared, owners) =
                    (Arc::clone(&waiting), Arc::clone(&self.shared), self.owners);
                let thread = thread::Builder::new().name("unpack-files".to_owned());
                thread.spawn(move || work(&waiting, &shared, owners)).ok()
            };
            self.threads = (0..self.most).map_while(start).collect();
            if self.threads.is_empty() {
                self.most = 0;
                return None;
            }
            self.jobs = Some(jobs);
        }
        self.jobs.clone()
    }

    /// Whether a file there may be missing.
    pub(super) fn has(&self, place: &Place) -> bool {
        !self.pending.is_empty() && self.pending.contains(&(place.inode, place.name.clone()))
    }

    /// Waits until all files are there.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.pending.clear();
        let state = self.shared.lock();
        let state = self.shared.settled.wait_while(state, |state| state.open > 0);
        drop(state);
        self.shared.failure()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is made, or failed.
    fn close(&self, failed: Option<(u64, Error)>) {
        let mut state = self.lock();
        state.open -= 1;
        if let Some((number, error)) = failed
            && state.failed.as_ref().is_none_or(|(known, _)| number < *known)
        {
            state.failed = Some((number, error));
        }
        if state.open == 0 {
            self.settled.notify_all();
        }
    }

    /// What went wrong first, when all that came before it is done.
    fn failure(&self) -> Result<()> {
        let mut state = self.lock();
        if state.failed.is_none() {
            return Ok(());
        }
        while state.open > 0 {
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failed.clone().map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn work(waiting: &Mutex<Receiver<(u64, NewFile)>>, shared: &Shared, owners: Owners) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, file)) = next else { return };
        shared.close(file.make(owners, &mut buffer).err().map(|error| (number, error)));
    }
}
