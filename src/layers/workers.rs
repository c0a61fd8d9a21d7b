//! Threads that compress blocks, shared by all layers of a process.
//!
//! A job waits for no other, only for who reads what is packed already, so every job ends and nobody who waits for one can
//! wait for ever.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of compression threads.
#[derive(Debug)]
pub struct Workers {
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads (at least one). Where the system gives none, callers do the work themselves.
    pub fn new(count: usize) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let start = |number: usize| {
            let queue = Arc::clone(&queue);
            let name = format!("compress-{number}");
            thread::Builder::new().name(name).spawn(move || work(&queue)).ok()
        };
        Self { threads: (0..count.max(1)).map_while(start).collect(), jobs: Some(jobs) }
    }

    /// Number of threads, at least one.
    pub fn count(&self) -> usize {
        self.threads.len().max(1)
    }

    /// Runs `work` on some thread; the result comes through the receiver, which fails only if `work` panicked.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Receiver<T> {
        let (result, receiver) = sync_channel(1);
        let job: Job = Box::new(move || {
            // Nobody waits any more when the layer failed meanwhile.
            let _unwanted = result.send(work());
        });
        match &self.jobs {
            Some(jobs) if !self.threads.is_empty() => {
                if let Err(unsent) = jobs.send(job) {
                    (unsent.0)();
                }
            }
            _ => job(),
        }
        receiver
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic was already reported by the panic hook, and its waiter got an error.
            let _panicked = thread.join();
        }
    }
}
