//! The tar form of files that do not lie in one tree: each member says where its bytes are.
//!
//! In: members in canonical order; out: the bytes that [`super::tar_write::write_layer`] would write for the same changes.
//! Nothing is copied on the way, and memory does not depend on sizes.

pub use super::tar_write::Names;

use super::beneath::shown;
use super::tar_write::{
    ZEROS, body, check_name, copy, deletion, finish, named_header, open_body, padding, written,
};
use super::{ChangeKind, EntryKind};
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

/// Where the bytes of a regular file are.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// There are none: it is no regular file.
    None,
    /// Here.
    Bytes(&'a [u8]),
    /// In a file below this directory; no link on the way is followed.
    Beneath(BorrowedFd<'a>, &'a [u8]),
    /// In a part of a file that begins at this offset.
    Part(&'a File, u64),
}

/// One change and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Where.
    pub path: &'a [u8],
    /// What.
    pub kind: &'a ChangeKind,
    /// Names of the owners.
    pub names: Names<'a>,
    /// Bytes.
    pub content: Content<'a>,
}

/// Writes a layer. Times are the entries' own, in whole seconds.
pub fn write_members<'a>(
    members: impl IntoIterator<Item = Member<'a>>,
    out: &mut dyn Write,
) -> Result<()> {
    for member in members {
        check_name(member.path)?;
        let ChangeKind::Present(entry) = member.kind else {
            written(out.write_all(&deletion(member.path)))?;
            continue;
        };
        written(out.write_all(&named_header(member.path, entry, entry.mtime.0, member.names)?))?;
        if let EntryKind::File { size } = entry.kind {
            write_content(member.path, member.content, size, out)?;
            written(out.write_all(&ZEROS[..padding(size)]))?;
        }
    }
    finish(out)
}

/// Fails when the bytes of a file cannot be had.
pub fn can_read(path: &[u8], content: Content<'_>, size: u64) -> Result<()> {
    match content {
        Content::Beneath(root, at) => open_body(root, at, path, size).map(drop),
        _ => Ok(()),
    }
}

/// Writes the `size` bytes of a file. `path` is for messages.
pub fn write_content(
    path: &[u8],
    content: Content<'_>,
    size: u64,
    out: &mut dyn Write,
) -> Result<()> {
    match content {
        Content::Beneath(root, at) => body(root, at, size, out),
        Content::Bytes(bytes) if bytes.len() as u64 == size => written(out.write_all(bytes)),
        Content::Part(file, at) => {
            let mut file = file;
            file.seek(SeekFrom::Start(at))
                .or_error(ErrorKind::Environment, || format!("cannot read {}", shown(path)))?;
            copy(file, path, size, out)
        }
        Content::Bytes(_) | Content::None => {
            Err(Error::internal(format!("the bytes of {} are missing", shown(path))))
        }
    }
}
