//! Choosing and entering the isolation of a build: once, before the first thread.
//!
//! In: who builds, what was asked for, where the store is. [`choose`] tries what this machine allows in forked children
//! ([`trial`]), strongest first; [`enter`] then does it in this process. Nothing is remembered: a container may have
//! been given other rights since. Reasons and measurements: docs/run-sandbox.md.

pub mod advice;
mod choice;
pub mod facts;
pub mod trial;

pub use choice::{Examined, choose, enter, examine};

use super::refusal::Refusal;
use crate::error::Error;
use serde::{Deserialize, Serialize};

/// Who the ids in the rootfs are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMode {
    /// The same: we are root.
    Real,
    /// Many ids in a user namespace: subordinate ones by newuidmap, or our own where we may map them.
    Range,
    /// One id in a user namespace: owners are kept in an extended attribute ([`crate::sys::owners`]).
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

/// How a RUN is kept apart from what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Namespaces of its own for mounts, processes, IPC and host name.
    Namespaces,
    /// The same without one for processes: where no new /proc can be mounted.
    SharedPid,
    /// A changed root directory, no namespace.
    Chroot,
    /// No command can run; files can be copied, owners and modes are kept beside them.
    Files,
}

impl Kind {
    /// Name for `--isolation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::SharedPid => "shared-pid",
            Self::Chroot => "chroot",
            Self::Files => "none",
        }
    }

    /// Whether anything can be mounted.
    pub fn mounts(self) -> bool {
        matches!(self, Self::Namespaces | Self::SharedPid)
    }
}

/// How the trees of a build are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trees {
    /// The difference of each step, stacked by overlayfs.
    Overlay,
    /// The whole tree, handed on from step to step.
    Whole,
    /// Like [`Trees::Overlay`], in memory.
    Memory,
}

impl Trees {
    /// Name for `--snapshots`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Whole => "whole",
            Self::Memory => "memory",
        }
    }
}

/// What was chosen and entered.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// How RUNs are kept apart.
    pub kind: Kind,
    /// Ids.
    pub ids: IdMode,
    /// In a user namespace that is not the first: overlay keeps `user.*` marks, device nodes cannot be made.
    pub user_namespace: bool,
    /// Ids are our own ones in a namespace below ours, not subordinate ones.
    pub own_ids: bool,
    /// How trees are kept.
    pub trees: Trees,
    /// Why overlayfs cannot be used on the store; `None` where it can.
    pub no_overlay: Option<Refusal>,
    /// Device nodes can be made.
    pub devices: bool,
    /// Why it is not a better one: short, for the line that says what is used.
    pub why_single: Option<String>,
    /// Why no command can run; `None` where it can.
    pub no_commands: Option<Error>,
}

impl Isolation {
    /// Whether files stand for device nodes: where no real ones can be made, and where nothing keeps a command from
    /// opening them, since no mount says `nodev`.
    pub fn placeholders(&self) -> bool {
        self.user_namespace || !self.kind.mounts()
    }

    /// For the line that says what is used.
    pub fn shown(&self) -> String {
        let why = self.why_single.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        let mut text =
            format!("isolation: {}, ids: {}{why}", self.kind.as_str(), self.ids.as_str());
        if self.trees != Trees::Overlay {
            text += &format!(", snapshots: {}", self.trees.as_str());
        }
        text
    }
}

/// What the caller knows about this user, and what was asked for; read from the environment by `cli`.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Name of the user, for /etc/subuid.
    pub name: Option<String>,
    /// `--ids`, when given.
    pub ids: Option<IdMode>,
    /// `--isolation`, when given.
    pub kind: Option<Kind>,
    /// `--snapshots`, when given.
    pub trees: Option<Trees>,
    /// The default network of RUNs is the host's, whatever else there is.
    pub host_network: bool,
}
