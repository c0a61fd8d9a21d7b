//! How long a client waits for those who do not answer, and whom it has given up.

use super::failure::NetError;
use super::retry::{FEW_TRIES, TRIES, WAITS};
use super::url::Url;
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait. The default is for what cannot be done without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the address of a host, and once more for a connection to it.
    pub connection: Duration,
    /// For an answer to begin.
    pub answer: Duration,
    /// The same after a blob was sent, and a second more for each 8 MiB of it.
    pub kept: Duration,
    /// For the next byte, in the middle of something.
    pub silence: Duration,
    /// For all of a document: a manifest, a config, a token.
    pub document: Duration,
    /// All pauses between the tries of one thing.
    pub waits: Duration,
    /// Tries of one thing.
    pub tries: u32,
    /// Who did not answer once is not asked again.
    pub asks_once: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connection: Duration::from_secs(15),
            answer: Duration::from_mins(1),
            kept: Duration::from_mins(1),
            silence: Duration::from_mins(1),
            document: Duration::from_mins(10),
            waits: WAITS,
            tries: TRIES,
            asks_once: false,
        }
    }
}

impl Patience {
    /// For what a build can do without.
    pub fn short() -> Self {
        Self {
            connection: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            kept: Duration::from_secs(30),
            silence: Duration::from_secs(20),
            document: Duration::from_secs(30),
            waits: Duration::from_secs(10),
            tries: FEW_TRIES,
            asks_once: true,
        }
    }
}

/// Hosts that did not answer, and how that was found out. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct GivenUp(Arc<Mutex<HashMap<String, NetError>>>);

impl GivenUp {
    pub(super) fn add(&self, url: &Url, error: &NetError) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key(url)).or_insert_with(|| error.clone());
    }

    pub(super) fn of(&self, url: &Url) -> Option<NetError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key(url)).cloned()
    }
}

fn key(url: &Url) -> String {
    format!("{}:{}", url.host(), url.port())
}

/// A body that has to come to its end by a time, however slowly the bytes drip.
pub(super) struct Timely<R> {
    body: R,
    until: Instant,
}

impl<R: Read> Timely<R> {
    pub(super) fn new(body: R, time: Duration) -> Self {
        Self { body, until: Instant::now() + time }
    }
}

impl<R: Read> Read for Timely<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.body.read(buffer)
    }
}
