//! Trees in `tmp` of a store whose files have times of their own.
//!
//! In: the directory `tmp`; out: an empty directory, which goes away with the value. What lies in `tmp` has no other
//! stamp than its own time, and a checkout or a copy gives its topmost directory that of a commit or of what was
//! copied. So the tree is a directory inside the one that [`super::prune`] looks at.

use crate::error::{ErrorKind, Result, ResultExt};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A tree in `tmp`; gone with the value.
#[derive(Debug)]
pub struct TempTree {
    path: PathBuf,
    _around: TempDir,
}

impl TempTree {
    /// Makes an empty one.
    pub fn new(tmp: &Path, prefix: &str) -> Result<Self> {
        let what = || "cannot make a directory in the store".to_owned();
        let made = || -> io::Result<Self> {
            let around = tempfile::Builder::new().prefix(prefix).tempdir_in(tmp)?;
            let path = around.path().join("tree");
            fs::create_dir(&path)?;
            // Whatever the umask is.
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
            Ok(Self { path, _around: around })
        };
        made().or_error(ErrorKind::Environment, what)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::care::prune::{self, Policy};
    use crate::build::care::usage::Kind;
    use crate::build::store::Store;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    /// A checkout with the time of its commit was taken for something that nobody uses, and removed under its build.
    /// Found in review.
    #[test]
    fn the_time_of_a_tree_says_nothing_about_its_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let tree = TempTree::new(&store.sub("tmp"), "fetched-").unwrap();
        fs::write(tree.path().join("file"), "kept").unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(tree.path()).unwrap().set_modified(time).unwrap();
        let removed = |own| {
            let pruned = prune::run(&store, &Policy { own, ..Policy::default() }).unwrap();
            let counts = pruned.removed.into_iter().map(|(kind, (count, _))| (kind, count));
            counts.collect::<Vec<(Kind, usize)>>()
        };
        assert_eq!(removed(true), Vec::<(Kind, usize)>::new());
        assert_eq!(fs::read_to_string(tree.path().join("file")).unwrap(), "kept");
        // A process that is gone left it behind.
        assert_eq!(removed(false), [(Kind::Leftover, 1)]);
        assert!(!tree.path().exists());
    }
}
