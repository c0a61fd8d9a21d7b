//! What a layer deletes, and what has to go since something else takes its place.

use super::Apply;
use crate::error::Result;
use crate::layers::ImagePath;
use crate::layers::place::{Place, fails};
use crate::layers::whiteout::Whiteout;
use crate::sys::fs;
use std::hash::BuildHasher;

impl Apply<'_> {
    pub(super) fn remove(&mut self, path: &[u8], place: &Place) -> Result<()> {
        self.crew.settle()?;
        self.places.forget();
        self.late.remove(path);
        // What replaces it may lead elsewhere later; what was reached through a link in it stays where it is.
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<ImagePath> = self.late.range(first..end).map(|(p, _)| p.clone()).collect();
        for path in below {
            if let Some(late) = self.late.remove(&path) {
                self.finish_directory(&path, late)?;
            }
        }
        fs::remove_tree(&place.dir, &place.name).map_err(|e| fails(path, e))
    }

    pub(super) fn whiteout(&mut self, path: &[u8], mark: &Whiteout) -> Result<()> {
        let at = path.iter().rposition(|b| *b == b'/');
        let parent = at.map_or(&b""[..], |at| &path[..at]);
        match mark {
            Whiteout::Reserved => return Ok(()),
            Whiteout::Opaque => {
                self.places.forget();
                self.empty(parent)?;
            }
            Whiteout::Remove(name) => {
                let hidden =
                    if at.is_some() { [parent, b"/", name].concat() } else { name.clone() };
                self.places.forget();
                self.hide(&hidden)?;
            }
        }
        Ok(())
    }

    /// Removes what the layers below have at `path`.
    fn hide(&mut self, path: &[u8]) -> Result<()> {
        let Some(place) = self.places.existing(path)? else { return Ok(()) };
        if !self.seen.contains(&self.hasher.hash_one(path)) {
            return fs::remove_tree(&place.dir, &place.name).map_err(|e| fails(path, e));
        }
        let stat = fs::lstat_opt(&place.dir, &place.name).map_err(|e| fails(path, e))?;
        if stat.is_some_and(|stat| stat.is_dir()) {
            return self.empty(path);
        }
        Ok(())
    }

    /// Removes what the layers below have in the directory `path`.
    fn empty(&mut self, path: &[u8]) -> Result<()> {
        let Some(dir) = self.places.directory(path)? else { return Ok(()) };
        let names = fs::list(&dir).map_err(|e| fails(path, e))?;
        drop(dir);
        for name in names {
            let child = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            self.hide(&child)?;
        }
        Ok(())
    }

    /// Notes a path and its parents as made by this layer.
    pub(super) fn remember(&mut self, path: &[u8]) {
        if !self.options.whiteouts {
            return;
        }
        let mut path = path;
        while self.seen.insert(self.hasher.hash_one(path)) {
            match path.iter().rposition(|b| *b == b'/') {
                Some(at) => path = &path[..at],
                None => return,
            }
        }
    }
}
