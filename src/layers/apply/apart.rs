//! A layer in a directory of its own, before anybody knows what it will lie on.
//!
//! In: a root that shows nothing of what is below. Out: what an overlay would have in its upper directory, had the layer
//! been applied through it; deletions are overlayfs's marks. That is possible for a layer that says itself what it needs:
//! an entry for each parent, the target of each hard link, nothing but directories twice. All else is an error here, and applies in the
//! ordinary way: a parent that only the layers below have may have any mode, and may be a link to anywhere.

use super::Apply;
use crate::error::{Error, Result};
use crate::layers::beneath::shown;
use crate::layers::place::{Place, fails};
use crate::layers::whiteout::{self, Whiteout, XattrFlavour};
use crate::sys::fs::{self, Stat};
use std::hash::BuildHasher;
use std::os::fd::AsFd;

impl Apply<'_> {
    /// Notes a deletion for the overlay.
    pub(super) fn mark(
        &mut self,
        path: &[u8],
        mark: &Whiteout,
        flavour: XattrFlavour,
    ) -> Result<()> {
        let at = path.iter().rposition(|b| *b == b'/');
        let parent = at.map_or(&b""[..], |at| &path[..at]);
        match mark {
            Whiteout::Reserved => Ok(()),
            // Nobody asks the root of a layer whether it hides those below.
            Whiteout::Opaque if parent.is_empty() => Err(needs_below(path)),
            Whiteout::Opaque => {
                let dir = self.places.directory(parent)?.ok_or_else(|| needs_below(path))?;
                whiteout::make_opaque(dir.as_fd(), b".", flavour).map_err(|e| fails(path, e))
            }
            Whiteout::Remove(name) => {
                let hidden =
                    if at.is_some() { [parent, b"/", name].concat() } else { name.clone() };
                let place = self.places.existing(&hidden)?.ok_or_else(|| needs_below(path))?;
                self.cover(&hidden, &place, flavour)
            }
        }
    }

    /// Hides what the layers below have at `path`.
    fn cover(&mut self, path: &[u8], place: &Place, flavour: XattrFlavour) -> Result<()> {
        let (dir, name) = (place.dir.as_fd(), &place.name[..]);
        match fs::lstat_opt(dir, name).map_err(|e| fails(path, e))? {
            None => {
                whiteout::make_whiteout_node(dir, name).map_err(|e| fails(path, e))?;
                // The mark would be seen if nothing below had its directory.
                whiteout::make_copied_up(dir, b".", flavour).map_err(|e| fails(path, e))
            }
            Some(stat) if whiteout::is_whiteout_node(&stat) => Ok(()),
            Some(_) if !self.seen.contains(&self.hasher.hash_one(path)) => Err(needs_below(path)),
            Some(stat) if stat.is_dir() => {
                whiteout::make_opaque(dir, name, flavour).map_err(|e| fails(path, e))
            }
            // What this layer has hides what is below it.
            Some(_) => Ok(()),
        }
    }
}

/// Takes away the mark of a deletion, the only thing that may be where something is to be made.
pub(super) fn uncover(path: &[u8], place: &Place, old: &Stat) -> Result<()> {
    if !whiteout::is_whiteout_node(old) {
        return Err(needs_below(path));
    }
    fs::unlink(&place.dir, &place.name).map_err(|e| fails(path, e))
}

fn needs_below(path: &[u8]) -> Error {
    Error::integrity(format!("archive entry {} needs what is below", shown(path)))
}
