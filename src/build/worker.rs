//! What a build needs to run steps: its isolation, a spawner, snapshots. Made once, on the first step that is not
//! cached, while the process still has one thread.

use super::beforehand;
use super::heal::Unfit;
use super::scratch::SharedFiles;
use super::store::Store;
use super::stubs::Stubs;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::emulation::Places;
use crate::executor::emulation::ways::Ways;
use crate::executor::isolation::{self, Account, IdMode, Isolation, Kind, Trees};
use crate::executor::network::{self, Connector};
use crate::executor::sandbox::Cancel;
use crate::executor::spawner::Spawner;
use crate::layers::snapshot::{Form, Snapshots};
use crate::layers::whiteout::XattrFlavour;
use crate::sys::mount::{self, MountFlags};
use crate::sys::sweeper::Sweeper;
use crate::sys::{SysResultExt, owners, process, signals};
use crate::timings::Timings;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// The privileged half of a build.
#[derive(Debug)]
pub struct Worker {
    /// Isolation that was entered.
    pub isolation: Isolation,
    /// Whoever builds is not root, though this process may look like it by now.
    pub as_user: bool,
    /// How foreign programs run. Before the spawner, which waits for those that were made through it.
    pub ways: Ways,
    /// Clones RUNs.
    pub spawner: Spawner,
    /// Trees.
    pub snapshots: Snapshots,
    /// What connects the network of RUNs, when it is not the host's.
    pub connector: Option<Connector>,
    /// Stops everything.
    pub cancel: Arc<Cancel>,
    /// Records where time goes.
    pub timings: Timings,
    /// Files that all RUNs share.
    pub shared_files: SharedFiles,
    /// Mount targets that RUNs miss.
    pub stubs: Stubs,
    /// Removes what is not needed any more.
    pub sweeper: Arc<Sweeper>,
    /// Layers that could not be unpacked.
    pub unfit: Unfit,
    /// Threads that unpack layers before it is their turn.
    pub(super) helpers: AtomicUsize,
}

impl Worker {
    /// Enters the namespaces, forks the spawner and starts watching for signals. Single-threaded callers only.
    pub fn enter(store: &Store, account: &Account, emulators: &Places) -> Result<Self> {
        let as_user = !rustix::process::geteuid().is_root();
        let isolation = isolation::enter(account, &store.sub("tmp"))?;
        let spawner = Spawner::start(beforehand::pack).map_err(|error| {
            Error::environment("cannot start the process that runs commands").cause(error)
        })?;
        // Only now: commands inherit the limits of the spawner.
        process::raise_file_limit();
        let xattrs =
            if isolation.user_namespace { XattrFlavour::User } else { XattrFlavour::Trusted };
        let flavour = match (isolation.ids, isolation.user_namespace) {
            (IdMode::Real, _) if isolation.kind == Kind::Chroot => "chroot",
            (IdMode::Real, false) => "real",
            (IdMode::Real, true) => "nested",
            (IdMode::Range, _) if isolation.own_ids => "own",
            (IdMode::Range, _) => "range",
            (IdMode::Single, _) if isolation.kind == Kind::Files => "files",
            (IdMode::Single, _) => "single",
        };
        // A descriptor from before belongs to the mount namespace that we left; overlayfs takes none of those.
        let dir = crate::sys::fs::open_dir_path(store.path())
            .map_err(|error| Error::environment("cannot open the store").cause(error))?;
        let form = match isolation.trees {
            Trees::Overlay => Form::Overlay(xattrs),
            Trees::Memory => {
                in_memory(store)?;
                Form::Overlay(xattrs)
            }
            Trees::Whole => Form::Whole { mounts: isolation.kind.mounts() },
        };
        let sweeper = Arc::<Sweeper>::default();
        let shared_files = SharedFiles::new(store.sub("tmp"), &sweeper);
        let stubs = Stubs::new(store.sub("tmp"), &sweeper);
        let snapshots = Snapshots::open(dir.as_fd(), flavour, form, &sweeper)?;
        let cancel = Arc::new(Cancel::new()?);
        let watched = Arc::clone(&cancel);
        signals::watch_signals(move |signal| watched.signalled(signal))
            .map_err(|error| Error::environment("cannot watch for signals").cause(error))?;
        let ways = Ways::new(emulators.clone());
        Ok(Self {
            isolation,
            as_user,
            ways,
            spawner,
            snapshots,
            connector: None,
            cancel,
            timings: Timings::default(),
            shared_files,
            stubs,
            sweeper,
            unfit: Unfit::default(),
            helpers: AtomicUsize::new(0),
        })
    }

    /// Whether files can have owners. With one id for all they are recorded in extended attributes, which a file system
    /// may not have, and which Nix's filter of system calls refuses to its builders.
    pub fn keeps_owners(&self, store: &Store) -> Result<bool> {
        let what = || "cannot make a file in the store".to_owned();
        let probe =
            tempfile::tempfile_in(store.sub("tmp")).or_error(ErrorKind::Environment, what)?;
        owners::can_record(&probe).or_error(ErrorKind::Environment, what)
    }

    /// Gives RUNs a network of their own where that is possible; says which it is, or why it is the host's.
    pub(super) fn connect(&mut self, path: &[PathBuf]) -> String {
        if !self.isolation.kind.mounts() {
            return "host".to_owned();
        }
        let found = network::find(path);
        let made = found.and_then(|connector| match self.spawner.network(&connector) {
            Ok(_) => Ok(connector),
            Err(refusal) => Err(refusal.to_string()),
        });
        match made {
            Ok(connector) => self.connector.insert(connector).kind.as_str().to_owned(),
            Err(why) => format!("host ({why})"),
        }
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

/// Hides the snapshots of the store behind a file system in memory, for us alone. It goes with this process.
fn in_memory(store: &Store) -> Result<()> {
    let what = || "cannot keep snapshots in memory".to_owned();
    let made = mount::new_mount("tmpfs", &[("mode", "700")], MountFlags::default())
        .or_error(ErrorKind::Environment, what)?;
    let path = store.sub("snapshots");
    mount::attach(&made, rustix::fs::CWD, path.as_os_str().as_bytes())
        .or_error(ErrorKind::Environment, what)
}
