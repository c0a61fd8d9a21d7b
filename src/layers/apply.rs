//! Putting a layer or an archive onto a root file system. Trusts nothing.
//!
//! In: an uncompressed tar and an open root, which already shows everything below (an overlay mount or a plain
//! directory). Invariants: parents are resolved inside the root by descriptor, the last component is never followed,
//! no path pass happens later except in-root and without following; a deletion only ever removes names inside the root;
//! private attributes never come in. The result depends on the tar and the root alone: parents that the tar does not
//! mention keep their time or get time 0.
//! image-spec layer.md#applying-changesets; where it is silent: what containerd does.

pub use super::tar_read::Limits;

use super::beneath::shown;
use super::place::{Place, Places, fails};
use super::tar_read::{TarEntry, for_each};
use super::whiteout::{self, DeviceNode, Whiteout};
use super::{Entry, EntryKind, ImagePath};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::sys::fs::{self, Kind, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// What to do with device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// Make them.
    Real,
    /// Make a file that records them ([`super::PLACEHOLDER_XATTR`]).
    Placeholder,
    /// Leave them out.
    Skip,
}

/// How to apply.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// Give entries their recorded owners.
    pub owner: bool,
    /// Device nodes.
    pub devices: Devices,
    /// The tar is a layer: `.wh.` names delete. Otherwise they are an error.
    pub whiteouts: bool,
    /// The root entry of the tar (`./`) does not change the root.
    pub keep_root: bool,
    /// Owner of everything, whatever is recorded (`--chown`).
    pub override_owner: Option<(u32, u32)>,
    /// What the tar may ask for.
    pub limits: Limits,
}

impl ApplyOptions {
    /// For a layer of an image.
    pub fn layer(devices: Devices) -> Self {
        Self {
            owner: true,
            devices,
            whiteouts: true,
            keep_root: false,
            override_owner: None,
            limits: Limits::default(),
        }
    }

    /// For an archive that ADD unpacks into an existing directory.
    pub fn archive(devices: Devices) -> Self {
        Self { whiteouts: false, keep_root: true, ..Self::layer(devices) }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedStats {
    /// Entries made or updated.
    pub entries: u64,
    /// Bytes of file bodies.
    pub bytes: u64,
    /// Whiteouts, opaque ones included.
    pub whiteouts: u64,
    /// Device nodes left out.
    pub skipped_devices: u64,
    /// Files made that record device nodes, where commands see them.
    pub placeholders: u64,
}

/// True below /dev, where no command sees what an image has: every one gets another /dev.
pub fn is_in_dev(path: &[u8]) -> bool {
    path.starts_with(b"dev/")
}

/// Applies an uncompressed tar.
pub fn apply(tar: impl Read, root: BorrowedFd<'_>, options: &ApplyOptions) -> Result<AppliedStats> {
    apply_below(tar, root, b"", options)
}

/// Applies a tar whose paths and hard link targets count from the directory `prefix` (relative, without links). Links on
/// the way still count from `root`.
pub fn apply_below(
    tar: impl Read,
    root: BorrowedFd<'_>,
    prefix: &[u8],
    options: &ApplyOptions,
) -> Result<AppliedStats> {
    let mut job = Apply {
        places: Places::new(root, options.owner, options.whiteouts),
        options,
        seen: HashSet::new(),
        hasher: RandomState::new(),
        late: BTreeMap::new(),
        stats: AppliedStats::default(),
    };
    for_each(tar, &options.limits, |entry, body| match prefix {
        b"" => job.entry(entry, body),
        prefix => job.entry(&moved(entry, prefix), body),
    })?;
    job.finish()
}

struct Apply<'a> {
    places: Places<'a>,
    options: &'a ApplyOptions,
    /// Hashes of all paths that this layer made: its own whiteouts do not touch them. A collision, which nobody can
    /// bring about with a random hasher, would keep one deleted file.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// Directories whose final mode and time are set at the end, when nothing is made in them any more.
    late: BTreeMap<ImagePath, (u32, (i64, u32))>,
    stats: AppliedStats,
}

fn moved(entry: &TarEntry, prefix: &[u8]) -> TarEntry {
    let mut entry = entry.clone();
    let below = |path: &mut ImagePath| {
        if !path.is_empty() {
            *path = [prefix, path].join(&b'/');
        }
    };
    below(&mut entry.path);
    if let EntryKind::Hardlink { target } = &mut entry.entry.kind {
        below(target);
    }
    entry
}

impl Apply<'_> {
    fn entry(&mut self, entry: &TarEntry, body: &mut dyn Read) -> Result<()> {
        if let Some(mark) = &entry.whiteout {
            if !self.options.whiteouts {
                let what = shown(&entry.original);
                return Err(Error::context(format!("archive entry {what} cannot be unpacked"))
                    .cause(whiteout::RESERVED_NAMES));
            }
            return self.whiteout(&entry.path, mark);
        }
        self.remember(&entry.path);
        self.stats.entries += 1;
        if entry.path.is_empty() {
            return self.root_entry(entry);
        }
        let place = self.places.of(&entry.path)?;
        let made = self.make(&entry.path, &entry.entry, &place, body)?;
        if let Made::Yes { fresh } = made {
            self.finish_entry(&entry.path, &entry.entry, &place, fresh)?;
        }
        Ok(())
    }

    fn root_entry(&mut self, entry: &TarEntry) -> Result<()> {
        if self.options.keep_root {
            return Ok(());
        }
        if entry.entry.kind != EntryKind::Directory {
            return Err(Error::integrity("the archive replaces the root by something else"));
        }
        let place = self.places.root()?;
        self.finish_entry(b"", &entry.entry, &place, false)
    }

    /// Makes or replaces the thing itself, with safe permissions; metadata follows.
    fn make(
        &mut self,
        path: &[u8],
        entry: &Entry,
        place: &Place,
        body: &mut dyn Read,
    ) -> Result<Made> {
        let (dir, name) = (place.dir.as_fd(), &place.name[..]);
        let old = fs::lstat_opt(dir, name).map_err(|e| fails(path, e))?;
        if entry.kind == EntryKind::Directory && old.as_ref().is_some_and(Stat::is_dir) {
            return Ok(Made::Yes { fresh: false });
        }
        if let EntryKind::Hardlink { target } = &entry.kind {
            return self.hard_link(path, target, place, old);
        }
        if old.is_some() {
            self.remove(path, place)?;
        }
        let node = |kind, rdev| {
            fs::mknod(dir, name, kind, 0o600, rdev).map_err(|error| device_error(path, kind, error))
        };
        match &entry.kind {
            EntryKind::Directory => fs::mkdir(dir, name, 0o700).map_err(|e| fails(path, e))?,
            EntryKind::File { .. } => self.file(path, place, body)?,
            EntryKind::Symlink { target } => {
                fs::symlink(target, dir, name).map_err(|e| fails(path, e))?;
            }
            EntryKind::Fifo => node(Kind::Fifo, (0, 0))?,
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                return Err(Error::integrity(format!("archive entry {} is refused", shown(path)))
                    .cause("the character device 0:0 is overlayfs's mark of a deletion"));
            }
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }
                if self.options.devices == Devices::Skip =>
            {
                self.stats.skipped_devices += 1;
                return Ok(Made::No);
            }
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                let block = matches!(entry.kind, EntryKind::BlockDevice { .. });
                if self.options.devices == Devices::Real {
                    let kind = if block { Kind::BlockDevice } else { Kind::CharDevice };
                    node(kind, (*major, *minor))?;
                } else {
                    let mode = entry.mode & 0o7777;
                    let node = DeviceNode { block, major: *major, minor: *minor, mode };
                    whiteout::make_placeholder(dir, name, node).map_err(|e| fails(path, e))?;
                    self.stats.placeholders += u64::from(!is_in_dev(path));
                }
            }
            EntryKind::Hardlink { .. } => {}
        }
        Ok(Made::Yes { fresh: true })
    }

    fn file(&mut self, path: &[u8], place: &Place, body: &mut dyn Read) -> Result<()> {
        let file = fs::create_new(&place.dir, &place.name, 0o600).map_err(|e| fails(path, e))?;
        let bytes = copy_body(body, file)
            .or_error(ErrorKind::Environment, || format!("cannot unpack {}", shown(path)))?;
        self.stats.bytes += bytes;
        Ok(())
    }

    fn hard_link(
        &mut self,
        path: &[u8],
        target: &[u8],
        place: &Place,
        old: Option<Stat>,
    ) -> Result<Made> {
        let missing = || {
            Error::integrity(format!("archive entry {} is damaged", shown(path)))
                .cause(format!("it links to {}, which is not there", shown(target)))
        };
        let from = self.places.existing(target)?.ok_or_else(missing)?;
        let stat = fs::lstat_opt(&from.dir, &from.name).map_err(|e| fails(path, e))?;
        let stat = stat.ok_or_else(missing)?;
        if stat.is_dir() {
            return Err(Error::integrity(format!("archive entry {} is damaged", shown(path)))
                .cause(format!("it links to {}, a directory", shown(target))));
        }
        if let Some(old) = old {
            if (old.dev, old.ino) == (stat.dev, stat.ino) {
                // Removing the old name could remove the target.
                return Ok(Made::No);
            }
            self.remove(path, place)?;
        }
        fs::link(&from.dir, &from.name, &place.dir, &place.name).map_err(|e| fails(path, e))?;
        Ok(Made::No)
    }

    /// Owner, permissions, attributes and time, in the order in which they do not undo each other.
    fn finish_entry(
        &mut self,
        path: &[u8],
        entry: &Entry,
        place: &Place,
        fresh: bool,
    ) -> Result<()> {
        let (dir, name) = (place.dir.as_fd(), &place.name[..]);
        let owner = self.options.owner.then_some((entry.uid, entry.gid));
        if let Some((uid, gid)) = self.options.override_owner.or(owner) {
            fs::lchown(dir, name, uid, gid)
                .map_err(|error| owner_error(path, (uid, gid), error))?;
        }
        let device =
            matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. });
        let placeholder = device && self.options.devices == Devices::Placeholder;
        let directory = entry.kind == EntryKind::Directory;
        let link = matches!(entry.kind, EntryKind::Symlink { .. });
        if !link && !placeholder {
            // A directory stays usable for its content until the end.
            let mode = entry.mode | if directory { 0o700 } else { 0 };
            fs::chmod(dir, name, mode).map_err(|e| fails(path, e))?;
        }
        attributes(path, entry, place, fresh, placeholder)?;
        if directory {
            self.late.insert(path.to_vec(), (entry.mode, entry.mtime));
            return Ok(());
        }
        fs::set_mtime(dir, name, entry.mtime).map_err(|e| fails(path, e))
    }

    fn remove(&mut self, path: &[u8], place: &Place) -> Result<()> {
        self.places.forget();
        self.late.remove(path);
        // Nothing below it is there any more, and what replaces it may lead elsewhere.
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<ImagePath> = self.late.range(first..end).map(|(p, _)| p.clone()).collect();
        for path in below {
            self.late.remove(&path);
        }
        fs::remove_tree(&place.dir, &place.name).map_err(|e| fails(path, e))
    }

    fn whiteout(&mut self, path: &[u8], mark: &Whiteout) -> Result<()> {
        let at = path.iter().rposition(|b| *b == b'/');
        let parent = at.map_or(&b""[..], |at| &path[..at]);
        match mark {
            Whiteout::Reserved => return Ok(()),
            Whiteout::Opaque => {
                self.places.forget();
                self.empty(parent)?;
            }
            Whiteout::Remove(name) => {
                let hidden =
                    if at.is_some() { [parent, b"/", name].concat() } else { name.clone() };
                self.places.forget();
                self.hide(&hidden)?;
            }
        }
        self.stats.whiteouts += 1;
        Ok(())
    }

    /// Removes what the layers below have at `path`.
    fn hide(&mut self, path: &[u8]) -> Result<()> {
        let Some(place) = self.places.existing(path)? else { return Ok(()) };
        if !self.seen.contains(&self.hasher.hash_one(path)) {
            return fs::remove_tree(&place.dir, &place.name).map_err(|e| fails(path, e));
        }
        let stat = fs::lstat_opt(&place.dir, &place.name).map_err(|e| fails(path, e))?;
        if stat.is_some_and(|stat| stat.is_dir()) {
            return self.empty(path);
        }
        Ok(())
    }

    /// Removes what the layers below have in the directory `path`.
    fn empty(&mut self, path: &[u8]) -> Result<()> {
        let Some(dir) = self.places.directory(path)? else { return Ok(()) };
        let names = fs::list(&dir).map_err(|e| fails(path, e))?;
        drop(dir);
        for name in names {
            let child = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            self.hide(&child)?;
        }
        Ok(())
    }

    /// Notes a path and its parents as made by this layer.
    fn remember(&mut self, path: &[u8]) {
        if !self.options.whiteouts {
            return;
        }
        let mut path = path;
        while self.seen.insert(self.hasher.hash_one(path)) {
            match path.iter().rposition(|b| *b == b'/') {
                Some(at) => path = &path[..at],
                None => return,
            }
        }
    }

    /// Modes and times of directories, deepest first: setting one changes no other.
    fn finish(mut self) -> Result<AppliedStats> {
        // First: what this layer has an entry for may be among them, under the name of a link.
        self.places.restore_times()?;
        for (path, (mode, mtime)) in std::mem::take(&mut self.late).into_iter().rev() {
            self.finish_directory(&path, mode, mtime)?;
        }
        Ok(self.stats)
    }

    fn finish_directory(&mut self, path: &[u8], mode: u32, mtime: (i64, u32)) -> Result<()> {
        let place = match path {
            b"" => Some(self.places.root()?),
            path => self.places.existing(path)?,
        };
        let Some(place) = place else { return Ok(()) };
        let stat = fs::lstat_opt(&place.dir, &place.name).map_err(|e| fails(path, e))?;
        // A later whiteout or entry may have taken it away.
        let Some(stat) = stat.filter(Stat::is_dir) else { return Ok(()) };
        if stat.mode != mode {
            fs::chmod(&place.dir, &place.name, mode).map_err(|e| fails(path, e))?;
        }
        fs::set_mtime(&place.dir, &place.name, mtime).map_err(|e| fails(path, e))
    }
}

/// What [`Apply::make`] did.
enum Made {
    /// A thing that still needs its metadata.
    Yes { fresh: bool },
    /// Nothing, or a hard link, whose metadata belongs to its target.
    No,
}

/// Extended attributes, exactly those of the entry. A placeholder keeps its own.
fn attributes(
    path: &[u8],
    entry: &Entry,
    place: &Place,
    fresh: bool,
    placeholder: bool,
) -> Result<()> {
    let (dir, name) = (place.dir.as_fd(), &place.name[..]);
    if matches!(entry.kind, EntryKind::Symlink { .. }) {
        return Ok(());
    }
    // What an older layer or an inherited ACL left behind and the entry does not say must go.
    if !placeholder && (!fresh || place.default_acl) {
        let old = fs::list_xattrs(dir, name).map_err(|e| fails(path, e))?;
        for (key, _) in old {
            let stays = entry.xattrs.iter().any(|(wanted, _)| *wanted == key)
                || whiteout::is_private_xattr(&key);
            if !stays {
                fs::remove_xattr(dir, name, &key).map_err(|e| fails(path, e))?;
            }
        }
    }
    for (key, value) in &entry.xattrs {
        fs::set_xattr(dir, name, key, value).map_err(|error| {
            let key = shown(key);
            fails(path, error)
                .wrap(format!("cannot set the extended attribute {key}"))
                .with_kind(ErrorKind::Environment)
                .hint("the file system of the store must support it, and this process must be root in its user namespace")
        })?;
    }
    Ok(())
}

/// Copies a body; long runs of zeros become holes, so that a file of nothing needs no disk.
fn copy_body(body: &mut dyn Read, mut file: std::fs::File) -> std::io::Result<u64> {
    let mut buffer = vec![0_u8; 64 * 1024];
    let (mut total, mut hole) = (0_u64, 0_u64);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match body.read(&mut buffer[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        let chunk = &buffer[..filled];
        total += filled as u64;
        if filled == buffer.len() && chunk.iter().all(|b| *b == 0) {
            hole += filled as u64;
            continue;
        }
        if chunk.is_empty() {
            if hole > 0 {
                file.set_len(total)?;
            }
            return Ok(total);
        }
        if hole > 0 {
            file.seek(SeekFrom::Current(hole as i64))?;
            hole = 0;
        }
        file.write_all(chunk)?;
        if filled < buffer.len() {
            return Ok(total);
        }
    }
}

fn device_error(path: &[u8], kind: Kind, error: crate::sys::SysError) -> Error {
    let denied = error.errno == Errno::PERM && kind != Kind::Fifo;
    let shown = fails(path, error);
    if denied {
        return shown
            .hint("device nodes can only be made by real root; this container does not allow it");
    }
    shown
}

fn owner_error(path: &[u8], owner: (u32, u32), error: crate::sys::SysError) -> Error {
    let (uid, gid) = owner;
    let unmapped = error.errno == Errno::INVAL;
    let shown = fails(path, error);
    if unmapped {
        return shown.hint(format!(
            "owner {uid}:{gid} is outside the id range of this user namespace; give the user more ids in /etc/subuid and /etc/subgid"
        ));
    }
    shown
}
