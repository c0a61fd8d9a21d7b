//! What is written down about snapshots: the description of each, by which it is found again, the names of stacks of
//! layers, and whether all that survives a reboot.
//!
//! None of it is a file: descriptions and names are links, which file systems keep in the inode, and which are there whole
//! or not at all; that a snapshot was synced is the sticky bit of its directory. So a step takes no block for them.

use super::{Snapshot, Snapshots, Whole, environment, random_id, records, whole};
use crate::error::Result;
use crate::oci::ChainId;
use crate::sys::fs;
use rustix::fs::{AtFlags, Mode};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// The link that describes a snapshot.
pub(super) const META: &[u8] = b"meta";
const VERSION: &str = "1";
/// Last part of some.
const DEVICES: &str = "dev";
/// Letters of a boot's id that are kept: a whole one would not fit into an inode of ext4 (59 letters).
const BOOT: usize = 12;
/// Says of the directory of a snapshot that it was synced; none is made with it.
const STICKY: u32 = 0o1000;

/// A description: what the link says.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) parent: Option<String>,
    pub(super) flavour: String,
    /// The boot in which it was made, as [`short_boot`] has it.
    pub(super) boot: String,
    /// Files that record device nodes are in it.
    pub(super) placeholders: bool,
}

impl Meta {
    fn to_link(&self) -> String {
        let parent = self.parent.as_deref().unwrap_or_default();
        let mut text = format!("{VERSION}:{}:{}:{parent}", self.flavour, self.boot);
        if self.placeholders {
            text.push(':');
            text.push_str(DEVICES);
        }
        text
    }

    fn from_link(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let version = parts.next()?;
        let (flavour, boot, parent) = (parts.next()?, parts.next()?, parts.next()?);
        let placeholders = match parts.next() {
            None => false,
            Some(DEVICES) => true,
            Some(_) => return None,
        };
        (version == VERSION && parts.next().is_none()).then(|| Self {
            parent: (!parent.is_empty()).then(|| parent.to_owned()),
            flavour: flavour.to_owned(),
            boot: boot.to_owned(),
            placeholders,
        })
    }

    /// The description in the directory of a snapshot or union.
    pub(super) fn read(own: &OwnedFd) -> Option<Self> {
        Self::from_link(std::str::from_utf8(&fs::readlink(own, META).ok()?).ok()?)
    }

    /// Describes a snapshot or union, once. Nobody looks for it before its name is recorded.
    pub(super) fn write(&self, own: &OwnedFd) -> Result<()> {
        environment(fs::symlink(self.to_link().as_bytes(), own, META), "describe a snapshot")
    }
}

/// Whether what is in this directory survives a reboot.
pub(super) fn is_synced(own: &fs::Stat) -> bool {
    own.mode & STICKY != 0
}

/// What is kept of the id of a boot.
pub(super) fn short_boot(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(BOOT).collect()
}

/// What others may know of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Id of the one that it stands on, where it says so.
    pub parent: Option<String>,
    /// When it was used last: seconds and nanoseconds since 1970.
    pub used: (i64, u32),
}

/// What is written down about the snapshot in this directory, or in the one to which this alias leads. `None` for one
/// that is not finished.
pub fn described(own: &Path) -> Option<Described> {
    let own = fs::open_dir_path(own).ok()?;
    let used = fs::lstat_opt(&own, META).ok()??.mtime;
    Some(Described { parent: Meta::read(&own).and_then(|meta| meta.parent), used })
}

/// From `chains` to the snapshots.
const UP: &str = "../";

impl Snapshots {
    /// The snapshot of this id, when it and all its parents are whole and usable here.
    pub fn find(&self, id: &str) -> Option<Arc<Snapshot>> {
        let (mut metas, mut ids) = (Vec::new(), HashSet::new());
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_id || !ids.insert(id.clone()) {
                return None;
            }
            let own = fs::open_dir(&self.dir, id.as_bytes()).ok()?;
            // Whoever removes unused ones sees it; what was taken away before that is not used.
            fs::touch(&own, META).ok()?;
            let there = fs::lstat_opt(&self.dir, id.as_bytes()).ok()??;
            let meta = Meta::read(&own)?;
            if !self.is_usable(&meta, &there) {
                return None;
            }
            records::learn(&own);
            next = meta.parent;
            metas.push((id, fs::open_dir(&own, b"fs").ok()?, meta.placeholders));
        }
        if self.are_whole() {
            let placeholders = metas.iter().any(|(_, _, placeholders)| *placeholders);
            let (id, fs, _) = metas.pop()?;
            // Locked first, then looked at again: whoever takes a tree over removes its description.
            let there = whole::lock(&fs, false) && self.is_described(&id);
            let made = |fs| Snapshot::new(id, None, fs, Some(Whole::new(None))).with(placeholders);
            return there.then(|| Arc::new(made(fs)));
        }
        let mut found: Option<Arc<Snapshot>> = None;
        for (id, fs, placeholders) in metas.into_iter().rev() {
            found = Some(Arc::new(Snapshot::new(id, found, fs, None).with(placeholders)));
        }
        found
    }

    /// Whether what has this description and this directory can be used here.
    pub(super) fn is_usable(&self, meta: &Meta, own: &fs::Stat) -> bool {
        meta.flavour == self.flavour && (is_synced(own) || meta.boot == self.boot)
    }

    /// Whether a snapshot still has its place in the store.
    pub(super) fn is_described(&self, id: &str) -> bool {
        let path = [id.as_bytes(), b"/", META].concat();
        matches!(fs::lstat_opt(&self.dir, &path), Ok(Some(_)))
    }

    /// The snapshot of a stack of layers, if there is one.
    pub fn by_chain(&self, chain: &ChainId) -> Option<Arc<Snapshot>> {
        let link = fs::readlink(&self.chains, self.alias_name(chain).as_bytes()).ok()?;
        self.find(std::str::from_utf8(&link).ok()?.strip_prefix(UP)?)
    }

    fn alias_name(&self, chain: &ChainId) -> String {
        format!("{}-{}", self.flavour, chain.0.hex())
    }

    /// Lets `chain` mean `snapshot`, unless it already means a usable one.
    pub fn alias(&self, chain: &ChainId, snapshot: &Snapshot) -> Result<()> {
        if self.by_chain(chain).is_some() {
            return Ok(());
        }
        // Beside the others: `snapshots` may be a file system of its own.
        let temporary = format!("alias-{}", random_id());
        let (temporary, name) = (temporary.as_bytes(), self.alias_name(chain));
        let made = fs::symlink(format!("{UP}{}", snapshot.id).as_bytes(), &self.chains, temporary)
            .and_then(|()| fs::rename(&self.chains, temporary, &self.chains, name.as_bytes()));
        environment(made, "name a snapshot")
    }

    /// Takes the ids of the snapshots that were made since the last call.
    pub fn unsynced(&self) -> Vec<String> {
        std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// After the store was synced: what was made so far survives a reboot. Call with `before` from [`Self::unsynced`],
    /// taken before the sync.
    pub fn mark_synced(&self, before: Vec<String>) {
        for id in before {
            // In place, and nothing new: it may be on its way out. Without the mark it is merely unpacked again after a reboot.
            let mode = Mode::from_raw_mode(0o700 | STICKY);
            let _kept = rustix::fs::chmodat(&self.dir, id.as_str(), mode, AtFlags::empty());
        }
    }
}
