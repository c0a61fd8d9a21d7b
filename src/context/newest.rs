//! What changed last of what a copy takes, for an error that says that something did.

use super::select::join;
use super::tree::{FileTree, Selected};
use super::walk::{Visitor, WalkEntry};
use crate::error::Result;
use crate::sys::fs::Stat;

/// The path in the tree of what was changed last, a directory when something in it came or went; `None` when nothing is there.
pub fn newest(tree: &FileTree, selected: &[Selected]) -> Result<Option<Vec<u8>>> {
    let mut newest = Newest { top: Vec::new(), found: None };
    for one in selected {
        newest.top.clone_from(&one.path);
        newest.see(b"", &one.stat);
        if one.is_dir() {
            tree.walk(one, &mut newest)?;
        }
    }
    Ok(newest.found.map(|(_, path)| path))
}

struct Newest {
    /// Where the walk began.
    top: Vec<u8>,
    found: Option<((i64, u32), Vec<u8>)>,
}

impl Newest {
    fn see(&mut self, path: &[u8], stat: &Stat) {
        if self.found.as_ref().is_none_or(|(time, _)| *time < stat.ctime) {
            self.found = Some((stat.ctime, join(&self.top, path)));
        }
    }
}

impl Visitor for Newest {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.see(dir.path, dir.stat);
        Ok(())
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        self.see(entry.path, entry.stat);
        Ok(())
    }

    fn leave(&mut self, _dir: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }
}
