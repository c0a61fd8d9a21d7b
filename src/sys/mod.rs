//! Linux as safe functions: the only room with `unsafe`. Knows no image, no Dockerfile.
//!
//! Every wrapper takes and gives owned or borrowed descriptors, opens close-on-exec, does not follow a last
//! symbolic link unless its name says so, and fails with a [`SysError`] that prints the call and its arguments (names, not
//! numbers of descriptors, which mean nothing to a user).

pub mod binfmt;
pub mod caps;
pub mod fork;
pub mod fs;
pub mod landlock;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod mounts;
pub mod netlink;
pub mod notify;
pub mod owners;
pub mod probe;
pub mod process;
pub mod root;
pub mod seccomp;
pub mod signals;
pub mod sweeper;
pub mod usage;
pub mod userns;
pub mod writeback;

use rustix::io::Errno;
use std::fmt;

/// A failed system call: the call as text, and the error number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysError {
    /// For example `openat2("etc/passwd", IN_ROOT)`.
    pub call: String,
    /// What the kernel said.
    pub errno: Errno,
}

/// Result of a system call.
pub type SysResult<T> = Result<T, SysError>;

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        write!(f, "{}: {text}", self.call)
    }
}

impl std::error::Error for SysError {}

impl From<SysError> for std::io::Error {
    fn from(error: SysError) -> Self {
        std::io::Error::from(error.errno)
    }
}

/// Names the call of a failed rustix or nix function.
pub trait Named<T> {
    /// `call` is only evaluated on failure.
    fn named(self, call: impl FnOnce() -> String) -> SysResult<T>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, call: impl FnOnce() -> String) -> SysResult<T> {
        self.map_err(|errno| SysError { call: call(), errno })
    }
}

impl<T> Named<T> for nix::Result<T> {
    fn named(self, call: impl FnOnce() -> String) -> SysResult<T> {
        self.map_err(|errno| SysError {
            call: call(),
            errno: Errno::from_raw_os_error(errno as i32),
        })
    }
}

/// Turns a failed call into an [`crate::error::Error`] of a kind, saying what was being done.
pub trait SysResultExt<T> {
    /// A full disk becomes an environment error whatever `kind` says.
    fn or_error(
        self,
        kind: crate::error::ErrorKind,
        message: impl FnOnce() -> String,
    ) -> crate::error::Result<T>;
}

impl<T> SysResultExt<T> for SysResult<T> {
    fn or_error(
        self,
        kind: crate::error::ErrorKind,
        message: impl FnOnce() -> String,
    ) -> crate::error::Result<T> {
        use crate::error::{Error, ErrorKind};
        self.map_err(|error| {
            let full = matches!(error.errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS);
            let kind = if full { ErrorKind::Environment } else { kind };
            let shown = Error::new(kind, message()).cause(&error);
            if full {
                return shown.hint(
                    "free some space or choose another store with `--root`; nothing was damaged",
                );
            }
            shown
        })
    }
}
