//! Things that a RUN finds in its tree though no layer has them, put there by hand and taken out again.
//!
//! Where nothing can be mounted, or where a mount needs something to stand on in a tree that is no overlay. What is in
//! the way is moved aside and comes back. The tree looks afterwards as if nothing had been there: times of directories
//! that were only touched by us are kept, and what the command made of our things is gone (elsewhere they are read-only
//! mounts). Every name is reached through a directory that was opened inside the root before the command ran, so
//! whatever it does to paths leads nowhere else.

use crate::sys::fs::{self, Kind};
use crate::sys::{SysResult, root};
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// What is put somewhere.
#[derive(Debug)]
pub enum Thing {
    /// An empty directory with this mode, or what is there already if that is one.
    Directory(u32),
    /// An empty file, or what is there already.
    Stub,
    /// A new empty directory with this mode, whatever is there.
    NewDirectory(u32),
    /// A file with this text and mode.
    Text(String, u32),
    /// A link.
    Link(String),
    /// A character device.
    Device {
        /// Major and minor number.
        number: (u32, u32),
        /// Mode.
        mode: u32,
    },
    /// A file or directory that lies in another directory on the same file system.
    Moved {
        /// That directory.
        dir: OwnedFd,
        /// Its name there.
        name: Vec<u8>,
        /// It goes back there afterwards; otherwise it is removed.
        back: bool,
    },
}

/// A tree with things in it. Dropped, they are taken out.
#[derive(Debug)]
pub struct Garden {
    tree: OwnedFd,
    /// An empty directory on the same file system, for what is in the way.
    aside: OwnedFd,
    planted: Vec<Planted>,
    touched: Vec<Touched>,
    count: usize,
}

/// A directory that was changed, and the time that it is to have.
#[derive(Debug)]
struct Touched {
    dir: Rc<OwnedFd>,
    inode: (u64, u64),
    mtime: (i64, u32),
}

#[derive(Debug)]
struct Planted {
    dir: Rc<OwnedFd>,
    name: Vec<u8>,
    how: How,
}

#[derive(Debug)]
enum How {
    /// Removed while it is what we made (device and inode) and holds nothing.
    Stub(u64, u64),
    /// Removed whatever it is by now.
    Whole,
    /// Moved back to its directory and name while it is what was moved (device and inode): the command could have put a
    /// link in its place, which would lead out of the tree from where it goes.
    Back { home: OwnedFd, name: Vec<u8>, inode: (u64, u64) },
    /// Something that was there before lies aside under this name.
    Aside(Vec<u8>),
}

impl Garden {
    /// A tree without anything in it.
    pub fn new(tree: BorrowedFd<'_>, aside: OwnedFd) -> SysResult<Self> {
        let tree = fs::reopen_dir(tree)?;
        Ok(Self { tree, aside, planted: Vec::new(), touched: Vec::new(), count: 0 })
    }

    /// Puts a thing at a path; links in it are followed inside the root, missing directories are made.
    pub fn put(&mut self, path: &str, thing: Thing) -> SysResult<()> {
        let (path, there) = root::canonical(&self.tree, path.as_bytes())?;
        let (parent, name) = root::split_last(&path);
        let Some(name) = name else { return Ok(()) };
        if there {
            match &thing {
                Thing::Stub => return Ok(()),
                Thing::Directory(_) => {
                    let stat = root::lstat_opt(&self.tree, &path)?;
                    if stat.is_some_and(|stat| stat.is_dir()) {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        let dir = self.directory(parent)?;
        let before = fs::fstat(&*dir)?;
        if there {
            self.put_aside(&dir, name)?;
        }
        let how = make(&dir, name, thing)?;
        self.planted.push(Planted { dir: Rc::clone(&dir), name: name.to_vec(), how });
        self.keep_time(dir, (before.dev, before.ino), before.mtime)
    }

    /// Opens a directory of the tree, making what is missing of it.
    fn directory(&mut self, path: &[u8]) -> SysResult<Rc<OwnedFd>> {
        let mut dir = Rc::new(root::open_dir(&self.tree, b"")?);
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            dir = match fs::open_dir(&*dir, name) {
                Ok(inner) => Rc::new(inner),
                Err(error) if error.errno == Errno::NOENT => {
                    let before = fs::fstat(&*dir)?;
                    let how = make(&dir, name, Thing::Directory(0o755))?;
                    self.planted.push(Planted { dir: Rc::clone(&dir), name: name.to_vec(), how });
                    let inner = Rc::new(fs::open_dir(&*dir, name)?);
                    self.keep_time(dir, (before.dev, before.ino), before.mtime)?;
                    inner
                }
                Err(error) => return Err(error),
            };
        }
        Ok(dir)
    }

    fn put_aside(&mut self, dir: &Rc<OwnedFd>, name: &[u8]) -> SysResult<()> {
        self.count += 1;
        let aside = format!("aside-{}", self.count).into_bytes();
        fs::rename(&**dir, name, &self.aside, &aside)?;
        let how = How::Aside(aside);
        self.planted.push(Planted { dir: Rc::clone(dir), name: name.to_vec(), how });
        Ok(())
    }

    /// The directory has the time that it had: what the command changes in it will show.
    fn keep_time(
        &mut self,
        dir: Rc<OwnedFd>,
        inode: (u64, u64),
        mtime: (i64, u32),
    ) -> SysResult<()> {
        fs::set_mtime(&*dir, b".", mtime)?;
        if !self.touched.iter().any(|known| known.inode == inode) {
            self.touched.push(Touched { dir, inode, mtime });
        }
        Ok(())
    }

    /// Takes everything out again.
    pub fn clear(mut self) -> SysResult<()> {
        self.take_out()
    }

    fn take_out(&mut self) -> SysResult<()> {
        for touched in &mut self.touched {
            touched.mtime = fs::fstat(&*touched.dir)?.mtime;
        }
        let mut failed = Ok(());
        for planted in std::mem::take(&mut self.planted).into_iter().rev() {
            // One that cannot be taken out must not keep the others in.
            failed = failed.and(self.take_one(&planted));
        }
        for touched in std::mem::take(&mut self.touched) {
            failed = failed.and(fs::set_mtime(&*touched.dir, b".", touched.mtime));
        }
        failed
    }

    fn take_one(&self, planted: &Planted) -> SysResult<()> {
        let Planted { dir, name, how } = planted;
        let dir = &**dir;
        match how {
            How::Stub(dev, ino) => {
                let Some(stat) = fs::lstat_opt(dir, name)? else { return Ok(()) };
                match (stat.dev, stat.ino) == (*dev, *ino) {
                    true if stat.is_dir() => match fs::rmdir(dir, name) {
                        Err(error) if error.errno == Errno::NOTEMPTY => Ok(()),
                        other => other,
                    },
                    true if stat.size == 0 => fs::unlink(dir, name),
                    _ => Ok(()),
                }
            }
            How::Whole => fs::remove_tree(dir, name),
            How::Back { home, name: old, inode } => match fs::lstat_opt(dir, name)? {
                Some(stat) if (stat.dev, stat.ino) == *inode => fs::rename(dir, name, home, old),
                Some(_) => fs::remove_tree(dir, name),
                None => Ok(()),
            },
            How::Aside(aside) => fs::rename(&self.aside, aside, dir, name),
        }
    }
}

impl Drop for Garden {
    fn drop(&mut self) {
        // Whoever cares about failures calls `clear`.
        let _as_far_as_possible = self.take_out();
    }
}

fn make(dir: &OwnedFd, name: &[u8], thing: Thing) -> SysResult<How> {
    let stub = |dir: &OwnedFd| fs::lstat(dir, name).map(|stat| How::Stub(stat.dev, stat.ino));
    match thing {
        Thing::Directory(mode) => {
            fs::mkdir(dir, name, mode)?;
            // The mode again: mkdir's is cut by the umask of whoever builds.
            fs::chmod(dir, name, mode)?;
            stub(dir)
        }
        Thing::Stub => {
            drop(fs::create_new(dir, name, 0o644)?);
            stub(dir)
        }
        Thing::NewDirectory(mode) => {
            fs::mkdir(dir, name, mode)?;
            fs::chmod(dir, name, mode)?;
            Ok(How::Whole)
        }
        Thing::Text(text, mode) => {
            let mut file = fs::create_new(dir, name, mode)?;
            file.write_all(text.as_bytes()).map_err(|error| crate::sys::SysError {
                call: "write()".to_owned(),
                errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
            })?;
            fs::fchmod(file.as_fd(), mode)?;
            Ok(How::Whole)
        }
        Thing::Link(target) => {
            fs::symlink(target.as_bytes(), dir, name)?;
            Ok(How::Whole)
        }
        Thing::Device { number, mode } => {
            fs::mknod(dir, name, Kind::CharDevice, mode, number)?;
            fs::chmod(dir, name, mode)?;
            Ok(How::Whole)
        }
        Thing::Moved { dir: home, name: old, back } => {
            let stat = fs::lstat(&home, &old)?;
            fs::rename(&home, &old, dir, name)?;
            let inode = (stat.dev, stat.ino);
            Ok(if back { How::Back { home, name: old, inode } } else { How::Whole })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::diff::{DiffOptions, XattrFlavour, diff_scan, record_tree};
    use crate::layers::times::TimePolicy;

    fn garden(dir: &tempfile::TempDir) -> (OwnedFd, Garden) {
        for name in ["tree", "tree/etc", "aside", "store", "store/cache"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("tree/etc/hosts"), "old").unwrap();
        std::fs::write(dir.path().join("store/cache/x"), "kept").unwrap();
        let tree = fs::open_dir_path(&dir.path().join("tree")).unwrap();
        fs::set_mtime(&tree, b"etc", (7, 0)).unwrap();
        fs::set_mtime(&tree, b".", (8, 0)).unwrap();
        let aside = fs::open_dir_path(&dir.path().join("aside")).unwrap();
        (fs::reopen_dir(&tree).unwrap(), Garden::new(tree.as_fd(), aside).unwrap())
    }

    fn changes(dir: &tempfile::TempDir, work: impl FnOnce(&mut Garden)) -> Vec<String> {
        let (tree, mut garden) = garden(dir);
        let before = record_tree(tree.as_fd()).unwrap();
        work(&mut garden);
        garden.clear().unwrap();
        let options = DiffOptions { flavour: XattrFlavour::User, placeholders: false };
        let changes = diff_scan(&before, tree.as_fd(), &options, &TimePolicy::EXACT).unwrap();
        changes.iter().map(|change| String::from_utf8_lossy(&change.path).into_owned()).collect()
    }

    #[test]
    fn nothing_of_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let found = changes(&dir, |garden| {
            garden.put("/etc/hosts", Thing::Text("new".to_owned(), 0o644)).unwrap();
            garden.put("/proc", Thing::Directory(0o755)).unwrap();
            garden.put("/a/b/c", Thing::Stub).unwrap();
            garden.put("/dev", Thing::NewDirectory(0o755)).unwrap();
            garden.put("/dev/fd", Thing::Link("/proc/self/fd".to_owned())).unwrap();
            let home = fs::open_dir_path(&at("store")).unwrap();
            let moved = Thing::Moved { dir: home, name: b"cache".to_vec(), back: true };
            garden.put("/var/cache", moved).unwrap();
            assert_eq!(std::fs::read_to_string(at("tree/etc/hosts")).unwrap(), "new");
            assert_eq!(std::fs::read_to_string(at("tree/var/cache/x")).unwrap(), "kept");
            // The command writes into what it may.
            std::fs::write(at("tree/dev/shm"), "rubbish").unwrap();
            std::fs::write(at("tree/var/cache/y"), "new").unwrap();
        });
        assert_eq!(found, Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(at("tree/etc/hosts")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(at("store/cache/y")).unwrap(), "new");
    }

    #[test]
    fn a_link_in_the_place_of_a_cache_goes_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let found = changes(&dir, |garden| {
            let home = fs::open_dir_path(&at("store")).unwrap();
            let moved = Thing::Moved { dir: home, name: b"cache".to_vec(), back: true };
            garden.put("/cache", moved).unwrap();
            std::fs::rename(at("tree/cache"), at("tree/kept")).unwrap();
            std::os::unix::fs::symlink("/etc", at("tree/cache")).unwrap();
        });
        assert!(std::fs::symlink_metadata(at("store/cache")).is_err());
        assert_eq!(found, ["kept", "kept/x"]);
    }

    #[test]
    fn what_the_command_does_beside_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let found = changes(&dir, |garden| {
            garden.put("/etc/resolv.conf", Thing::Text("new".to_owned(), 0o644)).unwrap();
            garden.put("/run/lock/stub", Thing::Stub).unwrap();
            std::fs::write(at("tree/etc/mine"), "1").unwrap();
            std::fs::write(at("tree/run/mine"), "2").unwrap();
        });
        assert_eq!(found, ["etc", "etc/mine", "run", "run/mine"]);
    }

    #[test]
    fn a_command_that_swaps_directories_for_links_reaches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir(at("outside")).unwrap();
        std::fs::write(at("outside/resolv.conf"), "").unwrap();
        let found = changes(&dir, |garden| {
            garden.put("/etc/resolv.conf", Thing::Stub).unwrap();
            std::fs::rename(at("tree/etc"), at("tree/moved")).unwrap();
            std::os::unix::fs::symlink(at("outside"), at("tree/etc")).unwrap();
        });
        assert!(at("outside/resolv.conf").exists());
        assert_eq!(found, ["etc", "moved", "moved/hosts"]);
    }
}
