//! Putting a layer or an archive onto a root file system. Trusts nothing.
//!
//! In: an uncompressed tar and an open root, which already shows everything below (an overlay mount or a plain
//! directory) or, [`apart`], nothing of it. Invariants: parents are resolved inside the root by descriptor, the last component is never followed,
//! no path pass happens later except in-root and without following; a deletion only ever removes names inside the root;
//! private attributes never come in. The result depends on the tar and the root alone: parents that the tar does not
//! mention keep their time or get time 0.
//! image-spec layer.md#applying-changesets; where it is silent: what containerd does.

mod apart;
pub(in crate::layers) mod crew;
mod deletions;
mod make;
mod metadata;

pub use super::tar_read::Limits;

use super::beneath::shown;
use super::place::Places;
use super::tar_read::{TarEntry, for_each};
use super::whiteout::{self, Whiteout, XattrFlavour};
use super::{EntryKind, ImagePath};
use crate::error::{Error, Result};
use crew::Crew;
use make::Made;
use std::collections::{BTreeMap, HashSet};
use std::hash::RandomState;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What to do with device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// Make them.
    Real,
    /// Make a file that records them ([`super::PLACEHOLDER_XATTR`]).
    Placeholder,
    /// Leave them out.
    Skip,
}

/// How to apply.
#[derive(Clone, Copy, Debug)]
pub struct ApplyOptions {
    /// Give entries their recorded owners.
    pub owner: bool,
    /// Device nodes.
    pub devices: Devices,
    /// The tar is a layer: `.wh.` names delete. Otherwise they are an error.
    pub whiteouts: bool,
    /// The root entry of the tar (`./`) does not change the root.
    pub keep_root: bool,
    /// Owner of everything, whatever is recorded (`--chown`).
    pub override_owner: Option<(u32, u32)>,
    /// What the tar may ask for.
    pub limits: Limits,
    /// The root shows nothing of what is below it, and an overlay with these marks will put it there: what the layer
    /// deletes is marked. Whatever cannot be done without what is below is an error ([`apart`]).
    pub apart: Option<XattrFlavour>,
}

impl ApplyOptions {
    /// For a layer of an image.
    pub fn layer(devices: Devices) -> Self {
        Self {
            owner: true,
            devices,
            whiteouts: true,
            keep_root: false,
            override_owner: None,
            limits: Limits::default(),
            apart: None,
        }
    }

    /// For an archive that ADD unpacks into an existing directory.
    pub fn archive(devices: Devices) -> Self {
        Self { whiteouts: false, keep_root: true, ..Self::layer(devices) }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedStats {
    /// The tar says what the root itself is like.
    pub root: bool,
    /// Entries made or updated.
    pub entries: u64,
    /// Bytes of file bodies.
    pub bytes: u64,
    /// Whiteouts, opaque ones included.
    pub whiteouts: u64,
    /// Device nodes left out.
    pub skipped_devices: u64,
    /// Files made that record device nodes, where commands see them.
    pub placeholders: u64,
}

/// True below /dev, where no command sees what an image has: every one gets another /dev.
pub fn is_in_dev(path: &[u8]) -> bool {
    path.starts_with(b"dev/")
}

/// Applies an uncompressed tar.
pub fn apply(tar: impl Read, root: BorrowedFd<'_>, options: &ApplyOptions) -> Result<AppliedStats> {
    apply_below(tar, root, b"", options)
}

/// Applies a tar whose paths and hard link targets count from the directory `prefix` (relative, without links). Links on
/// the way still count from `root`.
pub fn apply_below(
    tar: impl Read,
    root: BorrowedFd<'_>,
    prefix: &[u8],
    options: &ApplyOptions,
) -> Result<AppliedStats> {
    // A layer that is applied apart says the time of each directory.
    let keep_times = options.whiteouts && options.apart.is_none();
    let places = Places::new(root, options.owner, keep_times);
    let mut job = Apply {
        places: if options.apart.is_some() { places.apart() } else { places },
        options,
        seen: HashSet::new(),
        hasher: RandomState::new(),
        late: BTreeMap::new(),
        stats: AppliedStats::default(),
        buffer: vec![0; make::BUFFER],
        crew: Crew::new(options),
    };
    let done = for_each(tar, &options.limits, |entry, body| match prefix {
        b"" => job.entry(entry, body),
        prefix => job.entry(&moved(entry, prefix), body),
    });
    // What was handed out came before what failed.
    job.crew.settle()?;
    done?;
    job.finish()
}

struct Apply<'a> {
    places: Places<'a>,
    options: &'a ApplyOptions,
    /// Hashes of all paths that this layer made: its own whiteouts do not touch them. A collision, which nobody can
    /// bring about with a random hasher, would keep one deleted file.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// Directories whose final mode and time are set at the end, when nothing is made in them any more.
    late: BTreeMap<ImagePath, Late>,
    stats: AppliedStats,
    /// What files are copied through.
    buffer: Vec<u8>,
    crew: Crew,
}

/// Whose the entries become, and what device nodes are.
#[derive(Clone, Copy, Debug)]
struct Owners {
    owner: bool,
    override_owner: Option<(u32, u32)>,
    devices: Devices,
}

impl Owners {
    fn of(options: &ApplyOptions) -> Self {
        let ApplyOptions { owner, override_owner, devices, .. } = *options;
        Self { owner, override_owner, devices }
    }
}

/// What a directory still gets.
struct Late {
    mode: u32,
    mtime: (i64, u32),
    /// The directory, where a link led to it, which may go.
    dir: Option<OwnedFd>,
}

fn moved(entry: &TarEntry, prefix: &[u8]) -> TarEntry {
    let mut entry = entry.clone();
    let below = |path: &mut ImagePath| {
        if !path.is_empty() {
            *path = [prefix, path].join(&b'/');
        }
    };
    below(&mut entry.path);
    if let EntryKind::Hardlink { target } = &mut entry.entry.kind {
        below(target);
    }
    entry
}

impl Apply<'_> {
    fn entry(&mut self, entry: &TarEntry, body: &mut dyn Read) -> Result<()> {
        if let Some(mark) = &entry.whiteout {
            if !self.options.whiteouts {
                let what = shown(&entry.original);
                return Err(Error::context(format!("archive entry {what} cannot be unpacked"))
                    .cause(whiteout::RESERVED_NAMES));
            }
            self.stats.whiteouts += u64::from(*mark != Whiteout::Reserved);
            self.crew.settle()?;
            return match self.options.apart {
                Some(flavour) => self.mark(&entry.path, mark, flavour),
                None => self.whiteout(&entry.path, mark),
            };
        }
        self.remember(&entry.path);
        self.stats.entries += 1;
        if entry.path.is_empty() {
            return self.root_entry(entry);
        }
        let place = self.places.of(&entry.path, &mut || self.crew.settle())?;
        if self.crew.has(&place) {
            self.crew.settle()?;
        }
        let made = self.make(&entry.path, &entry.entry, &place, body)?;
        if let Made::Yes { fresh } = made {
            self.finish_entry(&entry.path, &entry.entry, &place, fresh)?;
        }
        Ok(())
    }

    fn root_entry(&mut self, entry: &TarEntry) -> Result<()> {
        if self.options.keep_root {
            return Ok(());
        }
        if entry.entry.kind != EntryKind::Directory {
            return Err(Error::integrity("the archive replaces the root by something else"));
        }
        self.stats.root = true;
        self.crew.settle()?;
        let place = self.places.root()?;
        self.finish_entry(b"", &entry.entry, &place, false)
    }
}
