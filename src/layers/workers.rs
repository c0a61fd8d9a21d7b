//! Threads that compress blocks, shared by all layers of a process.
//!
//! A job never waits for anything, so every job ends and nobody who waits for one can wait for ever. While commands of a
//! build work, one thread for each stands still, but never all: whoever waits for a layer waits for the command first, and
//! a scheduler that shares between groups of processes would give the command but half of a core.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of compression threads.
#[derive(Debug)]
pub struct Workers {
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    still: Arc<Still>,
}

/// How many threads stand still.
#[derive(Debug, Default)]
struct Still {
    count: Mutex<usize>,
    changed: Condvar,
}

/// One thread stands still until this is dropped.
#[derive(Debug)]
pub struct Left(Arc<Still>);

impl Still {
    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = change(*count);
        self.changed.notify_all();
    }

    /// Waits while a thread that has so many behind it is one of those.
    fn wait(&self, behind: usize) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = self.changed.wait_while(count, |count| *count > behind);
        drop(moved.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.change(|count| count.saturating_sub(1));
    }
}

impl Workers {
    /// Starts `count` threads (at least one). Where the system gives none, callers do the work themselves.
    pub fn new(count: usize) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let still = Arc::<Still>::default();
        let start = |number: usize| {
            let (queue, still) = (Arc::clone(&queue), Arc::clone(&still));
            let name = format!("compress-{number}");
            // The first one never stands still.
            let behind = if number == 0 { usize::MAX } else { count - number - 1 };
            thread::Builder::new().name(name).spawn(move || work(&queue, &still, behind)).ok()
        };
        let threads = (0..count.max(1)).map_while(start).collect();
        Self { threads, jobs: Some(jobs), still }
    }

    /// Leaves a core to a command.
    pub fn leave_a_core(&self) -> Left {
        self.still.change(|count| count + 1);
        Left(Arc::clone(&self.still))
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

fn work(queue: &Mutex<Receiver<Job>>, still: &Still, behind: usize) {
    loop {
        still.wait(behind);
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
        self.still.change(|_| 0);
        for thread in self.threads.drain(..) {
            // A panic was already reported by the panic hook, and its waiter got an error.
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Names of the threads that did the work.
    fn who(workers: &Workers) -> BTreeSet<String> {
        let name = || thread::current().name().unwrap_or_default().to_owned();
        let jobs: Vec<_> = (0..200).map(|_| workers.submit(name)).collect();
        jobs.into_iter().map(|job| job.recv().expect("the job was done")).collect()
    }

    #[test]
    fn commands_get_cores_but_never_all() {
        let workers = Workers::new(3);
        let lefts: Vec<Left> = (0..5).map(|_| workers.leave_a_core()).collect();
        // Whoever waited for a job before may still do one.
        who(&workers);
        assert_eq!(who(&workers), BTreeSet::from(["compress-0".to_owned()]));
        drop(lefts);
        let meet = Arc::new(std::sync::Barrier::new(3));
        let meeting = |_| {
            let meet = Arc::clone(&meet);
            workers.submit(move || meet.wait().is_leader())
        };
        let jobs: Vec<_> = (0..3).map(meeting).collect();
        // Only three threads can meet.
        assert!(jobs.into_iter().all(|job| job.recv().is_ok()));
        let _left = workers.leave_a_core();
        // Threads that stand still end as well.
        drop(workers);
    }
}
