//! Selecting, filtering and digesting, on real directories.

mod digesting;
mod selecting;

use super::{FileTree, IgnoreRules, SelectOptions, Selected};
use crate::error::Result;
use crate::source::{SourceFile, Span};
use crate::sys::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory to copy from.
pub(super) struct Fixture(pub(super) tempfile::TempDir);

impl Fixture {
    /// Makes files (content = own path); a name with a trailing slash is a directory, `a -> b` a link.
    pub(super) fn new(names: &[&str]) -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        for name in names {
            fixture.add(name);
        }
        fixture
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn add(&self, name: &str) {
        let make_parent = |path: &Path| std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some((link, target)) = name.split_once(" -> ") {
            make_parent(&self.at(link));
            symlink(target, self.at(link)).unwrap();
        } else if let Some(dir) = name.strip_suffix('/') {
            std::fs::create_dir_all(self.at(dir)).unwrap();
        } else {
            make_parent(&self.at(name));
            std::fs::write(self.at(name), name).unwrap();
        }
    }

    pub(super) fn tree(&self, ignore: &str) -> FileTree {
        let source = Arc::new(SourceFile::new(".dockerignore", ignore));
        let rules = IgnoreRules::parse(&source).unwrap();
        FileTree::context(fs::open_dir_path(self.0.path()).unwrap(), Some(rules))
    }

    pub(super) fn rootfs(&self) -> FileTree {
        FileTree::rootfs(fs::open_dir_path(self.0.path()).unwrap())
    }
}

/// Flags of a copy.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags<'a> {
    pub(super) parents: bool,
    pub(super) exclude: &'a [&'a str],
}

pub(super) fn select(tree: &FileTree, sources: &[&str], flags: Flags<'_>) -> Result<Vec<Selected>> {
    let dockerfile = Arc::new(SourceFile::new("Dockerfile", format!("COPY {}", sources.join(" "))));
    let mut at = 5;
    let mut spans = Vec::new();
    for source in sources {
        spans.push(((*source).to_owned(), Span::new(at, at + source.len())));
        at += source.len() + 1;
    }
    let exclude: Vec<String> = flags.exclude.iter().map(|e| (*e).to_owned()).collect();
    let options = SelectOptions {
        instruction: "COPY",
        parents: flags.parents,
        exclude: &exclude,
        dockerfile: Some(&dockerfile),
    };
    tree.select(&spans, options)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
