//! What lies in a directory that is a build context, and is no part of it.

use crate::context::FileTree;
use crate::error::Result;
use std::fs::canonicalize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The tree of the directory `dir` without what is at `path`, should that lie in it: no copy, mount or key sees it. A link at
/// `path` itself is not followed. `why` is for those who ask for it.
pub(super) fn without(
    tree: FileTree,
    dir: &Path,
    path: &Path,
    why: &'static str,
) -> Result<FileTree> {
    let (Some(name), true) = (path.file_name(), path.symlink_metadata().is_ok()) else {
        return Ok(tree);
    };
    // `parent` of a bare name is the empty path.
    let above = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(dir), Ok(above)) = (canonicalize(dir), canonicalize(above)) else { return Ok(tree) };
    match above.join(name).strip_prefix(&dir) {
        Ok(inside) => tree.hiding(inside.as_os_str().as_bytes(), why),
        Err(_) => Ok(tree),
    }
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
        for nothing in ["context", "beside", "context/gone", "context/out/..", "/"] {
            assert_eq!(hidden(&at(nothing)), Vec::<String>::new(), "{nothing}");
        }
    }
}
