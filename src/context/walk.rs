//! Walking what a selected directory holds, the same way for the digest and for the copy.
//!
//! In: a [`Selected`] directory of a [`FileTree`]; out: calls of a [`Visitor`] in sorted order, parents before
//! children. What `.dockerignore` and `--exclude` leave out, or a `--parents` pattern does not take, is not shown; a
//! directory that is itself out but holds something that is in, is shown just before that. Directories are opened by
//! descriptor from their parent without following links. Nesting is limited, since each level costs a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec;

use crate::context::ignore::{IgnoreRules, Matched};
use crate::context::tree::{FileTree, Selected, show};
use crate::error::{Error, Result};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::root;

/// Deepest nesting that is walked.
const MAX_DEPTH: usize = 400;

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

/// What each rule list matched so far on the way down.
#[derive(Clone, Default)]
struct Above {
    ignore: Matched,
    exclude: Matched,
    include: Matched,
    /// The directory is taken by the include pattern, and all below with it.
    taken: bool,
}

/// A directory being walked.
struct Frame {
    fd: OwnedFd,
    stat: Stat,
    /// Length of the walk's path that names it, and where its own name starts there.
    end: usize,
    start: usize,
    names: vec::IntoIter<Vec<u8>>,
    above: Above,
    /// The visitor has entered it.
    entered: bool,
}

struct Walk<'a> {
    tree: &'a FileTree,
    selected: &'a Selected,
    frames: Vec<Frame>,
    path: Vec<u8>,
}

/// What is to be done with a node.
#[derive(PartialEq, Eq)]
enum Verdict {
    Show,
    Skip,
    /// Out itself, but something below may be in.
    Search,
}

impl FileTree {
    /// Walks the content of a selected directory (not the directory itself).
    pub fn walk(&self, selected: &Selected, visitor: &mut dyn Visitor) -> Result<()> {
        let fd = root::open_dir(self.root(), &selected.path)
            .map_err(|error| self.unreadable(&selected.path, &error))?;
        let mut above = Above { taken: selected.include.is_none(), ..Above::default() };
        if let Some(rules) = self.ignore() {
            above.ignore = state_of(rules, &selected.path);
        }
        let mut walk = Walk { tree: self, selected, frames: Vec::new(), path: Vec::new() };
        walk.push(fd, selected.stat, 0, above)?;
        walk.frames[0].entered = true;
        walk.run(visitor)
    }
}

impl Walk<'_> {
    fn run(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        while let Some(frame) = self.frames.last_mut() {
            if visitor.is_done() {
                return Ok(());
            }
            self.path.truncate(frame.end);
            let Some(name) = frame.names.next() else {
                self.pop(visitor)?;
                continue;
            };
            self.meet(&name, visitor)?;
        }
        Ok(())
    }

    fn meet(&mut self, name: &[u8], visitor: &mut dyn Visitor) -> Result<()> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let start = self.path.len();
        self.path.extend_from_slice(name);
        let stat = match fs::lstat_opt(&frame.fd, name) {
            Ok(Some(stat)) => stat,
            // It vanished since the listing: as good as never there.
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.tree.unreadable(&self.full_path(), &error)),
        };
        // No layer can hold a socket; one that is in a context stands for an empty file.
        if stat.kind == Kind::Socket && !self.tree.is_context() {
            return Ok(());
        }
        let (verdict, above) = self.judge(&frame.above, stat.is_dir());
        if verdict == Verdict::Skip {
            return Ok(());
        }
        if !stat.is_dir() {
            self.enter_pending(visitor)?;
            let frame = self.frames.last().expect("the frame looked at above is still there");
            let dir = frame.fd.as_fd();
            return visitor.leaf(&WalkEntry { dir, name, path: &self.path, stat: &stat });
        }
        let fd = fs::open_dir(&frame.fd, name)
            .map_err(|error| self.tree.unreadable(&self.full_path(), &error))?;
        self.push(fd, stat, start, above)?;
        if verdict == Verdict::Show {
            self.enter_pending(visitor)?;
        }
        Ok(())
    }

    fn push(&mut self, fd: OwnedFd, stat: Stat, start: usize, above: Above) -> Result<()> {
        if self.frames.len() > MAX_DEPTH {
            let message = format!(
                "directories in {} are nested deeper than {MAX_DEPTH} levels",
                self.tree.label()
            );
            return Err(Error::new(self.tree.blame(), message)
                .cause(format!("at `{}`", show(&self.full_path()))));
        }
        let names =
            fs::list(&fd).map_err(|error| self.tree.unreadable(&self.full_path(), &error))?;
        let end = self.path.len();
        let names = names.into_iter();
        self.frames.push(Frame { fd, stat, end, start, names, above, entered: false });
        Ok(())
    }

    fn pop(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        match self.frames.last() {
            Some(parent) if frame.entered => visitor.leave(&WalkEntry {
                dir: parent.fd.as_fd(),
                name: &self.path[frame.start..],
                path: &self.path,
                stat: &frame.stat,
            }),
            _ => Ok(()),
        }
    }

    /// Shows the open directories that were not shown yet.
    fn enter_pending(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        for index in 1..self.frames.len() {
            let (before, rest) = self.frames.split_at_mut(index);
            let (parent, frame) = (&before[index - 1], &mut rest[0]);
            if frame.entered {
                continue;
            }
            frame.entered = true;
            visitor.enter(&WalkEntry {
                dir: parent.fd.as_fd(),
                name: &self.path[frame.start..frame.end],
                path: &self.path[..frame.end],
                stat: &frame.stat,
            })?;
        }
        Ok(())
    }

    /// Path in the tree of the node at hand.
    fn full_path(&self) -> Vec<u8> {
        match (self.selected.path.as_slice(), self.path.as_slice()) {
            (b"", path) | (path, b"") => path.to_vec(),
            (above, path) => [above, b"/", path].concat(),
        }
    }

    fn judge(&self, parent: &Above, is_dir: bool) -> (Verdict, Above) {
        let mut above = Above { taken: parent.taken, ..Above::default() };
        let mut searchable = is_dir;
        let mut shown = true;
        if let Some(rules) = self.tree.ignore() {
            let path = self.full_path();
            let (state, decision) = rules.enter(&parent.ignore, &path);
            above.ignore = state;
            shown &= decision.included;
            searchable &= decision.included || rules.may_take_back_below(&path);
        }
        if let Some(rules) = &self.selected.exclude {
            let (state, decision) = rules.enter(&parent.exclude, &self.path);
            above.exclude = state;
            shown &= decision.included;
            searchable &= decision.included || rules.may_take_back_below(&self.path);
        }
        if let Some(rules) = self.selected.include.as_ref().filter(|_| !parent.taken) {
            let (state, decision) = rules.enter(&parent.include, &self.path);
            above.include = state;
            above.taken = !decision.included;
            shown &= above.taken;
            searchable &= above.taken || rules.may_match_below(&self.path);
        }
        let verdict = match (shown, searchable) {
            (true, _) => Verdict::Show,
            (false, true) => Verdict::Search,
            (false, false) => Verdict::Skip,
        };
        (verdict, above)
    }
}

/// The rules' state for a directory, from the root down.
fn state_of(rules: &IgnoreRules, path: &[u8]) -> Matched {
    let mut state = Matched::default();
    if !path.is_empty() {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            state = rules.enter(&state, &path[..end]).0;
        }
    }
    state
}
