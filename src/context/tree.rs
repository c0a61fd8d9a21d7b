//! [`FileTree`]: a source of files for COPY and ADD, and [`Selected`]: what one source path came to.
//!
//! Two kinds: a build context (files belong to root whatever the host says; `.dockerignore` hides some) and the rootfs
//! of a stage or image (owners count, nothing is hidden). A hidden path is as good as missing for everything that
//! goes through here. Spec: dockerfile §1.7 and §1.9.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::context::ignore::IgnoreRules;
use crate::context::walk::{Visitor, WalkEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::fs::{Kind, Stat};
use crate::sys::{SysError, SysResult, owners, root};

/// A source of files. A clone is the same one, for another thread or step, and costs no descriptor.
#[derive(Clone)]
pub struct FileTree {
    root: Arc<OwnedFd>,
    ignore: Option<Arc<IgnoreRules>>,
    is_context: bool,
    label: String,
}

/// One thing to copy: a source path, or one match of it.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Index of the source that it is from.
    pub source: usize,
    /// Where it is in the tree: relative, links followed; empty for the root.
    pub path: Vec<u8>,
    /// Its name in a destination directory: last part of the source (or match) before links were followed; empty for
    /// the root.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: Stat,
    /// The path that a wildcard matched, before links were followed; `None` for a plain source.
    pub matched: Option<Vec<u8>>,
    /// True under `--parents`: what is copied keeps its path relative to `path`.
    pub parents: bool,
    /// What `--exclude` leaves out, relative to `path`.
    pub(super) exclude: Option<Arc<IgnoreRules>>,
    /// What a `--parents` source takes, relative to `path`; `None` for all.
    pub(super) include: Option<Arc<IgnoreRules>>,
}

impl Selected {
    /// True for a directory, whose content is copied.
    pub fn is_dir(&self) -> bool {
        self.stat.is_dir()
    }
}

impl FileTree {
    /// A build context: `root` is its directory, `ignore` its `.dockerignore`.
    pub fn context(root: OwnedFd, ignore: Option<IgnoreRules>) -> Self {
        let (root, ignore) =
            (Arc::new(root), ignore.filter(|rules| !rules.is_empty()).map(Arc::new));
        Self { root, ignore, is_context: true, label: "the build context".to_owned() }
    }

    /// The same tree without one path, which is relative and clean; `why` is for those who ask for it.
    pub fn hiding(self, path: &[u8], why: &'static str) -> Self {
        let rules = self.ignore.map(Arc::unwrap_or_clone).unwrap_or_default().hiding(path, why);
        Self { ignore: Some(Arc::new(rules)), ..self }
    }

    /// The rootfs of a stage or image.
    pub fn rootfs(root: OwnedFd) -> Self {
        let root = Arc::new(root);
        Self { root, ignore: None, is_context: false, label: "the source image".to_owned() }
    }

    /// How messages call it, for example ``stage `build` ``.
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// How messages call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// True for a build context.
    pub fn is_context(&self) -> bool {
        self.is_context
    }

    /// The directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The rules that hide files.
    pub fn ignore(&self) -> Option<&IgnoreRules> {
        self.ignore.as_deref()
    }

    /// Owner that a file of this tree has for a copy: root's for a context, else its own.
    pub fn owner(&self, dir: impl AsFd, name: &[u8], stat: &Stat) -> SysResult<(u32, u32)> {
        if self.is_context { Ok((0, 0)) } else { owners::of_name(dir, name, stat) }
    }

    /// Opens the directory that holds the selected node, and gives the node's name in it; never for the root.
    pub fn open_parent<'s>(&self, selected: &'s Selected) -> Result<(OwnedFd, &'s [u8])> {
        let (parent, name) = root::split_last(&selected.path);
        let name = name.ok_or_else(|| Error::internal("the root of a tree has no parent"))?;
        let dir = root::open_dir(self.root(), parent).map_err(|e| self.unreadable(parent, &e))?;
        Ok((dir, name))
    }

    /// Kind of the errors that the content of this tree is to blame for.
    pub(crate) fn blame(&self) -> ErrorKind {
        if self.is_context { ErrorKind::Context } else { ErrorKind::Image }
    }

    /// The error for a node that cannot be read.
    pub(crate) fn unreadable(&self, path: &[u8], error: &SysError) -> Error {
        let shown =
            Error::new(self.blame(), format!("cannot read `{}` in {}", show(path), self.label))
                .cause(error);
        match error.errno {
            Errno::ACCESS | Errno::PERM => match &self.ignore {
                _ if !self.is_context => shown,
                Some(rules) => shown.hint(format!(
                    "make it readable for you, or add `{}` to {}",
                    show(path),
                    rules.name()
                )),
                None => shown.hint(format!(
                    "make it readable for you, or list `{}` in a .dockerignore",
                    show(path)
                )),
            },
            _ => shown,
        }
    }

    /// Whether a path is one that nobody looks into ([`Self::hiding`]).
    pub(super) fn hides(&self, path: &[u8]) -> bool {
        self.ignore.as_deref().is_some_and(|rules| rules.hidden_for(path).is_some())
    }

    /// Whether a copy sees this node: it is not filtered out, or something below it is not.
    pub(super) fn is_visible(&self, path: &[u8], stat: &Stat) -> Result<bool> {
        let Some(rules) = self.ignore.as_deref().filter(|_| !path.is_empty()) else {
            return Ok(true);
        };
        if rules.decide(path).included {
            return Ok(true);
        }
        if stat.kind != Kind::Directory || !rules.may_take_back_below(path) {
            return Ok(false);
        }
        let mut probe = Probe(false);
        self.walk(&Selected::whole(path, *stat), &mut probe)?;
        Ok(probe.0)
    }
}

impl Selected {
    /// All of a directory, without flags.
    pub(super) fn whole(path: &[u8], stat: Stat) -> Self {
        Self {
            source: 0,
            path: path.to_vec(),
            name: root::split_last(path).1.unwrap_or_default().to_vec(),
            stat,
            matched: None,
            parents: false,
            exclude: None,
            include: None,
        }
    }
}

/// Learns whether a walk meets anything at all.
struct Probe(bool);

impl Visitor for Probe {
    fn enter(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        self.0 = true;
        Ok(())
    }

    fn leaf(&mut self, _entry: &WalkEntry<'_>) -> Result<()> {
        self.0 = true;
        Ok(())
    }

    fn leave(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for FileTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTree").field("label", &self.label).finish_non_exhaustive()
    }
}

/// A path for messages; the root is `.`.
pub(super) fn show(path: &[u8]) -> String {
    match path {
        b"" => ".".to_owned(),
        path => String::from_utf8_lossy(path.strip_suffix(b"/").unwrap_or(path)).into_owned(),
    }
}
