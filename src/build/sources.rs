//! Files behind URLs and Git repositories: what they are now, and their bytes (dockerfile.md §3.10, docs/offline.md).
//!
//! Used by ADD, by contexts that lie elsewhere, and by `image prefetch`. A file is a blob of the store, and
//! `cache/http` remembers what its server said of it; the files of a commit may be there too, as a tar, which
//! `cache/git` names. A lock file says what things are without asking; offline nobody is asked at all.
//! What the store has is hashed whenever it is used: the disk may have damaged it, and it is fetched again then.

use super::blobs;
use super::cache::write_atomic;
use super::care::{self, TempTree};
use super::carry::Carried;
use super::lock::{LockMode, Locks};
use super::logins;
use super::request::Secret;
use super::store::Store;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::apply::{ApplyOptions, Devices, apply};
use crate::layers::diff::{DiffOptions, XattrFlavour, read_tree};
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::net::git::{self, Git};
use crate::net::{Fetched, Fetcher, NetConfig, Validators};
use crate::oci::Digest;
use crate::oci::digest::{FieldHasher, VerifyingReader};
use crate::oci::git_url::GitUrl;
use crate::progress::Emitter;
use crate::sys::{SysResultExt, fs};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What is needed to find and fetch sources.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Where bytes are kept.
    pub store: &'a Store,
    /// Proxies and the like.
    pub net: &'a NetConfig,
    /// Logins are among them.
    pub secrets: &'a [Secret],
    /// What names stood for.
    pub locks: &'a Locks,
    /// Told what is fetched.
    pub emitter: &'a Emitter,
}

/// A file, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Of its bytes.
    pub digest: Digest,
    /// Its time in seconds since 1970, if it has one; `None` when that is not known before it is fetched.
    pub modified: Option<Option<i64>>,
}

/// What is remembered of a file behind a URL.
#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    /// Version of this form, 1.
    version: u32,
    digest: String,
    validators: Validators,
}

/// What is remembered of the files of a commit.
#[derive(Debug, Serialize, Deserialize)]
struct TreeRecord {
    /// Version of this form, 1.
    version: u32,
    /// Of the tar.
    digest: String,
    /// Of the commit, seconds since 1970.
    time: i64,
}

const HOW_TO_BRING: &str =
    "where there is a network `image prefetch` collects it; `image load` takes it in here";
const HOW_TO_PIN: &str =
    "offline it must be known what it is: `--lock`, where there is a network, then `--locked`";
const DAMAGED: &str = "what the store had of it was damaged";
/// Read at once out of the store.
const BUFFER: usize = 1 << 18;

impl Sources<'_> {
    /// What a file is now; with a checksum it need not be asked for.
    pub fn file(&self, url: &str, checksum: Option<&Digest>) -> Result<RemoteFile> {
        if let Some((digest, modified)) = self.locks.file(url)? {
            if checksum.is_some_and(|checksum| *checksum != digest) {
                let checksum = checksum.map_or("", Digest::as_str);
                return Err(Error::integrity(format!("{url} is pinned to another file"))
                    .cause(format!("expected {checksum}, the lock file has {digest}"))
                    .hint("`--lock` writes the lock file anew"));
            }
            return Ok(RemoteFile { digest, modified: Some(modified) });
        }
        let noting = self.locks.mode().notes();
        let (digest, modified) = match checksum {
            // What it must be is known, so it is fetched only when it is needed.
            Some(checksum) if !noting => {
                return Ok(RemoteFile { digest: checksum.clone(), modified: None });
            }
            Some(checksum) => (checksum.clone(), self.fetch(url, checksum, "the `--checksum`")?),
            None => self.ask(url)?,
        };
        if self.locks.mode() == LockMode::Collect {
            // It is carried away without a look at it.
            let known = checksum.is_none().then_some(modified);
            self.mend(url, &RemoteFile { digest: digest.clone(), modified: known })?;
        }
        self.locks.note_file(url, &digest, modified);
        let validators = self.remembered(url, &digest);
        self.locks.carry(Carried::File { url: url.to_owned(), digest: digest.clone(), validators });
        Ok(RemoteFile { digest, modified: Some(modified) })
    }

    /// Has the bytes of a file in the store; gives its time.
    pub fn bring(&self, url: &str, file: &RemoteFile) -> Result<Option<i64>> {
        match file.modified {
            Some(modified) if self.store.images().has_blob(&file.digest) => Ok(modified),
            Some(modified) => self.fetch(url, &file.digest, "the lock file").map(|_| modified),
            None => self.fetch(url, &file.digest, "the `--checksum`"),
        }
    }

    /// Writes a file to `to` and verifies it on the way; what is damaged in the store is fetched again. Gives its time.
    pub fn copy_to(&self, url: &str, file: &RemoteFile, to: &mut File) -> Result<Option<i64>> {
        let modified = self.bring(url, file)?;
        if let Err(error) = self.copy_kept(url, &file.digest, to) {
            if !self.mend(url, file)? {
                return Err(error);
            }
            self.copy_kept(url, &file.digest, to)?;
        }
        Ok(modified)
    }

    /// Fails when what the store has is not the file.
    fn copy_kept(&self, url: &str, digest: &Digest, to: &mut File) -> Result<()> {
        let what = || format!("cannot copy {url} out of the store");
        let kept = self.store.images().open_plain(digest)?;
        let kept = kept.ok_or_else(|| Error::environment(what()).hint("build again"))?;
        let size = kept.metadata().or_error(ErrorKind::Environment, what)?.len();
        let kept = VerifyingReader::new(kept, digest.clone(), size);
        let mut kept = BufReader::with_capacity(BUFFER, kept);
        to.rewind()
            .and_then(|()| to.set_len(0))
            .and_then(|()| std::io::copy(&mut kept, to))
            .map(drop)
            .or_error(ErrorKind::Environment, what)
    }

    /// Fetches a file once more if the store's is damaged; true when it was.
    fn mend(&self, url: &str, file: &RemoteFile) -> Result<bool> {
        if !blobs::remove_damaged(self.store, &file.digest) {
            return Ok(false);
        }
        self.emitter.warn(format!("what the store had of {url} was damaged"));
        self.bring(url, file).map_err(|error| error.cause(DAMAGED))?;
        Ok(true)
    }

    /// Fetches a file whose digest is known, unless it is here; gives its time. `pinned` says where the digest is from.
    fn fetch(&self, url: &str, digest: &Digest, pinned: &str) -> Result<Option<i64>> {
        let here = self.store.images().has_blob(digest);
        // A record that is used stays longer.
        care::touch(&self.file_record(url));
        let record = read_file_record(&self.file_record(url)).filter(|(known, _)| known == digest);
        if let (true, Some((_, validators))) = (here, record) {
            return Ok(validators.modified());
        }
        if self.net.offline {
            return Err(Error::registry(format!("{url} is not in the store"))
                .cause("this is offline")
                .hint(HOW_TO_BRING));
        }
        let (found, modified) = self.ask(url)?;
        if found == *digest {
            return Ok(modified);
        }
        Err(Error::integrity(format!("{url} has the wrong content"))
            .cause(format!("expected {digest}, found {found}"))
            .hint(format!("the file or {pinned} changed")))
    }

    /// Fetches a file unless it is what it was when it was last fetched; gives its digest and time.
    fn ask(&self, url: &str) -> Result<(Digest, Option<i64>)> {
        if self.net.offline {
            return Err(Error::registry(format!("{url} cannot be asked for"))
                .cause("this is offline")
                .hint(HOW_TO_PIN));
        }
        let path = self.file_record(url);
        let marked = |validators: &Validators| {
            validators.etag.is_some() || validators.last_modified.is_some()
        };
        let known = read_file_record(&path)
            .filter(|(digest, said)| marked(said) && self.store.images().has_blob(digest));
        let fetcher = Fetcher::new(self.net)?;
        let authorization = logins::authorization(self.secrets, url);
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
                let digest = blob.commit_durably()?;
                let modified = validators.modified();
                self.remember_file(url, &digest, validators);
                Ok((digest, modified))
            }
        }
    }

    /// Remembers what a server said of a file. Without it the next build fetches the file again.
    pub(super) fn remember_file(&self, url: &str, digest: &Digest, validators: Validators) {
        let record = FileRecord { version: 1, digest: digest.to_string(), validators };
        write_record(&self.file_record(url), &record);
    }

    /// What a server said of a file that is in the store with this digest.
    pub(super) fn remembered(&self, url: &str, digest: &Digest) -> Validators {
        let found = read_file_record(&self.file_record(url));
        found.filter(|(known, _)| known == digest).map(|(_, said)| said).unwrap_or_default()
    }

    /// The commit that an address means.
    pub fn commit(&self, url: &GitUrl) -> Result<String> {
        let fixed = url.reference.as_deref().is_some_and(git::is_commit);
        if !fixed {
            if let Some(commit) = self.locks.commit(url)? {
                return git::check(url, commit);
            }
            if self.net.offline {
                return Err(Error::registry(format!("`{}` cannot be asked", url.remote))
                    .cause("this is offline")
                    .hint(HOW_TO_PIN));
            }
        }
        let commit = self.git(url).resolve(url)?;
        self.locks.note_commit(url, &commit);
        Ok(commit)
    }

    /// Puts the files of a commit into an empty directory; gives the commit's time, seconds since 1970.
    pub fn checkout(&self, url: &GitUrl, commit: &str, dir: &Path) -> Result<i64> {
        if self.locks.mode() == LockMode::Collect {
            self.keep_tree(url, commit)?;
        }
        self.put_files(url, commit, dir)
    }

    fn put_files(&self, url: &GitUrl, commit: &str, dir: &Path) -> Result<i64> {
        let kept = self.tree(url, commit);
        // Before anything of it is in the directory.
        let damaged = kept.as_ref().is_some_and(|(tar, _)| blobs::remove_damaged(self.store, tar));
        if damaged {
            self.emitter.warn(format!("what the store had of `{}` was damaged", url.remote));
        } else if let Some((digest, time)) = kept {
            self.unpack_tree(&digest, dir).map_err(|error| {
                error.wrap(format!("cannot unpack the files of `{}`", url.remote))
            })?;
            if !url.commit_time {
                touch(dir).or_error(ErrorKind::Environment, || {
                    "cannot set the times of files".to_owned()
                })?;
            }
            return Ok(time);
        }
        if self.net.offline {
            let error = Error::registry(format!("`{}` is not in the store", url.remote))
                .cause(format!("this is offline, and commit {commit} is not here"))
                .hint(HOW_TO_BRING);
            return Err(if damaged { error.cause(DAMAGED) } else { error });
        }
        let short = commit.get(..12).unwrap_or(commit);
        self.emitter.note(format!("fetching {} at {short}", url.remote));
        self.git(url).checkout(url, commit, dir)
    }

    /// Has the files of a commit in the store.
    pub(super) fn keep_tree(&self, url: &GitUrl, commit: &str) -> Result<()> {
        let kept = self.tree(url, commit);
        let whole = kept.filter(|(tar, _)| !blobs::is_damaged(self.store, tar));
        let (digest, time) = match whole {
            Some(found) => found,
            None => self.pack_tree(url, commit)?,
        };
        let (url, commit) = (url.clone(), commit.to_owned());
        self.locks.carry(Carried::Tree { url, commit, digest, time });
        Ok(())
    }

    fn pack_tree(&self, url: &GitUrl, commit: &str) -> Result<(Digest, i64)> {
        let dir = self.directory()?;
        let time = self.put_files(url, commit, dir.path())?;
        let root = fs::open_dir_path(dir.path())
            .or_error(ErrorKind::Environment, || "cannot open what was fetched".to_owned())?;
        let options = DiffOptions { flavour: XattrFlavour::User, placeholders: false };
        let entries = read_tree(root.as_fd(), &options)?;
        // The same tar whenever it is made.
        let times = TimePolicy { epoch: Some(time), started: (i64::MIN, 0) };
        let mut blob = self.store.images().blob_writer()?;
        write_layer(&entries, root.as_fd(), &times, &mut blob)?;
        let digest = blob.commit_durably()?;
        self.remember_tree(url, commit, &digest, time);
        Ok((digest, time))
    }

    /// Remembers the tar of a commit's files.
    pub(super) fn remember_tree(&self, url: &GitUrl, commit: &str, digest: &Digest, time: i64) {
        let record = TreeRecord { version: 1, digest: digest.to_string(), time };
        write_record(&self.tree_record(url, commit), &record);
    }

    /// A new directory in the store's `tmp`.
    pub(super) fn directory(&self) -> Result<TempTree> {
        TempTree::new(&self.store.sub("tmp"), "fetched-")
    }

    fn git(&self, url: &GitUrl) -> Git {
        logins::git(self.secrets, url, self.net)
    }

    fn tree(&self, url: &GitUrl, commit: &str) -> Option<(Digest, i64)> {
        care::touch(&self.tree_record(url, commit));
        let text = std::fs::read(self.tree_record(url, commit)).ok()?;
        let record: TreeRecord = serde_json::from_slice(&text).ok()?;
        let digest = Digest::parse(&record.digest).ok()?;
        let usable = record.version == 1 && self.store.images().has_blob(&digest);
        usable.then_some((digest, record.time))
    }

    fn unpack_tree(&self, digest: &Digest, dir: &Path) -> Result<()> {
        let what = || "cannot read the files of a commit".to_owned();
        let root = fs::open_dir_path(dir).or_error(ErrorKind::Environment, what)?;
        let file = self.store.images().open_plain(digest)?;
        let file = file.ok_or_else(|| Error::environment(what()).hint("load them again"))?;
        let options =
            ApplyOptions { owner: false, keep_root: false, ..ApplyOptions::archive(Devices::Skip) };
        apply(BufReader::with_capacity(BUFFER, file), root.as_fd(), &options).map(drop)
    }

    fn file_record(&self, url: &str) -> PathBuf {
        self.store.sub("cache").join("http").join(Digest::of(url.as_bytes()).hex())
    }

    fn tree_record(&self, url: &GitUrl, commit: &str) -> PathBuf {
        let mut hasher = FieldHasher::new("nb-tree-1");
        hasher.field(url.remote.as_bytes()).field(commit.as_bytes());
        hasher.number(
            u64::from(url.keep_git_dir == Some(true))
                | u64::from(url.submodules) << 1
                | u64::from(url.commit_time) << 2,
        );
        self.store.sub("cache").join("git").join(hasher.finish().hex())
    }
}

fn read_file_record(path: &Path) -> Option<(Digest, Validators)> {
    let record: FileRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let digest = Digest::parse(&record.digest).ok()?;
    (record.version == 1).then_some((digest, record.validators))
}

fn write_record(path: &Path, record: &impl Serialize) {
    let (Ok(text), Some(dir)) = (serde_json::to_vec(record), path.parent()) else { return };
    if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
        write_atomic(dir, name, &text);
    }
}

/// Gives everything below a directory the time of now, as a checkout does.
fn touch(dir: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            touch(&entry.path())?;
        }
        utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(utimensat(CWD, dir, &times, AtFlags::empty())?)
}
