//! Checks that a layer is a tar which can be unpacked safely (image-spec layer.md).
//!
//! Members must stay inside, whiteouts be empty files with a name, hard links point to a path that this layer or one
//! below has. Paths are remembered as 64-bit hashes only, so that memory stays bounded.

use crate::{
    error::{Error, Result},
    oci::{
        digest::{DiffId, Digest},
        tar_walk::{Member, TarWalk},
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::{self, BufReader, Read},
};
use tar::EntryType;

const BUFFER: usize = 128 << 10;
/// Messages of one layer; the rest is counted.
const MAX_MESSAGES: usize = 20;
/// Paths that are remembered, about 160 MB at most; beyond them hard links are not checked.
const MAX_PATHS: usize = 8 << 20;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Paths of the layers so far.
#[derive(Debug, Default)]
pub(super) struct Layers {
    paths: HashSet<u64>,
    hasher: RandomState,
}

impl Layers {
    /// Walks one unpacked layer; messages go to `found`, the digest of all its bytes comes back.
    pub(super) fn check(
        &mut self,
        unpacked: Box<dyn Read + Send + '_>,
        found: &mut Vec<String>,
    ) -> Result<DiffId> {
        let mut hashing = HashingReader { inner: unpacked, hash: Sha256::new() };
        let mut walk = TarWalk::new(BufReader::with_capacity(BUFFER, &mut hashing));
        let mut more = 0;
        let walked = loop {
            match walk.next() {
                Ok(None) => break walk.finish(),
                Err(error) => break Err(error),
                Ok(Some(member)) => {
                    if let Some(message) = self.member(&member) {
                        if found.len() < MAX_MESSAGES {
                            found.push(message);
                        } else {
                            more += 1;
                        }
                    }
                }
            }
        };
        if more > 0 {
            found.push(format!("and {more} more such members"));
        }
        if let Err(error) = walked {
            // The digest of the rest is still worth knowing.
            found.push(error.to_string());
            io::copy(&mut hashing, &mut io::sink())
                .map_err(|error| Error::integrity("it cannot be read").cause(error))?;
        }
        Ok(DiffId(Digest::from_hash(&hashing.hash.finalize())))
    }

    fn member(&mut self, member: &Member) -> Option<String> {
        let shown = String::from_utf8_lossy(&member.path).into_owned();
        let path = match clean(&member.path) {
            Ok(path) => path,
            Err(why) => return Some(format!("`{shown}` {why}")),
        };
        let name = path.last().copied().unwrap_or_default();
        if name.starts_with(WHITEOUT) {
            return whiteout(name, member).map(|why| format!("`{shown}` {why}"));
        }
        let key = self.hasher.hash_one(&path);
        if member.kind == EntryType::Link {
            let target = String::from_utf8_lossy(&member.link).into_owned();
            match clean(member.link.strip_prefix(b"/").unwrap_or(&member.link)) {
                Err(why) => {
                    return Some(format!("hard link `{shown}`: its target `{target}` {why}"));
                }
                Ok(path) => {
                    let known = self.paths.contains(&self.hasher.hash_one(&path));
                    if !known && self.paths.len() < MAX_PATHS {
                        return Some(format!(
                            "hard link `{shown}`: its target `{target}` is neither before it nor in a layer below"
                        ));
                    }
                }
            }
        } else if !is_known(member.kind) {
            let kind = char::from(member.kind.as_byte());
            return Some(format!("`{shown}` has the unknown type {kind:?}"));
        }
        if self.paths.len() < MAX_PATHS {
            self.paths.insert(key);
        }
        None
    }
}

/// Components of a member's path; the root itself has none.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if path.starts_with(b"/") {
        return Err("is an absolute path");
    }
    if path.is_empty() {
        return Err("is an empty path");
    }
    if path.contains(&0) {
        return Err("has a zero byte in it");
    }
    let parts = path.split(|b| *b == b'/').filter(|part| !matches!(part, [] | [b'.']));
    let parts: Vec<&[u8]> = parts.collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("leads out through `..`");
    }
    Ok(parts)
}

fn whiteout(name: &[u8], member: &Member) -> Option<&'static str> {
    if name == WHITEOUT {
        return Some("is a whiteout of nothing");
    }
    if matches!(&name[WHITEOUT.len()..], b"." | b"..") {
        return Some("is a whiteout of a directory's own entry");
    }
    // AUFS's own marks (`.wh..wh.plnk`) are in old images, as directories, too; readers pass over them.
    if name.starts_with(b".wh..wh.") && name != OPAQUE {
        return None;
    }
    match member.kind {
        EntryType::Regular | EntryType::Link => None,
        _ => Some("is a whiteout, but not a regular file"),
    }
}

fn is_known(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Directory
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo
    )
}

struct HashingReader<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hash.update(&buf[..count]);
        Ok(count)
    }
}
