//! A SHA-256 beside the work that brings the bytes: a thread of its own hashes while the next ones are read and written.
//!
//! In: buffers that were filled; out: empty ones to go on with, and at the end the digest. What fits into one buffer is
//! hashed without a thread. A few buffers are all that is held: who brings bytes faster than they are hashed waits.

use super::Digest;
use sha2::{Digest as _, Sha256};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Bytes of a buffer: large, as each change of hands costs a wake-up.
pub(crate) const BUFFER: usize = 512 << 10;
/// Buffers of one hash: one is filled, one is hashed, one waits.
const BUFFERS: usize = 3;

/// A hash in the making.
#[derive(Debug)]
pub(crate) struct Beside(State);

#[derive(Debug)]
enum State {
    /// Nothing was given away yet, or there can be no thread.
    Here(Sha256),
    There(Worker),
}

#[derive(Debug)]
struct Worker {
    /// `None` once nothing more comes.
    give: Option<SyncSender<(Vec<u8>, usize)>>,
    back: Receiver<Vec<u8>>,
    /// `None` once it was waited for.
    thread: Option<JoinHandle<Sha256>>,
}

impl Beside {
    /// Of nothing so far.
    pub(crate) fn new() -> Self {
        Self(State::Here(Sha256::new()))
    }

    /// Takes the first `filled` bytes of a buffer; gives one to fill.
    pub(crate) fn add(&mut self, buffer: Vec<u8>, filled: usize) -> Vec<u8> {
        if let State::Here(hash) = &mut self.0
            && let Some(worker) = Worker::start(hash.clone(), buffer.len())
        {
            self.0 = State::There(worker);
        }
        match &mut self.0 {
            State::Here(hash) => {
                hash.update(&buffer[..filled]);
                buffer
            }
            State::There(worker) => worker.exchange(buffer, filled),
        }
    }

    /// The digest, when `rest` comes last.
    pub(crate) fn finish(self, rest: &[u8]) -> Digest {
        let mut hash = match self.0 {
            State::Here(hash) => hash,
            State::There(mut worker) => worker.end().expect("hashing does not panic"),
        };
        hash.update(rest);
        Digest::from_hash(&hash.finalize())
    }
}

impl Default for Beside {
    fn default() -> Self {
        Self::new()
    }
}

impl Worker {
    /// `None` where there can be no more threads.
    fn start(mut hash: Sha256, size: usize) -> Option<Self> {
        let (give, given) = sync_channel::<(Vec<u8>, usize)>(BUFFERS);
        let (put_back, back) = sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            put_back.send(vec![0; size]).ok()?;
        }
        let thread = Builder::new().spawn(move || {
            for (buffer, filled) in given {
                hash.update(&buffer[..filled]);
                // Nobody waits for the last ones.
                let _gone = put_back.send(buffer);
            }
            hash
        });
        Some(Self { give: Some(give), back, thread: Some(thread.ok()?) })
    }

    fn exchange(&mut self, buffer: Vec<u8>, filled: usize) -> Vec<u8> {
        let sent = self.give.as_ref().map(|give| give.send((buffer, filled)));
        sent.and_then(Result::ok)
            .and_then(|()| self.back.recv().ok())
            .expect("the thread takes buffers until nothing more comes")
    }

    /// Waits for what is under way.
    fn end(&mut self) -> Option<Sha256> {
        self.give = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // What comes later may want this process to have one thread.
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_bytes_in_their_order() {
        for (buffers, rest) in [(0, 0), (0, 5), (1, 0), (1, 7), (9, 3)] {
            let (mut hash, mut all) = (Beside::new(), Vec::new());
            let mut buffer = vec![0; 64];
            for number in 0..buffers {
                let filled = 64 - number;
                buffer[..filled].fill(number as u8);
                all.extend_from_slice(&buffer[..filled]);
                buffer = hash.add(buffer, filled);
                assert_eq!(buffer.len(), 64);
            }
            let rest = vec![7; rest];
            all.extend_from_slice(&rest);
            assert_eq!(hash.finish(&rest), Digest::of(&all));
        }
    }

    #[test]
    fn a_hash_that_nobody_finishes_leaves_no_thread() {
        let mut hash = Beside::new();
        let buffer = hash.add(vec![1; 8], 8);
        assert!(matches!(hash.0, State::There(_)));
        drop(hash.add(buffer, 8));
        drop(hash);
    }
}
