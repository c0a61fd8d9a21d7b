//! The tar form of a change stream, of `layer-format 1` to 4: the same changes give the same bytes, for ever.
//!
//! In: changes in canonical order, and the root that holds the file bodies. Out: ustar headers; PAX records only where
//! a header cannot say it, keys sorted; whole-second times; no names of users and groups; two zero blocks at the end.
//! A body that is not as long as its entry says is an error: the file changed while it was read.
//! image-spec layer.md; pax of POSIX.1-2017.

mod bodies;
mod headers;

pub use super::times::TimePolicy;
pub use bodies::file_body;
pub use headers::Names;

pub(super) use bodies::{ZEROS, body, copy, open_body, padding, whole_body, zeros};
pub(super) use headers::{deletion, named_header};

use super::beneath::shown;
use super::{Change, ChangeKind, Changes, Entry, EntryKind, whiteout};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use headers::header;
use std::borrow::Borrow;
use std::io::Write;
use std::os::fd::BorrowedFd;

const BLOCK: usize = 512;

/// Writes the bytes of the file at a path, as many as its entry says.
pub type WriteBody<'a> = dyn FnMut(&[u8], u64, &mut dyn Write) -> Result<()> + 'a;

/// Writes the layer of `changes`; bodies are read below `root`, no link followed.
pub fn write_layer(
    changes: impl IntoIterator<Item: Borrow<Change>>,
    root: BorrowedFd<'_>,
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    write_stream(changes, &mut |path, size, out| body(root, path, size, out), times, out)
}

/// The same with bodies from anywhere.
pub fn write_stream(
    changes: impl IntoIterator<Item: Borrow<Change>>,
    bodies: &mut WriteBody<'_>,
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    write_members(changes, bodies, b"", times, out)?;
    finish(out)
}

/// Writes trees one after the other, each below a directory of its name: the root file systems of several platforms.
pub fn write_trees(
    trees: &[(&str, &Changes, BorrowedFd<'_>)],
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    let above = Entry {
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: (times.epoch.unwrap_or_default(), 0),
        xattrs: Vec::new(),
    };
    for (name, changes, root) in trees {
        written(out.write_all(&header(name.as_bytes(), &above, times)?))?;
        let bodies: &mut WriteBody<'_> = &mut |path, size, out| body(*root, path, size, out);
        write_members(*changes, bodies, format!("{name}/").as_bytes(), times, out)?;
    }
    finish(out)
}

pub(super) fn written(result: std::io::Result<()>) -> Result<()> {
    result.or_error(ErrorKind::Environment, || "cannot write the layer".to_owned())
}

/// The two blocks at the end of an archive.
pub(super) fn finish(out: &mut dyn Write) -> Result<()> {
    written(out.write_all(&ZEROS[..2 * BLOCK]))
}

/// Writes members whose names start with `prefix`, which is empty or ends in a slash.
fn write_members(
    changes: impl IntoIterator<Item: Borrow<Change>>,
    bodies: &mut WriteBody<'_>,
    prefix: &[u8],
    times: &TimePolicy,
    out: &mut dyn Write,
) -> Result<()> {
    let below = |path: &[u8]| [prefix, path].concat();
    for change in changes {
        let change = change.borrow();
        check_name(&change.path)?;
        match &change.kind {
            ChangeKind::Deleted => written(out.write_all(&deletion(&below(&change.path))))?,
            ChangeKind::Present(entry) => {
                let head = match &entry.kind {
                    EntryKind::Hardlink { target } if !prefix.is_empty() => {
                        let kind = EntryKind::Hardlink { target: below(target) };
                        header(&below(&change.path), &Entry { kind, ..entry.clone() }, times)?
                    }
                    _ => header(&below(&change.path), entry, times)?,
                };
                written(out.write_all(&head))?;
                if let EntryKind::File { size } = entry.kind {
                    bodies(&change.path, size, out)?;
                    written(out.write_all(&ZEROS[..padding(size)]))?;
                }
            }
        }
    }
    Ok(())
}

/// Names that mean deletions cannot be those of files.
pub(super) fn check_name(path: &[u8]) -> Result<()> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    if !whiteout::is_reserved_name(name) {
        return Ok(());
    }
    let what = shown(path);
    Err(Error::environment(format!("{what} cannot be stored in a layer"))
        .cause(whiteout::RESERVED_NAMES)
        .hint("remove or rename it in the step that makes it"))
}
