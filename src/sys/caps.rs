//! Capability sets of the calling thread: which it has, and giving all others up for good.
//!
//! In: a [`CapSet`]; out: the thread's capability state. Meant for a single-threaded child between its clone and
//! its exec (isolation §8): capabilities belong to a thread, so in a threaded process only the caller changes.
//!
//! Order in the child of a RUN; each step needs what a later one takes away:
//!
//! 1. mounts, `pivot_root`, host name, limits (SYS_ADMIN, SYS_RESOURCE);
//! 2. the seccomp filter: loading it needs SYS_ADMIN or `no_new_privs`, and every call below is one that it allows;
//! 3. [`set_exact`], which needs SETPCAP for the bounding set and drops it last;
//! 4. `setgroups`, `setgid`, `setuid` to the user of the step. [`DOCKER_DEFAULT`] has SETGID and SETUID, so this
//!    works after 3. Leaving uid 0 clears permitted and effective, which is what a RUN of an ordinary user gets; a
//!    caller that wants to keep them sets keepcaps itself and calls [`set_exact`] again;
//! 5. exec. As root it gains exactly the set: inheritable and ambient are empty and the bounding set limits what
//!    uid 0 and file capabilities give.

use super::{Named, SysResult};
use rustix::io::Errno;
use rustix::thread as kernel;
use std::marker::PhantomData;

/// A set of capabilities; the constants are the kernel's names without `CAP_`. Unknown (newer) bits are kept.
pub use rustix::thread::CapabilitySet as CapSet;

/// What Docker gives a container that asks for nothing, and what every RUN gets.
pub const DOCKER_DEFAULT: CapSet = CapSet::CHOWN
    .union(CapSet::DAC_OVERRIDE)
    .union(CapSet::FSETID)
    .union(CapSet::FOWNER)
    .union(CapSet::MKNOD)
    .union(CapSet::NET_RAW)
    .union(CapSet::SETGID)
    .union(CapSet::SETUID)
    .union(CapSet::SETFCAP)
    .union(CapSet::SETPCAP)
    .union(CapSet::NET_BIND_SERVICE)
    .union(CapSet::SYS_CHROOT)
    .union(CapSet::KILL)
    .union(CapSet::AUDIT_WRITE);

/// Whether the calling thread has all of `caps` in its effective set; false when the kernel will not say.
pub fn has(caps: CapSet) -> bool {
    effective().is_ok_and(|have| have.contains(caps))
}

/// Effective set of the calling thread.
pub fn effective() -> SysResult<CapSet> {
    kernel::capabilities(None).map(|sets| sets.effective).named(|| "capget(0)".to_owned())
}

/// Bounding set of the calling thread, including capabilities that have no name here yet.
pub fn bounding() -> SysResult<CapSet> {
    let mut all = CapSet::empty();
    for one in each() {
        match kernel::capability_is_in_bounding_set(one) {
            Ok(true) => all |= one,
            Ok(false) => {}
            // The first number that this kernel does not know.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).named(|| call("PR_CAPBSET_READ", one)),
        }
    }
    Ok(all)
}

/// Takes everything out of the bounding set that is not in `keep`. Needs SETPCAP when there is something to take.
pub fn drop_bounding(keep: CapSet) -> SysResult<()> {
    let have = bounding()?;
    for one in each().filter(|one| have.contains(*one) && !keep.contains(*one)) {
        kernel::remove_capability_from_bounding_set(one).named(|| call("PR_CAPBSET_DROP", one))?;
    }
    Ok(())
}

/// Empties the ambient set.
pub fn drop_ambient() -> SysResult<()> {
    kernel::clear_ambient_capability_set()
        .named(|| "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)".to_owned())
}

/// Makes `set` the permitted, effective and bounding set and empties inheritable and ambient. Capabilities of `set`
/// that the thread does not have are left out, not asked for: a smaller set is what a weaker caller can give.
pub fn set_exact(set: CapSet) -> SysResult<()> {
    drop_bounding(set)?;
    drop_ambient()?;
    let have = kernel::capabilities(None).named(|| "capget(0)".to_owned())?;
    let kept = have.permitted & set;
    let sets =
        kernel::CapabilitySets { effective: kept, permitted: kept, inheritable: CapSet::empty() };
    kernel::set_capabilities(None, sets).named(|| format!("capset(0, {:#x})", kept.bits()))
}

/// The calling thread without some capabilities for as long as this lives; threads that it starts meanwhile are, too.
#[derive(Debug)]
pub struct Lowered {
    before: CapSet,
    /// A thread's capabilities are its own.
    _not_send: PhantomData<*const ()>,
}

/// Gives up the effect of capabilities for a while.
pub fn lower(caps: CapSet) -> SysResult<Lowered> {
    let before = effective()?;
    set_effective(before - caps)?;
    Ok(Lowered { before, _not_send: PhantomData })
}

impl Drop for Lowered {
    fn drop(&mut self) {
        // What is permitted can always be had again.
        let _again = set_effective(self.before);
    }
}

fn set_effective(effective: CapSet) -> SysResult<()> {
    let have = kernel::capabilities(None).named(|| "capget(0)".to_owned())?;
    kernel::set_capabilities(None, kernel::CapabilitySets { effective, ..have })
        .named(|| format!("capset(0, {:#x})", effective.bits()))
}

/// Each of the 64 possible capabilities as a set of one.
fn each() -> impl Iterator<Item = CapSet> {
    (0..64).map(|index| CapSet::from_bits_retain(1 << index))
}

fn call(operation: &str, one: CapSet) -> String {
    format!("prctl({operation}, {})", one.bits().trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread's capabilities are its own, so a thread is as good as a forked child here.
    fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn docker_default_has_the_fourteen() {
        assert_eq!(DOCKER_DEFAULT.bits(), 0xa804_25fb);
        assert_eq!(DOCKER_DEFAULT.bits().count_ones(), 14);
    }

    #[test]
    fn set_exact_leaves_exactly_the_set() {
        if !has(CapSet::SETPCAP) {
            return;
        }
        let (before, after) = in_thread(|| {
            let before = kernel::capabilities(None).unwrap();
            set_exact(DOCKER_DEFAULT).unwrap();
            // Once more, as with keepcaps: nothing left to take.
            set_exact(DOCKER_DEFAULT).unwrap();
            (before, (kernel::capabilities(None).unwrap(), bounding().unwrap()))
        });
        let kept = before.permitted & DOCKER_DEFAULT;
        assert_eq!(after.0.permitted, kept);
        assert_eq!(after.0.effective, kept);
        assert_eq!(after.0.inheritable, CapSet::empty());
        assert_eq!(after.1 - DOCKER_DEFAULT, CapSet::empty());
    }

    #[test]
    fn what_is_lowered_comes_back() {
        let (before, meanwhile, beside, after) = in_thread(|| {
            let before = effective().unwrap();
            let lowered = lower(CapSet::DAC_OVERRIDE).unwrap();
            let (meanwhile, beside) = (effective().unwrap(), in_thread(|| effective().unwrap()));
            drop(lowered);
            (before, meanwhile, beside, effective().unwrap())
        });
        assert_eq!((meanwhile, beside), (before - CapSet::DAC_OVERRIDE, meanwhile));
        assert_eq!(after, before);
    }

    #[test]
    fn without_setpcap_the_bounding_set_cannot_shrink() {
        let error = in_thread(|| {
            set_exact_permitted_only();
            (!bounding().unwrap().is_empty()).then(|| drop_bounding(CapSet::empty()).unwrap_err())
        });
        if let Some(error) = error {
            assert_eq!(error.errno, Errno::PERM);
            assert!(error.call.starts_with("prctl(PR_CAPBSET_DROP, "), "{error}");
        }
    }

    fn set_exact_permitted_only() {
        let none = CapSet::empty();
        let sets = kernel::CapabilitySets { effective: none, permitted: none, inheritable: none };
        kernel::set_capabilities(None, sets).unwrap();
    }
}
