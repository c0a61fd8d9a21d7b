//! Limits of this process (rlimits), by the names that `ulimit` options have.

use super::{Named, SysResult};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Names and what they limit.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// What stands for "no limit".
pub const UNLIMITED: u64 = u64::MAX;

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    RESOURCES.iter().map(|(name, _)| *name)
}

fn resource(name: &str) -> SysResult<Resource> {
    let found = RESOURCES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, resource)| *resource)
        .ok_or(rustix::io::Errno::INVAL)
        .named(|| format!("setrlimit({name})"))
}

/// Sets the soft and the hard limit of this process and of what it starts.
pub fn set(name: &str, soft: u64, hard: u64) -> SysResult<()> {
    setrlimit(resource(name)?, soft, hard).named(|| format!("setrlimit({name}, {soft}, {hard})"))
}

/// The hard limit when this process may not raise it to `hard`; found by trying, with everything as before afterwards.
pub fn refused(name: &str, hard: u64) -> SysResult<Option<u64>> {
    let resource = resource(name)?;
    let (soft, now) = getrlimit(resource).named(|| format!("getrlimit({name})"))?;
    if hard <= now {
        return Ok(None);
    }
    if setrlimit(resource, soft, hard).is_err() {
        return Ok(Some(now));
    }
    set(name, soft, now).map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_asking_changes_nothing() {
        assert!(names().is_sorted());
        let before = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert_eq!(refused("core", 0).unwrap(), None);
        let answer = refused("core", UNLIMITED).unwrap();
        assert!(answer.is_none() || answer == Some(before.1));
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), before);
        assert!(refused("coffee", 1).is_err());
    }
}
