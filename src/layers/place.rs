//! Where an entry of a tar belongs: an open parent directory inside the root, and a name in it.
//!
//! Parents are resolved by the kernel inside the root, through the links that older layers made (`/var/run` → `/run`);
//! missing ones are made. The last component is never resolved. One parent is kept open: entries come in order.

use super::ImagePath;
use super::beneath::shown;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::fs::{self, Kind};
use crate::sys::{SysError, root};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Most links that lead to one missing directory.
const MAX_LINKS: usize = 40;

/// An open directory and a name in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dir: Rc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// New files in the directory inherit an ACL.
    pub(super) default_acl: bool,
}

struct Parent {
    path: ImagePath,
    dir: Rc<OwnedFd>,
    default_acl: bool,
}

/// Finds and makes parents.
pub(super) struct Places<'a> {
    root: BorrowedFd<'a>,
    owner: bool,
    /// Keep the times of directories that the tar does not mention.
    keep_times: bool,
    last: Option<Parent>,
    times: BTreeMap<ImagePath, Touched>,
    /// Device and inode of the directories in `times`: a link may give one a second path.
    timed: HashSet<(u64, u64)>,
}

/// The time that a directory had, and which directory that is.
struct Touched {
    mtime: (i64, u32),
    inode: (u64, u64),
}

impl<'a> Places<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, owner: bool, keep_times: bool) -> Self {
        let (times, timed) = (BTreeMap::new(), HashSet::new());
        Self { root, owner, keep_times, last: None, times, timed }
    }

    /// Place of a path; its parents are there afterwards.
    pub(super) fn of(&mut self, path: &[u8]) -> Result<Place> {
        let (parent, name) = split(path);
        if let Some(last) = self.last.as_ref().filter(|last| last.path == parent) {
            let dir = Rc::clone(&last.dir);
            return Ok(Place { dir, name: name.to_vec(), default_acl: last.default_acl });
        }
        let dir = match root::open_dir(self.root, parent) {
            Ok(dir) => dir,
            Err(error) if error.errno == Errno::NOENT => {
                self.make_dirs(parent, MAX_LINKS)?;
                root::open_dir(self.root, parent).map_err(|error| fails(path, error))?
            }
            Err(error) => return Err(fails(path, error)),
        };
        self.note_time(parent, &dir)?;
        let default_acl = fs::get_xattr(&dir, b".", b"system.posix_acl_default")
            .map_err(|error| fails(path, error))?
            .is_some();
        let dir = Rc::new(dir);
        self.last = Some(Parent { path: parent.to_vec(), dir: Rc::clone(&dir), default_acl });
        Ok(Place { dir, name: name.to_vec(), default_acl })
    }

    /// The root itself, as a name in itself.
    pub(super) fn root(&self) -> Result<Place> {
        let dir = root::open_dir(self.root, b"").map_err(|error| fails(b"", error))?;
        Ok(Place { dir: Rc::new(dir), name: b".".to_vec(), default_acl: false })
    }

    /// Place of a path whose parents are there already.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<Place>> {
        let (parent, name) = split(path);
        let Some(dir) = self.directory(parent)? else { return Ok(None) };
        Ok(Some(Place { dir: Rc::new(dir), name: name.to_vec(), default_acl: false }))
    }

    /// A directory, when there is one.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Option<OwnedFd>> {
        match root::open_dir(self.root, path) {
            Ok(dir) => {
                self.note_time(path, &dir)?;
                Ok(Some(dir))
            }
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(fails(path, error)),
        }
    }

    /// Must be called before something that was there is removed: the open parent could be in it.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Gives the directories that were touched the times that they had. Nothing is noted any more.
    pub(super) fn restore_times(&mut self) -> Result<()> {
        self.keep_times = false;
        self.last = None;
        for (path, touched) in std::mem::take(&mut self.times).into_iter().rev() {
            let dir = match root::open_dir(self.root, &path) {
                Ok(dir) => dir,
                // A link to itself may be what is there now.
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    continue;
                }
                Err(error) => return Err(fails(&path, error)),
            };
            let stat = fs::fstat(&dir).map_err(|error| fails(&path, error))?;
            // A path may lead to something else by now.
            if (stat.dev, stat.ino) == touched.inode {
                fs::set_mtime(&dir, b".", touched.mtime).map_err(|error| fails(&path, error))?;
            }
        }
        Ok(())
    }

    fn note_time(&mut self, path: &[u8], dir: &OwnedFd) -> Result<()> {
        if self.keep_times {
            let stat = fs::fstat(dir).map_err(|error| fails(path, error))?;
            self.note(path, stat.mtime, (stat.dev, stat.ino));
        }
        Ok(())
    }

    fn note(&mut self, path: &[u8], mtime: (i64, u32), inode: (u64, u64)) {
        if self.timed.insert(inode) {
            self.times.insert(path.to_vec(), Touched { mtime, inode });
        }
    }

    /// Makes the missing directories of `path`, behind dangling links too, with mode 0755.
    fn make_dirs(&mut self, path: &[u8], links: usize) -> Result<()> {
        let mut prefix = Vec::new();
        for part in path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            let parent = prefix.clone();
            if !prefix.is_empty() {
                prefix.push(b'/');
            }
            prefix.extend_from_slice(part);
            if part == b".." {
                continue;
            }
            match root::open_dir(self.root, &prefix) {
                Ok(_) => continue,
                Err(error) if error.errno == Errno::NOENT => {}
                Err(error) => return Err(fails(&prefix, error)),
            }
            let dir = root::open_dir(self.root, &parent).map_err(|e| fails(&parent, e))?;
            self.note_time(&parent, &dir)?;
            match fs::lstat_opt(&dir, part).map_err(|e| fails(&prefix, e))? {
                None => self.make_dir(&dir, part, &prefix)?,
                Some(stat) if stat.kind == Kind::Symlink && links > 0 => {
                    let target = fs::readlink(&dir, part).map_err(|e| fails(&prefix, e))?;
                    let absolute = target.first() == Some(&b'/');
                    let target =
                        if absolute { target } else { [&parent[..], b"/", &target].concat() };
                    self.make_dirs(&target, links - 1)?;
                }
                Some(_) => {
                    return Err(Error::integrity(format!("cannot unpack {}", shown(&prefix)))
                        .cause("too many links lead to it"));
                }
            }
        }
        Ok(())
    }

    fn make_dir(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        fs::mkdir(dir, name, 0o755).map_err(|e| fails(path, e))?;
        fs::chmod(dir, name, 0o755).map_err(|e| fails(path, e))?;
        if self.owner {
            fs::lchown(dir, name, 0, 0).map_err(|e| fails(path, e))?;
        }
        if self.keep_times {
            // Nobody recorded a time for it; the present one would make every unpacking different.
            let stat = fs::lstat(dir, name).map_err(|e| fails(path, e))?;
            let inode = (stat.dev, stat.ino);
            if !self.timed.insert(inode) {
                // The number was that of a directory which this layer removed.
                self.times.retain(|_, touched| touched.inode != inode);
            }
            self.times.insert(path.to_vec(), Touched { mtime: (0, 0), inode });
        }
        Ok(())
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A failed call on behalf of an entry: whose fault it is follows from what the kernel said.
pub(super) fn fails(path: &[u8], error: SysError) -> Error {
    use crate::sys::SysResultExt as _;
    let hostile = matches!(
        error.errno,
        Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::XDEV | Errno::MLINK
    );
    let kind = if hostile { ErrorKind::Integrity } else { ErrorKind::Environment };
    let result: Result<()> = Err(error).or_error(kind, || format!("cannot unpack {}", shown(path)));
    match result {
        Err(error) => error,
        Ok(()) => Error::internal("a failed call that did not fail"),
    }
}
