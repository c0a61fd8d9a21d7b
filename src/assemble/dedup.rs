//! What of the tree is new: a path that the base shows already, with the same type, mode, owner, size, bytes, link target
//! and attributes, is left out. A name alone says nothing (assemble-trust.md A2).

use super::tree::{Node, Tree};
use crate::error::{Error, Result};
use crate::layers::tar_stream::write_content;
use crate::layers::{EntryKind, ImagePath};
use crate::oci::Digest;
use crate::oci::digest::HashingWriter;
use crate::transfer::flatten::File;
use std::io;

/// The paths that have to be written. Without `dedup` all that were put in.
pub(super) fn changed(tree: &Tree, dedup: bool) -> Result<Vec<ImagePath>> {
    let mut found = Vec::new();
    for (path, node) in tree.files() {
        let below = tree.replaced(path).filter(|_| dedup);
        if let Some(below) = below
            && same(path, node, below)?
        {
            continue;
        }
        found.push(path.clone());
    }
    Ok(found)
}

fn same(path: &[u8], node: &Node, below: &File) -> Result<bool> {
    let (new, old) = (&node.entry, &below.entry);
    // Permission bits of a link mean nothing.
    let is_link = matches!(new.kind, EntryKind::Symlink { .. });
    let alike = new.kind == old.kind
        && (is_link || new.mode == old.mode)
        && (new.uid, new.gid) == (old.uid, old.gid)
        && new.xattrs == old.xattrs;
    if !alike || node.names.user.is_some() || node.names.group.is_some() {
        return Ok(false);
    }
    match &below.content {
        Some(digest) => Ok(digest_of(path, node)? == *digest),
        None => Ok(true),
    }
}

/// SHA-256 of a file's bytes.
pub(super) fn digest_of(path: &[u8], node: &Node) -> Result<Digest> {
    let EntryKind::File { size } = node.entry.kind else {
        return Err(Error::internal("bytes of something that has none"));
    };
    let mut hash = HashingWriter::new(io::sink());
    write_content(path, node.content(), size, &mut hash).map_err(|error| {
        error.wrap(format!("cannot compare `/{}` with the base", super::place::shown(path)))
    })?;
    Ok(hash.finish().1)
}
