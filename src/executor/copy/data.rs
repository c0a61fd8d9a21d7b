//! Copying the data of a regular file, holes as holes.
//!
//! The kernel shares or copies data only between files of one file system, or of two overlays. So a large file that
//! comes from elsewhere is made in the overlay, and filled where it really is.

use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;

use super::node::{Source, show};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::copy::Copier;
use crate::executor::copy::destination::Place;
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::{Named, SysResult, SysResultExt, root};

impl Copier<'_> {
    /// Copies a regular file's data. Gives the `stat` that goes with that data.
    pub(super) fn put_file(&self, source: &Source<'_>, place: &Place<'_>) -> Result<Stat> {
        let tree = self.request.tree;
        let unreadable = |error: &_| tree.unreadable(source.path, error);
        let from = fs::open_read(source.dir, source.name).map_err(|error| unreadable(&error))?;
        let before = fs::fstat(&from).map_err(|error| unreadable(&error))?;
        if before.kind != Kind::File {
            return Err(self.changed(source, "it is no regular file any more"));
        }
        let failed = || format!("cannot copy `{}` to `{}`", show(source.path), place.shown());
        let made = fs::create_new(place.dir, place.name, 0o600)
            .or_error(ErrorKind::Environment, failed)?;
        let to = self.in_upper(&from, &before, place).unwrap_or(made);
        let mut at = 0;
        while let Some((start, end)) =
            data_range(&from, &before, at).map_err(|error| unreadable(&error))?
        {
            if start != at {
                seek_to(&from, start)
                    .and_then(|()| seek_to(&to, start))
                    .or_error(ErrorKind::Environment, failed)?;
            }
            let copied =
                fs::copy_data(&from, &to, end - start).or_error(ErrorKind::Environment, failed)?;
            if copied < end - start {
                break;
            }
            at = end;
        }
        if at < before.size {
            // It ends with a hole.
            ftruncate(&to, before.size)
                .named(|| format!("ftruncate({})", before.size))
                .or_error(ErrorKind::Environment, failed)?;
        }
        let after = fs::fstat(&from).map_err(|error| unreadable(&error))?;
        if after.size != before.size {
            let sizes = format!("it had {} bytes and now has {}", before.size, after.size);
            return Err(self.changed(source, &sizes));
        }
        if after.mtime != before.mtime {
            return Err(self.changed(source, "somebody wrote to it"));
        }
        Ok(before)
    }

    /// The file that was just made at a place, past the overlay, where that is of use.
    fn in_upper(&self, from: &File, before: &Stat, place: &Place<'_>) -> Option<File> {
        let upper = self.request.upper?;
        if before.size <= fs::SMALL_COPY || fs::is_on_overlay(from) {
            return None;
        }
        let (parent, name) = root::split_last(place.path);
        let dir = root::open_dir_without_links(upper, parent).ok()?;
        let file = fs::open_write(&dir, name?).ok()?;
        let stat = fs::fstat(&file).ok()?;
        (stat.kind == Kind::File && stat.size == 0 && stat.nlink == 1).then_some(file)
    }

    fn changed(&self, source: &Source<'_>, how: &str) -> Error {
        let tree = self.request.tree;
        let (path, label) = (show(source.path), tree.label());
        Error::new(tree.blame(), format!("`{path}` in {label} changed while it was copied"))
            .cause(how)
            .hint("build again when nothing writes to it, or leave it out with .dockerignore")
    }
}

/// The next range of `file` from `at` on that holds data; all of it unless the file has holes.
fn data_range(file: impl AsFd, stat: &Stat, at: u64) -> SysResult<Option<(u64, u64)>> {
    let is_sparse = stat.blocks.saturating_mul(512) < stat.size;
    if at >= stat.size || !is_sparse {
        return Ok(Some((at, stat.size)).filter(|_| at < stat.size));
    }
    let start = match seek(&file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(_) => return Ok(Some((at, stat.size))),
    };
    let end = seek(&file, SeekFrom::Hole(start)).named(|| "lseek(SEEK_HOLE)".to_owned())?;
    Ok(Some((start, end.min(stat.size))).filter(|(start, end)| start < end))
}

fn seek_to(file: impl AsFd, at: u64) -> SysResult<()> {
    seek(file, SeekFrom::Start(at)).map(|_| ()).named(|| format!("lseek({at})"))
}
