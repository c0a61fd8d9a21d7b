//! Where an entry of a tar belongs: an open parent directory inside the root, and a name in it.
//!
//! Parents are resolved by the kernel inside the root, through the links that older layers made (`/var/run` → `/run`);
//! missing ones are made. The last component is never resolved. One parent is kept open: entries come in order.

use super::ImagePath;
use super::beneath::{shown, split};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::fs::{self, Kind};
use crate::sys::{SysError, SysResult, root};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Most directories behind links that are kept open.
const MAX_OPEN: usize = 256;

/// Most links that lead to one missing directory.
const MAX_LINKS: usize = 40;

/// An open directory and a name in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// New files in the directory inherit an ACL.
    pub(super) default_acl: bool,
    /// A link leads to the directory.
    pub(super) behind_link: bool,
    /// Of the directory, where something is to be made in it.
    pub(super) inode: Inode,
}

impl Place {
    /// An open directory, as a name in itself.
    pub(super) fn itself(dir: OwnedFd) -> Self {
        let (dir, name) = (Arc::new(dir), b".".to_vec());
        Self { dir, name, default_acl: false, behind_link: false, inode: (0, 0) }
    }
}

struct Parent {
    path: ImagePath,
    dir: Arc<OwnedFd>,
    default_acl: bool,
    behind_link: bool,
    inode: Inode,
}

impl Parent {
    fn place(&self, name: &[u8]) -> Place {
        Place {
            dir: Arc::clone(&self.dir),
            name: name.to_vec(),
            default_acl: self.default_acl,
            behind_link: self.behind_link,
            inode: self.inode,
        }
    }
}

/// Finds and makes parents.
pub(super) struct Places<'a> {
    root: BorrowedFd<'a>,
    owner: bool,
    /// Keep the times of directories that the tar does not mention.
    keep_times: bool,
    /// What is below the root is not shown in it: a parent that is missing there, or that a link leads to, is an error.
    apart: bool,
    last: Option<Parent>,
    /// By path and inode: what a path leads to can change.
    times: BTreeMap<(ImagePath, Inode), Touched>,
    /// Device and inode of the directories in `times`: a link may give one a second path.
    timed: HashMap<Inode, ImagePath>,
    /// How many of them are open.
    open: usize,
}

/// Device and number.
pub(super) type Inode = (u64, u64);

/// The time that a directory had.
struct Touched {
    mtime: (i64, u32),
    /// Where a link led to it, which may go.
    dir: Option<OwnedFd>,
}

impl<'a> Places<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, owner: bool, keep_times: bool) -> Self {
        let (times, timed) = (BTreeMap::new(), HashMap::new());
        Self { root, owner, keep_times, apart: false, last: None, times, timed, open: 0 }
    }

    /// The same in a root that does not show what is below it.
    pub(super) fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    fn open(&self, path: &[u8]) -> SysResult<OwnedFd> {
        if self.apart {
            return root::open_dir_without_links(self.root, path);
        }
        root::open_dir(self.root, path)
    }

    /// Place of a path; its parents are there afterwards. `settle` waits until all is there that was handed out: a file
    /// that is still missing may be in the way of a parent.
    pub(super) fn of(
        &mut self,
        path: &[u8],
        settle: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Place> {
        let (parent, name) = split(path);
        if let Some(last) = self.last.as_ref().filter(|last| last.path == parent) {
            return Ok(last.place(name));
        }
        let mut opened = self.open(parent);
        if opened.as_ref().is_err_and(|error| error.errno == Errno::NOENT) {
            settle()?;
            opened = self.open(parent);
        }
        let dir = match opened {
            Ok(dir) => dir,
            Err(error) if error.errno == Errno::NOENT && !self.apart => {
                self.make_dirs(parent, MAX_LINKS)?;
                root::open_dir(self.root, parent).map_err(|error| fails(path, error))?
            }
            Err(error) => return Err(fails(path, error)),
        };
        let behind_link = self.note_time(parent, &dir)?;
        let default_acl = fs::get_xattr(&dir, b".", b"system.posix_acl_default")
            .map_err(|error| fails(path, error))?
            .is_some();
        let stat = fs::fstat(&dir).map_err(|error| fails(path, error))?;
        let (dir, path, inode) = (Arc::new(dir), parent.to_vec(), (stat.dev, stat.ino));
        let last = Parent { path, dir, default_acl, behind_link, inode };
        Ok(self.last.insert(last).place(name))
    }

    /// The root itself, as a name in itself.
    pub(super) fn root(&self) -> Result<Place> {
        let dir = root::open_dir(self.root, b"").map_err(|error| fails(b"", error))?;
        Ok(Place::itself(dir))
    }

    /// Place of a path whose parents are there already.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<Place>> {
        let (parent, name) = split(path);
        let Some(dir) = self.directory(parent)? else { return Ok(None) };
        Ok(Some(Place { name: name.to_vec(), ..Place::itself(dir) }))
    }

    /// A directory, when there is one.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Option<OwnedFd>> {
        match self.open(path) {
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
        for ((path, inode), touched) in std::mem::take(&mut self.times).into_iter().rev() {
            let dir = match touched.dir.map_or_else(|| root::open_dir(self.root, &path), Ok) {
                Ok(dir) => dir,
                // A link to itself may be what is there now.
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    continue;
                }
                Err(error) => return Err(fails(&path, error)),
            };
            let stat = fs::fstat(&dir).map_err(|error| fails(&path, error))?;
            // A path may lead to something else by now.
            if (stat.dev, stat.ino) == inode {
                unless_removed(&dir, fs::set_mtime(&dir, b".", touched.mtime))
                    .map_err(|error| fails(&path, error))?;
            }
        }
        Ok(())
    }

    /// True when a link leads there.
    fn note_time(&mut self, path: &[u8], dir: &OwnedFd) -> Result<bool> {
        if !self.keep_times {
            return Ok(false);
        }
        let behind_link = root::open_dir_without_links(self.root, path).is_err();
        let stat = fs::fstat(dir).map_err(|error| fails(path, error))?;
        let inode = (stat.dev, stat.ino);
        if !self.timed.contains_key(&inode) {
            let dir = if behind_link { self.keep_open(dir) } else { None };
            self.note(path, inode, Touched { mtime: stat.mtime, dir });
        }
        Ok(behind_link)
    }

    fn note(&mut self, path: &[u8], inode: Inode, touched: Touched) {
        // A number may be that of a directory which this layer removed.
        self.forget_time(inode);
        self.timed.insert(inode, path.to_vec());
        self.times.insert((path.to_vec(), inode), touched);
    }

    /// Somebody else sets the time of a directory.
    pub(super) fn forget_time(&mut self, inode: Inode) {
        if let Some(path) = self.timed.remove(&inode) {
            self.times.remove(&(path, inode));
        }
    }

    /// The directory once more, for the end; of too many none.
    pub(super) fn keep_open(&mut self, dir: &OwnedFd) -> Option<OwnedFd> {
        if self.open == MAX_OPEN {
            return None;
        }
        self.open += 1;
        dir.try_clone().ok()
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
            let behind_link = self.note_time(&parent, &dir)?;
            match fs::lstat_opt(&dir, part).map_err(|e| fails(&prefix, e))? {
                None => self.make_dir(&dir, part, &prefix, behind_link)?,
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

    fn make_dir(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        behind_link: bool,
    ) -> Result<()> {
        fs::mkdir(dir, name, 0o755).map_err(|e| fails(path, e))?;
        fs::chmod(dir, name, 0o755).map_err(|e| fails(path, e))?;
        if self.owner {
            fs::lchown(dir, name, 0, 0).map_err(|e| fails(path, e))?;
        }
        if self.keep_times {
            // Nobody recorded a time for it; the present one would make every unpacking different.
            let stat = fs::lstat(dir, name).map_err(|e| fails(path, e))?;
            let inode = (stat.dev, stat.ino);
            let made = behind_link.then(|| fs::open_dir(dir, name).ok()).flatten();
            let dir = made.and_then(|made| self.keep_open(&made));
            self.note(path, inode, Touched { mtime: (0, 0), dir });
        }
        Ok(())
    }
}

/// What became of a call on a directory that was kept open; it may be gone.
pub(super) fn unless_removed(dir: impl AsFd, done: SysResult<()>) -> SysResult<()> {
    if done.is_err() && fs::is_removed(dir) { Ok(()) } else { done }
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
