//! The directories of `RUN --mount=type=cache`, and their locks.

use super::care;
use super::store::Store;
use super::unpacking::wait_for_lock;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::sandbox::Cancel;
use crate::oci::Digest;
use crate::plan::step::CacheSharing;
use crate::sys::{fs, root};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The cache directories of one RUN, with the locks that their `sharing` asks for.
#[derive(Debug, Default)]
pub(super) struct CacheMounts(BTreeMap<String, CacheMount>);

#[derive(Debug)]
struct CacheMount {
    /// The directory may not exist yet.
    path: PathBuf,
    /// Held as long as the value lives.
    _lock: Option<File>,
}

impl CacheMounts {
    /// Takes the locks, in the order of the ids, so that two RUNs never wait for each other. Mounts of one id are one
    /// directory with one lock, so that a RUN never waits for itself.
    /// The ids are those of [`super::stage::Builder::cache_id`].
    pub(super) fn take(
        store: &Store,
        wanted: Vec<(String, CacheSharing)>,
        by_hand: bool,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut strongest = BTreeMap::new();
        for (id, sharing) in wanted {
            // A directory that is moved about is only in one place.
            let is_moved = by_hand && sharing == CacheSharing::Shared;
            let sharing = if is_moved { CacheSharing::Locked } else { sharing };
            let known = strongest.entry(id).or_insert(sharing);
            *known = sharing.max(*known);
        }
        let mut caches = BTreeMap::new();
        for (id, sharing) in strongest {
            let (path, lock) = cache_directory(store, &id, sharing, cancel)?;
            caches.insert(id, CacheMount { path, _lock: lock });
        }
        Ok(Self(caches))
    }

    /// The directory of a cache.
    pub(super) fn path(&self, id: &str) -> Result<&Path> {
        let cache = self.0.get(id);
        let cache = cache.ok_or_else(|| Error::internal("a cache mount was not looked up"))?;
        Ok(&cache.path)
    }
}

/// Where a cache is that was moved into a tree: for whoever finds it missing because the build was killed.
#[derive(Debug, Serialize, Deserialize)]
struct Away {
    /// Id of the snapshot in the making.
    snapshot: String,
    /// Path in its tree.
    target: String,
    /// What of the cache was moved; empty for all of it.
    inside: PathBuf,
}

/// A note that a cache is away. It is of use until the cache is back.
#[derive(Debug)]
pub(super) struct Note(PathBuf);

impl Note {
    /// Says where `path`, a cache or something in one, is about to be moved.
    pub(super) fn leave(store: &Path, path: &Path, snapshot: &str, target: &str) -> Result<Self> {
        let what = || format!("cannot note where {} goes", path.display());
        let inside = path.strip_prefix(store.join("mounts")).unwrap_or(path);
        let mut parts = inside.components();
        let name = parts.next().map(|name| name.as_os_str().to_string_lossy().into_owned());
        let name = name.ok_or_else(|| Error::internal(what()))?;
        let inside = parts.as_path().to_owned();
        let away = Away { snapshot: snapshot.to_owned(), target: target.to_owned(), inside };
        let note = store.join("locks").join(format!("{AWAY}{name}"));
        let text =
            serde_json::to_vec(&away).map_err(|error| Error::internal(what()).cause(error))?;
        std::fs::write(&note, text).or_error(ErrorKind::Environment, what)?;
        Ok(Self(note))
    }

    /// The cache is back.
    pub(super) fn forget(&self) {
        // One that stays says nothing about a cache that is in its place.
        let _stays = std::fs::remove_file(&self.0);
    }
}

/// How notes begin; the name of the cache follows.
const AWAY: &str = "away-";

/// Fetches a cache that a killed build left in its tree. What cannot be found is a cache that is empty.
fn bring_back(store: &Path, name: &str) {
    let note = store.join("locks").join(format!("{AWAY}{name}"));
    let Ok(text) = std::fs::read(&note) else { return };
    let fetch = || -> Option<()> {
        let away: Away = serde_json::from_slice(&text).ok()?;
        let home = store.join("mounts").join(name).join(&away.inside);
        let plain =
            |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        let sound = away.snapshot.bytes().all(|b| b.is_ascii_hexdigit())
            && away.inside.components().all(plain);
        if !sound || std::fs::symlink_metadata(&home).is_ok() {
            return None;
        }
        // The command may have put links on the way: they lead nowhere out of its tree.
        let tree = store.join("snapshots").join(&away.snapshot).join("fs");
        let tree = fs::open_dir_path(&tree).ok()?;
        let (dir, last) = root::split_last(away.target.as_bytes());
        let dir = root::open_dir(&tree, dir).ok()?;
        let is_dir = fs::lstat_opt(&dir, last?).ok()??.is_dir();
        is_dir.then(|| fs::rename_to_path(&dir, last?, &home).ok())?
    };
    let _found = fetch();
    let _gone = std::fs::remove_file(&note);
}

/// Fetches all caches that killed builds left in their trees; called before these are removed.
pub(super) fn bring_all_back(store: &Path) {
    let locks = store.join("locks");
    for entry in std::fs::read_dir(&locks).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix(AWAY)) else { continue };
        let lock = File::options().append(true).open(locks.join(format!("mount-{name}")));
        // Locked: the build is alive, and does it itself.
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            bring_back(store, name);
        }
    }
}

fn cache_directory(
    store: &Store,
    id: &str,
    sharing: CacheSharing,
    cancel: &Cancel,
) -> Result<(PathBuf, Option<File>)> {
    // The id is hashed: it may hold `../` or anything else.
    let name = Digest::of(id.as_bytes()).hex()[..32].to_owned();
    for number in 0..1000 {
        let name = if number == 0 { name.clone() } else { format!("{name}-{number}") };
        let path = store.sub("mounts").join(&name);
        let what = || format!("cannot lock the cache mount `{id}`");
        let stamp = store.sub("locks").join(format!("mount-{name}"));
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&stamp)
            .or_error(ErrorKind::Environment, what)?;
        // Its time says when the mount was used last.
        care::touch(&stamp);
        if sharing == CacheSharing::Shared {
            if lock.try_lock().is_ok() {
                bring_back(store.path(), &name);
            }
            return Ok((path, None));
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).or_error(ErrorKind::Environment, what);
            }
            // Another one is as good.
            Err(TryLockError::WouldBlock) if sharing == CacheSharing::Private => continue,
            Err(TryLockError::WouldBlock) => wait_for_lock(&lock, cancel, what)?,
        }
        bring_back(store.path(), &name);
        return Ok((path, Some(lock)));
    }
    Err(Error::environment(format!("1000 builds use the private cache mount `{id}`")))
}
