//! What could not be done and what the kernel said, as data: it crosses from a forked child to the builder.

use crate::sys::SysError;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A refused attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was being done, for example `making a user namespace`.
    pub doing: String,
    /// The failed call and what the kernel (or a helper program) said.
    pub error: String,
    /// Number of that error; 0 when a helper program refused.
    pub errno: i32,
}

impl Refusal {
    /// Of a failed call.
    pub fn new(doing: impl Into<String>, error: &SysError) -> Self {
        let errno = error.errno.raw_os_error();
        Self { doing: doing.into(), error: error.to_string(), errno }
    }

    /// Without a call.
    pub fn said(doing: impl Into<String>, error: impl Into<String>) -> Self {
        Self { doing: doing.into(), error: error.into(), errno: 0 }
    }

    /// The number as the kernel's error.
    pub fn errno(&self) -> Errno {
        Errno::from_raw_os_error(self.errno)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.doing, self.error)
    }
}
