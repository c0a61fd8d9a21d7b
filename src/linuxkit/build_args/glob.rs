//! Go's `filepath.Glob` below a directory: wildcards in any part of a path, matched against names on disk.
//!
//! `*`, `?`, `[…]`, `[^…]` and `\` work as in `filepath.Match`; there is no `**` and there are no braces. As in Go,
//! directories that cannot be read hold nothing, and `..` is taken back in the text, not on disk.

use crate::context::pattern::{BadPattern, Pattern, clean};
use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// `path` from `base`, cleaned.
pub(super) fn join(base: &Path, path: &str) -> PathBuf {
    let (mut joined, parts) = start(base, path.as_bytes());
    joined.extend(parts.iter().map(|part| OsStr::from_bytes(part)));
    joined
}

/// Paths that match, in byte order of their parts.
pub(super) fn glob(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, BadPattern> {
    let (from, parts) = start(base, pattern.as_bytes());
    let mut found = vec![from];
    for part in parts {
        let matcher = Pattern::glob(&part)?;
        if !part.iter().any(|b| b"*?[\\".contains(b)) {
            for path in &mut found {
                path.push(OsStr::from_bytes(&part));
            }
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            let names = names(directory).into_iter().filter(|name| matcher.matches(name));
            next.extend(names.map(|name| directory.join(OsStr::from_bytes(&name))));
        }
        found = next;
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    Ok(found)
}

/// Where a path starts, and its parts from there on.
fn start(base: &Path, path: &[u8]) -> (PathBuf, Vec<Vec<u8>>) {
    let cleaned = clean(path);
    if path.starts_with(b"/") {
        return (PathBuf::from("/"), split(&cleaned));
    }
    let mut from = base.to_path_buf();
    let mut rest: &[u8] = if cleaned == b"." { b"" } else { &cleaned };
    while rest == b".." || rest.starts_with(b"../") {
        // At the root, `..` stays there.
        from.pop();
        rest = rest.get(3..).unwrap_or_default();
    }
    (from, split(rest))
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<Vec<u8>> = entries.map(|entry| entry.file_name().into_vec()).collect();
    names.sort();
    names
}
