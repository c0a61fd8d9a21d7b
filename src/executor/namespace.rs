//! Choosing and entering the isolation of a build: once, before the first thread.
//!
//! `real` when this is the true root, a range map of subordinate ids else. Root inside somebody's user namespace
//! (with many ids) is `real` too, but counts as a user namespace for overlay and device nodes.

use crate::error::{Error, Result};
use crate::sys::userns::{self, EnterError, IdMaps, Maps};
use crate::sys::{caps, probe};

/// Who the ids in the rootfs are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMode {
    /// The same: we are root.
    Real,
    /// Many ids in a user namespace: subordinate ones by newuidmap, or our own where we may map them.
    Range,
    /// One id in a user namespace: owners are kept in an extended attribute ([`crate::layers::OWNER_XATTR`]).
    Single,
}

impl IdMode {
    /// Name for `--ids`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Range => "range",
            Self::Single => "single",
        }
    }
}

/// What was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// Ids.
    pub ids: IdMode,
    /// In a user namespace that is not the first: overlay keeps `user.*` marks, device nodes cannot be made.
    pub user_namespace: bool,
}

/// What the caller knows about this user; read from the environment by `cli`.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Name of the user, for /etc/subuid.
    pub name: Option<String>,
    /// `--ids`, when given.
    pub ids: Option<IdMode>,
}

/// Which mode would be entered; changes nothing.
pub fn choose(account: &Account) -> Result<Isolation> {
    let root = rustix::process::geteuid().is_root() && caps::has(caps::CapSet::SYS_ADMIN);
    let real = Isolation { ids: IdMode::Real, user_namespace: !userns::is_initial() };
    let range = Isolation { ids: IdMode::Range, user_namespace: true };
    match (account.ids, root) {
        (None | Some(IdMode::Real), true) if userns::mapped_ids() > 1 => Ok(real),
        (Some(IdMode::Real), _) => Err(Error::environment(
            "ids `real` need root with CAP_SYS_ADMIN and more than one user id",
        )
        .hint("leave `--ids` out, or run as root")),
        (Some(IdMode::Single), _) => Ok(Isolation { ids: IdMode::Single, user_namespace: true }),
        _ => Ok(range),
    }
}

/// Enters the mode of [`choose`]. Must be called from a single-threaded process.
pub fn enter(account: &Account) -> Result<Isolation> {
    let isolation = choose(account)?;
    match isolation.ids {
        IdMode::Real => userns::enter_mount_namespace().map_err(|error| {
            Error::environment("cannot make a mount namespace").cause(error).hint(
                "a container needs CAP_SYS_ADMIN for builds as root; as an ordinary user it does not",
            )
        })?,
        IdMode::Range => enter_range(account)?,
        IdMode::Single => enter_namespace(&Maps::Single)?,
    }
    Ok(isolation)
}

fn enter_range(account: &Account) -> Result<()> {
    enter_namespace(&Maps::Helpers(subordinate_maps(account)?))
}

fn enter_namespace(maps: &Maps) -> Result<()> {
    userns::enter_user_namespace(maps).map_err(|error| match error {
        EnterError::Unshare(error) => Error::environment("cannot make a user namespace")
            .cause(&error)
            .hint(probe::why_no_user_namespace(error.errno)),
        EnterError::Helper(said) => Error::environment("newuidmap or newgidmap failed")
            .cause(said)
            .hint("install the package `uidmap`; its programs must be set-uid root or have CAP_SETUID"),
        EnterError::Mount(error) => {
            Error::environment("cannot make mounts private in the new namespace").cause(error)
        }
    })
}

fn subordinate_maps(account: &Account) -> Result<IdMaps> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let name = account.name.as_deref();
    let ranges = |file: &str| {
        probe::read_host_file(file)
            .map(|text| userns::subordinate_ranges(&text, name, uid))
            .unwrap_or_default()
    };
    let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    if uids.is_empty() || gids.is_empty() {
        let file = if uids.is_empty() { "/etc/subuid" } else { "/etc/subgid" };
        let who = name.map_or_else(|| uid.to_string(), str::to_owned);
        return Err(Error::environment(format!("{file} has no range of ids for user `{who}`"))
            .hint(format!(
                "as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}`"
            )));
    }
    Ok(IdMaps { uids: userns::range_map(uid, &uids), gids: userns::range_map(gid, &gids) })
}
