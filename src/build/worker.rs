//! What a build needs to run steps: its isolation, a spawner, snapshots. Made once, on the first step that is not
//! cached, while the process still has one thread.

use super::store::Store;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::executor::emulation::ways::Ways;
use crate::executor::namespace::{self, Account, IdMode, Isolation};
use crate::executor::sandbox::Cancel;
use crate::executor::spawner::Spawner;
use crate::layers::snapshot::Snapshots;
use crate::layers::whiteout::XattrFlavour;
use crate::sys::{process, signals};
use std::os::fd::AsFd;
use std::sync::Arc;

/// The privileged half of a build.
#[derive(Debug)]
pub struct Worker {
    /// Isolation that was entered.
    pub isolation: Isolation,
    /// How foreign programs run. Before the spawner, which waits for those that were made through it.
    pub ways: Ways,
    /// Clones RUNs.
    pub spawner: Spawner,
    /// Trees.
    pub snapshots: Snapshots,
    /// Stops everything.
    pub cancel: Arc<Cancel>,
}

impl Worker {
    /// Enters the namespaces, forks the spawner and starts watching for signals. Single-threaded callers only.
    pub fn enter(store: &Store, account: &Account, emulators: &Places) -> Result<Self> {
        let isolation = namespace::enter(account)?;
        let spawner = Spawner::start().map_err(|error| {
            Error::environment("cannot start the process that runs commands").cause(error)
        })?;
        // Only now: commands inherit the limits of the spawner.
        process::raise_file_limit();
        let xattrs =
            if isolation.user_namespace { XattrFlavour::User } else { XattrFlavour::Trusted };
        let flavour = match (isolation.ids, isolation.user_namespace) {
            (IdMode::Real, false) => "real",
            (IdMode::Real, true) => "nested",
            (IdMode::Range, _) => "range",
        };
        // A descriptor from before belongs to the mount namespace that we left; overlayfs takes none of those.
        let dir = crate::sys::fs::open_dir_path(store.path())
            .map_err(|error| Error::environment("cannot open the store").cause(error))?;
        let snapshots = Snapshots::open(dir.as_fd(), flavour, xattrs)?;
        let cancel = Arc::new(Cancel::new()?);
        let watched = Arc::clone(&cancel);
        signals::watch_signals(move |signal| watched.signalled(signal))
            .map_err(|error| Error::environment("cannot watch for signals").cause(error))?;
        let ways = Ways::new(emulators.clone());
        Ok(Self { isolation, ways, spawner, snapshots, cancel })
    }

    /// Removes what a directory of the store holds under `name`, from inside the namespaces in which its owner may.
    pub fn remove(&self, store: &Store, dir: &str, name: &str) -> Result<()> {
        let what = |error: crate::sys::SysError| {
            Error::environment(format!("cannot remove {dir}/{name} from the store")).cause(error)
        };
        let parent = crate::sys::fs::open_dir(store.dir(), dir.as_bytes()).map_err(what)?;
        crate::sys::fs::remove_tree(&parent, name.as_bytes()).map_err(what)
    }
}
