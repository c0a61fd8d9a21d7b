//! Making the thing itself that an entry is for.

use super::apart::uncover;
use super::crew::NewFile;
use super::{Apply, Devices, is_in_dev};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::layers::beneath::shown;
use crate::layers::body::fill;
use crate::layers::place::{Place, fails};
use crate::layers::whiteout::{self, DeviceNode};
use crate::layers::{Entry, EntryKind};
use crate::sys::fs::{self, Kind, Stat};
use rustix::io::Errno;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

/// Bytes that are copied at once.
pub(super) const BUFFER: usize = 64 << 10;

/// What [`Apply::make`] did.
pub(super) enum Made {
    /// A thing that still needs its metadata.
    Yes { fresh: bool },
    /// Nothing, or what somebody else makes, or a hard link, whose metadata belongs to its target.
    No,
}

impl Apply<'_> {
    /// Makes or replaces the thing itself, with safe permissions; metadata follows.
    pub(super) fn make(
        &mut self,
        path: &[u8],
        entry: &Entry,
        place: &Place,
        body: &mut dyn Read,
    ) -> Result<Made> {
        let (dir, name) = (place.dir.as_fd(), &place.name[..]);
        let mut old = fs::lstat_opt(dir, name).map_err(|e| fails(path, e))?;
        if entry.kind == EntryKind::Directory && old.as_ref().is_some_and(Stat::is_dir) {
            // What it gives to new files is not for those that came before it.
            self.crew.settle()?;
            return Ok(Made::Yes { fresh: false });
        }
        let mut closed = None;
        if let (Some(flavour), Some(found)) = (self.options.apart, &old) {
            uncover(path, place, found)?;
            // A directory has to hide what the mark hid.
            (old, closed) = (None, Some(flavour));
        }
        if let EntryKind::Hardlink { target } = &entry.kind {
            return self.hard_link(path, target, place, old);
        }
        if old.is_some() {
            self.remove(path, place)?;
        }
        match &entry.kind {
            EntryKind::Directory => {
                fs::mkdir(dir, name, 0o700).map_err(|e| fails(path, e))?;
                if let Some(flavour) = closed {
                    whiteout::make_opaque(dir, name, flavour).map_err(|e| fails(path, e))?;
                }
            }
            EntryKind::File { size } if self.crew.takes(*size) => {
                self.hand_over(path, entry, place, body)?;
                return Ok(Made::No);
            }
            EntryKind::File { .. } => {
                self.stats.bytes += make_file(path, place, body, &mut self.buffer)?;
            }
            EntryKind::Symlink { target } => {
                fs::symlink(target, dir, name).map_err(|e| fails(path, e))?;
            }
            EntryKind::Fifo => node(path, place, Kind::Fifo, (0, 0))?,
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                return Err(Error::integrity(format!("archive entry {} is refused", shown(path)))
                    .cause("the character device 0:0 is overlayfs's mark of a deletion"));
            }
            EntryKind::CharDevice { major, minor } => {
                return self.device(path, entry, place, (Kind::CharDevice, *major, *minor));
            }
            EntryKind::BlockDevice { major, minor } => {
                return self.device(path, entry, place, (Kind::BlockDevice, *major, *minor));
            }
            EntryKind::Hardlink { .. } => {}
        }
        Ok(Made::Yes { fresh: true })
    }

    fn device(
        &mut self,
        path: &[u8],
        entry: &Entry,
        place: &Place,
        (kind, major, minor): (Kind, u32, u32),
    ) -> Result<Made> {
        match self.options.devices {
            Devices::Skip => {
                self.stats.skipped_devices += 1;
                return Ok(Made::No);
            }
            Devices::Real => node(path, place, kind, (major, minor))?,
            Devices::Placeholder => {
                let (block, mode) = (kind == Kind::BlockDevice, entry.mode & 0o7777);
                let device = DeviceNode { block, major, minor, mode };
                whiteout::make_placeholder(place.dir.as_fd(), &place.name, device)
                    .map_err(|e| fails(path, e))?;
                self.stats.placeholders += u64::from(!is_in_dev(path));
            }
        }
        Ok(Made::Yes { fresh: true })
    }

    /// Lets somebody else make a file and all that belongs to it.
    fn hand_over(
        &mut self,
        path: &[u8],
        entry: &Entry,
        place: &Place,
        from: &mut dyn Read,
    ) -> Result<()> {
        let mut body = Vec::new();
        from.read_to_end(&mut body)
            .or_error(ErrorKind::Environment, || format!("cannot unpack {}", shown(path)))?;
        self.stats.bytes += body.len() as u64;
        let (path, place, entry) = (path.to_vec(), place.clone(), entry.clone());
        self.crew.give(NewFile { path, place, entry, body }, &mut self.buffer)
    }

    fn hard_link(
        &mut self,
        path: &[u8],
        target: &[u8],
        place: &Place,
        old: Option<Stat>,
    ) -> Result<Made> {
        self.crew.settle()?;
        let (mut from, stat) = self.link_target(path, target)?;
        if let Some(old) = old {
            if (old.dev, old.ino) == (stat.dev, stat.ino) {
                // Removing the old name could remove the target.
                return Ok(Made::No);
            }
            self.remove(path, place)?;
            // It may have been on the way to the target, as a directory or as a link.
            from = self.link_target(path, target)?.0;
        }
        fs::link(&from.dir, &from.name, &place.dir, &place.name).map_err(|e| fails(path, e))?;
        Ok(Made::No)
    }

    /// Where a hard link leads, and what is there.
    fn link_target(&mut self, path: &[u8], target: &[u8]) -> Result<(Place, Stat)> {
        let bad = |what: &str| {
            Error::integrity(format!("archive entry {} is damaged", shown(path)))
                .cause(format!("it links to {}, {what}", shown(target)))
        };
        let missing = || bad("which is not there");
        let from = self.places.existing(target)?.ok_or_else(missing)?;
        let stat = fs::lstat_opt(&from.dir, &from.name).map_err(|e| fails(path, e))?;
        let stat = stat.ok_or_else(missing)?;
        if self.options.apart.is_some() && whiteout::is_whiteout_node(&stat) {
            return Err(missing());
        }
        if stat.is_dir() {
            return Err(bad("a directory"));
        }
        Ok((from, stat))
    }
}

/// Makes a file that only its owner may read, through a buffer; how many bytes it has.
pub(super) fn make_file(
    path: &[u8],
    place: &Place,
    body: &mut dyn Read,
    buffer: &mut [u8],
) -> Result<u64> {
    let file = fs::create_new(&place.dir, &place.name, 0o600).map_err(|e| fails(path, e))?;
    copy_body(body, file, buffer)
        .or_error(ErrorKind::Environment, || format!("cannot unpack {}", shown(path)))
}

/// Copies a body; long runs of zeros become holes, so that a file of nothing needs no disk.
fn copy_body(
    body: &mut dyn Read,
    mut file: std::fs::File,
    buffer: &mut [u8],
) -> std::io::Result<u64> {
    let (mut total, mut hole) = (0_u64, 0_u64);
    loop {
        let filled = fill(body, buffer)?;
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

fn node(path: &[u8], place: &Place, kind: Kind, rdev: (u32, u32)) -> Result<()> {
    fs::mknod(&place.dir, &place.name, kind, 0o600, rdev)
        .map_err(|error| device_error(path, kind, error))
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
