//! Owners where one user id has to stand for all: they are recorded beside the files instead of being set.
//!
//! A user namespace with a single id can give no file to anybody else. After [`keep`] this process records owners: of
//! regular files and directories in the extended attribute [`XATTR`], which goes where the file goes (renames, links,
//! overlayfs's copies); of links, FIFOs and sockets, which can have no such attribute, in a table by inode number and
//! birth time. A file without a record belongs to whom the kernel says: root.
//!
//! The mode belongs to the process, as its user namespace does: it is entered once, before there are threads, and then
//! holds for every tree that the process touches. The table is kept in memory; [`recorded`] and [`learn`] carry it to and
//! from the disk.

use super::fs::{Kind, Stat, xattrat};
use super::{Named, SysResult};
use rustix::fs::{self as rfs, AtFlags, StatxFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Extended attribute with the owner of a file or directory: `uid:gid`.
pub const XATTR: &str = "user.nativebuild.owner";

/// User and group.
pub type Owner = (u32, u32);

/// What tells an inode from every other one of its file system, earlier ones with the same number included.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Identity {
    /// Inode number.
    pub ino: u64,
    /// Birth time in seconds and nanoseconds; zero where the file system knows none.
    pub born: (i64, u32),
}

#[derive(Debug, Default)]
struct Table {
    owners: HashMap<Identity, Owner>,
    /// What was recorded by this process.
    own: HashSet<Identity>,
}

static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();

/// From now on owners are recorded.
pub fn keep() {
    TABLE.get_or_init(Mutex::default);
}

/// From now on owners are recorded, and so is every mode that would keep this process itself out, and every attribute
/// that it may not set: for a process that is root nowhere.
pub fn keep_all() {
    keep();
    ALL.store(true, Ordering::Relaxed);
}

static ALL: AtomicBool = AtomicBool::new(false);

/// True after [`keep_all`].
pub fn is_all_kept() -> bool {
    ALL.load(Ordering::Relaxed)
}

/// Extended attribute with the permission bits of a file or directory, in octal, where they are not the real ones.
pub const MODE_XATTR: &str = "user.nativebuild.mode";

/// What stands before the name of an attribute that this process may not set.
pub const ATTRIBUTE_PREFIX: &[u8] = b"user.nativebuild.attribute.";

/// The mode that a file or directory is really given, and whether the wanted one is recorded beside it.
pub fn real_mode(kind: Kind, mode: u32) -> (u32, bool) {
    let needed = match kind {
        Kind::Directory => 0o700,
        Kind::File => 0o600,
        _ => 0,
    };
    // The kernel may drop these two without a word.
    let lost = mode & 0o6000;
    ((mode | needed) & !lost, mode & needed != needed || lost != 0)
}

/// Records a mode at a path that is no link (one of /proc/self/fd may be), or forgets an earlier one.
pub fn record_mode(path: &[u8], mode: Option<u32>) -> SysResult<()> {
    match mode {
        Some(mode) => {
            let value = format!("{mode:o}");
            rfs::setxattr(path, MODE_XATTR, value.as_bytes(), XattrFlags::empty())
                .named(|| format!("setxattr({MODE_XATTR}, {value})"))
        }
        None => forget(rfs::removexattr(path, MODE_XATTR)),
    }
}

/// The recorded mode at such a path.
pub fn recorded_mode(path: &[u8]) -> Option<u32> {
    let mut value = [0_u8; 8];
    let length = rfs::getxattr(path, MODE_XATTR, &mut value[..]).ok()?;
    let mode = u32::from_str_radix(std::str::from_utf8(&value[..length]).ok()?, 8).ok()?;
    (mode <= 0o7777).then_some(mode)
}

/// True after [`keep`].
pub fn are_kept() -> bool {
    TABLE.get().is_some()
}

fn with<T>(what: impl FnOnce(&mut Table) -> T) -> Option<T> {
    TABLE.get().map(|table| what(&mut table.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Adds what an earlier process recorded.
pub fn learn(records: impl IntoIterator<Item = (Identity, Owner)>) {
    with(|table| table.owners.extend(records));
}

/// What this process recorded in its table, for the disk. All of it: who writes it need not know which tree it is of.
pub fn recorded() -> Vec<(Identity, Owner)> {
    let list = |table: &mut Table| {
        let own = table.own.iter();
        own.filter_map(|id| Some((*id, *table.owners.get(id)?))).collect()
    };
    with(list).unwrap_or_default()
}

/// True when something has a record in the table.
pub fn has_table() -> bool {
    with(|table| table.owners.is_empty()) == Some(false)
}

/// True for an inode with a record in the table.
pub fn is_recorded(id: Identity) -> bool {
    with(|table| table.owners.contains_key(&id)) == Some(true)
}

/// Whether files of this kind can have the attribute.
fn has_attributes(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Directory)
}

/// Path by which a file that was opened without access can be reached by calls that take only paths.
fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The record of an open file (`O_PATH` is enough); `None` when there is none.
pub fn of_file(file: impl AsFd, kind: Kind) -> SysResult<Option<Owner>> {
    let file = file.as_fd();
    if has_attributes(kind) {
        return read(|value| rfs::getxattr(path_of(file), XATTR, value));
    }
    if !has_table() {
        return Ok(None);
    }
    Ok(identity(file, b"")?.and_then(|id| with(|table| table.owners.get(&id).copied()).flatten()))
}

/// The owner of a name whose `lstat` is `stat`: as recorded, else as the kernel says.
pub fn of_name(dir: impl AsFd, name: &[u8], stat: &Stat) -> SysResult<Owner> {
    let kernels = (stat.uid, stat.gid);
    if !are_kept() {
        return Ok(kernels);
    }
    // Without a user namespace the kernel does not call us root.
    let kernels = if is_all_kept() { (0, 0) } else { kernels };
    let dir = dir.as_fd();
    let recorded = if has_attributes(stat.kind) {
        read(|value| xattrat::get(dir, name, XATTR.as_bytes(), value))?
    } else if has_table() {
        let id = identity(dir, name)?;
        id.and_then(|id| with(|table| table.owners.get(&id).copied()).flatten())
    } else {
        None
    };
    Ok(recorded.unwrap_or(kernels))
}

/// Records the owner of an open file (`O_PATH` is enough). Root's needs no record.
pub fn record(file: impl AsFd, kind: Kind, owner: Owner) -> SysResult<()> {
    let file = file.as_fd();
    if !has_attributes(kind) {
        note(identity(file, b"")?, owner);
        return Ok(());
    }
    let path = path_of(file);
    if owner == (0, 0) {
        return forget(rfs::removexattr(&path, XATTR));
    }
    let value = format!("{}:{}", owner.0, owner.1);
    rfs::setxattr(&path, XATTR, value.as_bytes(), XattrFlags::empty())
        .named(|| format!("setxattr({XATTR}, {value})"))
}

/// Records the owner of a name (of a link itself).
pub fn record_name(dir: impl AsFd, name: &[u8], owner: Owner) -> SysResult<()> {
    let dir = dir.as_fd();
    let stat = super::fs::lstat(dir, name)?;
    if !has_attributes(stat.kind) {
        note(identity(dir, name)?, owner);
        return Ok(());
    }
    let path = [path_of(dir).as_bytes(), b"/", name].concat();
    if owner == (0, 0) {
        return forget(rfs::lremovexattr(&path[..], XATTR));
    }
    let value = format!("{}:{}", owner.0, owner.1);
    rfs::lsetxattr(&path[..], XATTR, value.as_bytes(), XattrFlags::empty())
        .named(|| format!("lsetxattr({}, {XATTR}, {value})", String::from_utf8_lossy(name)))
}

/// Whether owners can be set, or recorded, where this file is. It has an owner by then.
pub fn can_record(file: impl AsFd) -> SysResult<bool> {
    if !are_kept() {
        return Ok(true);
    }
    match record(file, Kind::File, (1, 1)) {
        Ok(()) => Ok(true),
        Err(error) if error.errno == Errno::OPNOTSUPP => Ok(false),
        Err(error) => Err(error),
    }
}

fn forget(removed: Result<(), Errno>) -> SysResult<()> {
    match removed {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        other => other.named(|| format!("removexattr({XATTR})")),
    }
}

fn note(id: Option<Identity>, owner: Owner) {
    let Some(id) = id else { return };
    with(|table| {
        if owner == (0, 0) {
            table.owners.remove(&id);
        } else {
            table.owners.insert(id, owner);
            table.own.insert(id);
        }
    });
}

/// Identity of a name, or with an empty one of the open file itself.
fn identity(dir: BorrowedFd<'_>, name: &[u8]) -> SysResult<Option<Identity>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW
        | if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let mask = StatxFlags::INO | StatxFlags::BTIME;
    match rfs::statx(dir, name, flags, mask) {
        Ok(stat) => {
            let knows = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
            let born = if knows { (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { (0, 0) };
            Ok(Some(Identity { ino: stat.stx_ino, born }))
        }
        // QUIRK(kernel 4.10): no statx; no user namespace of a kernel this old can have overlays anyway.
        Err(Errno::NOSYS) => Ok(None),
        Err(errno) => Err(errno).named(|| "statx(STATX_BTIME)".to_owned()),
    }
}

/// Identity of an open file.
pub fn identity_of(file: impl AsFd) -> SysResult<Option<Identity>> {
    identity(file.as_fd(), b"")
}

fn read(get: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> SysResult<Option<Owner>> {
    let mut value = [0_u8; 32];
    match get(&mut value) {
        Ok(len) => Ok(parse(&value[..len])),
        // Of somebody else's making when it is longer than any of ours.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(errno) => Err(errno).named(|| format!("getxattr({XATTR})")),
    }
}

/// Reads a value of [`XATTR`]; `None` for anything that we would not have written.
pub fn parse(value: &[u8]) -> Option<Owner> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    let owner = (uid.parse().ok()?, gid.parse().ok()?);
    (format!("{}:{}", owner.0, owner.1).as_bytes() == value).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_and_forgeries_do_not() {
        assert_eq!(parse(b"33:4294967294"), Some((33, 4_294_967_294)));
        for bad in ["", ":", "1", "1:", "01:2", "+1:2", "1:2:", "1:2 ", "4294967296:0", "-1:0"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn inodes_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = super::super::fs::open_dir_path(dir.path()).unwrap();
        for name in ["a", "b"] {
            std::os::unix::fs::symlink("x", dir.path().join(name)).unwrap();
        }
        let of = |name: &[u8]| identity(root.as_fd(), name).unwrap().unwrap();
        assert_eq!(of(b"a"), of(b"a"));
        assert_ne!(of(b"a"), of(b"b"));
    }
}
