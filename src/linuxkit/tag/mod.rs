//! The tag of a package: what `linuxkit pkg show-tag` prints.
//!
//! In go the words of the command line and of build.yml, and the package's directory as git sees it; out comes the
//! package hash and the references made of it. Follows linuxkit.md §2 to the letter, oddities included, because one
//! other hash would be another image. Whether a tag is a valid one is asked where a reference is parsed.

mod content;
mod template;
#[cfg(test)]
mod tests;

pub use template::render;

use crate::error::{Error, Result};
use crate::linuxkit::git::{self, GitView, HEAD};
use crate::oci::digest::hex;
use sha1::{Digest as _, Sha1};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What decides the tag of one package.
#[derive(Clone, Debug, Default)]
pub struct TagRequest {
    /// Absolute; what relative paths start from.
    pub working_dir: PathBuf,
    /// The package's directory.
    pub package: PathBuf,
    /// `--hash`; empty is none.
    pub hash: String,
    /// `--hash-commit`; empty is `HEAD`.
    pub hash_commit: String,
    /// `--hash-path`.
    pub hash_path: Option<PathBuf>,
    /// `--tag`; empty is none.
    pub tag_flag: String,
    /// `tag` of build.yml; empty is none.
    pub tag_key: String,
    /// `--dev`: the hash is `dev` unless one is given. (The organisation is the caller's.)
    pub dev: bool,
    /// `--force-dirty`.
    pub force_dirty: bool,
    /// Sources of `extra-sources`; relative ones start from the package.
    pub extra_sources: Vec<PathBuf>,
    /// The organisation.
    pub org: String,
    /// `image` of build.yml.
    pub image: String,
}

/// The tag of one package, and what it was made of.
#[derive(Clone, Debug)]
pub struct PackageTag {
    /// The package hash, dirty suffix included; empty outside git.
    pub hash: String,
    /// Does the work tree differ from HEAD? Never outside git.
    pub dirty: bool,
    /// The tag's text.
    pub tag: String,
    /// `ORG/IMAGE`.
    pub name: String,
    /// The package as git sees it; none outside git.
    pub git: Option<GitView>,
    /// The extra sources as git sees them.
    pub sources: Vec<GitView>,
}

impl PackageTag {
    /// `ORG/IMAGE:TAG`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }

    /// The name in caches and registries.
    pub fn canonical(&self) -> String {
        canonical(&self.reference())
    }

    /// Is the package in a git work tree?
    pub fn in_git(&self) -> bool {
        self.git.is_some()
    }

    /// The commit of HEAD.
    pub fn head(&self) -> Option<&str> {
        self.git.as_ref()?.head()
    }

    /// `ORG/IMAGE:RELEASE`.
    pub fn release(&self, release: &str) -> Result<String> {
        if release.is_empty() {
            return Err(Error::usage("a release tag is required").hint("give one with `--release`"));
        }
        if self.dirty {
            let what = format!("cannot release a dirty package: {}", self.reference());
            return Err(Error::context(what).hint("commit the changes first"));
        }
        Ok(format!("{}:{release}", self.name))
    }

    /// Commit time of the last commit that touched the package or its extra sources.
    pub fn last_touched(&self) -> Result<Option<i64>> {
        let Some(package) = &self.git else { return Ok(None) };
        git::last_touched(&[package].into_iter().chain(&self.sources).collect::<Vec<_>>())
    }
}

/// Computes the tag.
pub fn package_tag(request: &TagRequest) -> Result<PackageTag> {
    let package = absolute(&request.working_dir, &request.package);
    if !package.is_dir() {
        let what = format!("{} is no directory", request.package.display());
        return Err(Error::context(what).hint("name the directory of a package"));
    }
    let path = hash_path(request, &package)?;
    let commit = if request.hash_commit.is_empty() { HEAD } else { &request.hash_commit };
    let sources = request.extra_sources.iter().map(|source| open_source(&package, source, commit));
    let sources: Vec<(GitView, String)> = sources.collect::<Result<_>>()?;
    let git = GitView::open(&package, &path, commit)?;
    let mut dirty = false;
    let mut hash = match request.hash.as_str() {
        "" if request.dev => "dev".to_owned(),
        given => given.to_owned(),
    };
    if let Some(git) = &git {
        dirty = request.force_dirty || git.is_dirty()?;
        if hash.is_empty() {
            hash = mixed(git.tree_hash()?, &sources);
            if dirty {
                let content = content::content_hash(git.dir(), &git.listing()?)?;
                hash = format!("{hash}-dirty-{}", &content[..7]);
            }
        }
    }
    let templates = [request.tag_flag.as_str(), &request.tag_key, "{{.Hash}}"];
    let template = templates.into_iter().find(|template| !template.is_empty());
    let mut tag = render(template.unwrap_or_default(), &hash)?;
    if tag.is_empty() {
        "latest".clone_into(&mut tag);
    }
    let name = format!("{}/{}", request.org, request.image);
    let sources = sources.into_iter().map(|(view, _)| view).collect();
    Ok(PackageTag { hash, dirty, tag, name, git, sources })
}

/// The directory whose tree is the hash: the package's, or the one given, which the package's path must begin with.
fn hash_path(request: &TagRequest, package: &Path) -> Result<PathBuf> {
    let given = match &request.hash_path {
        Some(given) if !given.as_os_str().is_empty() => given,
        _ => return Ok(package.to_owned()),
    };
    let path = absolute(&request.working_dir, given);
    // QUIRK: as text, so `pkg/fo` passes for `pkg/foo`, and is then found not to be in git.
    if !package.as_os_str().as_bytes().starts_with(path.as_os_str().as_bytes()) {
        let what = "the hash path is not a prefix of the package path";
        return Err(Error::usage(what)
            .cause(format!("`{}` and `{}`", path.display(), package.display()))
            .hint("`--hash-path` names a directory that holds the package"));
    }
    Ok(path)
}

fn open_source(package: &Path, source: &Path, commit: &str) -> Result<(GitView, String)> {
    let path = absolute(package, source);
    let what = || format!("extra source `{}` has no hash", source.display());
    if !path.is_dir() {
        let why = format!("{} is no directory", path.display());
        return Err(Error::context(what())
            .cause(why)
            .hint("an extra source is a directory in git"));
    }
    let Some(view) = GitView::open(&path, &path, commit).map_err(|error| error.wrap(what()))?
    else {
        let why = format!("{} is not in a git repository", path.display());
        return Err(Error::context(what()).cause(why).hint("commit it to a repository"));
    };
    let hash = view.tree_hash().map_err(|error| error.wrap(what()))?;
    Ok((view, hash))
}

/// SHA-1 of the hashes one after the other, when there are extra sources.
fn mixed(hash: String, sources: &[(GitView, String)]) -> String {
    if sources.is_empty() {
        return hash;
    }
    let all = sources.iter().fold(hash, |all, (_, hash)| all + hash);
    hex(&Sha1::digest(all.as_bytes()))
}

/// `path` from `base`, without `.`, `..` and empty parts. Links are not looked at: a tag depends on the path as it
/// is written.
fn absolute(base: &Path, path: &Path) -> PathBuf {
    let whole = base.join(path);
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in whole.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend(parts.join(&b'/'));
    PathBuf::from(OsStr::from_bytes(&clean))
}

/// A reference with the registry that LinuxKit means, by the number of its parts: `IMAGE` is
/// `docker.io/library/IMAGE`, `ORG/IMAGE` is `docker.io/ORG/IMAGE` unless `ORG` is a registry, and three parts or
/// more stay as they are.
pub fn canonical(reference: &str) -> String {
    let mut parts = reference.split('/');
    let (first, count) = (parts.next().unwrap_or_default(), parts.count() + 1);
    match count {
        1 => format!("docker.io/library/{reference}"),
        2 if first.contains(['.', ':']) || first == "localhost" => reference.to_owned(),
        2 => format!("docker.io/{reference}"),
        _ => reference.to_owned(),
    }
}
