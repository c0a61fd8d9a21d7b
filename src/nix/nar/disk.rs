//! The archive of what lies in a directory, read by descriptor and without following a link.

use super::{Archive, hash_of};
use crate::error::{Error, ErrorKind, Result};
use crate::nix::shown;
use crate::oci::Digest;
use crate::sys::SysResultExt as _;
use crate::sys::fs::{self, Kind, Stat};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Deepest nesting: every level has a descriptor open, and nothing that people install comes near it.
const MAX_DEPTH: usize = 400;

/// Writes the archive of `name` in `dir`.
pub fn dump(dir: BorrowedFd<'_>, name: &[u8], out: &mut dyn Write) -> Result<()> {
    let mut archive = Archive::new(out)?;
    tree(&mut archive, dir, name)?;
    archive.finish()
}

/// SHA-256 and size of the archive of `name` in `dir`.
pub fn hash(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(Digest, u64)> {
    hash_of(|archive| tree(archive, dir, name))
}

/// An open directory and those of its names that are still to come, last first.
struct Level {
    dir: OwnedFd,
    names: Vec<Vec<u8>>,
}

fn tree(archive: &mut Archive<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let mut way = vec![name.to_vec()];
    let mut levels: Vec<Level> = Vec::new();
    levels.extend(node(archive, dir, name, b"").map_err(|error| placed(error, &way))?);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            way.truncate(levels.len());
            archive.end_directory()?;
            continue;
        };
        way.truncate(levels.len());
        way.push(name.clone());
        let dir = levels[levels.len() - 1].dir.as_fd();
        let below = node(archive, dir, &name, &name).map_err(|error| placed(error, &way))?;
        if below.is_some() && levels.len() >= MAX_DEPTH {
            let message = format!("directories are nested deeper than {MAX_DEPTH} levels");
            return Err(placed(Error::environment(message), &way));
        }
        levels.extend(below);
    }
    Ok(())
}

fn placed(error: Error, way: &[Vec<u8>]) -> Error {
    error.wrap(format!("cannot archive {}", shown(&way.join(&b'/'))))
}

/// Gives the archive one node, named `shown_as` in it; a directory comes back, opened, for its children to follow.
fn node(
    archive: &mut Archive<'_>,
    dir: BorrowedFd<'_>,
    name: &[u8],
    shown_as: &[u8],
) -> Result<Option<Level>> {
    let cannot = || "its file cannot be read".to_owned();
    let stat = fs::lstat(dir, name).or_error(ErrorKind::Environment, cannot)?;
    match stat.kind {
        Kind::Directory => {
            let inner = fs::open_dir(dir, name).or_error(ErrorKind::Environment, cannot)?;
            let mut names = fs::list(&inner).or_error(ErrorKind::Environment, cannot)?;
            names.reverse();
            archive.directory(shown_as)?;
            return Ok(Some(Level { dir: inner, names }));
        }
        Kind::Symlink => {
            let target = fs::readlink(dir, name).or_error(ErrorKind::Environment, cannot)?;
            archive.symlink(shown_as, &target)?;
        }
        Kind::File => {
            let mut file = fs::open_read(dir, name).or_error(ErrorKind::Environment, cannot)?;
            // What was opened may be another file than what was looked at.
            let opened = fs::fstat(&file).or_error(ErrorKind::Environment, cannot)?;
            if opened.kind != Kind::File {
                return Err(unfit(&opened));
            }
            let executable = opened.mode & 0o100 != 0;
            archive.file(shown_as, executable, opened.size, &mut file)?;
        }
        _ => return Err(unfit(&stat)),
    }
    Ok(None)
}

fn unfit(stat: &Stat) -> Error {
    let what = match stat.kind {
        Kind::Fifo => "a FIFO",
        Kind::Socket => "a socket",
        Kind::CharDevice | Kind::BlockDevice => "a device",
        _ => "of another kind than before",
    };
    Error::environment(format!("it is {what}"))
        .hint("a store holds files, directories and symbolic links only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::open_dir_path;
    use std::fs as std_fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_on_disk_is_the_same_as_its_events() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std_fs::create_dir_all(top.join("empty")).unwrap();
        std_fs::write(top.join("b"), vec![7; 200_000]).unwrap();
        std_fs::write(top.join("a.sh"), "x").unwrap();
        std_fs::set_permissions(top.join("a.sh"), PermissionsExt::from_mode(0o555)).unwrap();
        symlink("/nowhere", top.join("l")).unwrap();
        std_fs::create_dir_all(top.join("sub/deeper")).unwrap();
        std_fs::write(top.join("sub/deeper/f"), "").unwrap();
        std_fs::write(top.join("z"), "after").unwrap();
        let root = open_dir_path(dir.path()).unwrap();
        let expected = hash_of(|archive| {
            archive.directory(b"")?;
            archive.file(b"a.sh", true, 1, &mut &b"x"[..])?;
            archive.file(b"b", false, 200_000, &mut &vec![7; 200_000][..])?;
            archive.directory(b"empty")?;
            archive.end_directory()?;
            archive.symlink(b"l", b"/nowhere")?;
            archive.directory(b"sub")?;
            archive.directory(b"deeper")?;
            archive.file(b"f", false, 0, &mut &b""[..])?;
            archive.end_directory()?;
            archive.end_directory()?;
            archive.file(b"z", false, 5, &mut &b"after"[..])?;
            archive.end_directory()
        });
        assert_eq!(hash(root.as_fd(), b"top").unwrap(), expected.unwrap());
        let mut bytes = Vec::new();
        dump(root.as_fd(), b"top", &mut bytes).unwrap();
        assert_eq!(hash(root.as_fd(), b"top").unwrap().0, Digest::of(&bytes));
    }

    #[test]
    fn what_no_archive_can_hold_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std_fs::create_dir_all(dir.path().join("top/sub")).unwrap();
        let socket = dir.path().join("top/sub/s");
        let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let root = open_dir_path(dir.path()).unwrap();
        let error = hash(root.as_fd(), b"top").unwrap_err();
        assert_eq!(error.to_string(), "cannot archive `top/sub/s`: it is a socket");
        let error = hash(root.as_fd(), b"absent").unwrap_err();
        assert!(error.to_string().starts_with("cannot archive `absent`: its file cannot be read"));
    }

    #[test]
    fn nesting_has_a_limit_and_costs_no_stack() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_dir_path(dir.path()).unwrap();
        let nest = |name: &[u8], depth: usize| {
            fs::mkdir(&root, name, 0o755).unwrap();
            let mut inner = fs::open_dir(&root, name).unwrap();
            for _ in 1..depth {
                fs::mkdir(&inner, b"d", 0o755).unwrap();
                inner = fs::open_dir(&inner, b"d").unwrap();
            }
        };
        nest(b"deep", MAX_DEPTH);
        assert!(hash(root.as_fd(), b"deep").is_ok());
        nest(b"deeper", MAX_DEPTH + 1);
        let error = hash(root.as_fd(), b"deeper").unwrap_err();
        assert_eq!(error.causes(), ["directories are nested deeper than 400 levels"]);
    }
}
