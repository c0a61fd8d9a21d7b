//! Carries out one step on a mounted rootfs. Knows neither Dockerfiles nor layers: it gets a directory, a list of
//! mounts and a command ([`RunSpec`]), all plain data.
//!
//! [`spawner`] is a small single-threaded process forked before any thread; it clones each RUN. [`init`] is what runs in
//! the clone: it does the mount list, pivots, and becomes process 1 of the RUN. [`sandbox`] is the builder's side:
//! output, cancelling, waiting. [`copy`] is COPY and ADD, done by the builder itself. [`user`] reads the rootfs's own
//! passwd and group. [`supervisor`] answers system calls of a RUN where there is one user id only. [`emulation`] is about programs of other architectures.

pub mod copy;
pub mod emulation;
pub mod init;
pub mod isolation;
pub mod mounts;
pub mod network;
mod path_bytes;
pub mod plant;
pub mod program;
pub mod refusal;
pub mod sandbox;
pub mod settings;
pub mod spawner;
pub mod supervisor;
pub mod user;

use crate::sys::landlock;
use crate::sys::process::Ended;
use crate::sys::seccomp::Supervise;
use crate::sys::usage::Spent;
use mounts::MountOp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Host name in a RUN (dockerfile.md §1.8).
pub const HOSTNAME: &str = "buildkitsandbox";

/// A command to run in a rootfs, as data. Descriptors travel beside it, see [`spawner`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment, in order; nothing of the host's is added.
    pub env: Vec<(String, String)>,
    /// Working directory in the rootfs, absolute.
    pub cwd: String,
    /// User id in the rootfs.
    pub uid: u32,
    /// Group id in the rootfs.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// How it is kept apart.
    pub kind: isolation::Kind,
    /// What to mount, in order.
    pub mounts: Vec<MountOp>,
    /// Which network it is on.
    pub network: Net,
    /// An empty directory on which the rootfs is attached, in a mount namespace of its own.
    #[serde(with = "path_bytes")]
    pub staging: PathBuf,
    /// All capabilities, no seccomp filter, nothing masked.
    pub insecure: bool,
    /// `uname -m` says the 32-bit machine, for 32-bit programs on a 64-bit kernel.
    pub personality32: bool,
    /// What `hostname` says.
    pub hostname: String,
    /// Limits of the command.
    pub limits: Vec<settings::Limit>,
    /// Waiting for the disk is not done away with.
    pub keep_fsync: bool,
    /// Another RUN that needs the same is likely to come soon; nothing but time depends on it.
    pub another_follows: bool,
    /// Which calls a supervisor answers.
    pub supervise: Supervise,
    /// Extended attribute in which a file records the device node that it stands for.
    pub placeholder: String,
}

impl RunSpec {
    /// Whether somebody answers system calls of the command.
    pub fn is_supervised(&self) -> bool {
        self.supervise != Supervise::None || self.guards_signals()
    }

    /// Whether the command's signals could reach others, and the kernel cannot keep them from it. Where it can, nobody is
    /// asked: a call that waits for an answer can be interrupted by a signal, as `kill` else never is.
    pub fn guards_signals(&self) -> bool {
        self.kind != isolation::Kind::Namespaces && landlock::version() < landlock::SIGNALS
    }
}

/// The network of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Net {
    /// That of the builder.
    Host,
    /// A loopback interface of its own.
    None,
    /// One that is open, by its number among the descriptors that travel with the spec.
    Joined(usize),
}

/// Something in a tree that must not stay there when the builder is killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bequest {
    /// Path in the tree.
    pub path: String,
    /// Where it goes, outside of the tree; removed without.
    #[serde(with = "path_bytes::optional")]
    pub home: Option<PathBuf>,
}

/// What the process in the sandbox tells the builder, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The command ended.
    Ended {
        /// In this way.
        how: Ended,
        /// What it and its children needed.
        spent: Spent,
        /// Nobody of the RUN is alive but the process that says this: its files do not change any more.
        quiet: bool,
    },
    /// The sandbox could not be set up: what was being done, and what the kernel said.
    SetUp {
        /// For example `mounting /proc`.
        doing: String,
        /// The failed call.
        error: String,
    },
    /// The program could not be started.
    Exec {
        /// Shell convention: 126 found but not runnable, 127 not found.
        code: i32,
        /// Why.
        error: String,
    },
}
