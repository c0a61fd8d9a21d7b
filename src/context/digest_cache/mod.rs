//! Remembered file digests, so that an unchanged context costs one walk of `stat`.
//!
//! In: what `stat` says of a file; out: the digest computed when it said the same before. [`FileDigestCache`] keeps
//! them in two files of sorted records ([`super::records`]): a large one, and a small one with what came since, which
//! alone is written while it is small. Both are opened when the first digest is asked for. A missing, damaged or
//! foreign file is an empty one and never an error. Saving writes a new file and renames it; of two builds that save at
//! once, the last one's entries stay. What one build adds is saved meanwhile when it becomes much. Who puts an entry
//! makes sure that the file was not changed just now (see [`super::digest`]).

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::context::records::{Damaged, KEY, Key, RecordWriter, Records};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::sys::SysResultExt;
use crate::sys::fs::{self, Stat};

/// Above this number, entries that this run did not use are dropped on saving.
const MAX_KEPT: usize = 1_000_000;
/// The small file may have a sixteenth of the entries of the large one and this many.
const MIN_RECENT: usize = 1000;
/// So many new entries, and an eighth of those that are there, are held in memory before they are saved.
const MAX_HELD: usize = 65_536;
/// What follows the name of the large file in that of the small one.
const RECENT: &[u8] = b".recent";

/// SHA-256 over what counts of a file.
pub type FileHash = [u8; 32];

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatKey {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: (i64, u32),
    /// Change time.
    pub ctime: (i64, u32),
    /// Whether marks of this program count: they do in a rootfs and not in a context.
    pub rootfs: bool,
}

impl StatKey {
    /// From a `stat` of a file in a rootfs or a context.
    pub fn new(stat: &Stat, rootfs: bool) -> Self {
        let Stat { dev, ino, size, mtime, ctime, .. } = *stat;
        Self { dev, ino, size, mtime, ctime, rootfs }
    }

    /// Ordered by device and inode first: files that were made together are mostly asked for together.
    fn to_bytes(self) -> Key {
        let mut bytes = [0; KEY];
        bytes[..8].copy_from_slice(&self.dev.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.mtime.0.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.mtime.1.to_be_bytes());
        bytes[36..44].copy_from_slice(&self.ctime.0.to_be_bytes());
        bytes[44..48].copy_from_slice(&self.ctime.1.to_be_bytes());
        bytes[48] = u8::from(self.rootfs);
        bytes
    }
}

/// Remembers digests of files.
pub trait DigestCache: Sync {
    /// The digest that a file in this state has.
    fn get(&self, key: &StatKey) -> Option<FileHash>;
    /// Remembers one.
    fn put(&self, key: StatKey, hash: FileHash);
}

/// Remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDigestCache;

impl DigestCache for NoDigestCache {
    fn get(&self, _key: &StatKey) -> Option<FileHash> {
        None
    }

    fn put(&self, _key: StatKey, _hash: FileHash) {}
}

/// A [`DigestCache`] in a directory.
#[derive(Debug)]
pub struct FileDigestCache {
    dir: OwnedFd,
    name: Vec<u8>,
    limit: usize,
    held: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    /// The large file and the small one; `None` when missing or damaged.
    base: Option<Records>,
    recent: Option<Records>,
    /// The large file is to be written anew.
    is_base_damaged: bool,
    added: BTreeMap<Key, FileHash>,
    /// Some were saved before the end.
    is_ahead: bool,
    /// How often they could not be since they were.
    failures: u32,
}

impl State {
    /// About how many entries there are in the files.
    fn saved(&self) -> usize {
        let of = |records: &Option<Records>| records.as_ref().map_or(0, Records::len);
        of(&self.base) + of(&self.recent)
    }
}

/// What was written.
enum Written {
    Recent(Records),
    Base(Records),
}

impl FileDigestCache {
    /// In the file `name` of `dir` and one beside it. Nothing is opened before it is needed.
    pub fn new(dir: OwnedFd, name: &[u8]) -> Self {
        Self::with_limits(dir, name, MAX_KEPT, MAX_HELD)
    }

    fn with_limits(dir: OwnedFd, name: &[u8], limit: usize, held: usize) -> Self {
        Self { dir, name: name.to_vec(), limit, held, state: Mutex::default() }
    }

    /// Writes what was added, if anything was.
    pub fn save(&self) -> Result<()> {
        let mut state = self.lock();
        let is_too_much = state.is_ahead && state.saved() > self.limit;
        if !state.added.is_empty() || is_too_much {
            self.open(&mut state);
            let keep_all = state.saved() + state.added.len() <= self.limit;
            self.write(&mut state, keep_all)?;
            // The files that are open are those of before.
            *state = State::default();
        }
        Ok(())
    }

    /// Makes room in memory. Nothing is dropped: what this run will use is not known before its end. Where it fails,
    /// memory is all that is lost.
    fn make_room(&self, state: &mut State) {
        let most = self.held.max(state.saved() / 8);
        if state.added.len() >> state.failures.min(16) < most
            || state.saved() + state.added.len() > self.most()
        {
            return;
        }
        state.failures += 1;
        if let Ok(written) = self.write(state, true) {
            (state.failures, state.is_ahead) = (0, true);
            match written {
                Written::Recent(records) => state.recent = Some(records),
                Written::Base(records) => {
                    (state.base, state.recent, state.is_base_damaged) =
                        (Some(records), None, false);
                }
            }
        }
    }

    /// More entries are not read.
    fn most(&self) -> usize {
        self.limit.saturating_mul(4)
    }

    /// A file; `None` when it is missing.
    fn records(&self, name: &[u8]) -> Option<Result<Records, Damaged>> {
        let file = fs::open_read(self.dir.as_fd(), name).ok()?;
        Some(Records::open(file, self.most()))
    }

    fn open(&self, state: &mut State) {
        if std::mem::replace(&mut state.is_open, true) {
            return;
        }
        // Who moves entries into the large file removes the small one afterwards: in this order none is missed.
        state.recent = self.records(&self.recent_name()).and_then(Result::ok);
        let base = self.records(&self.name);
        state.is_base_damaged = matches!(base, Some(Err(Damaged)));
        state.base = base.and_then(Result::ok);
    }

    /// Writes what was added, which is none of it then; when that fails, it still is. Unless all is kept, what this run
    /// did not use is dropped.
    fn write(&self, state: &mut State, keep_all: bool) -> Result<Written> {
        let added = std::mem::take(&mut state.added);
        // With each whether this run used it.
        let mut small: BTreeMap<Key, (FileHash, bool)> =
            added.into_iter().map(|(key, hash)| (key, (hash, true))).collect();
        if let Some(recent) = &state.recent {
            // What came before damage was checked and may stay.
            let _damaged = recent.for_each(|key, hash, used| {
                if keep_all || used {
                    small.entry(*key).or_insert((*hash, used));
                }
                Ok(())
            });
        }
        let of_base = state.base.as_ref().map_or(0, Records::len);
        let written =
            if keep_all && !state.is_base_damaged && small.len() <= of_base / 16 + MIN_RECENT {
                self.write_recent(&small).map(Written::Recent)
            } else {
                self.write_base(state.base.as_ref(), keep_all, &small).map(Written::Base)
            };
        if written.is_err() {
            let of_this_run = small.into_iter().filter(|(_, (_, used))| *used);
            state.added = of_this_run.map(|(key, (hash, _))| (key, hash)).collect();
        }
        written
    }

    fn write_recent(&self, small: &BTreeMap<Key, (FileHash, bool)>) -> Result<Records> {
        self.replace(&self.recent_name(), |writer| {
            small.iter().try_for_each(|(key, (hash, used))| writer.add(key, hash, *used))
        })
    }

    fn write_base(
        &self,
        base: Option<&Records>,
        keep_all: bool,
        small: &BTreeMap<Key, (FileHash, bool)>,
    ) -> Result<Records> {
        let mut small = small.iter().peekable();
        let records = self.replace(&self.name, |writer| {
            let moved = base.map(|base| {
                base.for_each(|key, hash, used| {
                    while let Some((key, (hash, used))) = small.next_if(|(small, _)| *small < key) {
                        writer.add(key, hash, *used)?;
                    }
                    let is_newer_there = small.peek().is_some_and(|(small, _)| *small == key);
                    if (keep_all || used) && !is_newer_there {
                        writer.add(key, hash, used)?;
                    }
                    Ok(())
                })
            });
            if let Some(Ok(written)) = moved {
                written?;
            }
            small.try_for_each(|(key, (hash, used))| writer.add(key, hash, *used))
        })?;
        // Entries that are in both files do no harm.
        let _best_effort = fs::unlink(&self.dir, &self.recent_name());
        Ok(records)
    }

    /// Writes a file beside another and puts it in its place.
    fn replace(
        &self,
        name: &[u8],
        fill: impl FnOnce(&mut RecordWriter<&mut dyn Write>) -> io::Result<()>,
    ) -> Result<Records> {
        let message = || {
            let shown = String::from_utf8_lossy(name);
            format!("cannot save the file digests `{shown}`")
        };
        let temporary = [name, format!(".{}", std::process::id()).as_bytes()].concat();
        let create = || fs::create_new(&self.dir, &temporary, 0o600);
        let file = match create() {
            // Left by a build that was killed and had our process id.
            Err(error) if error.errno == Errno::EXIST => {
                fs::unlink(&self.dir, &temporary).and_then(|()| create())
            }
            other => other,
        }
        .or_error(ErrorKind::Environment, message)?;
        let mut buffered = BufWriter::with_capacity(1 << 16, &file);
        let mut writer = RecordWriter::new(&mut buffered as &mut dyn Write);
        let written = fill(&mut writer).and_then(|()| writer.finish());
        let renamed = written.or_error(ErrorKind::Environment, message).and_then(|found| {
            fs::rename(&self.dir, &temporary, &self.dir, name)
                .or_error(ErrorKind::Environment, message)?;
            Ok(found)
        });
        drop(buffered);
        if renamed.is_err() {
            // Nothing more can be done about it than what the error below already says.
            let _ignored = fs::unlink(&self.dir, &temporary);
        }
        // The file that was written, whatever another build puts in its place meanwhile.
        Ok(Records::written(file, renamed?))
    }

    fn recent_name(&self) -> Vec<u8> {
        [&self.name, RECENT].concat()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DigestCache for FileDigestCache {
    fn get(&self, key: &StatKey) -> Option<FileHash> {
        let mut state = self.lock();
        self.open(&mut state);
        let key = key.to_bytes();
        if let Some(hash) = state.added.get(&key) {
            return Some(*hash);
        }
        for is_base in [false, true] {
            let records = if is_base { &mut state.base } else { &mut state.recent };
            match records.as_mut().map(|records| records.get(&key)) {
                Some(Ok(Some(hash))) => return Some(hash),
                Some(Ok(None)) | None => {}
                Some(Err(_)) => {
                    *records = None;
                    state.is_base_damaged |= is_base;
                }
            }
        }
        None
    }

    fn put(&self, key: StatKey, hash: FileHash) {
        let mut state = self.lock();
        self.open(&mut state);
        state.added.insert(key.to_bytes(), hash);
        self.make_room(&mut state);
    }
}

#[cfg(test)]
mod tests;
