//! Where a path of the image really is: links to directories on the way are followed inside the image, as a container
//! would (assemble-trust.md A7, `follow-base`). Without it `/bin` of an item would hide all of `/usr/bin` of a base.

use super::spec::DirSymlinks;
use super::tree::{Tree, join, split};
use crate::error::{Error, Result};
use crate::layers::{EntryKind, ImagePath};

/// Links on the way to one path.
const MAX_LINKS: usize = 40;

/// Where a directory is to be found or made. The path is relative; `..` in links stays inside the image.
pub(super) fn directory(tree: &Tree, path: &[u8], how: DirSymlinks) -> Result<ImagePath> {
    let mut rest: Vec<Vec<u8>> = parts(path);
    let mut done: ImagePath = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match &part[..] {
            b"" | b"." => continue,
            b".." => {
                done = split(&done).0.to_vec();
                continue;
            }
            _ => {}
        }
        let next = join(&done, &part);
        let Some(EntryKind::Symlink { target }) = tree.entry(&next).map(|entry| &entry.kind) else {
            done = next;
            continue;
        };
        match how {
            DirSymlinks::FollowBase => {}
            DirSymlinks::Replace => {
                done = next;
                continue;
            }
            DirSymlinks::Error => return Err(in_the_way(&next, target)),
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::image(format!("too many links lead to `{}`", shown(path))));
        }
        if target.first() == Some(&b'/') {
            done.clear();
        }
        rest.extend(parts(target));
    }
    Ok(done)
}

/// Where something that is no directory goes: its parent is looked for, its own name stays.
pub(super) fn name(tree: &Tree, path: &[u8], how: DirSymlinks) -> Result<ImagePath> {
    let (above, name) = split(path);
    Ok(join(&directory(tree, above, how)?, name))
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect()
}

fn in_the_way(path: &[u8], target: &[u8]) -> Error {
    Error::image(format!("a directory would replace the link `/{}`", shown(path)))
        .cause(format!("it leads to `{}`", shown(target)))
        .hint(
            "`dirSymlinks: follow-base` puts the files where the link leads, `replace` replaces it",
        )
}

/// A path for messages.
pub(super) fn shown(path: &[u8]) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(path).chars().map(visible).collect()
}
