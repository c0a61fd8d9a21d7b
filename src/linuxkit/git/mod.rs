//! A directory as git sees it: which tree names it, whether it differs from HEAD, when it was last touched.
//!
//! In go absolute paths, out come object names, listings and times. A package that is clean costs two processes. "Outside git" means that no parent has a `.git`: whatever else goes
//! wrong is an error, because a wrong answer here would become a wrong tag (linuxkit.md §2).

mod process;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use process::{failed, git, shortened};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The commit that is meant unless another is named; the only one that a work tree can differ from.
pub const HEAD: &str = "HEAD";

/// A directory in a work tree, with the path and the commit whose tree is asked for.
#[derive(Clone, Debug)]
pub struct GitView {
    dir: PathBuf,
    path: PathBuf,
    commit: String,
    top: PathBuf,
    shallow: bool,
    head: Option<String>,
    tree: Option<String>,
}

/// Names of files as `git ls-files` prints them, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the index, in its order.
    pub tracked: Vec<u8>,
    /// Not in it and not ignored.
    pub others: Vec<u8>,
}

/// What HEAD says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadFacts {
    /// When it was committed, in seconds since 1970.
    pub commit_time: i64,
    /// `v0.0.0-` with that time in UTC and 12 digits of its name.
    pub go_version: String,
}

impl GitView {
    /// `None` outside git. `path` is `dir` or what stands above it; both are absolute and without `..`.
    pub fn open(dir: &Path, path: &Path, commit: &str) -> Result<Option<Self>> {
        if commit.is_empty() || commit.starts_with('-') {
            return Err(Error::usage(format!("`{commit}` is no name of a commit"))
                .hint("name a commit, a branch or a tag"));
        }
        if !is_below_repository(dir)? {
            return Ok(None);
        }
        match Self::open_at_once(dir, path, commit)? {
            Some(view) => Ok(Some(view)),
            None => Self::open_in_steps(dir, path, commit).map(Some),
        }
    }

    /// One process for all that can be asked at once. `None` where a part of it has no answer, or where names go
    /// through links: then the tree must be looked up by the path as it is written.
    fn open_at_once(dir: &Path, path: &Path, commit: &str) -> Result<Option<Self>> {
        let Ok(below) = dir.strip_prefix(path) else { return Ok(None) };
        let above = match below.components().count() {
            0 => "./".to_owned(),
            levels => "../".repeat(levels),
        };
        // `COMMIT:PATH` with a second colon would mean something else.
        if commit.contains(':') {
            return Ok(None);
        }
        let tree = format!("{commit}:{above}");
        let words = ["rev-parse", "--is-inside-work-tree", "--is-shallow-repository", HEAD, &tree];
        let said = git(dir, &[&words, ["--show-toplevel", "--show-prefix"].as_slice()].concat())?;
        let lines: Vec<&[u8]> = said.stdout.split(|byte| *byte == b'\n').collect();
        let ([b"true", shallow, head, tree, top, prefix, b""], Some(0)) = (&lines[..], said.code)
        else {
            return Ok(None);
        };
        let top = Path::new(OsStr::from_bytes(top));
        let (Some(head), Some(tree)) = (object_name(head), object_name(tree)) else {
            return Ok(None);
        };
        let is_plain =
            top.join(OsStr::from_bytes(prefix)) == dir && (tree.len() == 40 || path == top);
        Ok(is_plain.then(|| Self {
            dir: dir.to_owned(),
            path: path.to_owned(),
            commit: commit.to_owned(),
            top: top.to_owned(),
            shallow: *shallow == b"true",
            head: Some(head),
            tree: Some(tree),
        }))
    }

    fn open_in_steps(dir: &Path, path: &Path, commit: &str) -> Result<Self> {
        let words = ["rev-parse", "--is-inside-work-tree", "--is-shallow-repository"];
        let facts = git(dir, &words)?;
        if facts.stdout.starts_with(b"false") {
            let what = format!("{} is part of a git repository's own files", dir.display());
            return Err(Error::context(what).hint("packages live in a work tree"));
        }
        let facts = facts.success(dir)?;
        let mut top = git(dir, &["rev-parse", "--show-toplevel"])?.success(dir)?;
        top.truncate(top.len().saturating_sub(1));
        let head = git(dir, &["rev-parse", "--verify", "--quiet", HEAD])?;
        Ok(Self {
            dir: dir.to_owned(),
            path: path.to_owned(),
            commit: commit.to_owned(),
            top: PathBuf::from(OsStr::from_bytes(&top)),
            shallow: facts == b"true\ntrue\n",
            head: object_name(head.stdout.trim_ascii()),
            tree: None,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The top of the work tree.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// The commit of HEAD; none in a repository without commits.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// Name of the tree that the path is at the commit.
    pub fn tree_hash(&self) -> Result<String> {
        if let Some(tree) = &self.tree {
            return Ok(tree.clone());
        }
        if self.head.is_none() && self.commit == HEAD {
            let what = format!("the git repository of {} has no commit yet", self.dir.display());
            return Err(
                Error::context(what).hint("commit the package, or give its hash with `--hash`")
            );
        }
        if self.path == self.top {
            let tree = format!("{}^{{tree}}", self.commit);
            let said = git(&self.dir, &["rev-parse", "--verify", &tree])?.success(&self.dir)?;
            return object_name(said.trim_ascii()).ok_or_else(|| self.bad_entry(&said));
        }
        let words = ["ls-tree", "--full-tree", &self.commit, "--"].map(OsStr::new);
        let said = git(&self.dir, &[&words, [self.path.as_os_str()].as_slice()].concat())?;
        let entry = said.success(&self.dir).map_err(|error| match self.commit.as_str() {
            HEAD => error,
            _ => error.hint("the commit must be one of this repository"),
        })?;
        if entry.is_empty() {
            let what = format!("{} is not in git", self.path.display());
            return Err(Error::context(what)
                .cause(format!("commit `{}` has nothing at this path", self.commit))
                .hint("commit it, or give the package's hash with `--hash`"));
        }
        hash_of_entry(&entry).ok_or_else(|| self.bad_entry(&entry))
    }

    fn bad_entry(&self, found: &[u8]) -> Error {
        let what = format!("git names no single tree for {}", self.path.display());
        let first = found.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let error = Error::context(what).cause(format!("it says `{}`", shortened(first)));
        error.hint("use the path of the repository without symbolic links; SHA-256 repositories cannot give tags")
    }

    /// Does the work tree at the path differ from HEAD? Never when another commit is asked for.
    pub fn is_dirty(&self) -> Result<bool> {
        if self.commit != HEAD {
            return Ok(false);
        }
        if self.head.is_none() {
            return Ok(true);
        }
        let path = [OsStr::new("--"), self.path.as_os_str()];
        let status = ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames"];
        let status = git(&self.dir, &[&status.map(OsStr::new), path.as_slice()].concat())?;
        let status = status.success(&self.dir)?;
        if status.is_empty() {
            return Ok(false);
        }
        if status.split(|byte| *byte == 0).any(|entry| entry.starts_with(b"?? ")) {
            return Ok(true);
        }
        // What was staged and then undone in the work tree has a status, and is clean all the same; untracked files
        // in a submodule likewise.
        let diff = ["diff", "--no-ext-diff", "--exit-code", "--quiet", HEAD].map(OsStr::new);
        let diff = git(&self.dir, &[&diff, path.as_slice()].concat())?;
        if diff.code == Some(1) {
            return Ok(true);
        }
        diff.success(&self.dir).map(|_| false)
    }

    /// The files below the directory (not the path).
    pub fn listing(&self) -> Result<Listing> {
        let words = ["ls-files", "-t", "--cached", "--others", "--exclude-standard"];
        let said = git(&self.dir, &words)?.success(&self.dir)?;
        let mut listing = Listing::default();
        for line in said.split_inclusive(|byte| *byte == b'\n') {
            match line.split_at_checked(2) {
                Some((b"? ", name)) => listing.others.extend(name),
                Some((_, name)) => listing.tracked.extend(name),
                None => {}
            }
        }
        Ok(listing)
    }

    /// Tags of HEAD.
    pub fn tags(&self) -> Result<Vec<String>> {
        let said = git(&self.dir, &["tag", "--list", "--points-at", HEAD])?.success(&self.dir)?;
        Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
    }

    /// Time and Go version of HEAD.
    pub fn head_facts(&self) -> Result<HeadFacts> {
        let format = "--format=%ct v0.0.0-%cd-%h";
        let date = "--date=format-local:%Y%m%d%H%M%S";
        let said = git(&self.dir, &["rev-list", "-1", "--abbrev=12", date, format, HEAD])?;
        let said = String::from_utf8_lossy(&said.success(&self.dir)?).into_owned();
        let facts = said.lines().nth(1).and_then(|line| line.split_once(' '));
        let facts = facts.and_then(|(time, version)| {
            Some(HeadFacts { commit_time: time.parse().ok()?, go_version: version.to_owned() })
        });
        facts.ok_or_else(|| failed(&self.dir).cause(format!("it says `{said}` of HEAD")))
    }
}

/// Commit time of the last commit that touched any of the directories; HEAD's in a shallow clone, where nobody can
/// know. `None` when no commit has them. Directories of several repositories: the latest.
pub fn last_touched(views: &[&GitView]) -> Result<Option<i64>> {
    let mut latest = None;
    for (at, view) in views.iter().enumerate() {
        if view.head.is_none() || views[..at].iter().any(|known| known.top == view.top) {
            continue;
        }
        let words = ["--literal-pathspecs", "rev-list", "-1", "--format=%ct", HEAD, "--"];
        let mut words = words.map(OsStr::new).to_vec();
        if !view.shallow {
            let same = views.iter().filter(|other| other.top == view.top);
            words.extend(same.map(|other| other.dir.as_os_str()));
        }
        let said = git(&view.dir, &words)?.success(&view.dir)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let time: Option<i64> = said.lines().nth(1).and_then(|time| time.parse().ok());
        latest = latest.max(time);
    }
    Ok(latest)
}

/// Is there a `.git` here or above? Goes up by `..`, as git does, so that links in the path do not matter.
fn is_below_repository(dir: &Path) -> Result<bool> {
    let what = || format!("cannot look for a git repository above {}", dir.display());
    let mut here = dir.to_owned();
    loop {
        match fs::symlink_metadata(here.join(".git")) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).or_error(ErrorKind::Environment, what),
        }
        let above = here.join("..");
        let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        if id(&here)
            .and_then(|here| Ok(here == id(&above)?))
            .or_error(ErrorKind::Environment, what)?
        {
            return Ok(false);
        }
        here = above;
    }
}

/// SHA-1 or SHA-256.
fn object_name(text: &[u8]) -> Option<String> {
    let fits = matches!(text.len(), 40 | 64) && text.iter().all(u8::is_ascii_hexdigit);
    fits.then(|| String::from_utf8_lossy(text).into_owned())
}

/// `MODE TYPE HASH\tNAME\n` and nothing else.
fn hash_of_entry(entry: &[u8]) -> Option<String> {
    let (entry, name) = entry.split_at(entry.iter().position(|byte| *byte == b'\t')?);
    if name.len() < 3 || name.iter().position(|byte| *byte == b'\n') != Some(name.len() - 1) {
        return None;
    }
    let hash = entry.rsplit(|byte| *byte == b' ').next()?;
    object_name(hash).filter(|hash| hash.len() == 40)
}
