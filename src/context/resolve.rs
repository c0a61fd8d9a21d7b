//! Following a path inside a root in our own steps, when the resolved name itself is wanted.
//!
//! In: an open root and a path, maybe with links, `..` and parts that do not exist; out: the same place as a relative
//! path without links ([`Resolved`]). Links, absolute or not, count from the root, as `openat2(RESOLVE_IN_ROOT)` has
//! it, and every look at the file system goes through it, so a wrong answer (somebody changes the tree meanwhile) can
//! mislead but never lead out. Missing parts stay as they are: that is how a dangling link gets its target made.

use std::os::fd::BorrowedFd;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::SysResultExt;
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::root;

/// Links that one path may lead through; the kernel takes 40.
const MAX_LINKS: usize = 40;
/// Parts that one path may have on the way, all its links included.
const MAX_PARTS: usize = 8192;

/// Where a path leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Relative to the root, no links, no `.` or `..`; empty for the root itself.
    pub path: Vec<u8>,
    /// What is there; `None` when it does not exist.
    pub stat: Option<Stat>,
    /// The first part of `path` that does not exist.
    pub missing: Option<Vec<u8>>,
    /// Links that were followed, resolved parents first.
    pub links: Vec<Vec<u8>>,
}

/// What a path is resolved in.
pub trait Ground {
    /// What is at a path of which only the parents are followed.
    fn look(&self, path: &[u8]) -> Result<Option<Stat>>;
    /// Target of the link at a path.
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>>;
}

impl Ground for BorrowedFd<'_> {
    fn look(&self, path: &[u8]) -> Result<Option<Stat>> {
        look(*self, path)
    }

    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        read_link(*self, path)
    }
}

/// Resolves `path` inside `root`.
pub fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> Result<Resolved> {
    resolve_in(&root, path)
}

/// Resolves `path` inside anything that can be looked at.
pub fn resolve_in(root: &impl Ground, path: &[u8]) -> Result<Resolved> {
    let mut todo: Vec<Vec<u8>> = parts(path).rev().collect();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut found = Resolved::default();
    let mut steps = 0;
    while let Some(part) = todo.pop() {
        steps += 1;
        if steps > MAX_PARTS {
            return Err(Error::context(format!("`{}` has too many parts", shown(path))));
        }
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let here = done.join(&b'/');
        let stat = root.look(&here)?;
        match stat {
            None => {
                found.missing.get_or_insert(here);
            }
            Some(stat) if stat.kind == Kind::Symlink => {
                if found.links.len() == MAX_LINKS {
                    let message = format!("`{}` leads through too many links", shown(path));
                    return Err(Error::context(message)
                        .cause(format!("`/{}` is the last one followed", shown(&here))));
                }
                let target = root.read_link(&here)?;
                done.pop();
                if target.starts_with(b"/") {
                    done.clear();
                }
                todo.extend(parts(&target).rev());
                found.links.push(here);
            }
            Some(_) => {}
        }
    }
    found.path = done.join(&b'/');
    if found.missing.is_none() {
        found.stat = root.look(&found.path)?;
    } else if found.missing.as_deref().is_some_and(|missing| !is_at_or_below(&found.path, missing))
    {
        // A `..` led back out of what is missing.
        found.missing = None;
        found.stat = root.look(&found.path)?;
        if found.stat.is_none() {
            found.missing = Some(found.path.clone());
        }
    }
    Ok(found)
}

/// Target of the link at `path`, of which only the parents are followed.
pub fn read_link(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>> {
    // An empty name reads the link behind the descriptor itself.
    root::open_path_nofollow(root, path)
        .and_then(|link| fs::readlink(link, b""))
        .or_error(ErrorKind::Context, || format!("cannot read the link `/{}`", shown(path)))
}

/// The parts of a path that say something.
fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec)
}

fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Stat>> {
    root::lstat_opt(root, path)
        .or_error(ErrorKind::Context, || format!("cannot look at `/{}`", shown(path)))
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_resolve_inside_the_root_and_keep_missing_parts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("real/sub")).unwrap();
        std::fs::write(at("real/file"), "x").unwrap();
        symlink("/real", at("abs")).unwrap();
        symlink("../../../../real/sub", at("up")).unwrap();
        symlink("/etc/passwd", at("out")).unwrap();
        symlink("missing/x", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("../file", at("real/sub/back")).unwrap();
        let root = fs::open_dir_path(dir.path()).unwrap();
        for (path, expected, exists) in [
            ("", "", true),
            ("/", "", true),
            ("../..", "", true),
            ("abs/file", "real/file", true),
            ("/abs/./sub/", "real/sub", true),
            ("up/back", "real/file", true),
            ("up/..", "real", true),
            ("out", "etc/passwd", false),
            ("dangling", "missing/x", false),
            ("dangling/../y", "missing/y", false),
            ("nope/../real", "real", true),
            ("real/file/x", "real/file/x", false),
        ] {
            let found = resolve(root.as_fd(), path.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(found.path).unwrap(), expected, "{path}");
            assert_eq!(
                (found.stat.is_some(), found.missing.is_some()),
                (exists, !exists),
                "{path}"
            );
        }
        let error = resolve(root.as_fd(), b"loop/x").unwrap_err().to_string();
        assert_eq!(
            error,
            "`loop/x` leads through too many links: `/loop` is the last one followed"
        );
    }
}
