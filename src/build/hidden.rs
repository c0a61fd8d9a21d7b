//! What lies in a directory that is a build context, and is no part of it.

use crate::context::FileTree;
use crate::error::Result;
use std::fs::canonicalize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The tree of the directory `dir` without what is or will be at `path`, should that lie in it: no copy, mount or key sees
/// it. A link at `path` itself is not followed. `why` is for those who ask for it.
pub(super) fn without(
    tree: FileTree,
    dir: &Path,
    path: &Path,
    why: &'static str,
) -> Result<FileTree> {
    let Some(name) = path.file_name() else { return Ok(tree) };
    // `parent` of a bare name is the empty path.
    let above = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    hide(tree, dir, real(above).map(|above| above.join(name)), why)
}

/// [`without`] for the directory that a path leads to.
pub fn without_dir(tree: FileTree, dir: &Path, path: &Path, why: &'static str) -> Result<FileTree> {
    hide(tree, dir, real(path), why)
}

fn hide(tree: FileTree, dir: &Path, path: Option<PathBuf>, why: &'static str) -> Result<FileTree> {
    match path.and_then(|path| below(dir, &path)) {
        Some(inside) => tree.hiding(&inside, why),
        None => Ok(tree),
    }
}

/// Where the directory that a path leads to lies in the directory `dir`, if it does so.
pub fn inside(dir: &Path, path: &Path) -> Option<Vec<u8>> {
    below(dir, &real(path)?)
}

fn below(dir: &Path, path: &Path) -> Option<Vec<u8>> {
    let inside = path.strip_prefix(real(dir)?).ok()?.as_os_str().as_bytes();
    Some(inside.to_vec()).filter(|inside| !inside.is_empty())
}

/// Where a path leads, of which the end may be missing yet.
fn real(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        let goes_up = rest.components().any(|part| part == Component::ParentDir);
        if goes_up { None } else { Some(canonicalize(there).ok()?.join(rest)) }
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
            let tree = without(tree, &at("context"), path, "why").unwrap();
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
        for nothing in ["context", "beside", "context/out/..", "context/gone/../a", "/"] {
            assert_eq!(hidden(&at(nothing)), Vec::<String>::new(), "{nothing}");
        }
        // A directory is where a link leads.
        let leads_in = |path: &str| {
            let tree = FileTree::context(fs::open_dir_path(&at("context")).unwrap(), None);
            let tree = without_dir(tree, &at("context"), &at(path), "why").unwrap();
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
