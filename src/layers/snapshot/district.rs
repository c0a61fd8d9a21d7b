//! Where on the disk the snapshots of one process lie.
//!
//! ext4 makes a directory near the one that it is made in, so that all snapshots of a store would crowd together. With
//! several builds at once each looks for free inodes where the others remove theirs, which it has to pass over for a
//! minute. Directories in one with the attribute T are spread over the disk: each process takes one such *district* for
//! itself, makes its snapshots in it and moves them out at once. They stay near each other and away from those of others.

use super::{open_or_make, random_id, whole};
use crate::sys::{SysResult, fs};
use rustix::fs::IFlags;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Directory of all districts.
const DISTRICTS: &[u8] = b"districts";
/// How often one that was just made may be taken by somebody else.
const TRIES: usize = 8;

/// A district of this process alone, as long as it has the descriptor. `None` where the file system knows no such thing,
/// or refuses it.
pub(super) fn take(snapshots: BorrowedFd<'_>) -> Option<OwnedFd> {
    let districts = open_or_make(snapshots, DISTRICTS).ok()?;
    if !is_spread(&districts) {
        // Fails where somebody else has districts in it.
        let _useless = fs::rmdir(snapshots, DISTRICTS);
        return None;
    }
    let free = |name: &[u8]| fs::open_dir(&districts, name).ok().filter(|it| whole::lock(it, true));
    // One that another process had first, so that there are never more than there were processes at one time.
    if let Some(district) = fs::list(&districts).ok()?.iter().find_map(|name| free(name)) {
        clear(&district);
        return Some(district);
    }
    (0..TRIES).find_map(|_| {
        let name = random_id();
        fs::mkdir(&districts, name.as_bytes(), 0o700).ok()?;
        free(name.as_bytes())
    })
}

/// Removes what a process left that was killed before it moved a snapshot out.
fn clear(district: &OwnedFd) {
    for name in fs::list(district).unwrap_or_default() {
        let _stays = fs::rmdir(district, &name);
    }
}

/// Whether the directories in this one are spread over the disk, or are now.
fn is_spread(districts: &OwnedFd) -> bool {
    rustix::fs::ioctl_getflags(districts).is_ok_and(|flags| {
        flags.contains(IFlags::TOPDIR)
            || rustix::fs::ioctl_setflags(districts, flags | IFlags::TOPDIR).is_ok()
    })
}

/// Makes the directory `id` in `snapshots`, by way of the district where there is one.
pub(super) fn make(
    snapshots: &OwnedFd,
    district: Option<&OwnedFd>,
    id: &[u8],
) -> SysResult<OwnedFd> {
    let moved = district.is_some_and(|district| {
        fs::mkdir(district, id, 0o700).is_ok()
            && (fs::rename(district, id, snapshots, id).is_ok() || {
                let _stays = fs::rmdir(district, id);
                false
            })
    });
    if !moved {
        fs::mkdir(snapshots, id, 0o700)?;
    }
    fs::open_dir(snapshots, id)
}
