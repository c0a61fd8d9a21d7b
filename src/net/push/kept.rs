//! Upload sessions that outlive the program: after it was killed, the next push sends the rest of a large blob.
//!
//! In: where a blob goes; out: the session that an earlier process left. One small file for each, which is locked by
//! whoever uses its session, so that no two use one. Only who has the lock replaces the file or removes it. A new file is
//! locked before it has its name, and takes no other's place. What is read here is not trusted: it is an address that
//! is asked as any that a registry names, and no login is in it.

use super::plan::Blob;
use super::session::Session;
use crate::net::failure::NetResult;
use crate::net::registry::Registry;
use crate::net::url::Url;
use crate::oci::Reference;
use crate::oci::digest::FieldHasher;
use crate::oci::layout::UNFINISHED;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Smaller blobs are sent again.
const WORTH_KEEPING: u64 = 1 << 20;
/// Bytes of a file: an address, and not much more.
const LIMIT: u64 = 64 << 10;
/// By then registries have forgotten a session.
const OLD: Duration = Duration::from_hours(7 * 24);
const VERSION: u32 = 1;

/// What is in a file. The address may hold a secret of the registry.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    location: String,
    min_chunk: u64,
}

/// Where the session of one upload is remembered.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    path: PathBuf,
    /// The file, locked; none while nothing is remembered.
    held: Option<File>,
}

impl Kept {
    /// `None` where nothing is to be remembered: no place for it, a small blob, or another process sends it right now.
    pub(super) fn of(dir: Option<&Path>, target: &Reference, blob: &Blob) -> Option<Self> {
        let dir = dir.filter(|_| blob.size >= WORTH_KEEPING)?.to_owned();
        let path = dir.join(name(target, blob));
        let held = match open(&path) {
            Ok(file) => Some(locked(file, &path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return None,
        };
        Some(Self { dir, path, held })
    }

    /// The session that an earlier process left, if the registry has something of the blob by it. All else is forgotten,
    /// unless the client was stopped meanwhile.
    pub(super) fn session(
        &mut self,
        registry: &Registry,
        target: &Reference,
        blob: &Blob,
    ) -> NetResult<Option<Session>> {
        if let Some(mut session) = self.read() {
            match session.refresh(registry, target, blob) {
                Ok(true) if session.offset > 0 => {
                    self.save(&session);
                    return Ok(Some(session));
                }
                Err(error) if registry.is_stopped() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        self.forget();
        Ok(None)
    }

    /// Remembers where a session goes on now. Without that the push is as good, so failures are no matter.
    pub(super) fn save(&mut self, session: &Session) {
        if self.held.is_none() {
            remove_old(&self.dir);
        }
        if let Ok(file) = self.write(session) {
            self.held = Some(file);
        }
    }

    /// Forgets it: the blob is there, or the session is gone.
    pub(super) fn forget(&mut self) {
        if self.held.is_some() {
            // What stays is asked about once more, and is old some day.
            let _best_effort = fs::remove_file(&self.path);
        }
        self.held = None;
    }

    fn read(&self) -> Option<Session> {
        let file: &File = self.held.as_ref()?;
        let mut text = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut text).ok()?;
        if text.len() as u64 > LIMIT {
            return None;
        }
        let record: Record = serde_json::from_slice(&text).ok()?;
        let location = Url::parse(&record.location).filter(|_| record.version == VERSION)?;
        Some(Session::left(location, record.min_chunk))
    }

    fn write(&self, session: &Session) -> io::Result<File> {
        let record = Record {
            version: VERSION,
            location: session.location().uri().to_string(),
            min_chunk: session.min_chunk,
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // Made with mode 0600.
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
        file.as_file().lock()?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        let named = match self.held {
            Some(_) => file.persist(&self.path),
            None => file.persist_noclobber(&self.path),
        };
        named.map_err(|failed| failed.error)
    }
}

/// One name for each place that a blob can go to.
fn name(target: &Reference, blob: &Blob) -> String {
    let mut hasher = FieldHasher::new("nb-upload-1");
    hasher.field(target.registry.as_bytes()).field(target.repository.as_bytes());
    hasher.field(blob.digest.as_str().as_bytes());
    hasher.finish().hex().to_owned()
}

/// Never waits, and follows no link, whatever is there.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// `None` while another process uses it, or when one has put another file there meanwhile.
fn locked(file: File, path: &Path) -> Option<File> {
    file.try_lock().ok()?;
    let (open, named) = (file.metadata().ok()?, path.symlink_metadata().ok()?);
    let same = (open.dev(), open.ino()) == (named.dev(), named.ino());
    (same && open.is_file()).then_some(file)
}

/// Somebody who still uses such a session goes on without the file.
fn remove_old(dir: &Path) {
    let Some(oldest) = SystemTime::now().checked_sub(OLD) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|seen| seen.modified());
        if modified.is_ok_and(|modified| modified < oldest) {
            let _best_effort = fs::remove_file(entry.path());
        }
    }
}
