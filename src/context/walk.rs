//! Walking what a selected directory holds, the same way for the digest and for the copy.
//!
//! In: a [`Selected`] directory of a [`FileTree`]; out: calls of a [`Visitor`] in sorted order, parents before
//! children. What `.dockerignore` and `--exclude` leave out, or a `--parents` pattern does not take, is not shown; a
//! directory that is itself out but holds something that is in, is shown just before that. Directories are opened by
//! descriptor from their parent without following links. Nesting is limited, since each level costs a descriptor. Scouts
//! ([`super::ahead`]) may help; what is shown, and what is an error, is the same with them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use crate::context::ahead::{Ahead, Dir, Errand, MAX_DEPTH, PIECE, Scouting};
use crate::context::filter::{Above, Filter, Verdict};
use crate::context::tree::{FileTree, Selected, show};
use crate::error::{Error, Result};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::root;

/// One node met.
#[derive(Clone, Copy, Debug)]
pub struct WalkEntry<'a> {
    /// The directory that holds it.
    pub dir: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a [u8],
    /// Its path relative to the selected directory.
    pub path: &'a [u8],
    /// What it is.
    pub stat: &'a Stat,
}

/// Who is told what a walk meets.
pub trait Visitor {
    /// A directory, before its content.
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()>;
    /// Anything but a directory.
    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()>;
    /// The directory entered last, after its content.
    fn leave(&mut self, dir: &WalkEntry<'_>) -> Result<()>;
    /// True to end the walk early.
    fn is_done(&self) -> bool {
        false
    }
}

/// A directory being walked.
struct Frame {
    dir: Arc<Dir>,
    stat: Stat,
    /// Length of the walk's path that names it, and where its own name starts there.
    end: usize,
    start: usize,
    /// Index of the next entry.
    next: usize,
    /// What scouts say of the entries from a multiple of [`PIECE`] on.
    stats: Vec<Option<Stat>>,
    /// The visitor has entered it.
    entered: bool,
}

/// What is to help a walk, and how its threads are started.
struct Help<'w, 'a> {
    ahead: &'w Ahead<'a>,
    /// False when there are none.
    start: &'w mut dyn FnMut() -> bool,
    /// Entries still to be met before.
    after: usize,
}

struct Walk<'w, 'a> {
    filter: Filter<'a>,
    frames: Vec<Frame>,
    path: Vec<u8>,
    /// Not yet asked for.
    help: Option<Help<'w, 'a>>,
    /// At work.
    ahead: Option<&'w Ahead<'a>>,
}

impl FileTree {
    /// Walks the content of a selected directory (not the directory itself).
    pub fn walk(&self, selected: &Selected, visitor: &mut dyn Visitor) -> Result<()> {
        self.walk_scouted(selected, visitor, Scouting::NONE, None)
    }

    /// The same for a visitor that has little to do: helped by threads when there is much.
    pub fn walk_helped(&self, selected: &Selected, visitor: &mut dyn Visitor) -> Result<()> {
        self.walk_scouted(selected, visitor, Scouting::USUAL, None)
    }

    /// The same, helped by threads when there is much. They are gone when this returns.
    pub(super) fn walk_scouted(
        &self,
        selected: &Selected,
        visitor: &mut dyn Visitor,
        scouting: Scouting,
        errand: Option<Errand<'_>>,
    ) -> Result<()> {
        let fd = root::open_dir(self.root(), &selected.path)
            .map_err(|error| self.unreadable(&selected.path, &error))?;
        let filter = Filter { tree: self, selected };
        if scouting.threads == Some(0) {
            return walk(filter, fd, visitor, None);
        }
        let ahead = &Ahead::new(filter, scouting, errand);
        thread::scope(|scope| {
            let mut scouts = Vec::new();
            let mut start = || {
                let scout = |_| thread::Builder::new().spawn_scoped(scope, || ahead.scout());
                scouts.extend((0..scouting.threads()).map_while(|number| scout(number).ok()));
                !scouts.is_empty()
            };
            let walked = {
                let _ending = Ending(ahead);
                let help = Help { ahead, start: &mut start, after: scouting.after };
                walk(filter, fd, visitor, Some(help))
            };
            // A scope alone does not wait for the very end of a thread, and namespaces are entered with one.
            for scout in scouts {
                scout.join().expect("a scout does not panic");
            }
            walked
        })
    }
}

fn walk<'a>(
    filter: Filter<'a>,
    fd: OwnedFd,
    visitor: &mut dyn Visitor,
    help: Option<Help<'_, 'a>>,
) -> Result<()> {
    let mut walk = Walk { filter, frames: Vec::new(), path: Vec::new(), help, ahead: None };
    let dir = walk.list(fd, None, filter.top())?;
    walk.push(dir, Vec::new(), filter.selected.stat, 0);
    walk.frames[0].entered = true;
    walk.run(visitor)
}

/// Sends scouts home however the walk ends.
struct Ending<'w, 'a>(&'w Ahead<'a>);

impl Drop for Ending<'_, '_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Walk<'_, '_> {
    fn run(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        while let Some(frame) = self.frames.last_mut() {
            if visitor.is_done() {
                return Ok(());
            }
            self.path.truncate(frame.end);
            let index = frame.next;
            if index == frame.dir.names.len() {
                self.pop(visitor)?;
                continue;
            }
            frame.next += 1;
            if index.is_multiple_of(PIECE) && index > 0 {
                let found = self.ahead.and_then(|ahead| ahead.look(&frame.dir, index));
                frame.stats = found.map(|found| found.stats).unwrap_or_default();
            }
            self.meet(index, visitor)?;
            self.ask_for_help();
        }
        Ok(())
    }

    /// Starts the scouts once there seems to be much.
    fn ask_for_help(&mut self) {
        match &mut self.help {
            None => return,
            Some(help) if help.after > 0 => {
                help.after -= 1;
                return;
            }
            Some(_) => {}
        }
        let Some(help) = self.help.take() else { return };
        if (help.start)() {
            for frame in &self.frames {
                help.ahead.add(&frame.dir, frame.next);
            }
            self.ahead = Some(help.ahead);
        }
    }

    fn meet(&mut self, index: usize, visitor: &mut dyn Visitor) -> Result<()> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let start = self.path.len();
        self.path.extend_from_slice(frame.dir.names.get(index));
        let name = &self.path[start..];
        let scouted = frame.stats.get(index % PIECE).copied().flatten();
        let stat = match scouted.map_or_else(|| fs::lstat_opt(&frame.dir.fd, name), |s| Ok(Some(s)))
        {
            Ok(Some(stat)) => stat,
            // It vanished since the listing: as good as never there.
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.filter.tree.unreadable(&self.full_path(), &error)),
        };
        // No layer can hold a socket; one that is in a context stands for an empty file.
        if stat.kind == Kind::Socket && !self.filter.tree.is_context() {
            return Ok(());
        }
        let (verdict, above) = self.filter.judge(&frame.dir.above, &self.path, stat.is_dir());
        if verdict == Verdict::Skip {
            return Ok(());
        }
        if !stat.is_dir() {
            self.enter_pending(visitor)?;
            let frame = self.frames.last().expect("the frame looked at above is still there");
            let (dir, name) = (frame.dir.fd.as_fd(), &self.path[start..]);
            return visitor.leaf(&WalkEntry { dir, name, path: &self.path, stat: &stat });
        }
        let found = self.ahead.and_then(|ahead| ahead.open(&frame.dir, index));
        let (dir, stats) = if let Some(found) = found {
            (found.dir, found.stats)
        } else {
            let fd = fs::open_dir(&frame.dir.fd, name)
                .map_err(|error| self.filter.tree.unreadable(&self.full_path(), &error))?;
            (self.list(fd, Some((&frame.dir, index)), above)?, Vec::new())
        };
        self.push(dir, stats, stat, start);
        if verdict == Verdict::Show {
            self.enter_pending(visitor)?;
        }
        Ok(())
    }

    /// Lists the directory that the walk's path names.
    fn list(&self, fd: OwnedFd, parent: Option<(&Dir, usize)>, above: Above) -> Result<Arc<Dir>> {
        let tree = self.filter.tree;
        if self.frames.len() > MAX_DEPTH {
            let message = format!(
                "directories in {} are nested deeper than {MAX_DEPTH} levels",
                tree.label()
            );
            return Err(Error::new(tree.blame(), message)
                .cause(format!("at `{}`", show(&self.full_path()))));
        }
        let dir = Dir::list(fd, parent, &self.path, above)
            .map_err(|error| tree.unreadable(&self.full_path(), &error))?;
        if let Some(ahead) = self.ahead {
            // The walk looks at the first piece itself.
            ahead.add(&dir, 1);
        }
        Ok(dir)
    }

    fn push(&mut self, dir: Arc<Dir>, stats: Vec<Option<Stat>>, stat: Stat, start: usize) {
        let end = self.path.len();
        self.frames.push(Frame { dir, stat, end, start, next: 0, stats, entered: false });
    }

    fn pop(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        match self.frames.last() {
            Some(parent) if frame.entered => visitor.leave(&WalkEntry {
                dir: parent.dir.fd.as_fd(),
                name: &self.path[frame.start..],
                path: &self.path,
                stat: &frame.stat,
            }),
            _ => Ok(()),
        }
    }

    /// Shows the open directories that were not shown yet.
    fn enter_pending(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        // Whoever was shown, all above it were.
        let shown = self.frames.iter().rposition(|frame| frame.entered).map_or(1, |at| at + 1);
        for index in shown..self.frames.len() {
            let (before, rest) = self.frames.split_at_mut(index);
            let (parent, frame) = (&before[index - 1], &mut rest[0]);
            frame.entered = true;
            visitor.enter(&WalkEntry {
                dir: parent.dir.fd.as_fd(),
                name: &self.path[frame.start..frame.end],
                path: &self.path[..frame.end],
                stat: &frame.stat,
            })?;
        }
        Ok(())
    }

    /// Path in the tree of the node at hand.
    fn full_path(&self) -> Vec<u8> {
        self.filter.full_path(&self.path).into_owned()
    }
}
