//! Sources of ADD that are elsewhere: what they are now, for the key of a step, and their files, for the step itself.
//!
//! [`Sources`] finds and fetches them. A repository is known by the commit that its address means; its files are fetched
//! only when the step is carried out.

use super::care::TempTree;
use super::request::BuildRequest;
use super::sources::{RemoteFile, Sources};
use super::stage::Builder;
use super::store::Store;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use crate::oci::git_url::GitUrl;
use crate::plan::remote::RemoteSource;
use crate::progress::Emitter;
use crate::sys::{SysResultExt, fs};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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
    files: Mutex<Option<TempTree>>,
}

#[derive(Debug)]
enum Content {
    File(RemoteFile),
    Commit(String),
}

impl Builder<'_> {
    fn sources(&self) -> Sources<'_> {
        self.request.sources(self.store, self.emitter)
    }

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
        let file = self.sources().file(url, checksum)?;
        let mut hasher = FieldHasher::new("nb-http-1");
        hasher.field(name.as_bytes()).field(file.digest.as_str().as_bytes());
        let content = Content::File(file);
        Ok(Remote { identity: hasher.finish(), content, files: Mutex::default() })
    }

    fn look_at_repository(&self, url: &GitUrl) -> Result<Remote> {
        let commit = self.sources().commit(url)?;
        let mut hasher = FieldHasher::new("nb-git-1");
        hasher.field(commit.as_bytes()).field(url.subdir.as_bytes());
        hasher.number(u64::from(url.keep_git_dir == Some(true)) | u64::from(url.submodules) << 1);
        let content = Content::Commit(commit);
        Ok(Remote { identity: hasher.finish(), content, files: Mutex::default() })
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

    fn fetch(&self, source: &RemoteSource, content: &Content) -> Result<TempTree> {
        let sources = self.sources();
        let dir = sources.directory()?;
        match (source, content) {
            (RemoteSource::Http { url, name, .. }, Content::File(file)) => {
                let path = dir.path().join(name);
                let what = || format!("cannot store {url}");
                let mut copy = File::create(&path).or_error(ErrorKind::Environment, what)?;
                let modified = sources.copy_to(url, file, &mut copy)?;
                settle(&path, modified.unwrap_or(0)).or_error(ErrorKind::Environment, what)?;
            }
            (RemoteSource::Git(url), Content::Commit(commit)) => {
                let _time = sources.checkout(url, commit, dir.path())?;
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
    emitter: &Emitter,
) -> Result<Option<i64>> {
    let sources = request.sources(store, emitter);
    match source {
        RemoteSource::Http { url, .. } => {
            let file = sources.file(url, None)?;
            file.modified.map_or_else(|| sources.bring(url, &file), Ok)
        }
        RemoteSource::Git(url) => {
            let dir = sources.directory()?;
            sources.checkout(url, &sources.commit(url)?, dir.path()).map(Some)
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
