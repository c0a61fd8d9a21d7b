//! What a user may set for all RUNs of a build: names in /etc/hosts, the size of /dev/shm, limits. Plain data.

use serde::{Deserialize, Serialize};

/// Settings of all RUNs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSettings {
    /// Further lines of /etc/hosts: name and address.
    pub hosts: Vec<(String, String)>,
    /// Bytes of /dev/shm; 64 MiB when not given.
    pub shm_size: Option<u64>,
    /// Limits of the command.
    pub limits: Vec<Limit>,
    /// `fsync` and its like wait for the disk. Changes nothing of a result, so it is in no key.
    pub keep_fsync: bool,
}

/// One limit of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// One of [`crate::sys::limits::names`].
    pub name: String,
    /// What the command starts with.
    pub soft: u64,
    /// How far it may raise that.
    pub hard: u64,
}
