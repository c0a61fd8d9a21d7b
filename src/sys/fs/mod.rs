//! File system calls by descriptor and name; names are single components or relative paths that the caller
//! already resolved. Nothing here follows a last symbolic link; see [`super::root`] for resolving inside a root.

mod copy;
mod names;
mod remove;
pub(super) mod xattrat;
mod xattrs;

pub use copy::{SMALL_COPY, copy_data};
pub use names::{Names, count_below, is_removed, list, list_opened};
pub use remove::remove_tree;
pub use xattrs::{get_xattr, list_xattrs, remove_xattr, set_xattr, xattr_names};

use super::{Named, SysResult};
use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What `lstat` says, in our terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// File type.
    pub kind: Kind,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner as seen in this user namespace.
    pub uid: u32,
    /// Group as seen in this user namespace.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time, seconds and nanoseconds.
    pub ctime: (i64, u32),
    /// Device that holds the inode.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// Device number (major, minor) of a device node.
    pub rdev: (u32, u32),
    /// 512-byte blocks in use; fewer than `size` needs means a sparse file.
    pub blocks: u64,
}

/// File type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Stat {
    fn from_raw(raw: &rfs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(raw.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::File,
        };
        Self {
            kind,
            mode: raw.st_mode & 0o7777,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: raw.st_size as u64,
            mtime: (raw.st_mtime, raw.st_mtime_nsec as u32),
            ctime: (raw.st_ctime, raw.st_ctime_nsec as u32),
            dev: raw.st_dev,
            ino: raw.st_ino,
            nlink: raw.st_nlink,
            rdev: (rfs::major(raw.st_rdev), rfs::minor(raw.st_rdev)),
            blocks: raw.st_blocks as u64,
        }
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}

fn show(name: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(name).escape_debug())
}

/// `fstatat` without following.
pub fn lstat(dir: impl AsFd, name: &[u8]) -> SysResult<Stat> {
    let dir = dir.as_fd();
    let raw = rfs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .named(|| format!("fstatat({})", show(name)))?;
    Ok(with_recorded_mode(Stat::from_raw(&raw), || proc_path(dir, name)))
}

/// The mode that was asked for, where it could not be given.
fn with_recorded_mode(stat: Stat, path: impl FnOnce() -> Vec<u8>) -> Stat {
    if !super::owners::is_all_kept() || !matches!(stat.kind, Kind::File | Kind::Directory) {
        return stat;
    }
    let mode = super::owners::recorded_mode(&path()).unwrap_or(stat.mode);
    Stat { mode, ..stat }
}

/// Sets a mode, or one with which this process can go on and a record of the one that was asked for.
fn set_mode(path: impl FnOnce() -> Vec<u8>, kind: Kind, mode: u32) -> SysResult<Mode> {
    if !super::owners::is_all_kept() {
        return Ok(Mode::from_raw_mode(mode & 0o7777));
    }
    let (real, recorded) = super::owners::real_mode(kind, mode & 0o7777);
    super::owners::record_mode(&path(), recorded.then_some(mode & 0o7777))?;
    Ok(Mode::from_raw_mode(real))
}

/// `lstat` that answers `None` for a missing name or a parent that is no directory.
pub fn lstat_opt(dir: impl AsFd, name: &[u8]) -> SysResult<Option<Stat>> {
    match lstat(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.errno == Errno::NOENT || error.errno == Errno::NOTDIR => Ok(None),
        Err(error) => Err(error),
    }
}

/// `fstat` of an open descriptor.
pub fn fstat(fd: impl AsFd) -> SysResult<Stat> {
    let fd = fd.as_fd();
    let raw = rfs::fstat(fd).named(|| format!("fstat({})", fd.as_raw_fd()))?;
    Ok(with_recorded_mode(Stat::from_raw(&raw), || proc_file(fd)))
}

/// Opens a regular file (or any node) for reading, without following, without blocking on a FIFO.
pub fn open_read(dir: impl AsFd, name: &[u8]) -> SysResult<File> {
    let dir = dir.as_fd();
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    rfs::openat(dir, name, flags, Mode::empty())
        .map(File::from)
        .named(|| format!("openat({}, O_RDONLY)", show(name)))
}

/// `fsync`, where the file system has one for this kind of file.
pub fn fsync(fd: impl AsFd) -> SysResult<()> {
    let fd = fd.as_fd();
    match rustix::io::retry_on_intr(|| rfs::fsync(fd)) {
        Err(Errno::INVAL) => Ok(()),
        done => done.named(|| format!("fsync({})", fd.as_raw_fd())),
    }
}

/// Opens a regular file to write into it, without following.
pub fn open_write(dir: impl AsFd, name: &[u8]) -> SysResult<File> {
    let dir = dir.as_fd();
    let flags =
        OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    rfs::openat(dir, name, flags, Mode::empty())
        .map(File::from)
        .named(|| format!("openat({}, O_WRONLY)", show(name)))
}

/// Whether an open file is one of an overlay.
pub fn is_on_overlay(fd: impl AsFd) -> bool {
    /// `OVERLAYFS_SUPER_MAGIC`.
    const OVERLAY: i64 = 0x794c_7630;
    rfs::fstatfs(fd).is_ok_and(|found| found.f_type == OVERLAY)
}

/// Opens a directory for reading entries and as a base for `*at` calls, without following.
pub fn open_dir(dir: impl AsFd, name: &[u8]) -> SysResult<OwnedFd> {
    let dir = dir.as_fd();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    rfs::openat(dir, name, flags, Mode::empty())
        .named(|| format!("openat({}, O_DIRECTORY)", show(name)))
}

/// Opens a directory by a path of this process, following links (for paths that the user gave us).
pub fn open_dir_path(path: &std::path::Path) -> SysResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    rfs::open(path, flags, Mode::empty()).named(|| format!("open({}, O_DIRECTORY)", path.display()))
}

/// Opens a file for reading by a path of this process, following links, without blocking on a FIFO.
pub fn open_read_path(path: &std::path::Path) -> SysResult<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    rfs::open(path, flags, Mode::empty())
        .map(File::from)
        .named(|| format!("open({}, O_RDONLY)", path.display()))
}

/// The first four bytes of a regular file that was opened without access.
pub fn start_of(file: impl AsFd) -> std::io::Result<[u8; 4]> {
    let mut start = [0_u8; 4];
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    std::io::Read::read_exact(&mut File::open(path)?, &mut start)?;
    Ok(start)
}

/// Creates a new regular file for writing; fails when the name exists.
pub fn create_new(dir: impl AsFd, name: &[u8], mode: u32) -> SysResult<File> {
    let dir = dir.as_fd();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rfs::openat(dir, name, flags, Mode::from_raw_mode(mode & 0o7777))
        .map(File::from)
        .named(|| format!("openat({}, O_CREAT|O_EXCL)", show(name)))
}

/// A new file in the file system of a directory, without a name.
pub fn create_nameless(dir: impl AsFd, mode: u32) -> SysResult<File> {
    let dir = dir.as_fd();
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    rfs::openat(dir, ".", flags, Mode::from_raw_mode(mode & 0o7777))
        .map(File::from)
        .named(|| "openat(O_TMPFILE)".to_owned())
}

/// `mkdirat`.
pub fn mkdir(dir: impl AsFd, name: &[u8], mode: u32) -> SysResult<()> {
    let dir = dir.as_fd();
    rfs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o7777))
        .named(|| format!("mkdirat({}, {mode:o})", show(name)))
}

/// `unlinkat` of anything but a directory.
pub fn unlink(dir: impl AsFd, name: &[u8]) -> SysResult<()> {
    let dir = dir.as_fd();
    rfs::unlinkat(dir, name, AtFlags::empty()).named(|| format!("unlinkat({})", show(name)))
}

/// `unlinkat` of an empty directory.
pub fn rmdir(dir: impl AsFd, name: &[u8]) -> SysResult<()> {
    let dir = dir.as_fd();
    rfs::unlinkat(dir, name, AtFlags::REMOVEDIR)
        .named(|| format!("unlinkat({}, AT_REMOVEDIR)", show(name)))
}

/// `symlinkat`.
pub fn symlink(target: &[u8], dir: impl AsFd, name: &[u8]) -> SysResult<()> {
    let dir = dir.as_fd();
    rfs::symlinkat(target, dir, name)
        .named(|| format!("symlinkat({}, {})", show(target), show(name)))
}

/// `linkat` without following.
pub fn link(from: impl AsFd, name: &[u8], to: impl AsFd, new_name: &[u8]) -> SysResult<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    rfs::linkat(from, name, to, new_name, AtFlags::empty())
        .named(|| format!("linkat({}, {})", show(name), show(new_name)))
}

/// `renameat`.
pub fn rename(from: impl AsFd, name: &[u8], to: impl AsFd, new_name: &[u8]) -> SysResult<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    rfs::renameat(from, name, to, new_name)
        .named(|| format!("renameat({}, {})", show(name), show(new_name)))
}

/// `renameat` to a path of this process.
pub fn rename_to_path(from: impl AsFd, name: &[u8], to: &std::path::Path) -> SysResult<()> {
    rfs::renameat(from.as_fd(), name, rfs::CWD, to)
        .named(|| format!("renameat({}, {})", show(name), to.display()))
}

/// `renameat2` that takes nobody's place: not even that of an empty directory, as `renameat` does. False when the new
/// name is taken.
pub fn rename_new(from: impl AsFd, name: &[u8], to: impl AsFd, new_name: &[u8]) -> SysResult<bool> {
    let (from, to) = (from.as_fd(), to.as_fd());
    match rfs::renameat_with(from, name, to, new_name, rfs::RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        other => other
            .map(|()| true)
            .named(|| format!("renameat2({}, {}, NOREPLACE)", show(name), show(new_name))),
    }
}

/// `readlinkat`.
pub fn readlink(dir: impl AsFd, name: &[u8]) -> SysResult<Vec<u8>> {
    let dir = dir.as_fd();
    rfs::readlinkat(dir, name, Vec::new())
        .map(std::ffi::CString::into_bytes)
        .named(|| format!("readlinkat({})", show(name)))
}

/// Makes a device node or FIFO.
pub fn mknod(
    dir: impl AsFd,
    name: &[u8],
    kind: Kind,
    mode: u32,
    rdev: (u32, u32),
) -> SysResult<()> {
    let dir = dir.as_fd();
    let file_type = match kind {
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        _ => FileType::RegularFile,
    };
    rfs::mknodat(
        dir,
        name,
        file_type,
        Mode::from_raw_mode(mode & 0o7777),
        rfs::makedev(rdev.0, rdev.1),
    )
    .named(|| format!("mknodat({}, {kind:?}, {rdev:?})", show(name)))
}

/// Changes the owner of a name, of a link itself; or records it where owners are kept ([`super::owners`]).
pub fn lchown(dir: impl AsFd, name: &[u8], uid: u32, gid: u32) -> SysResult<()> {
    let dir = dir.as_fd();
    if super::owners::are_kept() {
        return super::owners::record_name(dir, name, (uid, gid));
    }
    rfs::chownat(
        dir,
        name,
        Some(rfs::Uid::from_raw(uid)),
        Some(rfs::Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .named(|| format!("fchownat({}, {uid}, {gid})", show(name)))
}

/// `fchmod` of an open descriptor.
pub fn fchmod(fd: impl AsFd, mode: u32) -> SysResult<()> {
    let fd = fd.as_fd();
    let kind = if super::owners::is_all_kept() { fstat(fd)?.kind } else { Kind::File };
    let mode_bits = set_mode(|| proc_file(fd), kind, mode)?;
    rfs::fchmod(fd, mode_bits).named(|| format!("fchmod({}, {mode:o})", fd.as_raw_fd()))
}

/// `fchmodat`. Follows: only for names that the caller knows are no links (just made, or stat'ed by the only
/// writer of the directory).
pub fn chmod(dir: impl AsFd, name: &[u8], mode: u32) -> SysResult<()> {
    let dir = dir.as_fd();
    let kind = if super::owners::is_all_kept() { lstat(dir, name)?.kind } else { Kind::File };
    let mode_bits = set_mode(|| proc_path(dir, name), kind, mode)?;
    rfs::chmodat(dir, name, mode_bits, AtFlags::empty())
        .named(|| format!("fchmodat({}, {mode:o})", show(name)))
}

/// Changes the mode of what was opened, without access too (`O_PATH`): whatever happens to its name meanwhile.
pub fn chmod_opened(file: impl AsFd, mode: u32) -> SysResult<()> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rfs::chmod(&path, Mode::from_raw_mode(mode & 0o7777))
        .named(|| format!("chmod({path}, {mode:o})"))
}

/// Gives a name the times of now.
pub fn touch(dir: impl AsFd, name: &[u8]) -> SysResult<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: rfs::UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    rfs::utimensat(dir.as_fd(), name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .named(|| format!("utimensat({})", show(name)))
}

/// Sets the modification (and access) time of a name, of a link itself.
pub fn set_mtime(dir: impl AsFd, name: &[u8], mtime: (i64, u32)) -> SysResult<()> {
    let dir = dir.as_fd();
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rfs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .named(|| format!("utimensat({})", show(name)))
}

fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    // Most *xattr calls take no directory descriptor; through /proc/self/fd the lookup starts at ours, and the `l`
    // variants do not follow a last link.
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// The name of an open file in /proc.
fn proc_file(fd: BorrowedFd<'_>) -> Vec<u8> {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes()
}

/// Opens for reading what an `O_PATH` descriptor stands for: whatever happened to its name meanwhile, it is the same.
pub fn reopen_file(file: impl AsFd) -> SysResult<OwnedFd> {
    let name = proc_file(file.as_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rfs::openat(rfs::CWD, &name[..], flags, Mode::empty())
        .named(|| format!("open({})", String::from_utf8_lossy(&name)))
}

/// Opens the current directory of a detached mount or an `O_PATH` directory so that it can be listed.
pub fn reopen_dir(dir: impl AsFd) -> SysResult<OwnedFd> {
    open_dir(dir, b".")
}
