//! Packs what running commands have written, on processors that have nothing else to do ([`crate::layers::beforehand`]).
//!
//! One thread for all commands of a build, started with the first of them and at the lowest priority there is. It has
//! nothing to do unless a command takes some time, and keeps away from a machine that is busy.

use crate::layers::beforehand::{Patience, Upper};
use crate::layers::blocks::Blocks;
use crate::sys::process;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PATIENCE: Patience =
    Patience { command: Duration::from_millis(250), file: Duration::from_millis(200) };

/// Between two looks at the commands that are running.
const BETWEEN: Duration = Duration::from_millis(100);

/// A busy machine is asked again after this.
const BUSY: Duration = Duration::from_millis(10);

/// The thread and what it looks at.
#[derive(Debug)]
pub(super) struct Beforehand {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    blocks: Arc<Blocks>,
    state: Mutex<State>,
    ended: Condvar,
    cores: usize,
}

#[derive(Debug, Default)]
struct State {
    uppers: Vec<Arc<Upper>>,
    started: bool,
    ended: bool,
}

impl Beforehand {
    /// `None` where there is no processor to spare.
    pub(super) fn new(blocks: &Arc<Blocks>) -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (blocks, state, ended) = (Arc::clone(blocks), Mutex::default(), Condvar::new());
        (cores > 1).then(|| Self { shared: Arc::new(Shared { blocks, state, ended, cores }) })
    }

    /// A command begins to write into this upper directory.
    pub(super) fn watch(&self, upper: BorrowedFd<'_>) -> Option<Arc<Upper>> {
        let upper = Arc::new(Upper::new(upper.try_clone_to_owned().ok()?));
        let mut state = self.shared.lock();
        if !state.started {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("beforehand".to_owned());
            thread.spawn(move || shared.work()).ok()?;
            state.started = true;
        }
        state.uppers.push(Arc::clone(&upper));
        Some(upper)
    }
}

impl Drop for Beforehand {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        process::only_when_idle();
        let mut state = self.lock();
        while !state.ended {
            state.uppers.retain(|upper| !upper.is_over());
            let uppers = state.uppers.clone();
            drop(state);
            for upper in &uppers {
                upper.look(&self.blocks, PATIENCE, &|| self.is_idle(upper));
            }
            drop(uppers);
            let waited = self.ended.wait_timeout(self.lock(), BETWEEN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a processor that nobody wants; false when the command is over before there is one.
    fn is_idle(&self, upper: &Upper) -> bool {
        while running().is_some_and(|running| running > self.cores) {
            if upper.is_over() {
                return false;
            }
            std::thread::sleep(BUSY);
        }
        !upper.is_over()
    }
}

/// Threads of the machine that run or want to, this one too; `None` when nobody says.
fn running() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}
