//! `file`, `symlink` and `directory`: single things that the spec itself describes.

use super::{Filler, relative};
use crate::assemble::spec::{
    DirSymlinks, DirectoryContent, FileContent, FileText, Single, SymlinkContent,
};
use crate::assemble::tree::{Body, Node, Origin};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::EntryKind;
use std::io::Read;
use std::sync::Arc;

/// Largest file that is held in memory.
const MAX_FILE: u64 = 256 << 20;

impl Filler<'_> {
    pub(super) fn file(&mut self, origin: Origin, item: &FileContent) -> Result<()> {
        let bytes = match &item.text {
            FileText::Text(text) => text.clone().into_bytes(),
            FileText::Bytes(bytes) => bytes.clone(),
            FileText::Source(path) => self
                .read_host(&path.value)
                .map_err(|error| error.at(&self.spec.source, path.span))?,
        };
        let node = self.bytes(origin, bytes, 0o644);
        self.single(&item.single, node)
    }

    pub(super) fn symlink(&mut self, origin: Origin, item: &SymlinkContent) -> Result<()> {
        let target = item.target.clone().into_bytes();
        let node = self.node(origin, EntryKind::Symlink { target }, 0o777, Body::None);
        self.single(&Single { mode: None, ..item.single.clone() }, node)
    }

    pub(super) fn directory(&mut self, origin: Origin, item: &DirectoryContent) -> Result<()> {
        let node = self.plain_dir(origin);
        let path = relative(&item.single.path.value);
        let node = owned(&item.single, node);
        // A link to a directory is that directory.
        let path = crate::assemble::place::directory(&self.tree, &path, DirSymlinks::FollowBase)?;
        super::check_names(&path)?;
        if path.is_empty() {
            return Err(Error::image("the root directory itself cannot be replaced"));
        }
        let above = self.plain_dir(origin);
        self.tree.make_parents(&path, &above);
        self.tree.put(path, node);
        Ok(())
    }

    fn single(&mut self, single: &Single, node: Node) -> Result<()> {
        let node = owned(single, node);
        self.place(&relative(&single.path.value), node, DirSymlinks::FollowBase).map(drop)
    }

    /// A file of these bytes.
    pub(super) fn bytes(&self, origin: Origin, bytes: Vec<u8>, mode: u32) -> Node {
        let kind = EntryKind::File { size: bytes.len() as u64 };
        self.node(origin, kind, mode, Body::Bytes(bytes.into()))
    }

    /// A file of this machine.
    pub(super) fn read_host(&self, path: &std::path::Path) -> Result<Vec<u8>> {
        let what = || format!("cannot read `{}`", path.display());
        let at = self.host(path);
        if std::fs::metadata(&at).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(Error::context(what()).cause("it is no regular file"));
        }
        let file = std::fs::File::open(at).or_error(ErrorKind::Context, what)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).or_error(ErrorKind::Context, what)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(Error::context(format!("`{}` is too large", path.display()))
                .hint("a `dir` or a `tar` takes files of any size"));
        }
        Ok(bytes)
    }
}

fn owned(single: &Single, mut node: Node) -> Node {
    node.entry.mode = single.mode.unwrap_or(node.entry.mode);
    node.entry.uid = single.uid.unwrap_or(node.entry.uid);
    node.entry.gid = single.gid.unwrap_or(node.entry.gid);
    if single.uid.is_some() {
        node.names.user = None::<Arc<str>>;
    }
    if single.gid.is_some() {
        node.names.group = None;
    }
    node
}
