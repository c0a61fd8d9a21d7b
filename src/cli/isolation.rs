//! `--isolation` and `--ids`: which isolation a user wishes, for all verbs that run commands.

use super::environment::Environment;
use crate::error::{Error, Result};
use crate::executor::isolation::{Account, IdMode, Kind, Trees};
use crate::progress::Emitter;
use clap::{Args, ValueEnum};

/// What the default network is.
const NETWORK: &str = "NATIVEBUILD_NETWORK";

/// How RUNs are kept apart.
#[derive(Debug, Args)]
pub struct IsolationArgs {
    /// Isolation of RUN: auto, namespaces, shared-pid or chroot
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub isolation: String,
    /// Who the users of the image are on this machine [default: the first that is possible]
    #[arg(long, value_enum)]
    pub ids: Option<Ids>,
    /// How the trees of a build are kept [default: overlay where that is possible, else whole]
    #[arg(long, value_enum, value_name = "HOW")]
    pub snapshots: Option<Snapshots>,
}

/// `--snapshots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Snapshots {
    /// The difference of each step, stacked by overlayfs
    Overlay,
    /// The whole tree, handed on from step to step
    Whole,
    /// Like overlay, in memory; gone when the build ends
    Memory,
}

/// `--ids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// The same as on this machine (root only)
    Real,
    /// Many ids in a user namespace: those of /etc/subuid, or root's own
    Range,
    /// One id; owners are kept beside the files
    Single,
}

impl IsolationArgs {
    /// Who builds, and how.
    pub(super) fn account(&self, environment: &Environment, emitter: &Emitter) -> Result<Account> {
        let ids = self.ids.map(|ids| match ids {
            Ids::Real => IdMode::Real,
            Ids::Range => IdMode::Range,
            Ids::Single => IdMode::Single,
        });
        let trees = self.snapshots.map(|form| match form {
            Snapshots::Overlay => Trees::Overlay,
            Snapshots::Whole => Trees::Whole,
            Snapshots::Memory => Trees::Memory,
        });
        let host_network = match environment.text(NETWORK).as_deref() {
            None | Some("" | "auto") => false,
            Some("host") => true,
            Some(other) => {
                return Err(Error::usage(format!("{NETWORK} is `{other}`"))
                    .hint("it can be `auto` or `host`, and says what `--network default` means"));
            }
        };
        Ok(Account {
            ids,
            trees,
            host_network,
            kind: kind(&self.isolation, emitter)?,
            ..environment.account()
        })
    }
}

/// Docker's and buildah's values mean `auto` (design §10.5).
fn kind(name: &str, emitter: &Emitter) -> Result<Option<Kind>> {
    match name {
        "auto" => Ok(None),
        "namespaces" => Ok(Some(Kind::Namespaces)),
        "shared-pid" => Ok(Some(Kind::SharedPid)),
        "chroot" => Ok(Some(Kind::Chroot)),
        "default" | "oci" | "rootless" | "process" | "hyperv" => {
            emitter.warn(format!("`--isolation {name}` is another builder's name; `auto` is used"));
            Ok(None)
        }
        other => Err(Error::usage(format!("unknown isolation `{other}`"))
            .hint("the names are `auto`, `namespaces`, `shared-pid` and `chroot`")),
    }
}
