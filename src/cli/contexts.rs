//! Where a build's files come from: the context (a directory, a tar, a URL, a Git repository), the Dockerfile in it, and
//! `--build-context` (dockerfile.md §1.10).
//!
//! What is not a directory of this machine is fetched or unpacked into the store's `tmp` first, without any privileges; the
//! ignore rules of such a context are not applied, as BuildKit does not apply them either.

use super::args::BuildArgs;
use super::build::{open_context, plain};
use super::environment::Environment;
use super::network::without_logins;
use super::{locks, private, values};
use crate::boolean;
use crate::build::care::TempTree;
use crate::build::lock::{self, LockMode, Locks};
use crate::build::logins;
use crate::build::request::{ContextSource, ImageSource, Secret};
use crate::build::sources::Sources;
use crate::build::store::Store;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::apply::{ApplyOptions, Devices, apply};
use crate::layers::compress::{decompressor, guarded};
use crate::layers::tar_read::looks_like_tar;
use crate::net::{Fetched, Fetcher, NetConfig};
use crate::oci::archive::{self, Expect, Import, Input, Select};
use crate::oci::git_url::{GitUrl, is_http};
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use crate::source::SourceFile;
use crate::sys::{SysResultExt, fs, root};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest Dockerfile that is read, in bytes.
const LARGEST_DOCKERFILE: u64 = 16 << 20;
/// Build argument of BuildKit.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// Names of the Dockerfile that are tried.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Everything that a build reads files from.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) dockerfile: Arc<SourceFile>,
    pub(super) tree: FileTree,
    pub(super) named: BTreeMap<String, ContextSource>,
    /// Layouts among the named contexts.
    pub(super) images: Option<ImageSource>,
    /// Times of contexts that have one, seconds since 1970: `context` is the main one.
    pub(super) times: BTreeMap<String, i64>,
    /// Read once, since logins for contexts are among them.
    pub(super) secrets: Vec<Secret>,
    /// The lock file beside the Dockerfile.
    pub(super) locks: Arc<Locks>,
    /// What was fetched and unpacked; goes away with the value.
    pub(super) fetched: Vec<TempTree>,
}

/// Opens all contexts and reads the Dockerfile.
/// Without a store there is a place for temporary files, but none for images.
pub(super) fn open(
    args: &BuildArgs,
    environment: &Environment,
    store: Option<&Store>,
    locks: &Arc<Locks>,
    emitter: &Emitter,
) -> Result<Opened> {
    let mut opener = Opener {
        locks: Arc::clone(locks),
        emitter,
        net: without_logins(&args.tls, environment)?,
        secrets: private::secrets(&args.secrets, environment)?,
        keep_git_dir: keep_git_dir(args, environment)?,
        store,
        tmp: store.map_or_else(|| environment.tmp(), |store| store.sub("tmp")),
        fetched: Vec::new(),
        times: BTreeMap::new(),
        layouts: BTreeMap::new(),
    };
    let (dockerfile, tree) = opener.main(args)?;
    let mut named = BTreeMap::new();
    for word in &args.build_contexts {
        let (name, source) = opener.named(word)?;
        named.insert(name, source);
    }
    let Opener { fetched, times, layouts, secrets, .. } = opener;
    let images = (!layouts.is_empty()).then(|| {
        ImageSource(Arc::new(move |reference, _| Ok(layouts.get(&reference.to_string()).cloned())))
    });
    Ok(Opened {
        dockerfile,
        tree,
        named,
        images,
        times,
        secrets,
        locks: Arc::clone(locks),
        fetched,
    })
}

/// The build argument that keeps `.git` of the main context.
fn keep_git_dir(args: &BuildArgs, environment: &Environment) -> Result<bool> {
    let given = values::pairs(&args.build_args, |name| environment.text(name));
    match given.iter().rev().find(|(name, _)| name == KEEP_GIT_DIR) {
        None => Ok(false),
        Some((_, value)) => boolean::parse(value).ok_or_else(|| {
            Error::usage(format!("`{KEEP_GIT_DIR}={value}` is neither true nor false"))
        }),
    }
}

struct Opener<'a> {
    net: NetConfig,
    secrets: Vec<Secret>,
    keep_git_dir: bool,
    locks: Arc<Locks>,
    emitter: &'a Emitter,
    store: Option<&'a Store>,
    tmp: PathBuf,
    fetched: Vec<TempTree>,
    times: BTreeMap<String, i64>,
    /// Images of layouts, by the references that stand for them.
    layouts: BTreeMap<String, Descriptor>,
}

/// What came from elsewhere.
enum Arrived {
    /// A tree, below a directory of ours.
    Tree(FileTree),
    /// One file that is no archive.
    Text(Vec<u8>),
}

impl Opener<'_> {
    fn main(&mut self, args: &BuildArgs) -> Result<(Arc<SourceFile>, FileTree)> {
        let text = args.context.to_string_lossy();
        let from_stdin = args.file.as_deref() == Some(Path::new("-"));
        let arrived = if text == "-" {
            if from_stdin {
                return Err(Error::usage(
                    "standard input cannot be the context and the Dockerfile",
                ));
            }
            self.unpack(std::io::stdin().lock(), "standard input")?
        } else if let Some(url) = GitUrl::parse_context(&text) {
            let mut url = url?;
            url.keep_git_dir = url.keep_git_dir.or(Some(self.keep_git_dir));
            let (tree, time) = self.checkout(&url)?;
            self.times.insert("context".to_owned(), time);
            Arrived::Tree(tree)
        } else if is_http(&text) {
            self.download(&text, "context")?
        } else {
            let (dockerfile, path) = dockerfile_of_directory(args)?;
            let tree =
                open_context(&args.context, path.as_deref(), args.real.ignorefile.as_deref())?;
            let tree = match locks::path(args) {
                Some(lock) => lock::hide(tree, &args.context, &lock)?,
                None => tree,
            };
            return Ok((dockerfile, tree));
        };
        match (arrived, &args.file) {
            (Arrived::Tree(tree), _) if from_stdin => Ok((dockerfile_of_stdin()?, tree)),
            (Arrived::Tree(tree), file) => Ok((dockerfile_in(&tree, file.as_deref())?, tree)),
            (Arrived::Text(_), Some(file)) => Err(Error::usage(format!(
                "`{text}` is a Dockerfile itself, and `-f {}` names another one",
                file.display()
            ))),
            (Arrived::Text(text), None) => {
                let tree = self.empty()?;
                Ok((Arc::new(SourceFile::new("Dockerfile", text)), tree))
            }
        }
    }

    /// One `--build-context NAME=SOURCE`.
    fn named(&mut self, word: &str) -> Result<(String, ContextSource)> {
        let Some((name, value)) =
            word.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
        else {
            return Err(Error::usage(format!("invalid build context `{word}`"))
                .hint("write `NAME=DIRECTORY`, `NAME=docker-image://IMAGE`, `NAME=oci-layout://PATH`, or `NAME=URL`"));
        };
        if matches!(name, "scratch" | "context") {
            return Err(Error::usage(format!(
                "`{name}` always means the same and cannot be replaced"
            )));
        }
        let source = self.named_source(name, value);
        let source = source.map_err(|error| error.wrap(format!("build context `{name}`")))?;
        Ok((name.to_owned(), source))
    }

    fn named_source(&mut self, name: &str, value: &str) -> Result<ContextSource> {
        if let Some(image) = value.strip_prefix("docker-image://") {
            return Ok(ContextSource::Image(image.to_owned()));
        }
        if let Some(layout) = value.strip_prefix("oci-layout://") {
            return self.layout(layout).map(ContextSource::Image);
        }
        if let Some(url) = GitUrl::parse_context(value) {
            let (tree, time) = self.checkout(&url?)?;
            self.times.insert(name.to_owned(), time);
            return Ok(ContextSource::Files(tree));
        }
        if is_http(value) {
            return match self.download(value, name)? {
                Arrived::Tree(tree) => Ok(ContextSource::Files(tree)),
                Arrived::Text(_) => Err(Error::usage(format!("`{value}` is no archive"))
                    .hint("a single file is added by ADD")),
            };
        }
        if let Some((scheme, _)) = value.split_once("://") {
            return Err(Error::usage(format!("contexts by `{scheme}://` are not known here")));
        }
        open_context(Path::new(value), None, None).map(ContextSource::Files)
    }

    /// Brings an image of a layout into the store, under no name; gives a reference that stands for it in this build.
    fn layout(&mut self, text: &str) -> Result<String> {
        let (path, select) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((path, digest)), _) => {
                // `path:tag@digest`: the digest says more.
                let path = path
                    .rsplit_once(':')
                    .map_or(path, |(path, tag)| if tag.contains('/') { text } else { path });
                (path, Select::Named(digest.to_owned()))
            }
            (None, Some((path, tag))) if !tag.contains('/') => {
                (path, Select::Named(tag.to_owned()))
            }
            _ => (text, Select::Only),
        };
        let request = Import {
            input: Input::Path(PathBuf::from(path)),
            expect: Expect::Oci,
            select,
            tmp: &self.tmp,
            rootfs: None,
        };
        let store = self.store.ok_or_else(|| Error::environment("there is no store for images"))?;
        let imported = archive::import(request, store.images())?;
        let [image] = &imported.images[..] else {
            return Err(Error::usage(format!("`{path}` has several images"))
                .hint("choose one by its tag or digest: `oci-layout://PATH:TAG`"));
        };
        let digest = Digest::parse(image.descriptor.digest().as_ref())?;
        let reference = Reference::parse(&format!("layout.invalid/context@{digest}"))?.to_string();
        self.layouts.insert(reference.clone(), image.descriptor.clone());
        Ok(reference)
    }

    fn sources(&self) -> Option<Sources<'_>> {
        let Self { net, secrets, locks, emitter, store, .. } = self;
        store.map(|store| Sources { store, net, secrets, locks, emitter })
    }

    fn checkout(&mut self, url: &GitUrl) -> Result<(FileTree, i64)> {
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

    fn download(&mut self, url: &str, name: &str) -> Result<Arrived> {
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

    fn unpack(&mut self, mut from: impl Read, shown: &str) -> Result<Arrived> {
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

    fn empty(&mut self) -> Result<FileTree> {
        let dir = self.directory()?;
        let tree = open_context(dir.path(), None, None)?;
        self.fetched.push(dir);
        Ok(tree)
    }

    fn directory(&self) -> Result<TempTree> {
        TempTree::new(&self.tmp, "context-")
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

/// Where the Dockerfile of a context on this machine is; `None` for one on standard input.
pub(super) fn path_of_dockerfile(args: &BuildArgs) -> Option<PathBuf> {
    match &args.file {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None => {
            let known = NAMES.map(|name| args.context.join(name));
            Some(known.iter().find(|path| path.exists()).unwrap_or(&known[0]).clone())
        }
    }
}

/// The Dockerfile of a context on this machine, and where it is.
fn dockerfile_of_directory(args: &BuildArgs) -> Result<(Arc<SourceFile>, Option<PathBuf>)> {
    let Some(path) = path_of_dockerfile(args) else { return Ok((dockerfile_of_stdin()?, None)) };
    let shown = path.strip_prefix("./").unwrap_or(&path).display().to_string();
    let file = File::open(&path).map_err(|error| {
        let made =
            Error::dockerfile(format!("cannot read the Dockerfile `{shown}`")).cause(plain(&error));
        if args.file.is_none() && args.context.is_dir() {
            made.hint("name another file with `-f`")
        } else {
            made
        }
    })?;
    let text = read_limited(file, &shown)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = if args.file.is_some() { shown } else { name.unwrap_or(shown) };
    Ok((Arc::new(SourceFile::new(name, text)), Some(path)))
}

fn dockerfile_of_stdin() -> Result<Arc<SourceFile>> {
    let text = read_limited(std::io::stdin().lock(), "standard input")?;
    Ok(Arc::new(SourceFile::new("Dockerfile", text)))
}

/// The Dockerfile of a context that was fetched: links in its path stay inside.
fn dockerfile_in(tree: &FileTree, file: Option<&Path>) -> Result<Arc<SourceFile>> {
    let given = file.map(|file| file.to_string_lossy().into_owned());
    let names: Vec<String> =
        given.map_or_else(|| NAMES.map(str::to_owned).to_vec(), |file| vec![file]);
    for name in &names {
        let path = name.trim_start_matches("./").trim_start_matches('/').as_bytes();
        if let Ok(opened) = root::open_read(tree.root(), path) {
            let text = read_limited(opened, name)?;
            return Ok(Arc::new(SourceFile::new(name.clone(), text)));
        }
    }
    Err(Error::dockerfile(format!("there is no `{}` in the context", names[0]))
        .hint("name another file of the context with `-f`"))
}

fn read_limited(reader: impl Read, what: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    reader
        .take(LARGEST_DOCKERFILE + 1)
        .read_to_end(&mut text)
        .or_error(ErrorKind::Dockerfile, || format!("cannot read the Dockerfile `{what}`"))?;
    if text.len() as u64 > LARGEST_DOCKERFILE {
        return Err(Error::dockerfile(format!("the Dockerfile `{what}` is larger than 16 MiB")));
    }
    Ok(text)
}
