//! References found by looking: a path refers to those store paths whose hash is somewhere in its archive.
//!
//! Names, link targets and contents are all in the archive, so one pass over it gives the references, the hash and the
//! size. It passes in blocks; a hash across two blocks is found too. Breadth first from the roots, each path once.

use super::{PathInfo, absent};
use crate::error::{ErrorKind, Result};
use crate::nix::{StorePath, base32, nar};
use crate::oci::digest::HashingWriter;
use crate::sys::{SysResultExt as _, fs};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

/// Bytes of a hash.
const HASH: usize = 32;

/// All paths of a store, by hash. More than one has the same hash where a build left something beside its output.
type Candidates = HashMap<[u8; HASH], Vec<StorePath>>;

/// Descriptions of `roots` and of all that they refer to, in the order of their distance.
pub(super) fn scan(store: BorrowedFd<'_>, roots: &[StorePath]) -> Result<Vec<PathInfo>> {
    let candidates = candidates(store)?;
    let mut seen: BTreeSet<StorePath> = BTreeSet::new();
    let mut todo: Vec<StorePath> = Vec::new();
    for path in roots {
        let same_hash =
            path.hash_part().try_into().ok().and_then(|hash: [u8; HASH]| candidates.get(&hash));
        if !same_hash.is_some_and(|paths| paths.contains(path)) {
            return Err(absent(path));
        }
        if seen.insert(path.clone()) {
            todo.push(path.clone());
        }
    }
    let mut infos = Vec::new();
    while let Some(path) = todo.get(infos.len()).cloned() {
        let info = look_through(store, path, &candidates)?;
        for reference in &info.references {
            if seen.insert(reference.clone()) {
                todo.push(reference.clone());
            }
        }
        infos.push(info);
    }
    Ok(infos)
}

fn candidates(store: BorrowedFd<'_>) -> Result<Candidates> {
    let names =
        fs::list(store).or_error(ErrorKind::Environment, || "cannot list the store".to_owned())?;
    let names: BTreeSet<&[u8]> = names.iter().map(|name| &name[..]).collect();
    let mut candidates = Candidates::new();
    for name in &names {
        // Builds that run, or that were killed, have such files beside their output.
        let beside = [&b".lock"[..], b".chroot", b".check"]
            .iter()
            .any(|end| name.strip_suffix(*end).is_some_and(|stem| names.contains(stem)));
        let Ok(path) = StorePath::from_base(name) else { continue };
        if let (false, Ok(hash)) = (beside, path.hash_part().try_into()) {
            candidates.entry(hash).or_default().push(path);
        }
    }
    Ok(candidates)
}

fn look_through(
    store: BorrowedFd<'_>,
    path: StorePath,
    candidates: &Candidates,
) -> Result<PathInfo> {
    let mut out = HashingWriter::new(Finder::new(candidates));
    nar::dump(store, path.name(), &mut out)?;
    let (finder, hash, size) = out.finish();
    let mut info = PathInfo::new(path);
    info.nar_hash = Some(hash);
    info.nar_size = Some(size);
    info.references = finder.found.into_values().flatten().cloned().collect();
    info.tidy();
    Ok(info)
}

/// Looks for hashes in what is written to it.
struct Finder<'a> {
    candidates: &'a Candidates,
    found: BTreeMap<[u8; HASH], &'a [StorePath]>,
    /// The end of what came before, which may be the start of a hash, and the block that is looked through.
    window: Vec<u8>,
}

impl<'a> Finder<'a> {
    fn new(candidates: &'a Candidates) -> Self {
        Self { candidates, found: BTreeMap::new(), window: Vec::new() }
    }

    fn look(&mut self) {
        let mut start = 0;
        // All before this are digits, as far as the present window goes.
        let mut known = 0;
        while let Some(text) = self.window.get(start..start + HASH) {
            let unknown = known.max(start) - start;
            if let Some(other) = text[unknown..].iter().rposition(|b| !base32::is_digit(*b)) {
                known = start + HASH;
                start += unknown + other + 1;
                continue;
            }
            known = start + HASH;
            let hash: Option<[u8; HASH]> = text.try_into().ok();
            if let Some((hash, paths)) =
                hash.and_then(|hash| Some((hash, self.candidates.get(&hash)?)))
            {
                self.found.insert(hash, paths);
            }
            start += 1;
        }
        self.window.drain(..self.window.len().saturating_sub(HASH - 1));
    }
}

impl Write for Finder<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.window.extend_from_slice(bytes);
        self.look();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "s5w08jzmjzm7qbq2xi0v5y4yxcd23d5n";
    const B: &str = "1dynyqiw539aiarmr48zmqvi58jm5yy7";

    fn candidates_of(hashes: &[&str]) -> Candidates {
        let path = |hash: &&str| StorePath::from_base(format!("{hash}-x").as_bytes()).unwrap();
        hashes.iter().map(|hash| (hash.as_bytes().try_into().unwrap(), vec![path(hash)])).collect()
    }

    fn found(blocks: &[&[u8]]) -> Vec<String> {
        let candidates = candidates_of(&[A, B]);
        let mut finder = Finder::new(&candidates);
        for block in blocks {
            finder.write_all(block).unwrap();
        }
        finder.found.keys().map(|hash| String::from_utf8_lossy(hash).into_owned()).collect()
    }

    #[test]
    fn a_hash_is_found_wherever_it_stands() {
        assert_eq!(found(&[A.as_bytes()]), [A]);
        assert_eq!(found(&[format!("{A}{B}").as_bytes()]), [B, A]);
        assert_eq!(found(&[format!("/nix/store/{A}-x:00{B}0").as_bytes()]), [B, A]);
        assert_eq!(found(&[&A.as_bytes()[1..], b"\0", &B.as_bytes()[..31]]), [""; 0]);
        let alone: Vec<&[u8]> = A.as_bytes().chunks(1).collect();
        assert_eq!(found(&alone), [A]);
    }

    proptest! {
        #[test]
        fn blocks_and_surroundings_do_not_matter(
            before in "[0-9a-zE/]{0,80}", after in "[0-9a-zE/]{0,80}", block in 1_usize..90,
        ) {
            let text = format!("{before}{A}{after}");
            let blocks: Vec<&[u8]> = text.as_bytes().chunks(block).collect();
            prop_assert_eq!(found(&blocks), [A]);
        }
    }
}
