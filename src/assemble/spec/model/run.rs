//! What a spec says of commands: which there are, and how they run.

use super::Placed;
use crate::source::Span;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Commands of a spec, in the order in which they run.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    /// `runAsRoot`.
    pub run_as_root: Option<Placed<String>>,
    /// `extraCommands`.
    pub extra: Option<Placed<String>>,
    /// `fakeRootCommands`.
    pub fake_root: Option<Placed<String>>,
}

impl Scripts {
    /// Whether there is anything to run.
    pub fn is_some(&self) -> bool {
        self.run_as_root.is_some() || self.extra.is_some() || self.fake_root.is_some()
    }
}

/// `run`.
#[derive(Clone, Debug)]
pub struct Run {
    /// `none` (without the key) or `host`.
    pub network: String,
    /// Further mounts of `runAsRoot`.
    pub mounts: Vec<RunMount>,
    /// What runs the scripts; `/bin/sh -e` without the key.
    pub shell: Vec<String>,
    /// Seconds until they are ended; none: never.
    pub timeout: Option<u64>,
    /// File systems in memory, absolute paths.
    pub tmpfs: Vec<String>,
    /// Further variables.
    pub env: BTreeMap<String, String>,
}

/// A mount of `runAsRoot`.
#[derive(Clone, Debug)]
pub enum RunMount {
    /// `type: store`: this machine's `/nix/store`, read-only.
    Store(Span),
    /// `type: bind`: a directory of this machine, read-only.
    Bind {
        /// On this machine, relative to the spec's directory.
        source: Placed<PathBuf>,
        /// In the image.
        target: String,
    },
}
