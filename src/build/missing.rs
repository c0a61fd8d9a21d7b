//! What a rootfs lacks of the targets of mounts, and what is known of it from its parent.
//!
//! To look, the rootfs has to be mounted, once more than the RUN itself needs it. A step seldom touches `/etc` or makes
//! `/proc`: where its own difference has nothing of the places in question, what was found below it still holds.

use crate::error::{ErrorKind, Result};
use crate::layers::snapshot::{Draft, Snapshot};
use crate::layers::whiteout::{self, XattrFlavour};
use crate::sys::fs::{self, Stat};
use crate::sys::{SysResult, SysResultExt, owners, root};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most answers that are remembered: one for every chain of steps that runs at a time is enough.
const REMEMBERED: usize = 32;

/// A target and whether it is a directory.
pub(super) type Point = (String, bool);

/// What a tree does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lack {
    /// Real paths of the targets, without a leading `/`, and whether they are directories.
    pub(super) missing: Vec<(Vec<u8>, bool)>,
    /// The directories that are there above these, parents first, the root as `.`; none when nothing is missing.
    pub(super) repeated: Vec<Repeated>,
}

/// A directory of the rootfs that has to be there once more, since the topmost one decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) mtime: (i64, u32),
}

/// What snapshots lacked in which no link was met on the way.
#[derive(Debug, Default)]
pub(super) struct Lacks(Mutex<Vec<Known>>);

#[derive(Debug)]
struct Known {
    snapshot: String,
    points: Vec<Point>,
    lack: Lack,
}

impl Lacks {
    /// What the tree lacks that a draft stands on.
    pub(super) fn of(&self, draft: &Draft<'_>, points: &[Point]) -> Result<Lack> {
        let what = || "cannot make mount targets".to_owned();
        let Some(parent) = draft.parent() else {
            return Ok(look(draft.below()?, points)?.0);
        };
        let known = self.known(parent, points).or_error(ErrorKind::Environment, what)?;
        let (lack, plain) = match known {
            Some(lack) => (lack, true),
            None => look(draft.below()?, points)?,
        };
        if plain {
            self.remember(parent.id(), points, &lack);
        }
        Ok(lack)
    }

    /// What was found in this snapshot, or in its parent when that holds for it too.
    fn known(&self, snapshot: &Snapshot, points: &[Point]) -> SysResult<Option<Lack>> {
        let list = self.list();
        let find = |id: &str| {
            let mut fitting = list.iter().filter(|known| known.points == points);
            fitting.find(|known| known.snapshot == id).map(|known| known.lack.clone())
        };
        if let Some(lack) = find(snapshot.id()) {
            return Ok(Some(lack));
        }
        let Some(lack) = snapshot.parent().and_then(|parent| find(parent.id())) else {
            return Ok(None);
        };
        drop(list);
        inherited(lack, snapshot.upper(), points)
    }

    fn remember(&self, id: &str, points: &[Point], lack: &Lack) {
        let mut list = self.list();
        if list.iter().any(|known| known.snapshot == id && known.points == points) {
            return;
        }
        if list.len() == REMEMBERED {
            list.remove(0);
        }
        list.push(Known { snapshot: id.to_owned(), points: points.to_vec(), lack: lack.clone() });
    }

    fn list(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a tree lacks if its parent lacked `lack` and `upper` is the difference; none where only a look can tell.
fn inherited(mut lack: Lack, upper: BorrowedFd<'_>, points: &[Point]) -> SysResult<Option<Lack>> {
    let mut tops: Vec<&str> = points.iter().filter_map(|(path, _)| top(path)).collect();
    tops.sort_unstable();
    tops.dedup();
    for top in tops {
        // A whiteout is a node as well.
        if fs::lstat_opt(upper, top.as_bytes())?.is_some() {
            return Ok(None);
        }
    }
    // A mark on the root itself: nothing that a step of ours makes.
    let xattrs = fs::list_xattrs(upper, b".")?;
    let marked =
        |flavour| whiteout::is_opaque(&xattrs, flavour) || whiteout::is_indirect(&xattrs, flavour);
    if marked(XattrFlavour::Trusted) || marked(XattrFlavour::User) {
        return Ok(None);
    }
    if let Some(first) = lack.repeated.first_mut() {
        let Some(stat) = root::stat_opt(upper, b"")? else { return Ok(None) };
        *first = Repeated::of(upper, b".", &stat)?;
    }
    Ok(Some(lack))
}

/// The first component of a path.
fn top(path: &str) -> Option<&str> {
    path.split('/').find(|part| !part.is_empty())
}

/// Looks into a tree; true when no link was met on the way to any target.
fn look(lower: BorrowedFd<'_>, points: &[Point]) -> Result<(Lack, bool)> {
    let (mut missing, mut plain) = (Vec::new(), true);
    for (path, is_dir) in points {
        let (real, there) = root::canonical(lower, path.as_bytes())
            .or_error(ErrorKind::Image, || format!("cannot find the mount target `{path}`"))?;
        plain &= real == path.trim_start_matches('/').as_bytes();
        if !there {
            missing.push((real, *is_dir));
        }
    }
    let repeated = if missing.is_empty() {
        Vec::new()
    } else {
        let found = repeated(lower, &missing);
        found.or_error(ErrorKind::Environment, || "cannot make mount targets".to_owned())?
    };
    Ok((Lack { missing, repeated }, plain))
}

impl Repeated {
    fn of(lower: BorrowedFd<'_>, path: &[u8], stat: &Stat) -> SysResult<Self> {
        let xattrs = fs::list_xattrs(lower, path)?;
        let xattrs = xattrs.into_iter().filter(|(name, _)| !whiteout::is_private_xattr(name));
        Ok(Self {
            path: path.to_vec(),
            mode: stat.mode,
            owner: owners::of_name(lower, path, stat)?,
            xattrs: xattrs.collect(),
            mtime: stat.mtime,
        })
    }

    /// The same but for the time.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let what = |one: &Self| (one.path.clone(), one.mode, one.owner, one.xattrs.clone());
        what(self) == what(other)
    }

    /// Makes the directory of a copy like this one, but for the time.
    pub(super) fn apply(&self, stubs: &OwnedFd) -> SysResult<()> {
        fs::lchown(stubs, &self.path, self.owner.0, self.owner.1)?;
        fs::chmod(stubs, &self.path, self.mode)?;
        let mut xattrs = self.xattrs.iter();
        xattrs.try_for_each(|(name, value)| fs::set_xattr(stubs, &self.path, name, value))
    }
}

/// The directories that a tree has above what it is missing, parents first.
fn repeated(lower: BorrowedFd<'_>, missing: &[(Vec<u8>, bool)]) -> SysResult<Vec<Repeated>> {
    let mut found: Vec<Repeated> = Vec::new();
    if let Some(stat) = root::stat_opt(lower, b"")? {
        found.push(Repeated::of(lower, b".", &stat)?);
    }
    for part in missing.iter().flat_map(|(path, _)| parts(path)) {
        if found.iter().any(|one| one.path == part) {
            continue;
        }
        if let Some(stat) = root::lstat_opt(lower, part)?
            && stat.is_dir()
        {
            found.push(Repeated::of(lower, part, &stat)?);
        }
    }
    Ok(found)
}

/// `a`, `a/b` and `a/b/c` of `a/b/c`.
pub(super) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..=path.len()).filter(|at| *at == path.len() || path[*at] == b'/').map(|at| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn points(list: &[&str]) -> Vec<Point> {
        list.iter().map(|path| ((*path).to_owned(), true)).collect()
    }

    fn missing(lack: &Lack) -> Vec<&str> {
        lack.missing.iter().map(|(path, _)| std::str::from_utf8(path).unwrap()).collect()
    }

    /// A tree with these directories, and links to `/etc`.
    fn tree(dirs: &[&str], links: &[&str]) -> (tempfile::TempDir, OwnedFd) {
        let made = tempfile::tempdir().unwrap();
        for dir in dirs {
            std::fs::create_dir_all(made.path().join(dir)).unwrap();
        }
        for link in links {
            std::os::unix::fs::symlink("/etc", made.path().join(link)).unwrap();
        }
        let opened = fs::open_dir_path(Path::new(made.path())).unwrap();
        (made, opened)
    }

    #[test]
    fn a_look_says_what_is_missing_and_whether_a_link_was_on_the_way() {
        let (_kept, fd) = tree(&["etc/x", "dev"], &["lib"]);
        let look = |list: &[&str]| look(fd.as_fd(), &points(list)).unwrap();
        let (lack, plain) = look(&["/dev", "/etc/x"]);
        assert_eq!((missing(&lack), lack.repeated.len(), plain), (vec![], 0, true));
        let (lack, plain) = look(&["/dev", "/etc/y/z", "/sys"]);
        let repeated: Vec<&[u8]> = lack.repeated.iter().map(|one| &one.path[..]).collect();
        assert_eq!((missing(&lack), plain), (vec!["etc/y/z", "sys"], true));
        assert_eq!(repeated, [&b"."[..], b"etc"]);
        let (lack, plain) = look(&["/lib/x", "/sys"]);
        assert_eq!((missing(&lack), plain), (vec!["sys"], false));
        // Not spelled as it really is: nothing is inherited.
        assert!(!look(&["/etc/../dev"]).1);
    }

    #[test]
    fn a_difference_without_the_places_inherits_all_but_the_root() {
        let (_below, below) = tree(&["etc", "dev"], &[]);
        fs::chmod(&below, b".", 0o750).unwrap();
        let wanted = points(&["/dev", "/etc/y", "/sys"]);
        let (lack, _) = look(below.as_fd(), &wanted).unwrap();
        let (dir, upper) = tree(&["home/etc"], &[]);
        fs::chmod(&upper, b".", 0o711).unwrap();
        let heir = inherited(lack.clone(), upper.as_fd(), &wanted).unwrap().unwrap();
        assert_eq!((&heir.missing, &heir.repeated[1..]), (&lack.missing, &lack.repeated[1..]));
        assert_eq!((heir.repeated[0].mode & 0o777, lack.repeated[0].mode & 0o777), (0o711, 0o750));
        for place in ["etc", "dev", "sys"] {
            std::fs::write(dir.path().join(place), "").unwrap();
            assert_eq!(inherited(lack.clone(), upper.as_fd(), &wanted).unwrap(), None, "{place}");
            std::fs::remove_file(dir.path().join(place)).unwrap();
        }
        fs::set_xattr(&upper, b".", b"user.overlay.opaque", b"y").unwrap();
        assert_eq!(inherited(lack, upper.as_fd(), &wanted).unwrap(), None);
    }

    #[test]
    fn no_more_is_remembered_than_there_are_places() {
        let lacks = Lacks::default();
        for id in 0..REMEMBERED + 5 {
            lacks.remember(&id.to_string(), &[], &Lack::default());
            lacks.remember(&id.to_string(), &[], &Lack::default());
        }
        let list = lacks.list();
        assert_eq!((list.len(), list[0].snapshot.as_str()), (REMEMBERED, "5"));
    }
}
