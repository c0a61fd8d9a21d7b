//! Remembered file digests, so that an unchanged context costs one walk of `stat`.
//!
//! In: what `stat` says of a file; out: the digest computed when it said the same before. [`FileDigestCache`] keeps
//! them in one file: a magic, records of fixed size, a checksum over all. A missing, damaged or foreign file is an empty
//! cache and never an error. Saving writes a new file and renames it; of two builds that save at once, the last one's
//! entries stay. Who puts an entry makes sure that the file was not changed just now (see [`super::digest`]).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::error::{ErrorKind, Result, ResultExt};
use crate::oci::digest::Digest;
use crate::sys::SysResultExt;
use crate::sys::fs::{self, Stat};

/// First bytes of the file, with its version.
const MAGIC: &[u8; 8] = b"nb-fd-1\n";
/// Bytes of one record.
const RECORD: usize = KEY + 32;
/// Bytes of its key.
const KEY: usize = 49;
/// Above this number, entries that this run did not use are dropped on saving.
const MAX_KEPT: usize = 1_000_000;
/// Largest file that is loaded.
const MAX_BYTES: u64 = (RECORD * MAX_KEPT * 4) as u64;

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

    fn to_bytes(self) -> [u8; KEY] {
        let mut bytes = [0; KEY];
        let fields: [&[u8]; 8] = [
            &self.dev.to_le_bytes(),
            &self.ino.to_le_bytes(),
            &self.size.to_le_bytes(),
            &self.mtime.0.to_le_bytes(),
            &self.mtime.1.to_le_bytes(),
            &self.ctime.0.to_le_bytes(),
            &self.ctime.1.to_le_bytes(),
            &[u8::from(self.rootfs)],
        ];
        bytes.copy_from_slice(&fields.concat());
        bytes
    }

    fn from_bytes(bytes: &[u8; KEY]) -> Self {
        let long = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let short = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(number)
        };
        Self {
            dev: long(0),
            ino: long(8),
            size: long(16),
            mtime: (long(24) as i64, short(32)),
            ctime: (long(36) as i64, short(44)),
            rootfs: bytes[48] != 0,
        }
    }
}

/// Remembers digests of files.
pub trait DigestCache {
    /// The digest that a file in this state has.
    fn get(&self, key: &StatKey) -> Option<Digest>;
    /// Remembers one.
    fn put(&self, key: StatKey, digest: Digest);
}

/// Remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDigestCache;

impl DigestCache for NoDigestCache {
    fn get(&self, _key: &StatKey) -> Option<Digest> {
        None
    }

    fn put(&self, _key: StatKey, _digest: Digest) {}
}

/// A [`DigestCache`] in a file.
#[derive(Debug)]
pub struct FileDigestCache {
    dir: OwnedFd,
    name: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<StatKey, Remembered>,
    changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    hash: [u8; 32],
    used: bool,
}

impl FileDigestCache {
    /// Loads the file `name` of `dir`; whatever is wrong with it, the cache is then empty.
    pub fn load(dir: OwnedFd, name: &[u8]) -> Self {
        let entries = read_all(&dir, name).and_then(|bytes| decode(&bytes)).unwrap_or_default();
        let state = Mutex::new(State { entries, changed: false });
        Self { dir, name: name.to_vec(), state }
    }

    /// Writes the file anew if anything was added.
    pub fn save(&self) -> Result<()> {
        let mut state = self.lock();
        if !state.changed {
            return Ok(());
        }
        let message = || format!("cannot save the file digests `{}`", name_of(&self.name));
        let temporary = [&self.name[..], format!(".{}", std::process::id()).as_bytes()].concat();
        let create = || fs::create_new(&self.dir, &temporary, 0o600);
        let mut file = match create() {
            // Left by a build that was killed and had our process id.
            Err(error) if error.errno == Errno::EXIST => {
                fs::unlink(&self.dir, &temporary).and_then(|()| create())
            }
            other => other,
        }
        .or_error(ErrorKind::Environment, message)?;
        let written = file.write_all(&encode(&state.entries));
        let renamed = written.or_error(ErrorKind::Environment, message).and_then(|()| {
            fs::rename(&self.dir, &temporary, &self.dir, &self.name)
                .or_error(ErrorKind::Environment, message)
        });
        if renamed.is_err() {
            // Nothing more can be done about it than what the error below already says.
            let _ignored = fs::unlink(&self.dir, &temporary);
        } else {
            state.changed = false;
        }
        renamed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DigestCache for FileDigestCache {
    fn get(&self, key: &StatKey) -> Option<Digest> {
        let mut state = self.lock();
        let entry = state.entries.get_mut(key)?;
        entry.used = true;
        Some(Digest::from_hash(&entry.hash))
    }

    fn put(&self, key: StatKey, digest: Digest) {
        let Some(hash) = hash_of(&digest) else { return };
        let mut state = self.lock();
        state.entries.insert(key, Remembered { hash, used: true });
        state.changed = true;
    }
}

fn name_of(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The bytes of a digest.
fn hash_of(digest: &Digest) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    for (byte, hex) in hash.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn read_all(dir: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
    let file = fs::open_read(dir.as_fd(), name).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn encode(entries: &HashMap<StatKey, Remembered>) -> Vec<u8> {
    let keep_all = entries.len() <= MAX_KEPT;
    let mut kept: Vec<_> = entries.iter().filter(|(_, entry)| keep_all || entry.used).collect();
    kept.sort_unstable_by_key(|(key, _)| **key);
    let mut bytes = Vec::with_capacity(MAGIC.len() + kept.len() * RECORD + 64);
    bytes.extend_from_slice(MAGIC);
    for (key, entry) in kept {
        bytes.extend_from_slice(&key.to_bytes());
        bytes.extend_from_slice(&entry.hash);
    }
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.hex().as_bytes());
    bytes
}

/// `None` when damaged.
fn decode(bytes: &[u8]) -> Option<HashMap<StatKey, Remembered>> {
    let (checked, checksum) = bytes.split_at_checked(bytes.len().checked_sub(64)?)?;
    if Digest::of(checked).hex().as_bytes() != checksum {
        return None;
    }
    let (records, rest) = checked.strip_prefix(MAGIC)?.as_chunks::<RECORD>();
    if !rest.is_empty() {
        return None;
    }
    let mut entries = HashMap::with_capacity(records.len());
    for record in records {
        let key = StatKey::from_bytes(record.first_chunk()?);
        entries.insert(key, Remembered { hash: *record.last_chunk()?, used: false });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn entries_come_back_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let load = || FileDigestCache::load(fs::open_dir_path(dir.path()).unwrap(), b"files");
        let cache = load();
        for ino in 0..100 {
            cache.put(key(ino), Digest::of(&ino.to_le_bytes()));
        }
        cache.save().unwrap();
        let again = load();
        for ino in 0_u64..100 {
            assert_eq!(again.get(&key(ino)), Some(Digest::of(&ino.to_le_bytes())));
        }
        assert_eq!(again.get(&StatKey { size: 4, ..key(1) }), None);
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["files"]);
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("files");
        let load = || FileDigestCache::load(fs::open_dir_path(dir.path()).unwrap(), b"files");
        let cache = load();
        cache.put(key(1), Digest::of(b"x"));
        cache.save().unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_none(), "byte {at}");
            assert!(decode(&good[..at]).is_none(), "cut to {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_eq!(load().get(&key(1)), None);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(load().get(&key(1)), None);
    }

    #[test]
    fn saving_replaces_what_a_killed_build_left() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!("files.{}", std::process::id()));
        std::fs::write(&left, "half").unwrap();
        let cache = FileDigestCache::load(fs::open_dir_path(dir.path()).unwrap(), b"files");
        cache.put(key(1), Digest::of(b"x"));
        cache.save().unwrap();
        assert!(!left.exists());
    }
}
