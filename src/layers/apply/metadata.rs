//! What an entry says beside its content: owner, permissions, extended attributes, time.

use super::{AppliedStats, Apply, Devices, Late, Owners};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::beneath::shown;
use crate::layers::place::{Place, fails, unless_removed};
use crate::layers::whiteout;
use crate::layers::{Entry, EntryKind};
use crate::sys::fs::{self, Stat};
use rustix::io::Errno;
use std::os::fd::AsFd;

impl Apply<'_> {
    /// Owner, permissions, attributes and time, in the order in which they do not undo each other.
    pub(super) fn finish_entry(
        &mut self,
        path: &[u8],
        entry: &Entry,
        place: &Place,
        fresh: bool,
    ) -> Result<()> {
        let (dir, name) = (place.dir.as_fd(), &place.name[..]);
        describe(path, entry, place, (Owners::of(self.options), fresh))?;
        if entry.kind == EntryKind::Directory {
            let opened = place.behind_link.then(|| fs::open_dir(dir, name).ok()).flatten();
            let dir = opened.and_then(|opened| self.places.keep_open(&opened));
            let late = Late { mode: entry.mode, mtime: entry.mtime, dir };
            self.late.insert(path.to_vec(), late);
        }
        Ok(())
    }

    /// Modes and times of directories, deepest first: setting one changes no other.
    pub(super) fn finish(mut self) -> Result<AppliedStats> {
        // First: what this layer has an entry for may be among them, under the name of a link.
        self.places.restore_times()?;
        for (path, late) in std::mem::take(&mut self.late).into_iter().rev() {
            self.finish_directory(&path, late)?;
        }
        Ok(self.stats)
    }

    pub(super) fn finish_directory(&mut self, path: &[u8], late: Late) -> Result<()> {
        let place = match (late.dir, path) {
            (Some(dir), _) => Some(Place::itself(dir)),
            (None, b"") => Some(self.places.root()?),
            (None, path) => self.places.existing(path)?,
        };
        let Some(place) = place else { return Ok(()) };
        let stat = fs::lstat_opt(&place.dir, &place.name).map_err(|e| fails(path, e))?;
        // A later whiteout or entry may have taken it away.
        let Some(stat) = stat.filter(Stat::is_dir) else { return Ok(()) };
        self.places.forget_time((stat.dev, stat.ino));
        let Place { dir, name, .. } = &place;
        let same = stat.mode == late.mode;
        let mode = if same { Ok(()) } else { fs::chmod(dir, name, late.mode) };
        let done = mode.and_then(|()| fs::set_mtime(dir, name, late.mtime));
        unless_removed(dir, done).map_err(|e| fails(path, e))
    }
}

/// The same without what a directory gets at the end: its time and, should that take rights away, its permissions.
pub(super) fn describe(
    path: &[u8],
    entry: &Entry,
    place: &Place,
    (owners, fresh): (Owners, bool),
) -> Result<()> {
    let (dir, name) = (place.dir.as_fd(), &place.name[..]);
    let owner = owners.owner.then_some((entry.uid, entry.gid));
    if let Some((uid, gid)) = owners.override_owner.or(owner) {
        fs::lchown(dir, name, uid, gid).map_err(|error| owner_error(path, (uid, gid), error))?;
    }
    let device = matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. });
    let placeholder = device && owners.devices == Devices::Placeholder;
    let directory = entry.kind == EntryKind::Directory;
    let link = matches!(entry.kind, EntryKind::Symlink { .. });
    if !link && !placeholder {
        // A directory stays usable for its content until the end.
        let mode = entry.mode | if directory { 0o700 } else { 0 };
        fs::chmod(dir, name, mode).map_err(|e| fails(path, e))?;
    }
    attributes(path, entry, place, fresh, placeholder)?;
    if directory {
        return Ok(());
    }
    fs::set_mtime(dir, name, entry.mtime).map_err(|e| fails(path, e))
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
