//! Has what running commands have written packed ([`crate::layers::beforehand`]), each by a process that gets next to
//! nothing of the machine's time as long as others want it.
//!
//! A thread of such a low priority would not do: where the kernel shares processors among sessions first, a command is in
//! another one than the build. The spawner makes the process, and kills it as soon as the command has ended. What it packed
//! is in files without names; the build waits for neither.

use crate::executor::spawner::{Errands, read_order};
use crate::layers::beforehand::{Manner, Upper};
use crate::layers::blocks::{Blocks, Loan, Room, Spill};
use crate::layers::diff::{DiffOptions, XattrFlavour};
use crate::layers::times::TimePolicy;
use crate::sys::process;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command that takes no longer is left alone.
const COMMAND: Duration = Duration::from_millis(250);

/// A file that nobody touched for as long is taken for finished.
const FILE: Duration = Duration::from_millis(200);

/// A machine on which more want to run than can, this process not counted, is asked again after this.
const BUSY: Duration = Duration::from_millis(100);

/// Between two looks at how long commands have been running.
const BETWEEN: Duration = Duration::from_millis(100);

/// The thread that has processes started, and the commands that it does so for.
#[derive(Debug)]
pub(super) struct Beforehand {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    blocks: Arc<Blocks>,
    errands: Errands,
    /// Held for moments only.
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The build lets go of them when their layers are written.
    commands: Vec<Weak<Watched>>,
    running: bool,
    ended: bool,
}

/// A running command, and what is packed of it. When the value goes, that is not found any more.
#[derive(Debug)]
pub(super) struct Watched {
    blocks: Arc<Blocks>,
    upper: OwnedFd,
    manner: Manner,
    since: Instant,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    /// Nobody packs yet.
    Young,
    /// Somebody packs until the channel is closed.
    Packed { _channel: OwnedFd, room: Room },
    /// The command has ended, or cannot be helped.
    Over(#[allow(dead_code, reason = "it is only kept")] Option<Loan>),
}

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    level: u8,
    userxattr: bool,
    placeholders: bool,
    epoch: Option<i64>,
    started: (i64, u32),
}

impl Beforehand {
    /// `None` where there is no processor to spare: with one only, and where time on them is rationed, since what is used
    /// for this the command would not get.
    pub(super) fn new(blocks: &Arc<Blocks>, errands: Errands) -> Option<Self> {
        let own = std::thread::available_parallelism().map_or(1, usize::from);
        let is_rationed = process::allowed_processors().is_none_or(|allowed| own < allowed);
        if own < 2 || is_rationed {
            return None;
        }
        let (state, ended) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { blocks: Arc::clone(blocks), errands, state, ended });
        Some(Self { shared, thread: Mutex::default() })
    }

    /// A command begins to write into this upper directory; `manner` is that of its layer.
    pub(super) fn watch(&self, upper: BorrowedFd<'_>, manner: Manner) -> Option<Arc<Watched>> {
        let watched = Arc::new(Watched {
            blocks: Arc::clone(&self.shared.blocks),
            upper: upper.try_clone_to_owned().ok()?,
            manner,
            since: Instant::now(),
            stage: Mutex::new(Stage::Young),
        });
        let mut state = self.shared.lock();
        if !state.running {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("beforehand".to_owned());
            let thread = thread.spawn(move || shared.work()).ok()?;
            *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
            state.running = true;
        }
        state.commands.push(Arc::downgrade(&watched));
        Some(watched)
    }
}

impl Drop for Beforehand {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The spawner ends when nobody can send it anything any more.
        let _ended = thread.map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with the first command and ends when there are none.
    fn work(&self) {
        loop {
            let waited = self.ended.wait_timeout_while(self.lock(), BETWEEN, |state| !state.ended);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.commands.retain(|command| command.strong_count() > 0);
            if state.ended || state.commands.is_empty() {
                state.running = false;
                return;
            }
            let commands = state.commands.clone();
            drop(state);
            for command in commands.iter().filter_map(Weak::upgrade) {
                command.begin(&self.errands);
            }
        }
    }
}

impl Watched {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody pack for it, once, if it has been running for a while.
    fn begin(&self, errands: &Errands) {
        let mut stage = self.stage();
        if matches!(*stage, Stage::Young) && self.since.elapsed() >= COMMAND {
            *stage = self.started(errands).unwrap_or(Stage::Over(None));
        }
    }

    fn started(&self, errands: &Errands) -> Option<Stage> {
        let room = Room::make(&self.blocks).ok()?;
        let ([indexes, blobs], level) = self.blocks.parts();
        let Manner { options, times } = self.manner;
        let order = Order {
            level,
            userxattr: options.flavour == XattrFlavour::User,
            placeholders: options.placeholders,
            epoch: times.epoch,
            started: times.started,
        };
        let [data, records] = room.fds();
        let list = [self.upper.as_fd(), indexes, blobs, data, records];
        let channel = errands.run(&order, &list).ok()?;
        Some(Stage::Packed { _channel: channel, room })
    }

    /// The command has ended. What was packed can be found as long as the value lives.
    pub(super) fn end(&self) {
        let mut stage = self.stage();
        let loan = match std::mem::replace(&mut *stage, Stage::Over(None)) {
            Stage::Packed { room, .. } => Loan::of(&self.blocks, room),
            Stage::Young | Stage::Over(_) => None,
        };
        *stage = Stage::Over(loan);
    }
}

/// What the process does until it is killed, or there is too much.
pub(super) fn pack(order: &OwnedFd, fds: Vec<OwnedFd>) {
    let Some(order) = read_order::<Order>(order) else { return };
    let Ok([upper, indexes, blobs, data, records]) = <[OwnedFd; 5]>::try_from(fds) else { return };
    if !process::step_aside() {
        return;
    }
    let blocks = Blocks::of(indexes, blobs, order.level);
    wait_while_busy();
    blocks.refresh();
    let Ok(spill) = Spill::new(&blocks, Room::of(data, records)) else { return };
    let flavour = if order.userxattr { XattrFlavour::User } else { XattrFlavour::Trusted };
    let options = DiffOptions { flavour, placeholders: order.placeholders };
    let times = TimePolicy { epoch: order.epoch, started: order.started };
    Upper::new(upper, Manner { options, times }, (blocks, spill), FILE).watch(wait_while_busy);
}

/// A share of one or two per cent each is still much where many build at once, and each would pack the same.
fn wait_while_busy() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    while process::running_threads().is_some_and(|running| running > processors + 1) {
        std::thread::sleep(BUSY);
    }
}
