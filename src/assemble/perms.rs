//! `perms`: owners, modes and attributes that are written into the layer, whatever the files on this machine have.

use super::contents::relative;
use super::place;
use super::spec::{DirSymlinks, PathPattern, Perm, Spec};
use super::tree::{Body, Node, Origin, OwnerNames, Tree, keys_below};
use crate::error::{Error, Result};
use crate::layers::{EntryKind, ImagePath};
use std::sync::Arc;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Applies all of them, in order.
pub(super) fn apply(spec: &Spec, tree: &mut Tree) -> Result<()> {
    for perm in &spec.perms {
        one(perm, tree).map_err(|error| error.at(&spec.source, perm.span))?;
    }
    Ok(())
}

fn one(perm: &Perm, tree: &mut Tree) -> Result<()> {
    let regex = perm.regex.as_ref().map(|text| PathPattern::parse(&text.value)).transpose()?;
    let at = place::directory(tree, &relative(&perm.path), DirSymlinks::FollowBase)?;
    let fits = |path: &[u8]| {
        let Some(regex) = &regex else { return true };
        regex.matches(&[b"/", path].concat())
    };
    let mut paths: Vec<ImagePath> = keys_below(tree.files(), &at);
    if !at.is_empty() {
        paths.push(at.clone());
    }
    paths.retain(|path| fits(path) && tree.files().contains_key(path));
    let bases = of_base(tree, &at, fits);
    if paths.is_empty() && bases.is_empty() {
        return Err(nothing(perm, tree, &at));
    }
    for path in bases {
        if let Some(node) = directory_of_base(tree, &path) {
            tree.files_mut().insert(path.clone(), node);
            paths.push(path);
        }
    }
    for path in paths {
        if let Some(node) = tree.files_mut().get_mut(&path) {
            change(perm, node);
        }
    }
    Ok(())
}

/// Directories that only the base has. Its files cannot be told to look different without their bytes.
fn of_base(tree: &Tree, at: &[u8], fits: impl Fn(&[u8]) -> bool) -> Vec<ImagePath> {
    let mut paths = keys_below(&tree.base().files, at);
    paths.push(at.to_vec());
    paths.retain(|path| {
        let entry = tree.base_entry(path);
        !tree.files().contains_key(path)
            && entry.is_some_and(|entry| entry.kind == EntryKind::Directory)
            && fits(path)
    });
    paths
}

fn directory_of_base(tree: &Tree, path: &[u8]) -> Option<Node> {
    let entry = tree.base_entry(path)?.clone();
    let names = OwnerNames::default();
    Some(Node { entry, names, body: Body::None, origin: Origin::Script, group: None })
}

fn nothing(perm: &Perm, tree: &Tree, at: &[u8]) -> Error {
    if tree.base_entry(at).is_some_and(|entry| entry.kind != EntryKind::Directory) {
        return Error::image(format!("`{}` is a file of the base image", perm.path))
            .cause("`perms` says how new files look, and its bytes are not new")
            .hint("change it in `runAsRoot`, or bring the file along in `contents`");
    }
    let what = match &perm.regex {
        Some(regex) => format!("nothing at or below `{}` matches `{}`", perm.path, regex.value),
        None => format!("there is no `{}` in the image", perm.path),
    };
    Error::image(what)
}

fn change(perm: &Perm, node: &mut Node) {
    let entry = &mut node.entry;
    if let Some(mode) = perm.mode
        && !matches!(entry.kind, EntryKind::Symlink { .. })
    {
        let kept = if perm.keep_setuid { entry.mode & SET_ID } else { 0 };
        entry.mode = mode | kept;
    }
    if let Some(uid) = perm.uid {
        entry.uid = uid;
        node.names.user = None;
    }
    if let Some(gid) = perm.gid {
        entry.gid = gid;
        node.names.group = None;
    }
    for (name, value) in &perm.xattrs {
        let name = name.clone().into_bytes();
        entry.xattrs.retain(|(known, _)| *known != name);
        entry.xattrs.push((name, value.clone()));
    }
    entry.xattrs.sort();
    if let Some(name) = &perm.uname {
        node.names.user = Some(Arc::from(&**name));
    }
    if let Some(name) = &perm.gname {
        node.names.group = Some(Arc::from(&**name));
    }
}
