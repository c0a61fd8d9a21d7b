//! Scouts: threads that list directories and `lstat` what is in them before the walk comes there.
//!
//! In: a directory that a walk is in; out, piece by piece and in the order of the walk, what its entries are. A piece is
//! at most [`PIECE`] entries of one directory; its [`Place`] says where in the walk it belongs. Scouts take the nearest
//! piece that nobody began; the walk takes its next piece, begun or not, and while that is being made, makes another.
//! With what is shown they may have an errand: the digest has them read files that it does not know.
//! What a scout cannot find out is left to the walk, so that errors, and what vanishes, are the walk's own. Scouts go no
//! further ahead than so many entries and open directories.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::context::filter::{Above, Filter, Verdict};
use crate::sys::SysResult;
use crate::sys::fs::{self, Kind, Names, Stat};
use crate::sys::root::below;

/// Entries of a piece.
pub(super) const PIECE: usize = 128;
/// Directories that may be open and not yet reached by the walk.
const MAX_DIRS: usize = 32;
/// Deepest nesting that is walked.
pub(super) const MAX_DEPTH: usize = 400;

/// How a walk is helped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scouting {
    /// Threads; `None` for one less than there are processors, but few.
    pub(super) threads: Option<usize>,
    /// They start when the walk has met so many entries: most contexts are smaller.
    pub(super) after: usize,
    /// Entries that they may be ahead, more or less.
    pub(super) ahead: usize,
}

impl Scouting {
    /// For a walk of which nothing is known.
    pub(super) const USUAL: Self = Self { threads: None, after: 2000, ahead: 8192 };
    /// For a walk with a visitor that is slower than any walk.
    pub(super) const NONE: Self = Self { threads: Some(0), after: 0, ahead: 0 };
    /// More find no work: the walk itself has to keep up with them.
    const MOST: usize = 4;

    /// How many threads to start.
    pub(super) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (cores - 1).min(Self::MOST)
        })
    }
}

/// Position in the walk: for each directory on the way its index and one half, then the index of the piece's first entry;
/// times two. Ordered as the walk goes.
type Place = Vec<u64>;

/// A directory that is walked.
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) names: Names,
    /// What its path came to.
    pub(super) above: Above,
    /// Path relative to where the walk begins.
    path: Vec<u8>,
    place: Place,
}

impl Dir {
    /// Lists a directory just opened. `parent` is the directory that holds it, with its index there.
    pub(super) fn list(
        fd: OwnedFd,
        parent: Option<(&Dir, usize)>,
        path: &[u8],
        above: Above,
    ) -> SysResult<Arc<Self>> {
        let names = fs::list_opened(&fd)?;
        let place = parent.map_or_else(Vec::new, |(parent, index)| parent.place_of(index));
        Ok(Arc::new(Self { fd, names, above, path: path.to_vec(), place }))
    }

    /// Place of the first piece of the directory at `index`.
    fn place_of(&self, index: usize) -> Place {
        [&self.place[..], &[2 * index as u64 + 1]].concat()
    }

    /// Place of the piece that begins at `start`.
    fn piece(&self, start: usize) -> Place {
        [&self.place[..], &[2 * start as u64]].concat()
    }
}

/// A piece to be made.
enum Job {
    /// The first one of a directory that has to be opened.
    Open { parent: Arc<Dir>, index: usize, above: Above },
    /// A later one.
    Look { dir: Arc<Dir>, start: usize },
}

/// A piece.
pub(super) struct Found {
    pub(super) dir: Arc<Dir>,
    /// What the entries are, in order; `None` where that could not be told.
    pub(super) stats: Vec<Option<Stat>>,
    /// Entries that it holds in memory.
    weight: usize,
    opened: bool,
}

/// Something to be done with a file that is going to be shown, before the walk comes there: directory, name, `lstat`.
pub(super) type Errand<'a> = &'a (dyn Fn(BorrowedFd<'_>, &[u8], &Stat) + Sync);

/// What the walk and its scouts share.
pub(super) struct Ahead<'a> {
    filter: Filter<'a>,
    errand: Option<Errand<'a>>,
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    todo: BTreeMap<Place, Job>,
    making: Vec<Place>,
    /// `None` where a directory could not be opened or listed.
    made: BTreeMap<Place, Option<Found>>,
    entries: usize,
    dirs: usize,
    is_over: bool,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(filter: Filter<'a>, scouting: Scouting, errand: Option<Errand<'a>>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { filter, errand, limit: scouting.ahead, state, changed }
    }

    /// Has a directory looked at, of which the walk sees to what is before `start` itself.
    pub(super) fn add(&self, dir: &Arc<Dir>, start: usize) {
        let start = start.next_multiple_of(PIECE);
        if start < dir.names.len() {
            let job = Job::Look { dir: Arc::clone(dir), start };
            self.lock().todo.insert(dir.piece(start), job);
            self.changed.notify_all();
        }
    }

    /// The piece of `dir` that begins at `start`; `None` when the walk has to find out itself.
    pub(super) fn look(&self, dir: &Dir, start: usize) -> Option<Found> {
        self.take(&dir.piece(start))
    }

    /// The directory at `index` of `dir`, and its first piece; `None` when the walk has to open it itself.
    pub(super) fn open(&self, dir: &Dir, index: usize) -> Option<Found> {
        self.take(&dir.place_of(index))
    }

    fn take(&self, place: &[u64]) -> Option<Found> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.todo.remove(place) {
                state = self.make(state, place.to_vec(), job);
            } else if let Some(made) = state.made.remove(place) {
                if let Some(found) = &made {
                    state.entries -= found.weight;
                    state.dirs -= usize::from(found.opened);
                }
                self.changed.notify_all();
                return made;
            } else if !state.making.iter().any(|making| making == place) {
                return None;
            } else if let Some((place, job)) = state.next(self.limit) {
                state = self.make(state, place, job);
            } else {
                state = self.wait(state);
            }
        }
    }

    /// What a scout does.
    pub(super) fn scout(&self) {
        let mut state = self.lock();
        while !state.is_over {
            state = match state.next(self.limit) {
                Some((place, job)) => self.make(state, place, job),
                None => self.wait(state),
            };
        }
    }

    /// Sends the scouts home.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    fn make<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        place: Place,
        job: Job,
    ) -> MutexGuard<'s, State> {
        state.making.push(place.clone());
        drop(state);
        let mut jobs = Vec::new();
        let found = self.find(job, &mut jobs);
        let mut state = self.lock();
        state.todo.extend(jobs);
        if let Some(found) = &found {
            state.entries += found.weight;
            state.dirs += usize::from(found.opened);
        }
        state.making.retain(|making| *making != place);
        state.made.insert(place, found);
        self.changed.notify_all();
        state
    }

    /// Makes a piece, and finds what is to be done after it.
    fn find(&self, job: Job, jobs: &mut Vec<(Place, Job)>) -> Option<Found> {
        let (dir, start, opened) = match job {
            Job::Open { parent, index, above } => {
                let name = parent.names.get(index);
                let fd = fs::open_dir(&parent.fd, name).ok()?;
                let path = below(&parent.path, name);
                let dir = Dir::list(fd, Some((&parent, index)), &path, above).ok()?;
                (dir, 0, true)
            }
            Job::Look { dir, start } => (dir, start, false),
        };
        let end = dir.names.len().min(start + PIECE);
        let mut stats = Vec::with_capacity(end - start);
        for index in start..end {
            let name = dir.names.get(index);
            let stat = fs::lstat_opt(&dir.fd, name).ok().flatten();
            if stat.is_some_and(|stat| stat.is_dir()) && dir.place.len() + 1 < MAX_DEPTH {
                let path = below(&dir.path, name);
                let (verdict, above) = self.filter.judge(&dir.above, &path, true);
                if verdict != Verdict::Skip {
                    let parent = Arc::clone(&dir);
                    jobs.push((dir.place_of(index), Job::Open { parent, index, above }));
                }
            }
            if let (Some(errand), Some(stat)) = (self.errand, stat)
                && stat.kind == Kind::File
                && self.filter.judge(&dir.above, &below(&dir.path, name), false).0 == Verdict::Show
            {
                errand(dir.fd.as_fd(), name, &stat);
            }
            stats.push(stat);
        }
        if end < dir.names.len() {
            jobs.push((dir.piece(end), Job::Look { dir: Arc::clone(&dir), start: end }));
        }
        let weight = stats.len() + if opened { dir.names.len() } else { 0 };
        Some(Found { dir, stats, weight, opened })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The nearest piece that nobody began, unless there is enough.
    fn next(&mut self, limit: usize) -> Option<(Place, Job)> {
        let is_enough = self.entries >= limit || self.dirs >= MAX_DIRS;
        if is_enough { None } else { self.todo.pop_first() }
    }
}

#[cfg(test)]
mod tests;
