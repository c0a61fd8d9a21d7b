//! The owners of links, FIFOs and the like, in builds with one user id, on the disk: a file beside each tree.
//!
//! They can have no extended attribute, so [`crate::sys::owners`] keeps them in a table, by inode.

use super::{environment, write_all};
use crate::error::{Error, Result};
use crate::sys::{fs, owners, root};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Its name.
const OWNERS: &[u8] = b"owners";

/// Most bytes of it.
const MAX_OWNERS: u64 = 1 << 28;

/// Owners of what can have no attribute, as recorded so far: [`OWNERS`] beside the tree. Some belong to other
/// snapshots of this build; each names its inode, so that does not matter.
pub(super) fn keep(own: &OwnedFd) -> Result<()> {
    // A tree that was taken over brought some.
    let old = read(own);
    let mut records: BTreeMap<_, _> = old.iter().copied().collect();
    records.retain(|id, _| owners::is_recorded(*id));
    records.extend(owners::recorded());
    if records.is_empty() && old.is_empty() {
        return Ok(());
    }
    let records: Vec<_> = records.into_iter().collect();
    let text = serde_json::to_vec(&records)
        .map_err(|error| Error::internal("JSON of owners").cause(error))?;
    let made = (|| {
        fs::remove_tree(own, b"owners.new")?;
        write_all(&mut fs::create_new(own, b"owners.new", 0o600)?, &text)?;
        fs::rename(own, b"owners.new", own, OWNERS)
    })();
    environment(made, "keep owners")
}

fn read(own: &OwnedFd) -> Vec<(owners::Identity, owners::Owner)> {
    let text = root::read_small(own, OWNERS, MAX_OWNERS).ok().flatten();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Takes in what an earlier process recorded.
pub(super) fn learn(own: &OwnedFd) {
    if !owners::are_kept() {
        return;
    }
    owners::learn(read(own));
}
