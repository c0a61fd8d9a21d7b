//! Remembered file digests, so that an unchanged context costs one walk of `stat`.
//!
//! In: what `stat` says of a file; out: the digest computed when it said the same before. [`FileDigestCache`] keeps
//! them in two files of sorted records ([`super::records`]): a large one, and a small one with what came since, which
//! alone is written while it is small. Both are opened when the first digest is asked for. A missing, damaged or
//! foreign file is an empty one and never an error. Saving writes a new file and renames it; of two builds that save at
//! once, the last one's entries stay. Who puts an entry makes sure that the file was not changed just now (see
//! [`super::digest`]).

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::context::records::{KEY, Key, RecordWriter, Records};
use crate::error::{ErrorKind, Result, ResultExt};
use crate::sys::SysResultExt;
use crate::sys::fs::{self, Stat};

/// Above this number, entries that this run did not use are dropped on saving.
const MAX_KEPT: usize = 1_000_000;
/// The small file may have a sixteenth of the entries of the large one and this many.
const MIN_RECENT: usize = 1000;
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
}

impl FileDigestCache {
    /// In the file `name` of `dir` and one beside it. Nothing is opened before it is needed.
    pub fn new(dir: OwnedFd, name: &[u8]) -> Self {
        Self::with_limit(dir, name, MAX_KEPT)
    }

    fn with_limit(dir: OwnedFd, name: &[u8], limit: usize) -> Self {
        Self { dir, name: name.to_vec(), limit, state: Mutex::default() }
    }

    /// Writes what was added, if anything was.
    pub fn save(&self) -> Result<()> {
        let mut state = self.lock();
        if !state.added.is_empty() {
            self.open(&mut state);
            self.write(&state)?;
            // The files that are open are those of before.
            *state = State::default();
        }
        Ok(())
    }

    fn open(&self, state: &mut State) {
        if std::mem::replace(&mut state.is_open, true) {
            return;
        }
        let open = |name: &[u8]| match fs::open_read(self.dir.as_fd(), name) {
            Ok(file) => Some(Records::open(file, self.limit.saturating_mul(4)).ok()),
            Err(_) => None,
        };
        // Who moves entries into the large file removes the small one afterwards: in this order none is missed.
        state.recent = open(&self.recent_name()).flatten();
        let base = open(&self.name);
        state.is_base_damaged = matches!(base, Some(None));
        state.base = base.flatten();
    }

    fn write(&self, state: &State) -> Result<()> {
        let of = |records: &Option<Records>| records.as_ref().map_or(0, Records::len);
        let of_base = of(&state.base);
        let keep_all = of_base + of(&state.recent) + state.added.len() <= self.limit;
        let mut small = BTreeMap::new();
        if let Some(recent) = &state.recent {
            // What came before damage was checked and may stay.
            let _damaged = recent.for_each(|key, hash, used| {
                if keep_all || used {
                    small.insert(*key, *hash);
                }
                Ok(())
            });
        }
        small.extend(&state.added);
        if keep_all && !state.is_base_damaged && small.len() <= of_base / 16 + MIN_RECENT {
            return self.replace(&self.recent_name(), |writer| {
                small.iter().try_for_each(|(key, hash)| writer.add(key, hash))
            });
        }
        let mut small = small.iter().peekable();
        self.replace(&self.name, |writer| {
            let moved = state.base.as_ref().map(|base| {
                base.for_each(|key, hash, used| {
                    while let Some((key, hash)) = small.next_if(|(small, _)| *small < key) {
                        writer.add(key, hash)?;
                    }
                    let is_newer_there = small.peek().is_some_and(|(small, _)| *small == key);
                    if (keep_all || used) && !is_newer_there {
                        writer.add(key, hash)?;
                    }
                    Ok(())
                })
            });
            if let Some(Ok(written)) = moved {
                written?;
            }
            small.try_for_each(|(key, hash)| writer.add(key, hash))
        })?;
        // Entries that are in both files do no harm.
        let _best_effort = fs::unlink(&self.dir, &self.recent_name());
        Ok(())
    }

    /// Writes a file beside another and puts it in its place.
    fn replace(
        &self,
        name: &[u8],
        fill: impl FnOnce(&mut RecordWriter<&mut dyn Write>) -> io::Result<()>,
    ) -> Result<()> {
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
        let mut buffered = BufWriter::with_capacity(1 << 16, file);
        let mut writer = RecordWriter::new(&mut buffered as &mut dyn Write);
        let written = fill(&mut writer).and_then(|()| writer.finish());
        let renamed = written.or_error(ErrorKind::Environment, message).and_then(|()| {
            fs::rename(&self.dir, &temporary, &self.dir, name)
                .or_error(ErrorKind::Environment, message)
        });
        if renamed.is_err() {
            // Nothing more can be done about it than what the error below already says.
            let _ignored = fs::unlink(&self.dir, &temporary);
        }
        renamed
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
        self.lock().added.insert(key.to_bytes(), hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn key(ino: u64) -> StatKey {
        StatKey {
            dev: 1,
            ino,
            size: 3,
            mtime: (-5, 6),
            ctime: (7, 8),
            rootfs: ino.is_multiple_of(2),
        }
    }

    fn hash(number: u64) -> FileHash {
        let mut hash = [9; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    fn cache(dir: &Path, limit: usize) -> FileDigestCache {
        FileDigestCache::with_limit(fs::open_dir_path(dir).unwrap(), b"files", limit)
    }

    fn put(cache: &FileDigestCache, numbers: std::ops::Range<u64>) {
        for number in numbers {
            cache.put(key(number), hash(number));
        }
        cache.save().unwrap();
    }

    /// Which of a range are remembered.
    fn known(cache: &FileDigestCache, numbers: std::ops::Range<u64>) -> Vec<u64> {
        let is_known = |number: &u64| match cache.get(&key(*number)) {
            Some(found) => {
                assert_eq!(found, hash(*number));
                true
            }
            None => false,
        };
        numbers.filter(is_known).collect()
    }

    fn files(dir: &Path) -> Vec<(String, u64)> {
        let of = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
        };
        let mut files: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| of(entry.unwrap())).collect();
        files.sort();
        files
    }

    #[test]
    fn entries_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = cache(dir.path(), MAX_KEPT);
        put(&first, 0..100);
        for cache in [first, cache(dir.path(), MAX_KEPT)] {
            assert_eq!(known(&cache, 0..120), (0..100).collect::<Vec<_>>());
            for other in [
                StatKey { dev: 2, ..key(1) },
                StatKey { size: 4, ..key(1) },
                StatKey { mtime: (-5, 7), ..key(1) },
                StatKey { mtime: (-6, 6), ..key(1) },
                StatKey { ctime: (7, 9), ..key(1) },
                StatKey { ctime: (8, 8), ..key(1) },
                StatKey { rootfs: true, ..key(1) },
            ] {
                assert_eq!(cache.get(&other), None);
            }
        }
        assert_eq!(files(dir.path()), [("files.recent".to_owned(), 2 * 4096)]);
    }

    #[test]
    fn a_few_new_entries_do_not_write_all_again() {
        let dir = tempfile::tempdir().unwrap();
        put(&cache(dir.path(), MAX_KEPT), 0..5000);
        assert_eq!(files(dir.path()), [("files".to_owned(), 100 * 4096)]);
        put(&cache(dir.path(), MAX_KEPT), 5000..5001);
        put(&cache(dir.path(), MAX_KEPT), 5001..5003);
        let both = [("files".to_owned(), 100 * 4096), ("files.recent".to_owned(), 4096)];
        assert_eq!(files(dir.path()), both);
        assert_eq!(known(&cache(dir.path(), MAX_KEPT), 0..5010), (0..5003).collect::<Vec<_>>());
        // More than a sixteenth and a thousand: they move.
        put(&cache(dir.path(), MAX_KEPT), 5003..6320);
        assert_eq!(files(dir.path()), [("files".to_owned(), 127 * 4096)]);
        assert_eq!(known(&cache(dir.path(), MAX_KEPT), 0..6400), (0..6320).collect::<Vec<_>>());
    }

    #[test]
    fn a_later_entry_for_the_same_state_counts() {
        for before in [10, 2000] {
            let dir = tempfile::tempdir().unwrap();
            put(&cache(dir.path(), MAX_KEPT), 0..before);
            let again = cache(dir.path(), MAX_KEPT);
            again.put(key(5), hash(77));
            assert_eq!(again.get(&key(5)), Some(hash(77)));
            again.save().unwrap();
            assert_eq!(cache(dir.path(), MAX_KEPT).get(&key(5)), Some(hash(77)));
        }
    }

    #[test]
    fn above_the_limit_only_what_was_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        put(&cache(dir.path(), 5000), 0..2000);
        put(&cache(dir.path(), 5000), 2000..2100);
        let full = cache(dir.path(), 5000);
        known(&full, 1990..2010);
        put(&full, 3000..6000);
        let expected: Vec<_> = (1990..2010).chain(3000..6000).collect();
        assert_eq!(known(&cache(dir.path(), 5000), 0..7000), expected);
        assert_eq!(files(dir.path()), [("files".to_owned(), 61 * 4096)]);
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache_and_is_replaced() {
        for (name, count) in [("files.recent", 100), ("files", 2000)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            put(&cache(dir.path(), MAX_KEPT), 0..count);
            let good = std::fs::read(&path).unwrap();
            let mut flipped = good.clone();
            flipped[60] ^= 1;
            let foreign = b"nb-fd-1\n and what an older version wrote".to_vec();
            for bad in [flipped, good[..good.len() - 1].to_vec(), vec![0; good.len()], foreign] {
                std::fs::write(&path, &bad).unwrap();
                let damaged = cache(dir.path(), MAX_KEPT);
                assert!(known(&damaged, 0..1).is_empty());
                put(&damaged, 0..count);
                assert_eq!(std::fs::read(&path).unwrap(), good, "{name}");
            }
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            assert!(known(&cache(dir.path(), MAX_KEPT), 0..1).is_empty());
        }
    }

    #[test]
    fn a_damaged_large_file_is_replaced_by_a_few_entries_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("files"), "damaged").unwrap();
        put(&cache(dir.path(), MAX_KEPT), 0..3);
        assert_eq!(files(dir.path()), [("files".to_owned(), 4096)]);
    }

    #[test]
    fn nothing_is_touched_before_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let idle = cache(dir.path(), MAX_KEPT);
        idle.save().unwrap();
        assert!(!idle.lock().is_open);
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn saving_replaces_what_a_killed_build_left() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!("files.recent.{}", std::process::id()));
        std::fs::write(&left, "half").unwrap();
        put(&cache(dir.path(), MAX_KEPT), 0..1);
        assert!(!left.exists());
        assert_eq!(known(&cache(dir.path(), MAX_KEPT), 0..1), [0]);
    }
}
