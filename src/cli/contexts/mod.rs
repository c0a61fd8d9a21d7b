//! Where a build's files come from: the context (a directory, a tar, a URL, a Git repository), the Dockerfile in it, and
//! `--build-context` (dockerfile.md §1.10).
//!
//! What is not a directory of this machine is fetched or unpacked into the store's `tmp` first, without any privileges; the
//! ignore rules of such a context are not applied, as BuildKit does not apply them either.

mod dockerfile;
mod fetched;

pub(super) use dockerfile::path_of_dockerfile;

use super::args::BuildArgs;
use super::build::open_context;
use super::caching::Caching;
use super::environment::Environment;
use super::network::without_logins;
use super::{caching, locks, private, values};
use crate::boolean;
use crate::build::care::TempTree;
use crate::build::hidden;
use crate::build::lock::{self, Locks};
use crate::build::request::{ContextSource, ImageSource, Secret};
use crate::build::store::Store;
use crate::context::FileTree;
use crate::error::{Error, Result};
use crate::net::NetConfig;
use crate::oci::archive::{self, Expect, Import, Input, Select};
use crate::oci::git_url::{GitUrl, is_http};
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use crate::source::SourceFile;
use dockerfile::{dockerfile_in, dockerfile_of_directory, dockerfile_of_stdin};
use fetched::Arrived;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Build argument of BuildKit.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

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
    /// The caches that it shares: what lies in a context is no part of that.
    pub(super) caching: Caching,
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
    let build_args = values::pairs(&args.build_args, |name| environment.text(name));
    let caching =
        caching::parse((&args.real.cache_to, &args.real.cache_from), &build_args, environment)?;
    let mut opener = Opener {
        caches: caching.directories(),
        lock: locks::path(args),
        locks: Arc::clone(locks),
        emitter,
        net: without_logins(&args.tls, environment)?,
        secrets: private::secrets(&args.secrets, environment)?,
        keep_git_dir: keep_git_dir(&build_args)?,
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
        caching,
        locks: Arc::clone(locks),
        fetched,
    })
}

/// Files that standard output and standard error go to.
fn own_outputs() -> impl Iterator<Item = PathBuf> {
    let outputs = [1, 2].map(|number| format!("/proc/self/fd/{number}"));
    let files = outputs.into_iter().filter(|link| Path::new(link).is_file());
    files.filter_map(|link| std::fs::read_link(link).ok())
}

/// The build argument that keeps `.git` of the main context.
fn keep_git_dir(build_args: &[(String, String)]) -> Result<bool> {
    match build_args.iter().rev().find(|(name, _)| name == KEEP_GIT_DIR) {
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
    /// Directories of shared caches.
    caches: Vec<PathBuf>,
    /// The lock file, where there is a place for one.
    lock: Option<PathBuf>,
    emitter: &'a Emitter,
    store: Option<&'a Store>,
    tmp: PathBuf,
    fetched: Vec<TempTree>,
    times: BTreeMap<String, i64>,
    /// Images of layouts, by the references that stand for them.
    layouts: BTreeMap<String, Descriptor>,
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
            return Ok((dockerfile, self.without_own(tree, &args.context)?));
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
        let tree = open_context(Path::new(value), None, None)?;
        let tree = tree.labelled(format!("the build context `{name}`"));
        Ok(ContextSource::Files(self.without_own(tree, Path::new(value))?))
    }

    /// What a build keeps for the next one is no part of it, wherever it lies, nor is what it says.
    fn without_own(&self, mut tree: FileTree, dir: &Path) -> Result<FileTree> {
        if let Some(store) = self.store {
            tree = store.hide(tree, dir)?;
        }
        for output in own_outputs() {
            let why = "the output of the build itself goes there";
            tree = hidden::without_dir(tree, dir, &output, why);
        }
        if let Some(lock) = &self.lock {
            tree = lock::hide(tree, dir, lock);
        }
        let why = "a cache of the build is no part of its context";
        let tree =
            self.caches.iter().fold(tree, |tree, cache| hidden::without_dir(tree, dir, cache, why));
        Ok(tree)
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
}
