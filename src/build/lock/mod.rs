//! `nativebuild.lock`: which digest each name of a Dockerfile stood for (design §10.7, docs/offline.md).
//!
//! A build notes what it found (`--lock`), or takes what is written down and asks nobody (`--locked`). Without either
//! the file means nothing. It is in no key: a step's key holds what the names stood for.

pub mod file;

use super::carry::Carried;
use super::hidden;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::git_url::GitUrl;
use crate::oci::spec::{Descriptor, digest_of};
use crate::oci::{Digest, Platform, Reference};
use crate::source::SourceFile;
use file::{Key, Kind, LockFile, Pin};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the file.
pub const FILE_NAME: &str = "nativebuild.lock";
/// Largest file that is read, in bytes.
const LIMIT: u64 = 16 << 20;
/// The registry that images of `--build-context NAME=oci-layout://…` seem to be from.
const OF_LAYOUTS: &str = "layout.invalid";

/// What a build does with the lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Nothing.
    #[default]
    Off,
    /// Notes what names stood for: `--lock`.
    Update,
    /// The same, and keeps the bytes of everything in the store: `image prefetch`.
    Collect,
    /// Takes what is noted, and fails where nothing is: `--locked`.
    Required,
}

impl LockMode {
    /// True where the file is written.
    pub fn notes(self) -> bool {
        matches!(self, Self::Update | Self::Collect)
    }
}

/// The lock file of a build.
#[derive(Debug, Default)]
pub struct Locks {
    mode: LockMode,
    path: PathBuf,
    known: LockFile,
    seen: Mutex<LockFile>,
    carried: Mutex<Vec<Carried>>,
    /// Full names of images that are made along with the build.
    own: BTreeSet<String>,
}

impl Locks {
    /// No lock file.
    pub fn off() -> Arc<Self> {
        Arc::default()
    }

    /// The lock file at `path`, which must be there when it is required. `own` are images that are made here, too, and
    /// so have nothing to be pinned to.
    pub fn open(mode: LockMode, path: &Path, own: BTreeSet<String>) -> Result<Arc<Self>> {
        let known = match mode {
            LockMode::Off => None,
            LockMode::Update | LockMode::Collect | LockMode::Required => read(path)?,
        };
        let known = match (known, mode) {
            (None, LockMode::Required) => {
                return Err(Error::dockerfile(format!("there is no lock file {}", path.display()))
                    .hint("`--lock` writes it, where there is a network"));
            }
            (known, _) => known.unwrap_or_default(),
        };
        let path = path.to_owned();
        Ok(Arc::new(Self { mode, path, known, own, ..Self::default() }))
    }

    /// What is done with the file.
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// What an image is pinned to. A name with a digest needs no pin, and neither does an image that is made here.
    pub fn image(&self, name: &Reference, platform: &Platform) -> Result<Option<Digest>> {
        if self.mode != LockMode::Required || self.is_fixed(name) {
            return Ok(None);
        }
        let platform = platform.to_string();
        match self.get(Kind::Image, &name.to_string(), &platform) {
            Some(Pin::Image(digest)) => Ok(Some(digest.clone())),
            _ => Err(self.missing(format!("the image `{}` for {platform}", name.familiar()))),
        }
    }

    /// Notes what an image is.
    pub fn note_image(
        &self,
        name: &Reference,
        platform: &Platform,
        found: &Descriptor,
    ) -> Result<()> {
        if self.own.contains(&name.to_string()) || name.registry == OF_LAYOUTS {
            return Ok(());
        }
        let pin = Pin::Image(digest_of(found)?);
        self.note(Kind::Image, name.to_string(), platform.to_string(), pin);
        self.carry(Carried::Image(name.clone(), Box::new(found.clone())));
        Ok(())
    }

    /// What a file behind a URL is pinned to, and its time.
    pub fn file(&self, url: &str) -> Result<Option<(Digest, Option<i64>)>> {
        if self.mode != LockMode::Required {
            return Ok(None);
        }
        match self.get(Kind::File, url, "") {
            Some(Pin::File(digest, modified)) => Ok(Some((digest.clone(), *modified))),
            _ => Err(self.missing(format!("the file `{url}`"))),
        }
    }

    /// Notes what a file is.
    pub fn note_file(&self, url: &str, digest: &Digest, modified: Option<i64>) {
        let pin = Pin::File(digest.clone(), modified);
        self.note(Kind::File, url.to_owned(), String::new(), pin);
    }

    /// What a reference of a repository is pinned to.
    pub fn commit(&self, url: &GitUrl) -> Result<Option<String>> {
        if self.mode != LockMode::Required {
            return Ok(None);
        }
        let text = name_of_repository(url);
        match self.get(Kind::Git, &text, "") {
            Some(Pin::Git(commit)) => Ok(Some(commit.clone())),
            _ => Err(self.missing(format!("the repository `{text}`"))),
        }
    }

    /// Notes what a reference of a repository is.
    pub fn note_commit(&self, url: &GitUrl, commit: &str) {
        self.note(Kind::Git, name_of_repository(url), String::new(), Pin::Git(commit.to_owned()));
    }

    /// Notes what has to be in the store for the build to need no network.
    pub(super) fn carry(&self, what: Carried) {
        if self.mode == LockMode::Collect {
            let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
            if !carried.contains(&what) {
                carried.push(what);
            }
        }
    }

    /// Everything that was collected.
    pub fn carried(&self) -> Vec<Carried> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that was noted in this build.
    pub fn noted(&self) -> LockFile {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what was noted into the file; what other builds noted there stays. True when the file changed.
    pub fn save(&self) -> Result<bool> {
        if !self.mode.notes() {
            return Ok(false);
        }
        let what = || format!("cannot write the lock file {}", self.path.display());
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let guard = File::open(dir).or_error(ErrorKind::Environment, what)?;
        // Builds of several packages may share the file.
        guard.lock().or_error(ErrorKind::Environment, what)?;
        let before = read(&self.path)?;
        let mut all = before.clone().unwrap_or_default();
        all.pins.extend(self.noted().pins);
        if before.as_ref() == Some(&all) {
            return Ok(false);
        }
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".nativebuild-lock-")
                .permissions(std::fs::Permissions::from_mode(0o644))
                .tempfile_in(dir)?;
            let text = all.to_text().map_err(std::io::Error::other)?;
            file.write_all(text.as_bytes())?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().or_error(ErrorKind::Environment, what)?;
        Ok(true)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_fixed(&self, name: &Reference) -> bool {
        name.digest.is_some() || self.own.contains(&name.to_string())
    }

    fn get(&self, kind: Kind, text: &str, platform: &str) -> Option<&Pin> {
        let (text, platform) = (text.to_owned(), platform.to_owned());
        self.known.pins.get(&Key { kind, text, platform })
    }

    fn note(&self, kind: Kind, text: String, platform: String, pin: Pin) {
        if self.mode.notes() {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.pins.insert(Key { kind, text, platform }, pin);
        }
    }

    fn missing(&self, what: String) -> Error {
        Error::dockerfile(format!("{what} is not in the lock file"))
            .cause(format!("{} has no entry for it", self.path.display()))
            .hint("`--lock` adds it, where there is a network")
    }
}

/// The tree of a context directory without the lock file, if that lies in it.
pub fn hide(tree: FileTree, context: &Path, lock: &Path) -> FileTree {
    if lock.symlink_metadata().is_err() {
        return tree;
    }
    hidden::without(tree, context, lock, "the lock file of a build is no part of its context")
}

/// Address and reference; what else an address says decides nothing about the commit.
fn name_of_repository(url: &GitUrl) -> String {
    format!("{}#{}", url.remote, url.reference.as_deref().unwrap_or("HEAD"))
}

fn read(path: &Path) -> Result<Option<LockFile>> {
    let what = || format!("cannot read the lock file {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.or_error(ErrorKind::Context, what)?,
    };
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text).or_error(ErrorKind::Context, what)?;
    if text.len() as u64 > LIMIT {
        return Err(Error::dockerfile(what()).cause("it is larger than 16 MiB"));
    }
    LockFile::parse(&Arc::new(SourceFile::new(path.display().to_string(), text))).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_builds_noted_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let digest = Digest::of(b"x");
        let note = |url: &str, modified| {
            let locks = Locks::open(LockMode::Update, &path, BTreeSet::new()).unwrap();
            locks.note_file(url, &digest, modified);
            locks.save().unwrap()
        };
        assert!(note("http://h/a", None));
        assert!(note("http://h/b", Some(7)));
        assert!(!note("http://h/b", Some(7)));
        let locks = Locks::open(LockMode::Required, &path, BTreeSet::new()).unwrap();
        assert_eq!(locks.file("http://h/a").unwrap(), Some((digest.clone(), None)));
        assert_eq!(locks.file("http://h/b").unwrap(), Some((digest.clone(), Some(7))));
        assert!(locks.file("http://h/c").is_err());
        assert!(!locks.save().unwrap());
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn what_needs_no_pin_is_not_asked_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let missing = Locks::open(LockMode::Required, &path, BTreeSet::new()).unwrap_err();
        assert!(missing.message().starts_with("there is no lock file"));
        std::fs::write(&path, LockFile::default().to_text().unwrap()).unwrap();
        let own = BTreeSet::from(["docker.io/l/pkg:1".to_owned()]);
        let locks = Locks::open(LockMode::Required, &path, own).unwrap();
        let image = |name: &str| {
            locks.image(&Reference::parse(name).unwrap(), &Platform::new("linux", "arm64", ""))
        };
        assert_eq!(image(&format!("a@{}", Digest::of(b"x"))).unwrap(), None);
        assert_eq!(image("l/pkg:1").unwrap(), None);
        assert_eq!(
            image("alpine:3").unwrap_err().message(),
            "the image `alpine:3` for linux/arm64 is not in the lock file"
        );
    }
}
