//! Sources of ADD that are elsewhere: what they are now, for the key of a step, and their files, for the step itself.
//!
//! A file is kept as a blob of the store with what its server said of it, so that asking again costs no second transfer,
//! and with a checksum nothing is asked at all (dockerfile.md §3.10). A repository is known by the commit that its address
//! means; its files are fetched only when the step is carried out.

use super::logins;
use super::request::BuildRequest;
use super::stage::Builder;
use super::store::Store;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{Fetched, Fetcher, Validators};
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use crate::oci::git_url::GitUrl;
use crate::plan::remote::RemoteSource;
use crate::sys::{SysResultExt, fs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What was found out about remote sources in this build: every one is asked for once.
#[derive(Debug, Default)]
pub(super) struct Remotes(Mutex<BTreeMap<RemoteSource, Arc<Remote>>>);

/// One source, as it is now.
#[derive(Debug)]
pub(super) struct Remote {
    /// Stands for its content in keys.
    pub(super) identity: Digest,
    content: Content,
    /// Its files, once they were needed.
    files: Mutex<Option<tempfile::TempDir>>,
}

#[derive(Debug)]
enum Content {
    /// Digest of a file, and its time.
    File(Digest, Option<i64>),
    Commit(String),
}

/// What is remembered of a file behind a URL.
#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    /// Version of this form, 1.
    version: u32,
    digest: String,
    validators: Validators,
}

impl Builder<'_> {
    /// What a source is now.
    pub(super) fn remote(&self, source: &RemoteSource) -> Result<Arc<Remote>> {
        let known = || self.remotes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = known().get(source) {
            return Ok(Arc::clone(remote));
        }
        let remote = Arc::new(match source {
            RemoteSource::Http { url, name, checksum } => {
                self.look_at_file(url, name, checksum.as_ref())?
            }
            RemoteSource::Git(url) => self.look_at_repository(url)?,
        });
        known().insert(source.clone(), Arc::clone(&remote));
        Ok(remote)
    }

    fn look_at_file(&self, url: &str, name: &str, checksum: Option<&Digest>) -> Result<Remote> {
        let (digest, modified) = match checksum {
            // What it must be is known, so it is fetched only when it is needed.
            Some(checksum) => (checksum.clone(), None),
            None => self.ask_for_file(url)?,
        };
        let mut hasher = FieldHasher::new("nb-http-1");
        hasher.field(name.as_bytes()).field(digest.as_str().as_bytes());
        let content = Content::File(digest, modified);
        Ok(Remote { identity: hasher.finish(), content, files: Mutex::default() })
    }

    fn look_at_repository(&self, url: &GitUrl) -> Result<Remote> {
        let commit = logins::git(&self.request.secrets, url).resolve(url)?;
        let mut hasher = FieldHasher::new("nb-git-1");
        hasher.field(commit.as_bytes()).field(url.subdir.as_bytes());
        hasher.number(u64::from(url.keep_git_dir == Some(true)) | u64::from(url.submodules) << 1);
        let content = Content::Commit(commit);
        Ok(Remote { identity: hasher.finish(), content, files: Mutex::default() })
    }

    /// Fetches a file unless it is what it was when it was last fetched; gives its digest and time.
    fn ask_for_file(&self, url: &str) -> Result<(Digest, Option<i64>)> {
        let path = self.file_record(url);
        let known = read_record(&path).filter(|(digest, _)| self.store.images().has_blob(digest));
        let fetcher = Fetcher::new(&self.request.net)?;
        let authorization = logins::authorization(&self.request.secrets, url);
        let said = known.as_ref().map(|(_, validators)| validators);
        match fetcher.get(url, said, authorization.as_deref())? {
            Fetched::Unchanged => {
                let (digest, validators) = known
                    .ok_or_else(|| Error::internal("nothing was known and nothing changed"))?;
                Ok((digest, validators.modified()))
            }
            Fetched::New(mut body, validators) => {
                self.emitter.note(format!("fetching {url}"));
                let mut blob = self.store.images().blob_writer()?;
                std::io::copy(&mut body, &mut blob)
                    .or_error(ErrorKind::Registry, || format!("cannot get {url}"))?;
                let (digest, _) = blob.commit_hashed()?;
                let modified = validators.modified();
                write_record(
                    &path,
                    FileRecord { version: 1, digest: digest.to_string(), validators },
                );
                Ok((digest, modified))
            }
        }
    }

    /// Has a file in the store whose digest is known; gives its time.
    fn fetch_checked(&self, url: &str, digest: &Digest, checked: bool) -> Result<Option<i64>> {
        let here = self.store.images().has_blob(digest);
        let record = read_record(&self.file_record(url)).filter(|(known, _)| known == digest);
        if let (true, Some((_, validators))) = (here, record) {
            return Ok(validators.modified());
        }
        let (found, modified) = self.ask_for_file(url)?;
        if found == *digest {
            return Ok(modified);
        }
        let why = if checked { "the file or the `--checksum` changed" } else { "build again" };
        Err(Error::integrity(format!("{url} has the wrong content"))
            .cause(format!("expected {digest}, found {found}"))
            .hint(why))
    }

    fn file_record(&self, url: &str) -> PathBuf {
        self.store.sub("cache").join("http").join(Digest::of(url.as_bytes()).hex())
    }

    /// The files of a source, and the path in them that is wanted.
    pub(super) fn remote_tree(
        &self,
        source: &RemoteSource,
        remote: &Remote,
    ) -> Result<(FileTree, String)> {
        let mut files = remote.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_none() {
            *files = Some(self.fetch(source, &remote.content)?);
        }
        let dir = files.as_ref().ok_or_else(|| Error::internal("files that were just fetched"))?;
        let root = fs::open_dir_path(dir.path())
            .or_error(ErrorKind::Environment, || "cannot open what was fetched".to_owned())?;
        let (label, path) = match source {
            RemoteSource::Http { url, name, .. } => (url, name.clone()),
            RemoteSource::Git(url) => (&url.remote, format!("/{}", url.subdir)),
        };
        Ok((FileTree::context(root, None).labelled(format!("`{label}`")), path))
    }

    fn fetch(&self, source: &RemoteSource, content: &Content) -> Result<tempfile::TempDir> {
        let what = || "cannot make a directory in the store".to_owned();
        let dir = tempfile::Builder::new()
            .prefix("fetched-")
            .tempdir_in(self.store.sub("tmp"))
            .or_error(ErrorKind::Environment, what)?;
        match (source, content) {
            (RemoteSource::Http { url, name, checksum }, Content::File(digest, modified)) => {
                let modified = match modified {
                    Some(modified) => Some(*modified),
                    None => self.fetch_checked(url, digest, checksum.is_some())?,
                };
                let path = dir.path().join(name);
                let what = || format!("cannot store {url}");
                std::fs::copy(self.store.images().blob_path(digest), &path)
                    .and_then(|_| settle(&path, modified.unwrap_or(0)))
                    .or_error(ErrorKind::Environment, what)?;
            }
            (RemoteSource::Git(url), Content::Commit(commit)) => {
                self.emitter.note(format!("fetching {} at {}", url.remote, &commit[..12]));
                let _time =
                    logins::git(&self.request.secrets, url).checkout(url, commit, dir.path())?;
            }
            _ => return Err(Error::internal("a source of another kind than before")),
        }
        Ok(dir)
    }
}

/// The time of a file or commit, seconds since 1970; none when its server says none.
pub(super) fn time_of(
    source: &RemoteSource,
    request: &BuildRequest,
    store: &Store,
) -> Result<Option<i64>> {
    match source {
        RemoteSource::Http { url, .. } => {
            let login = logins::authorization(&request.secrets, url);
            match Fetcher::new(&request.net)?.get(url, None, login.as_deref())? {
                Fetched::New(_, validators) => Ok(validators.modified()),
                Fetched::Unchanged => Ok(None),
            }
        }
        RemoteSource::Git(url) => {
            let git = logins::git(&request.secrets, url);
            let dir = tempfile::Builder::new().prefix("fetched-").tempdir_in(store.sub("tmp"));
            let dir = dir.or_error(ErrorKind::Environment, || {
                "cannot make a directory in the store".to_owned()
            })?;
            git.checkout(url, &git.resolve(url)?, dir.path()).map(Some)
        }
    }
}

/// Mode 0600, as BuildKit has it, and the server's time.
fn settle(path: &Path, modified: i64) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let age = Duration::from_secs(modified.unsigned_abs());
    let time = if modified < 0 { None } else { SystemTime::UNIX_EPOCH.checked_add(age) };
    File::options().append(true).open(path)?.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

fn read_record(path: &Path) -> Option<(Digest, Validators)> {
    let record: FileRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let marked = record.validators.etag.is_some() || record.validators.last_modified.is_some();
    let digest = Digest::parse(&record.digest).ok()?;
    (record.version == 1 && marked).then_some((digest, record.validators))
}

/// Without it the next build fetches the file again.
fn write_record(path: &Path, record: FileRecord) {
    let (Ok(text), Some(dir)) = (serde_json::to_vec(&record), path.parent()) else { return };
    if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
        super::cache::write_atomic(dir, name, &text);
    }
}
