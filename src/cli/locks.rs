//! `--lock` and `--locked`: which file they mean (docs/offline.md).

use super::args::BuildArgs;
use super::contexts::path_of_dockerfile;
use crate::build::lock::{FILE_NAME, LockMode, Locks};
use crate::error::{Error, Result};
use crate::oci::git_url::{GitUrl, is_http};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What the two flags ask for.
pub(super) fn mode(lock: bool, locked: bool) -> LockMode {
    match (lock, locked) {
        (_, true) => LockMode::Required,
        (true, false) => LockMode::Update,
        (false, false) => LockMode::Off,
    }
}

/// The lock file of a build.
pub(super) fn open(args: &BuildArgs) -> Result<Arc<Locks>> {
    let mode = mode(args.lock, args.locked);
    if mode == LockMode::Off {
        return Ok(Locks::off());
    }
    open_as(args, mode, if args.lock { "--lock" } else { "--locked" })
}

/// The same for whatever is asked of it by `flag`.
pub(super) fn open_as(args: &BuildArgs, mode: LockMode, flag: &str) -> Result<Arc<Locks>> {
    let path = path(args).ok_or_else(|| {
        Error::usage(format!("there is no place for a lock file, and `{flag}` needs one"))
            .cause("it lies beside the Dockerfile, which is on standard input or elsewhere")
            .hint("a Git context is fixed by the name of its commit, a Dockerfile elsewhere by a copy of it")
    })?;
    Locks::open(mode, &path, BTreeSet::new())
}

/// Where the lock file of a build is or would be; `None` when the Dockerfile is not in a directory of this machine.
pub(super) fn path(args: &BuildArgs) -> Option<PathBuf> {
    let text = args.context.to_string_lossy();
    if text == "-" || is_http(&text) || GitUrl::parse_context(&text).is_some() {
        return None;
    }
    let path = path_of_dockerfile(args)?.with_file_name(FILE_NAME);
    Some(path.strip_prefix("./").unwrap_or(&path).to_owned())
}
