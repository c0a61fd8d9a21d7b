//! Packs what running commands have written, on processors that have nothing else to do ([`crate::layers::beforehand`]).
//!
//! One thread for all commands of a build that run at a time; it begins with the first of them and ends when there are none.
//! It does nothing unless a command takes some time, keeps away from a machine that is busy, and lets everybody else go
//! first. The build never waits for more of it than the writing of one block.

use crate::layers::beforehand::{Patience, Upper};
use crate::layers::blocks::Blocks;
use crate::sys::process;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
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
    /// Of the machine.
    processors: usize,
    /// Held for moments only.
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The build lets go of them when their layers are written.
    uppers: Vec<Weak<Upper>>,
    running: bool,
    ended: bool,
}

impl Beforehand {
    /// `None` where there is no processor to spare: with one only, and where time on them is rationed, since what the
    /// thread takes the command would not get.
    pub(super) fn new(blocks: &Arc<Blocks>) -> Option<Self> {
        let own = std::thread::available_parallelism().map_or(1, usize::from);
        let is_rationed = process::allowed_processors().is_none_or(|allowed| own < allowed);
        let processors = process::online_processors().filter(|_| own > 1 && !is_rationed)?;
        let (state, ended) = (Mutex::default(), Condvar::new());
        let shared = Shared { blocks: Arc::clone(blocks), processors, state, ended };
        Some(Self { shared: Arc::new(shared) })
    }

    /// A command begins to write into this upper directory.
    pub(super) fn watch(&self, upper: BorrowedFd<'_>) -> Option<Arc<Upper>> {
        let upper = Arc::new(Upper::new(upper.try_clone_to_owned().ok()?));
        let mut state = self.shared.lock();
        if !state.running {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("beforehand".to_owned());
            thread.spawn(move || shared.work()).ok()?;
            state.running = true;
        }
        state.uppers.push(Arc::downgrade(&upper));
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
        let mut gave_way = false;
        loop {
            let waited = self.ended.wait_timeout(self.lock(), BETWEEN);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.uppers.retain(|upper| upper.strong_count() > 0);
            if state.ended || state.uppers.is_empty() {
                state.running = false;
                return;
            }
            let uppers = state.uppers.clone();
            drop(state);
            for upper in uppers.iter().filter_map(Weak::upgrade).filter(|upper| !upper.is_over()) {
                if upper.is_older(PATIENCE.command) && !gave_way {
                    gave_way = true;
                    self.blocks.refresh();
                    process::give_way();
                }
                upper.look(&self.blocks, PATIENCE, &|| self.is_idle(&upper));
            }
        }
    }

    /// Waits for a processor that nobody wants; false when the command is over before there is one.
    fn is_idle(&self, upper: &Upper) -> bool {
        while let Some(running) = running() {
            if upper.is_over() {
                return false;
            }
            if running <= self.processors {
                return true;
            }
            std::thread::sleep(BUSY);
        }
        // Nobody says how busy the machine is.
        false
    }
}

/// Threads of the machine that run or want to, this one too; `None` when nobody says.
fn running() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}
