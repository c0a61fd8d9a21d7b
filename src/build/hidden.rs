//! What lies in a directory that is a build context, and is no part of it.

use crate::context::FileTree;
use crate::sys::mounts;
use std::fs::canonicalize;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The tree of the directory `dir` without what is or will be at `path`, should that lie in it: no copy, mount or key sees
/// it. A link at `path` itself is not followed. `why` is for those who ask for it.
pub(super) fn without(tree: FileTree, dir: &Path, path: &Path, why: &'static str) -> FileTree {
    let Some(name) = path.file_name() else { return tree };
    // `parent` of a bare name is the empty path.
    let above = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    hide(tree, dir, real(above).map(|above| above.join(name)), why)
}

/// [`without`] for the directory that a path leads to.
pub fn without_dir(tree: FileTree, dir: &Path, path: &Path, why: &'static str) -> FileTree {
    hide(tree, dir, real(path), why)
}

fn hide(tree: FileTree, dir: &Path, path: Option<PathBuf>, why: &'static str) -> FileTree {
    match path.and_then(|path| below(dir, &path)) {
        Some(inside) => tree.hiding(&inside, why),
        None => tree,
    }
}

/// Whether two paths lead to one directory.
pub(super) fn is_same(dir: &Path, path: &Path) -> bool {
    inode(dir).is_some_and(|dir| Some(dir) == inode(path))
}

/// Where the directory that a path leads to lies in the directory `dir`, if it does so.
pub fn inside(dir: &Path, path: &Path) -> Option<Vec<u8>> {
    below(dir, &real(path)?)
}

fn below(dir: &Path, path: &Path) -> Option<Vec<u8>> {
    let dir = real(dir)?;
    let inside = match path.strip_prefix(&dir) {
        Ok(inside) => inside.to_owned(),
        Err(_) => through_mounts(&dir, path)?,
    };
    Some(inside.into_os_string().into_vec()).filter(|inside| !inside.is_empty())
}

/// [`below`] for what is mounted at a second path: containers get the project at one and what is kept in it at another.
fn through_mounts(dir: &Path, path: &Path) -> Option<PathBuf> {
    let (there, found) = path.ancestors().find_map(|there| Some((there, inode(there)?)))?;
    // Within one mount a directory has one path.
    if mounts::id(dir)? == mounts::id(there)? || inode(dir)?.0 != found.0 {
        return None;
    }
    let known = std::fs::read("/proc/self/mountinfo").ok()?;
    let source = |path| mounts::source(&known, path);
    let ((device, top), (other, path_there)) = (source(dir)?, source(there)?);
    let inside = path_there.strip_prefix(top).ok().filter(|_| device == other)?;
    // Something else may be mounted in this place of the directory.
    let is_it = inode(&dir.join(inside)) == Some(found);
    // Component by component: a path joined to an empty one ends in a slash.
    is_it
        .then_some(inside.components().chain(path.strip_prefix(there).ok()?.components()).collect())
}

/// Device and number of what a path leads to.
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Where a path leads, of which the end may be missing yet: what is missing is made as it is written.
fn real(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|there| {
        let mut real = canonicalize(there).ok()?;
        for part in path.strip_prefix(there).ok()?.components() {
            match part {
                Component::ParentDir => drop(real.pop()),
                part => real.push(part),
            }
        }
        Some(real)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_lies_in_a_context_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["context/a/b", "beside"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        symlink(at("context/a"), at("link")).unwrap();
        symlink(at("beside"), at("context/out")).unwrap();
        let hidden = |path: &Path| {
            let tree = FileTree::context(fs::open_dir_path(&at("context")).unwrap(), None);
            let tree = without(tree, &at("context"), path, "why");
            let names = ["a", "a/b", "out", "beside"].map(str::to_owned).into_iter();
            let seen = |name: &String| {
                tree.ignore().is_none_or(|rules| rules.decide(name.as_bytes()).included)
            };
            names.filter(|name| !seen(name)).collect::<Vec<_>>()
        };
        assert_eq!(hidden(&at("context/a/b")), ["a/b"]);
        assert_eq!(hidden(&at("link/b")), ["a/b"]);
        assert_eq!(hidden(&at("context/a/../a")), ["a", "a/b"]);
        assert_eq!(hidden(&at("context/out")), ["out"]);
        assert_eq!(hidden(&at("gone/../gone/x/../../context/a")), ["a", "a/b"]);
        for nothing in ["context", "beside", "context/out/..", "context/gone/..", "/"] {
            assert_eq!(hidden(&at(nothing)), Vec::<String>::new(), "{nothing}");
        }
        // A directory is where a link leads.
        let leads_in = |path: &str| {
            let tree = FileTree::context(fs::open_dir_path(&at("context")).unwrap(), None);
            let tree = without_dir(tree, &at("context"), &at(path), "why");
            tree.ignore().is_some()
        };
        assert_eq!(
            ["link", "link/c/d", "context/out", "beside"].map(leads_in),
            [true, true, false, false]
        );
        // What is made later is hidden already.
        std::fs::remove_dir(at("context/a/b")).unwrap();
        assert_eq!(hidden(&at("link/b")), ["a/b"]);
        std::fs::remove_dir(at("context/a")).unwrap();
        assert_eq!(hidden(&at("context/a/b")), ["a/b"]);
    }
}
