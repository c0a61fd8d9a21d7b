//! Files from elsewhere: fetched or read, then unpacked below a directory of ours, without any privileges.

use super::Opener;
use super::dockerfile::read_limited;
use crate::build::care::TempTree;
use crate::build::lock::LockMode;
use crate::build::logins;
use crate::build::sources::Sources;
use crate::cli::build::open_context;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::apply::{ApplyOptions, Devices, apply};
use crate::layers::compress::{decompressor, guarded};
use crate::layers::tar_read::looks_like_tar;
use crate::net::{Fetched, Fetcher};
use crate::oci::git_url::GitUrl;
use crate::sys::{SysResultExt, fs, root};
use std::fs::File;
use std::io::{BufReader, Read, Seek};

/// What came from elsewhere.
pub(super) enum Arrived {
    /// A tree, below a directory of ours.
    Tree(FileTree),
    /// One file that is no archive.
    Text(Vec<u8>),
}

impl Opener<'_> {
    /// The directory that a URL means in a repository, and the time of the commit.
    pub(super) fn checkout(&mut self, url: &GitUrl) -> Result<(FileTree, i64)> {
        let dir = self.directory()?;
        let time = if let Some(sources) = self.sources() {
            sources.checkout(url, &sources.commit(url)?, dir.path())?
        } else {
            let git = logins::git(&self.secrets, url, &self.net);
            git.checkout(url, &git.resolve(url)?, dir.path())?
        };
        let what = || format!("there is no directory `{}` in `{}`", url.subdir, url.remote);
        let top = fs::open_dir_path(dir.path()).or_error(ErrorKind::Environment, what)?;
        let below = root::open_dir(&top, url.subdir.trim_matches('/').as_bytes())
            .or_error(ErrorKind::Context, what)?;
        self.fetched.push(dir);
        Ok((FileTree::context(below, None), time))
    }

    /// What is behind a URL.
    pub(super) fn download(&mut self, url: &str, name: &str) -> Result<Arrived> {
        if self.net.offline || self.locks.mode() != LockMode::Off {
            return self.download_kept(url, name);
        }
        let fetcher = Fetcher::new(&self.net)?;
        let login = logins::authorization(&self.secrets, url);
        let Fetched::New(body, validators) = fetcher.get(url, None, login.as_deref())? else {
            return Err(Error::internal("a file that nothing is known of is unchanged"));
        };
        self.times.extend(validators.modified().map(|time| (name.to_owned(), time)));
        self.unpack(body, url)
    }

    /// The same for a file that is kept in the store, or is there already.
    fn download_kept(&mut self, url: &str, name: &str) -> Result<Arrived> {
        let none = || Error::environment(format!("there is no store, and {url} is not fetched"));
        let sources = self.sources().ok_or_else(none)?;
        let file = sources.file(url, None)?;
        let mut copy = self.temporary(url)?;
        let modified = sources.copy_to(url, &file, &mut copy)?;
        self.times.extend(modified.map(|time| (name.to_owned(), time)));
        self.arrived(copy, url)
    }

    /// What a stream gives.
    pub(super) fn unpack(&mut self, mut from: impl Read, shown: &str) -> Result<Arrived> {
        let mut file = self.temporary(shown)?;
        std::io::copy(&mut from, &mut file).or_error(ErrorKind::Context, || unreadable(shown))?;
        self.arrived(file, shown)
    }

    /// A file without a name for what comes from there.
    fn temporary(&self, shown: &str) -> Result<File> {
        tempfile::tempfile_in(&self.tmp).or_error(ErrorKind::Environment, || unreadable(shown))
    }

    /// Unpacks an archive of any compression, or takes a text as it is.
    fn arrived(&mut self, mut file: File, shown: &str) -> Result<Arrived> {
        let what = || unreadable(shown);
        if !is_archive(&file).or_error(ErrorKind::Context, what)? {
            file.rewind().or_error(ErrorKind::Environment, what)?;
            return read_limited(file, shown).map(Arrived::Text);
        }
        file.rewind().or_error(ErrorKind::Environment, what)?;
        let dir = self.directory()?;
        let root = fs::open_dir_path(dir.path()).or_error(ErrorKind::Environment, what)?;
        // Owners mean nothing in a context, and devices have no place in one.
        let options = ApplyOptions { owner: false, ..ApplyOptions::archive(Devices::Skip) };
        let plain = guarded(BufReader::with_capacity(1 << 18, file), options.limits.ratio)?;
        apply(plain, std::os::fd::AsFd::as_fd(&root), &options)
            .map_err(|error| error.wrap(what()))?;
        self.fetched.push(dir);
        Ok(Arrived::Tree(FileTree::context(root, None)))
    }

    /// A context without files.
    pub(super) fn empty(&mut self) -> Result<FileTree> {
        let dir = self.directory()?;
        let tree = open_context(dir.path(), None, None)?;
        self.fetched.push(dir);
        Ok(tree)
    }

    fn directory(&self) -> Result<TempTree> {
        TempTree::new(&self.tmp, "context-")
    }

    fn sources(&self) -> Option<Sources<'_>> {
        let Self { net, secrets, locks, emitter, store, .. } = self;
        store.map(|store| Sources { store, net, secrets, locks, emitter })
    }
}

fn unreadable(shown: &str) -> String {
    format!("cannot read the context from {shown}")
}

/// By its content, whatever its compression.
fn is_archive(file: &File) -> std::io::Result<bool> {
    let mut again = file.try_clone()?;
    again.rewind()?;
    let mut start = Vec::new();
    // What does not unpack is no archive.
    if let Ok(plain) = decompressor(BufReader::new(again)) {
        let _short = plain.take(1024).read_to_end(&mut start);
    }
    Ok(looks_like_tar(&start))
}
