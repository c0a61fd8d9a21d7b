//! The limit of a store: a build that would exceed it first removes what nobody uses, and then fails.
//!
//! What is being written counts. It is looked at before the build, after each image that was pulled, after each step, for
//! each layer before it is put into its place, and before the image gets a name. A look at the whole store takes the
//! longer the more is in it, and a build of many steps would do little else: while the file system has not grown by what
//! was left, nor become smaller, the last look counts for twenty times as long as it took. Before an image gets a name all
//! of it is looked at.

use super::prune::{self, Policy};
use super::usage;
use crate::build::store::Store;
use crate::error::{Error, Result};
use crate::progress::Emitter;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// So many times as long as a look at the whole store took, it counts.
const RESTS: u32 = 20;

/// A store's limit, and what the last look at all of it found.
#[derive(Debug, Default)]
pub struct Room {
    /// Bytes.
    pub limit: Option<u64>,
    last: Mutex<Option<Look>>,
}

/// A look at the whole store.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Bytes to the limit.
    left: u64,
    /// Bytes that were taken in the whole file system, before.
    taken: u64,
    /// Until when it counts.
    until: Instant,
}

impl Look {
    /// Whether the store has room whatever was written to it since. Where somebody removed something, that is not known.
    fn still_counts(self, taken: u64, now: Instant) -> bool {
        let grown = taken.checked_sub(self.taken);
        now < self.until && grown.is_some_and(|grown| grown < self.left)
    }
}

impl Room {
    /// A store that keeps to a limit in bytes.
    pub fn limited(limit: Option<u64>) -> Self {
        Self { limit, last: Mutex::default() }
    }

    fn last(&self) -> Option<Look> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, look: Look) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }
}

/// Fails when the store has no room for what is in it, as far as the last look at all of it tells.
pub fn check(store: &Store, emitter: &Emitter) -> Result<()> {
    // Without a limit nobody has looked, and nothing is asked.
    if let Some(last) = store.room().last()
        && taken(store).is_some_and(|taken| last.still_counts(taken, Instant::now()))
    {
        return Ok(());
    }
    check_all(store, emitter)
}

/// The same by a look at all of it.
pub fn check_all(store: &Store, emitter: &Emitter) -> Result<()> {
    let Some(limit) = store.room().limit else { return Ok(()) };
    let (began, taken) = (Instant::now(), taken(store));
    let whole = whole(store)?;
    if let (Some(left), Some(taken)) = (limit.checked_sub(whole), taken) {
        let until = Instant::now() + began.elapsed() * RESTS;
        store.room().note(Look { left, taken, until });
    }
    if whole <= limit {
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
    if let Some(limit) = store.room().limit
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

/// Bytes that are taken in the file system of a store, where it counts them; others write there too.
fn taken(store: &Store) -> Option<u64> {
    let found = rustix::fs::fstatvfs(store.dir()).ok().filter(|found| found.f_blocks > 0)?;
    Some(found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn a_look_counts_for_a_while_and_until_as_much_was_written_as_was_left() {
        let now = Instant::now();
        let look = Look { left: 100, taken: 1000, until: now + Duration::from_secs(1) };
        assert!(look.still_counts(1000, now));
        assert!(look.still_counts(1099, now));
        // Somebody removed something.
        assert!(!look.still_counts(999, now));
        assert!(!look.still_counts(1100, now));
        assert!(!look.still_counts(1000, now + Duration::from_secs(1)));
    }

    #[test]
    fn what_is_written_after_a_look_counts() {
        const LIMIT: u64 = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap().limited(Some(LIMIT));
        check(&store, &Emitter::silent()).unwrap();
        let blob = store.images().blob_path(&crate::oci::Digest::of(b"some"));
        fs::write(blob, vec![7; LIMIT as usize + 1]).unwrap();
        // However long the look took, and whatever others write and remove here.
        let until = Instant::now() + Duration::from_hours(1);
        store.room().note(Look { left: u64::MAX, taken: 0, until });
        check(&store, &Emitter::silent()).unwrap();
        let fails = |checked: Result<()>| {
            let error = checked.unwrap_err();
            assert!(error.message().ends_with("would be larger than its limit"), "{error:?}");
        };
        store.room().note(Look { left: 0, taken: 0, until });
        fails(check(&store, &Emitter::silent()));
        store.room().note(Look { left: u64::MAX, taken: 0, until });
        fails(check_all(&store, &Emitter::silent()));
    }
}
