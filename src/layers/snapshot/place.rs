//! Where on the disk the snapshots of one process lie.
//!
//! ext4 makes a directory near the one that it is made in, so that all snapshots of a store would crowd together. With
//! several builds at once each looks for free inodes where the others remove theirs, which it has to pass over for a
//! minute. Directories in one with the attribute T are spread over the disk: each process takes one such *place* for
//! itself, makes its snapshots in it and moves them out at once. They stay near each other and away from those of others.

use super::{open_or_make, random_id, whole};
use crate::sys::fs;
use rustix::fs::IFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directory of all places.
const PLACES: &[u8] = b"places";

/// A place of this process alone, as long as it has the descriptor. `None` where the file system knows no such thing, or
/// refuses it.
pub(super) fn take(snapshots: BorrowedFd<'_>) -> Option<OwnedFd> {
    let places = open_or_make(snapshots, PLACES).ok()?;
    if !is_spread(&places) {
        // Fails where somebody else has places in it.
        let _useless = fs::rmdir(snapshots, PLACES);
        return None;
    }
    // What another process had is as good as a new one, and so there are no more than processes at one time.
    let free = |name: &[u8]| fs::open_dir(&places, name).ok().filter(|it| whole::lock(it, true));
    if let Some(place) = fs::list(&places).ok()?.iter().find_map(|name| free(name)) {
        return Some(place);
    }
    let name = random_id();
    fs::mkdir(&places, name.as_bytes(), 0o700).ok()?;
    free(name.as_bytes())
}

/// Whether the directories in this one are spread over the disk, or are now.
fn is_spread(places: &OwnedFd) -> bool {
    rustix::fs::ioctl_getflags(places).is_ok_and(|flags| {
        flags.contains(IFlags::TOPDIR)
            || rustix::fs::ioctl_setflags(places, flags | IFlags::TOPDIR).is_ok()
    })
}

/// Makes the directory `id` in `snapshots`, by way of `place` where there is one.
pub(super) fn make(
    snapshots: &OwnedFd,
    place: Option<&OwnedFd>,
    id: &[u8],
) -> crate::sys::SysResult<OwnedFd> {
    let moved = place.and_then(|place| {
        fs::mkdir(place, id, 0o700).ok()?;
        fs::rename(place, id, snapshots, id).ok()
    });
    if moved.is_none() {
        fs::mkdir(snapshots, id, 0o700)?;
    }
    fs::open_dir(snapshots.as_fd(), id)
}
