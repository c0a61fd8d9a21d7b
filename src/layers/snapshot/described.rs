//! What is written down about snapshots: the description of each, by which it is found again, the names of stacks of
//! layers, and whether all that survives a reboot.

use super::{Snapshot, Snapshots, Whole, environment, random_id, records, whole, write_all};
use crate::error::{Error, Result};
use crate::oci::ChainId;
use crate::sys::{fs, root};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) version: u32,
    pub(super) parent: Option<String>,
    pub(super) flavour: String,
    pub(super) boot: String,
    pub(super) synced: bool,
    /// Files that record device nodes are in it.
    #[serde(default)]
    pub(super) placeholders: bool,
}

/// Most snapshots on top of each other: more are a circle.
const DEEPEST: usize = 20_000;

/// As `serde_json` writes it, and as it is after a sync.
const UNSYNCED: &[u8] = b"\"synced\":false";
const SYNCED: &[u8] = b"\"synced\":true ";

impl Snapshots {
    /// The snapshot of this id, when it and all its parents are whole and usable here.
    pub fn find(&self, id: &str) -> Option<Arc<Snapshot>> {
        let mut metas = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) || metas.len() > DEEPEST
            {
                return None;
            }
            let own = fs::open_dir(&self.dir, id.as_bytes()).ok()?;
            // Whoever removes unused ones sees it; what was taken away before that is not used.
            fs::touch(&own, b"meta.json").ok()?;
            fs::lstat_opt(&self.dir, id.as_bytes()).ok()??;
            let text = root::read_small(&own, b"meta.json", 4096).ok()??;
            let meta: Meta = serde_json::from_slice(&text).ok()?;
            if !self.is_usable(&meta) {
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
            let there = whole::lock(&fs, false)
                && matches!(
                    fs::lstat_opt(&self.dir, format!("{id}/meta.json").as_bytes()),
                    Ok(Some(_))
                );
            let made = |fs| Snapshot::new(id, None, fs, Some(Whole::new(None))).with(placeholders);
            return there.then(|| Arc::new(made(fs)));
        }
        let mut found: Option<Arc<Snapshot>> = None;
        for (id, fs, placeholders) in metas.into_iter().rev() {
            found = Some(Arc::new(Snapshot::new(id, found, fs, None).with(placeholders)));
        }
        found
    }

    pub(super) fn is_usable(&self, meta: &Meta) -> bool {
        meta.version == 1 && meta.flavour == self.flavour && (meta.synced || meta.boot == self.boot)
    }

    /// The snapshot of a stack of layers, if there is one.
    pub fn by_chain(&self, chain: &ChainId) -> Option<Arc<Snapshot>> {
        let text =
            root::read_small(&self.chains, self.alias_name(chain).as_bytes(), 256).ok()??;
        self.find(std::str::from_utf8(&text).ok()?.trim())
    }

    fn alias_name(&self, chain: &ChainId) -> String {
        format!("{}-{}", self.flavour, chain.0.hex())
    }

    /// Lets `chain` mean `snapshot`, unless it already means a usable one.
    pub fn alias(&self, chain: &ChainId, snapshot: &Snapshot) -> Result<()> {
        if self.by_chain(chain).is_some() {
            return Ok(());
        }
        let temporary = format!("alias-{}", random_id());
        let made = (|| {
            // Beside the others: `snapshots` may be a file system of its own.
            let mut file = fs::create_new(&self.chains, temporary.as_bytes(), 0o600)?;
            write_all(&mut file, snapshot.id.as_bytes())?;
            fs::rename(
                &self.chains,
                temporary.as_bytes(),
                &self.chains,
                self.alias_name(chain).as_bytes(),
            )
        })();
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
            let mark = || -> Option<()> {
                let own = fs::open_dir(&self.dir, id.as_bytes()).ok()?;
                let text = root::read_small(&own, b"meta.json", 4096).ok()??;
                let at = text.windows(UNSYNCED.len()).position(|part| part == UNSYNCED)?;
                // In place: a new file for each snapshot is most of the end of a build with many small steps.
                let file = fs::open_write(&own, b"meta.json").ok()?;
                file.write_all_at(SYNCED, at as u64).ok()
            };
            // Without the mark it is merely unpacked again after a reboot.
            let _kept = mark();
        }
    }
}

/// Describes a snapshot, once. Nobody looks for it before its name is recorded; half a description is none.
pub(super) fn write_meta(own: &OwnedFd, meta: &Meta) -> Result<()> {
    let text = serde_json::to_vec(meta)
        .map_err(|error| Error::internal("JSON of a snapshot").cause(error))?;
    let made =
        fs::create_new(own, b"meta.json", 0o600).and_then(|mut file| write_all(&mut file, &text));
    environment(made, "describe a snapshot")
}
