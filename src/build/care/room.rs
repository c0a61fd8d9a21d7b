//! The limit of a store: a build that would exceed it first removes what nobody uses, and then fails.
//!
//! What is being written counts. It is looked at before the build, after each image that was pulled, after each step and
//! for each layer before it gets its name; so a store is larger than its limit at most while some of them are written.

use super::prune::{self, Policy};
use super::usage;
use crate::build::store::Store;
use crate::error::{Error, Result};
use crate::progress::Emitter;

/// Fails when the store has no room for what is in it.
pub fn check(store: &Store, emitter: &Emitter) -> Result<()> {
    let Some(limit) = store.limit() else { return Ok(()) };
    if whole(store)? <= limit {
        return Ok(());
    }
    let policy = Policy { keep: Some(limit), own: true, ..Policy::default() };
    let pruned = prune::run(store, &policy)?;
    if pruned.bytes() > 0 {
        let freed = pruned.bytes();
        emitter.note(format!("the store is at its limit: removed {freed} bytes that nothing uses"));
    }
    if pruned.left <= limit {
        return Ok(());
    }
    Err(Error::environment(format!(
        "the store {} would be larger than its limit",
        store.path().display()
    ))
    .cause(format!("the limit is {limit} bytes, and what is named or in use has {}", pruned.left))
    .hint("`nativebuild image du` shows what is there, `image rm` and `prune` remove it; `--max-store` is the limit"))
}

/// Brings a store under its limit after a build that failed, whose own things nobody needs.
pub fn settle(store: &Store) {
    if let Some(limit) = store.limit()
        && whole(store).is_ok_and(|whole| whole > limit)
    {
        let policy = Policy { keep: Some(limit), ..Policy::default() };
        // The error of the build is the one to show.
        let _best_effort = prune::run(store, &policy);
    }
}

fn whole(store: &Store) -> Result<u64> {
    Ok(usage::objects(store)?.iter().map(|object| object.size).sum())
}
