//! What this process could do, which of it works, and doing it.

use super::trial::{self, Approach, Trial};
use super::{Account, IdMode, Isolation, Kind, Trees};
use crate::error::{Error, Result};
use crate::executor::refusal::Refusal;
use crate::sys::userns::{self, EnterError, IdMaps, Maps};
use crate::sys::{caps, owners, probe};
use std::path::Path;

/// Everything that was tried, in order.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What was tried and how it went.
    pub trials: Vec<(Approach, Trial)>,
    /// What was not even tried, and why.
    pub left_out: Vec<(&'static str, Refusal)>,
}

/// The approaches that make sense for this process, best first, and those that do not.
fn approaches(account: &Account) -> Examined {
    let root = rustix::process::geteuid().is_root();
    let many = userns::mapped_ids() > 1;
    let mut found = Examined { trials: Vec::new(), left_out: Vec::new() };
    let mut add = |approach| found.trials.push((approach, Trial::default()));
    let mut left_out = Vec::new();
    if root && many && caps::has(caps::CapSet::SYS_ADMIN) {
        add(Approach::Root);
    } else {
        let why = if !root {
            "this process is not root"
        } else if many {
            "root has no CAP_SYS_ADMIN here"
        } else {
            "there is only one user id"
        };
        left_out.push(("root", Refusal::said("building as root", why)));
    }
    let mapping = caps::CapSet::SETUID | caps::CapSet::SETGID | caps::CapSet::SETFCAP;
    if root && many && caps::has(mapping) {
        add(Approach::Namespace(Maps::Own));
    }
    match subordinate_maps(account) {
        Ok(maps) => add(Approach::Namespace(Maps::Helpers(maps))),
        Err(refusal) => left_out.push(("subordinate ids", refusal)),
    }
    add(Approach::Namespace(Maps::Single));
    if caps::has(caps::CapSet::SYS_CHROOT) {
        add(Approach::Chroot);
    } else {
        let why = "this process has no CAP_SYS_CHROOT";
        left_out.push(("chroot", Refusal::said("changing the root directory", why)));
    }
    found.left_out = left_out;
    found
}

/// Tries everything, for a report. `tmp` is a directory of the store.
pub fn examine(account: &Account, tmp: &Path) -> Examined {
    let mut found = approaches(account);
    for (approach, trial) in &mut found.trials {
        *trial = trial::of(approach, tmp);
    }
    found
}

/// The best approach that works and was not excluded by a wish. `tmp` is a directory of the store.
pub fn choose(account: &Account, tmp: &Path) -> Result<(Approach, Isolation)> {
    let mut examined = approaches(account);
    for at in 0..examined.trials.len() {
        let approach = examined.trials[at].0.clone();
        if !wanted(account, &approach) {
            continue;
        }
        let trial = trial::of(&approach, tmp);
        examined.trials[at].1 = trial.clone();
        let Some(kind) = trial.kind(&approach, account.kind) else { continue };
        let mut isolation = isolation(&approach, kind, &trial, &examined);
        isolation.trees = trees(account.trees, &isolation)?;
        return Ok((approach, isolation));
    }
    let error = nothing_works(account, &examined);
    if account.kind.is_some() || account.ids.is_some_and(|ids| ids != IdMode::Single) {
        return Err(error);
    }
    Ok((Approach::Files, only_files(error)))
}

/// What is left where no command can run.
fn only_files(error: Error) -> Isolation {
    Isolation {
        kind: Kind::Files,
        ids: IdMode::Single,
        user_namespace: false,
        own_ids: false,
        trees: Trees::Whole,
        no_overlay: None,
        devices: false,
        why_single: Some("no command can run".to_owned()),
        no_commands: Some(error),
    }
}

fn wanted(account: &Account, approach: &Approach) -> bool {
    let chroot = matches!(approach, Approach::Chroot);
    let ids = approach.ids();
    account.ids.is_none_or(|asked| asked == ids || (chroot && asked == IdMode::Single))
        && account.kind.is_none_or(|asked| chroot == (asked == Kind::Chroot))
}

/// The wish, where it is possible; without one overlayfs where that is.
fn trees(asked: Option<Trees>, isolation: &Isolation) -> Result<Trees> {
    let impossible = |refusal: String| {
        let name = asked.unwrap_or(Trees::Overlay).as_str();
        Error::environment(format!("`--snapshots {name}` is not possible here"))
            .cause(refusal)
            .hint("leave the flag out for what is possible")
    };
    match (asked, &isolation.no_overlay) {
        (Some(Trees::Whole), _) | (None, Some(_)) => Ok(Trees::Whole),
        (Some(Trees::Memory), _) if !isolation.kind.mounts() => {
            Err(impossible("the isolation `chroot` mounts nothing".to_owned()))
        }
        (Some(Trees::Memory), _) => Ok(Trees::Memory),
        (Some(Trees::Overlay), Some(refusal)) => Err(impossible(refusal.to_string())),
        (Some(Trees::Overlay) | None, None) => Ok(Trees::Overlay),
    }
}

fn isolation(approach: &Approach, kind: Kind, trial: &Trial, examined: &Examined) -> Isolation {
    let first = userns::is_initial();
    let user_namespace = matches!(approach, Approach::Namespace(_)) || !first;
    let why_single = (approach.ids() == IdMode::Single).then(|| why_single(examined));
    Isolation {
        kind,
        ids: approach.ids(),
        user_namespace,
        own_ids: matches!(approach, Approach::Namespace(Maps::Own)),
        trees: Trees::Overlay,
        no_overlay: trial.overlay.clone().err(),
        devices: trial.devices && (!user_namespace || kind == Kind::Chroot),
        why_single,
        no_commands: None,
    }
}

/// Few words: why there are no subordinate ids.
fn why_single(examined: &Examined) -> String {
    let helpers = examined.trials.iter().find_map(|(approach, trial)| match approach {
        Approach::Namespace(Maps::Helpers(_)) => trial.refused.clone(),
        _ => None,
    });
    let left_out = examined.left_out.iter().find(|(name, _)| *name == "subordinate ids");
    match (helpers, left_out) {
        (Some(refusal), _) if refusal.error.starts_with("cannot start") => {
            "no newuidmap".to_owned()
        }
        (Some(_), _) => "newuidmap fails".to_owned(),
        (None, Some((_, refusal))) => refusal.doing.clone(),
        (None, None) => "asked for".to_owned(),
    }
}

/// Enters what [`choose`] chose. Must be called from a single-threaded process.
pub fn enter(account: &Account, tmp: &Path) -> Result<Isolation> {
    let (approach, isolation) = choose(account, tmp)?;
    match approach {
        Approach::Root => userns::enter_mount_namespace().map_err(|error| {
            Error::environment("cannot make a mount namespace").cause(error).hint(
                "a container needs CAP_SYS_ADMIN for builds as root; as an ordinary user it does not",
            )
        })?,
        Approach::Namespace(maps) => {
            enter_namespace(&maps)?;
            if isolation.ids == IdMode::Single {
                owners::keep();
            }
        }
        Approach::Chroot => {
            if isolation.ids == IdMode::Single {
                owners::keep();
            }
        }
        Approach::Files => owners::keep_all(),
    }
    Ok(isolation)
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

/// The error when no approach works: what was tried, and the one thing that would help most.
fn nothing_works(account: &Account, examined: &Examined) -> Error {
    let tried = || examined.trials.iter().filter(|(approach, _)| wanted(account, approach));
    let asked = [
        account.kind.map(|kind| format!("`--isolation {}`", kind.as_str())),
        account.ids.map(|ids| format!("`--ids {}`", ids.as_str())),
    ];
    let asked: Vec<String> = asked.into_iter().flatten().collect();
    let mut error = if asked.is_empty() {
        Error::environment(
            "this machine lets nobody run commands in a root file system of their own",
        )
    } else {
        Error::environment(format!("{} is not possible here", asked.join(" with ")))
    };
    let refusals: Vec<&Refusal> =
        tried().flat_map(|(_, trial)| trial.refusals(account.kind)).collect();
    let namespace = refusals.iter().find(|refusal| refusal.doing == trial::USER_NAMESPACE);
    let denied = namespace.map(|refusal| refusal.errno());
    for (name, refusal) in &examined.left_out {
        let of_use = match *name {
            "root" => account.ids == Some(IdMode::Real),
            "chroot" => account.kind == Some(Kind::Chroot) || asked.is_empty(),
            // More ids are of no use where no namespace can have them.
            _ => {
                denied.is_none()
                    && account.ids.is_none_or(|ids| ids == IdMode::Range)
                    && account.kind != Some(Kind::Chroot)
            }
        };
        if of_use {
            error = error.cause(refusal.to_string());
        }
    }
    for refusal in refusals {
        let text = refusal.to_string();
        if !error.causes().contains(&text) {
            error = error.cause(text);
        }
    }
    let error = match denied {
        Some(errno) => error.hint(probe::why_no_user_namespace(errno)),
        None => error,
    };
    if asked.is_empty() {
        error.hint("`nativebuild doctor` says what each would need; a Dockerfile without RUN builds anywhere")
    } else {
        error.hint("leave the flag out for the best that is possible; `nativebuild doctor` says why it is that")
    }
}

fn subordinate_maps(account: &Account) -> std::result::Result<IdMaps, Refusal> {
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
        return Err(Refusal::said(
            format!("no range in {file}"),
            format!(
                "there is none for user `{who}`; as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}`"
            ),
        ));
    }
    Ok(IdMaps { uids: userns::range_map(uid, &uids), gids: userns::range_map(gid, &gids) })
}
