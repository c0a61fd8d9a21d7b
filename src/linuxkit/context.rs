//! The build context of a package: its directory, with the extra sources laid over it (linuxkit.md §4.4).
//!
//! Everything on disk but the store belongs to it: files that git ignores, `.git`, and what a `.dockerignore` names. A package without
//! extra sources is its own context; one with them is copied to a directory of the store for the time of the build.

use crate::build::care::TempTree;
use crate::build::store::Store;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::sys::{SysResultExt, fs as sys};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// A context, and the copy behind it, which goes away with the value.
#[derive(Debug)]
pub struct Context {
    /// The files.
    pub tree: FileTree,
    /// Kept for as long as the files are used.
    copy: Option<TempTree>,
}

impl Context {
    /// Where the copy is, when there are extra sources.
    pub fn copy(&self) -> Option<&Path> {
        self.copy.as_ref().map(TempTree::path)
    }
}

/// Opens the context of a package. `extra` are absolute sources with their places in the context; a copy goes into the
/// store.
pub fn open(package: &Path, extra: &[(PathBuf, String)], store: &Store) -> Result<Context> {
    let what = || format!("cannot open the package {}", package.display());
    if extra.is_empty() {
        let dir = sys::open_dir_path(package).or_error(ErrorKind::Context, what)?;
        let tree = store.hide(FileTree::context(dir, None), package)?;
        return Ok(Context { tree, copy: None });
    }
    let copy = TempTree::new(&store.sub("tmp"), "package-")?;
    let of_store = sys::fstat(store.dir()).or_error(ErrorKind::Environment, what)?;
    let without = (of_store.dev, of_store.ino);
    lay(package, copy.path(), without)?;
    for (source, place) in extra {
        let target = place_in(copy.path(), place)?;
        lay(source, &target, without)?;
    }
    let dir = sys::open_dir_path(copy.path()).or_error(ErrorKind::Environment, what)?;
    Ok(Context { tree: FileTree::context(dir, None), copy: Some(copy) })
}

/// The path of an extra source in the copy, with its directories made. It never leads out of the copy.
fn place_in(root: &Path, place: &str) -> Result<PathBuf> {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in Path::new(place).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let mut path = root.to_owned();
    for (index, name) in parts.iter().enumerate() {
        path.push(name);
        if index + 1 < parts.len() {
            directory(&path)?;
        }
    }
    Ok(path)
}

/// Makes a directory, in the place of anything else of that name.
fn directory(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path).or_error(ErrorKind::Environment, || shown(path))?,
        Err(_) => {}
    }
    fs::create_dir(path).or_error(ErrorKind::Environment, || shown(path))
}

/// Copies a file, link or directory onto a place; what is there already is replaced, directories are merged. One directory,
/// by its device and number, is left out: the store, which holds the very copy.
fn lay(from: &Path, to: &Path, without: (u64, u64)) -> Result<()> {
    let lost = || format!("cannot read {}", from.display());
    let found = fs::symlink_metadata(from).or_error(ErrorKind::Context, lost)?;
    let kind = found.file_type();
    if (found.dev(), found.ino()) == without {
        return Ok(());
    }
    if kind.is_dir() {
        directory(to)?;
        let mut names: Vec<_> = fs::read_dir(from)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .or_error(ErrorKind::Context, lost)?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            lay(&entry.path(), &to.join(entry.file_name()), without)?;
        }
        return finish(&found, to);
    }
    if !kind.is_file() && !kind.is_symlink() {
        return Ok(());
    }
    clear(to)?;
    if kind.is_symlink() {
        let target = fs::read_link(from).or_error(ErrorKind::Context, lost)?;
        return std::os::unix::fs::symlink(target, to)
            .or_error(ErrorKind::Environment, || shown(to));
    }
    fs::copy(from, to).or_error(ErrorKind::Context, lost)?;
    finish(&found, to)
}

/// Removes what stands in the place of a file.
fn clear(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.or_error(ErrorKind::Environment, || shown(path))
}

/// Gives a copy the mode and the time of its source.
fn finish(of: &fs::Metadata, path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(of.mode() & 0o7777))
        .or_error(ErrorKind::Environment, || shown(path))?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::internal("a copy has no name"));
    };
    let dir = sys::open_dir_path(parent).or_error(ErrorKind::Environment, || shown(path))?;
    let time = (of.mtime(), of.mtime_nsec() as u32);
    sys::set_mtime(&dir, name.as_encoded_bytes(), time)
        .or_error(ErrorKind::Environment, || shown(path))
}

fn shown(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn tree(root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let found = fs::symlink_metadata(&path).unwrap();
                let text = if found.is_dir() {
                    waiting.push(path.clone());
                    "dir".to_owned()
                } else if found.is_symlink() {
                    format!("-> {}", fs::read_link(&path).unwrap().display())
                } else {
                    format!("{:o} {}", found.mode() & 0o7777, fs::read_to_string(&path).unwrap())
                };
                lines.push(format!("{} {text}", path.strip_prefix(root).unwrap().display()));
            }
        }
        lines.sort();
        lines
    }

    #[test]
    fn extra_sources_lie_over_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["pkg/src/shared", "pkg/deep", "shared/sub"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("pkg/.dockerignore"), "*").unwrap();
        fs::write(at("pkg/src/shared/old"), "old").unwrap();
        fs::write(at("pkg/src/shared/both"), "package's").unwrap();
        std::os::unix::fs::symlink("/nowhere", at("pkg/link")).unwrap();
        fs::write(at("shared/both"), "shared").unwrap();
        fs::set_permissions(at("shared/both"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("shared/sub/x"), "x").unwrap();
        let extra = [
            (at("shared"), "/src/shared".to_owned()),
            (at("shared/sub/x"), "../../link/../out".to_owned()),
            (at("shared/sub"), "link/in".to_owned()),
        ];
        let store = Store::open(&at("pkg/store")).unwrap();
        let context = open(&at("pkg"), &extra, &store).unwrap();
        let copy = context.copy().unwrap();
        assert_eq!(
            tree(copy),
            [
                ".dockerignore 644 *",
                "deep dir",
                "link dir",
                "link/in dir",
                "link/in/x 644 x",
                "out 644 x",
                "src dir",
                "src/shared dir",
                "src/shared/both 755 shared",
                "src/shared/old 644 old",
                "src/shared/sub dir",
                "src/shared/sub/x 644 x",
            ]
        );
        assert!(!at("nowhere").exists());
        let path = copy.to_owned();
        drop(context);
        assert!(!path.exists());
    }

    /// A copy had the time of its package, and prune took it for something that nobody uses. Found in review.
    #[test]
    fn a_copy_is_in_use_however_old_its_package_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["pkg/src", "shared"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let old = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::open(at("pkg")).unwrap().set_modified(old).unwrap();
        let extra = [(at("shared"), "/src/shared".to_owned())];
        let store = Store::open(&at("store")).unwrap();
        let context = open(&at("pkg"), &extra, &store).unwrap();
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let stamp = fs::read_dir(store.sub("tmp")).unwrap().next().unwrap().unwrap().path();
        assert_eq!((time(context.copy().unwrap()), time(&stamp) == old), (old, false));
    }
}
