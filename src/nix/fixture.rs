//! Small closures for the tests of this room, and a Nix of other people.

use super::{Closure, PathInfo, StorePath};
use crate::oci::Digest;

/// A store path whose hash follows from its name.
pub(super) fn path(name: &str) -> StorePath {
    let hash = super::base32::encode(&super::nar_hash::bytes(&Digest::of(name.as_bytes()))[..20]);
    StorePath::from_base(format!("{hash}-{name}").as_bytes()).unwrap()
}

/// What is known about a path of [`path`], with hash and size.
pub(super) fn info(name: &str, size: u64, references: &[&str]) -> PathInfo {
    let mut info = PathInfo::new(path(name));
    info.nar_hash = Some(Digest::of(name.as_bytes()));
    info.nar_size = Some(size);
    info.references = references.iter().map(|name| path(name)).collect();
    info.references.sort();
    info
}

/// A closure from lines `name size: references`.
pub(super) fn closure(lines: &[&str]) -> Closure {
    let read = |line: &&str| {
        let (start, references) = line.split_once(':').unwrap();
        let (name, size) = start.split_once(' ').unwrap_or((start, "1"));
        info(name, size.parse().unwrap(), &references.split_whitespace().collect::<Vec<_>>())
    };
    Closure::new(lines.iter().map(read).collect()).unwrap()
}

/// Names of paths.
pub(super) fn names(paths: &[StorePath]) -> Vec<String> {
    paths.iter().map(|path| String::from_utf8_lossy(path.pname()).into_owned()).collect()
}
