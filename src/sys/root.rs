//! Resolving paths inside a directory as if it were the root: links, absolute or with `..`, never lead out.
//!
//! `openat2` with `RESOLVE_IN_ROOT` does the work (kernel 5.6). Every path of an image, a context or a stage goes
//! through here before it is opened.

use super::{Named, SysResult, fs};
use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

fn shown(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}

fn open_in(root: impl AsFd, path: &[u8], flags: OFlags) -> SysResult<OwnedFd> {
    open_how(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

fn open_how(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> SysResult<OwnedFd> {
    let root = root.as_fd();
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rfs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere in the tree raced the lookup: the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => {
                return other.named(|| format!("openat2({}, IN_ROOT)", shown(path)));
            }
        }
    }
}

/// Opens a directory inside `root` for listing and `*at` calls, following links inside the root.
pub fn open_dir(root: impl AsFd, path: &[u8]) -> SysResult<OwnedFd> {
    open_in(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a directory inside `root` as [`open_dir`] does, where no link is on the way.
pub fn open_dir_without_links(root: impl AsFd, path: &[u8]) -> SysResult<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    open_how(root, path, OFlags::RDONLY | OFlags::DIRECTORY, resolve)
}

/// Opens a file inside `root` for reading, following links inside the root; does not block on a FIFO.
pub fn open_read(root: impl AsFd, path: &[u8]) -> SysResult<File> {
    open_in(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
}

/// An `O_PATH` descriptor of whatever `path` leads to, following links inside the root.
pub fn open_path(root: impl AsFd, path: &[u8]) -> SysResult<OwnedFd> {
    open_in(root, path, OFlags::PATH)
}

/// An `O_PATH` descriptor of `path` itself: links are followed in the parents only.
pub fn open_path_nofollow(root: impl AsFd, path: &[u8]) -> SysResult<OwnedFd> {
    open_in(root, path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Stat of what `path` leads to inside the root; `None` when it does not exist.
pub fn stat_opt(root: impl AsFd, path: &[u8]) -> SysResult<Option<fs::Stat>> {
    match open_path(root, path) {
        Ok(fd) => fs::fstat(fd).map(Some),
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stat of `path` itself, links followed in its parents only; `None` when it does not exist.
pub fn lstat_opt(root: impl AsFd, path: &[u8]) -> SysResult<Option<fs::Stat>> {
    match open_path_nofollow(root, path) {
        Ok(fd) => fs::fstat(fd).map(Some),
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where `path` really is inside the root, every link in it followed, without a leading `/`; and whether it exists.
/// Components behind a missing one are taken as they are. For trees that nobody else changes meanwhile.
pub fn canonical(root: impl AsFd, path: &[u8]) -> SysResult<(Vec<u8>, bool)> {
    let root = root.as_fd();
    let mut todo: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut exists = true;
    while let Some(name) = todo.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => done.push(name),
        }
        if !exists {
            continue;
        }
        let here = done.join(&b'/');
        let Some(stat) = lstat_opt(root, &here)? else {
            exists = false;
            continue;
        };
        if stat.kind != fs::Kind::Symlink {
            continue;
        }
        links += 1;
        if links > 40 {
            return Err(Errno::LOOP).named(|| format!("resolve({})", shown(path)));
        }
        let target = fs::readlink(open_path_nofollow(root, &here)?, b"")?;
        done.pop();
        if target.starts_with(b"/") {
            done.clear();
        }
        todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
    }
    Ok((done.join(&b'/'), exists))
}

/// `name` below `dir`, which is empty for the root.
pub fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Splits a path into its parent and its last component; no last component for `/`, `.`, `..` or empty.
pub fn split_last(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let path = &path[..end];
    let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..=at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    match name {
        b"" | b"." | b".." => (path, None),
        name => (parent, Some(name)),
    }
}

/// Reads a whole small file inside `root` (following links inside it), at most `limit` bytes; `None` when missing.
pub fn read_small(root: impl AsFd, path: &[u8], limit: u64) -> SysResult<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match open_read(root, path) {
        Ok(file) => file,
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(limit).read_to_end(&mut text).map_err(|error| super::SysError {
        call: format!("read({})", shown(path)),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_last_gives_parent_and_name() {
        let check = |path: &str, parent: &str, name: Option<&str>| {
            assert_eq!(
                split_last(path.as_bytes()),
                (parent.as_bytes(), name.map(str::as_bytes)),
                "{path}"
            );
        };
        check("a/b", "a/", Some("b"));
        check("/b/", "/", Some("b"));
        check("b", "", Some("b"));
        check("/", "", None);
        check("a/..", "a/..", None);
    }

    #[test]
    fn canonical_follows_links_and_keeps_missing_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/x")).unwrap();
        std::os::unix::fs::symlink("/run", dir.path().join("var")).unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        let root = fs::open_dir_path(dir.path()).unwrap();
        let check = |path: &[u8]| canonical(&root, path).unwrap();
        assert_eq!(check(b"/var/x"), (b"run/x".to_vec(), true));
        assert_eq!(check(b"/var/../../y/z"), (b"y/z".to_vec(), false));
        assert_eq!(check(b"/"), (Vec::new(), true));
        assert!(canonical(&root, b"loop").is_err());
    }

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("abs")).unwrap();
        std::os::unix::fs::symlink("../../../etc", dir.path().join("rel")).unwrap();
        let root = fs::open_dir_path(dir.path()).unwrap();
        assert!(stat_opt(&root, b"abs/passwd").unwrap().is_none());
        assert!(stat_opt(&root, b"rel/passwd").unwrap().is_none());
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "x").unwrap();
        assert_eq!(read_small(&root, b"/rel/passwd", 10).unwrap().unwrap(), b"x");
    }
}
