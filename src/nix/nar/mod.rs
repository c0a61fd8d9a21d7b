//! Nix's archive (NAR): one tree as bytes, with names, kinds, contents and the executable bit and nothing else.
//!
//! An [`Archive`] takes a tree as events, so that files which are not on disk can be hashed too; [`dump`] and [`hash`]
//! give it what lies in a directory. Owners, times, other bits of the mode, attributes and hard links are not in a NAR,
//! and a device, FIFO or socket cannot be. Everything is a string: its length as eight bytes, little-endian, its bytes,
//! zeros up to a multiple of eight.

mod disk;

pub use disk::{dump, hash};

use super::shown;
use crate::error::{Error, ErrorKind, Result, ResultExt as _};
use crate::oci::Digest;
use crate::oci::digest::HashingWriter;
use std::fmt;
use std::io::{self, BufWriter, Read, Write};

/// Buffer for contents, and for what is written.
const CHUNK: usize = 64 * 1024;

/// Writes an archive from events: one root, directories opened and ended, children in the order of their bytes.
///
/// The root has the empty name. A wrong order, a second root or a name that is none is an error, never a wrong archive.
pub struct Archive<'a> {
    out: BufWriter<&'a mut dyn Write>,
    /// For each open directory, the name of its latest child.
    open: Vec<Vec<u8>>,
    started: bool,
}

impl<'a> Archive<'a> {
    /// An archive that goes to `out`.
    pub fn new(out: &'a mut dyn Write) -> Result<Self> {
        let mut archive =
            Self { out: BufWriter::with_capacity(CHUNK, out), open: Vec::new(), started: false };
        archive.strings(&[b"nix-archive-1"])?;
        Ok(archive)
    }

    /// Opens a directory; what follows is in it, until [`Archive::end_directory`].
    pub fn directory(&mut self, name: &[u8]) -> Result<()> {
        self.begin(name)?;
        self.strings(&[b"(", b"type", b"directory"])?;
        self.open.push(Vec::new());
        Ok(())
    }

    /// Ends the directory that was opened last.
    pub fn end_directory(&mut self) -> Result<()> {
        if self.open.pop().is_none() {
            return Err(Error::internal("an archive's directory ends that was not opened"));
        }
        self.end()
    }

    /// A regular file. `content` must have `size` bytes, neither fewer nor more.
    pub fn file(
        &mut self,
        name: &[u8],
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        self.begin(name)?;
        self.strings(&[b"(", b"type", b"regular"])?;
        if executable {
            self.strings(&[b"executable", b""])?;
        }
        self.strings(&[b"contents"])?;
        self.write(&size.to_le_bytes())?;
        self.content(name, size, content)?;
        self.write(padding(size))?;
        self.end()
    }

    /// A symbolic link.
    pub fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.begin(name)?;
        self.strings(&[b"(", b"type", b"symlink", b"target", target])?;
        self.end()
    }

    /// Ends the archive; every directory must have been ended.
    pub fn finish(mut self) -> Result<()> {
        if !self.started || !self.open.is_empty() {
            return Err(Error::internal("an archive ends before its tree"));
        }
        self.out.flush().or_error(ErrorKind::Environment, cannot_write)
    }

    /// What stands before every node, once its name was checked.
    fn begin(&mut self, name: &[u8]) -> Result<()> {
        let Some(last) = self.open.last_mut() else {
            if self.started || !name.is_empty() {
                return Err(Error::internal("an archive has one root, without a name"));
            }
            self.started = true;
            return Ok(());
        };
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
            let message = format!("{} cannot be a name in an archive", shown(name));
            return Err(Error::integrity(message));
        }
        if last.as_slice() >= name {
            let (last, name) = (shown(last), shown(name));
            return Err(Error::internal(format!("{name} follows {last} in an archive")));
        }
        name.clone_into(last);
        self.strings(&[b"entry", b"(", b"name", name, b"node"])
    }

    /// What stands behind every node.
    fn end(&mut self) -> Result<()> {
        self.strings(&[b")"])?;
        if self.open.is_empty() { Ok(()) } else { self.strings(&[b")"]) }
    }

    fn content(&mut self, name: &[u8], size: u64, content: &mut dyn Read) -> Result<()> {
        let changed = |found: &str| {
            let message = format!("{} changed while it was read", shown(name));
            Err(Error::environment(message).cause(format!("expected {size} bytes, found {found}")))
        };
        let read = || format!("cannot read {}", shown(name));
        let mut buffer = vec![0_u8; CHUNK];
        let mut done = 0_u64;
        loop {
            let n = match content.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).or_error(ErrorKind::Environment, read),
            };
            done += n as u64;
            if done > size {
                return changed("more");
            }
            if n == 0 {
                return if done == size { Ok(()) } else { changed(&done.to_string()) };
            }
            self.write(&buffer[..n])?;
        }
    }

    fn strings(&mut self, strings: &[&[u8]]) -> Result<()> {
        for string in strings {
            let size = string.len() as u64;
            self.write(&size.to_le_bytes())?;
            self.write(string)?;
            self.write(padding(size))?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).or_error(ErrorKind::Environment, cannot_write)
    }
}

impl fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("open", &self.open).finish_non_exhaustive()
    }
}

fn cannot_write() -> String {
    "cannot write an archive".to_owned()
}

fn padding(size: u64) -> &'static [u8] {
    &[0; 8][..(size.wrapping_neg() % 8) as usize]
}

/// SHA-256 and size of the archive whose events `tree` gives.
pub fn hash_of(tree: impl FnOnce(&mut Archive<'_>) -> Result<()>) -> Result<(Digest, u64)> {
    let mut out = HashingWriter::new(io::sink());
    let mut archive = Archive::new(&mut out)?;
    tree(&mut archive)?;
    archive.finish()?;
    let (_, digest, size) = out.finish();
    Ok((digest, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(tree: impl FnOnce(&mut Archive<'_>) -> Result<()>) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut archive = Archive::new(&mut out)?;
        tree(&mut archive)?;
        archive.finish()?;
        Ok(out)
    }

    /// The strings of an archive, whose padding is checked.
    fn strings(mut bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while let Some((size, rest)) = bytes.split_at_checked(8) {
            let size = u64::from_le_bytes(size.try_into().unwrap()) as usize;
            let (string, rest) = rest.split_at(size);
            let (zeros, rest) = rest.split_at((8 - size % 8) % 8);
            assert!(zeros.iter().all(|b| *b == 0));
            found.push(String::from_utf8_lossy(string).into_owned());
            bytes = rest;
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn a_tree_becomes_these_strings() {
        let bytes = archive(|archive| {
            archive.directory(b"")?;
            archive.directory(b"d")?;
            archive.end_directory()?;
            archive.file(b"f", true, 3, &mut &b"abc"[..])?;
            archive.symlink(b"l", b"../x y")?;
            archive.end_directory()
        });
        let expected = "nix-archive-1|(|type|directory|\
            entry|(|name|d|node|(|type|directory|)|)|\
            entry|(|name|f|node|(|type|regular|executable||contents|abc|)|)|\
            entry|(|name|l|node|(|type|symlink|target|../x y|)|)|)";
        assert_eq!(strings(&bytes.unwrap()).join("|"), expected);
    }

    #[test]
    fn hash_and_size_are_those_of_the_bytes() {
        let tree = |archive: &mut Archive<'_>| archive.file(b"", false, 0, &mut io::empty());
        let bytes = archive(tree).unwrap();
        assert_eq!(hash_of(tree).unwrap(), (Digest::of(&bytes), bytes.len() as u64));
        assert_eq!(strings(&bytes).join("|"), "nix-archive-1|(|type|regular|contents||)");
    }

    #[test]
    fn what_would_be_a_wrong_archive_is_an_error() {
        let error =
            |tree: &dyn Fn(&mut Archive<'_>) -> Result<()>| archive(tree).unwrap_err().to_string();
        let short = |size| {
            error(&move |archive: &mut Archive<'_>| archive.file(b"", false, size, &mut &b"ab"[..]))
        };
        assert_eq!(short(3), "`` changed while it was read: expected 3 bytes, found 2");
        assert_eq!(short(1), "`` changed while it was read: expected 1 bytes, found more");
        assert_eq!(error(&|_| Ok(())), "an archive ends before its tree");
        assert_eq!(error(&|a| a.directory(b"")), "an archive ends before its tree");
        assert_eq!(error(&|a| a.symlink(b"n", b"x")), "an archive has one root, without a name");
        let children = |names: [&'static [u8]; 2]| {
            error(&move |archive: &mut Archive<'_>| {
                archive.directory(b"")?;
                names.iter().try_for_each(|name| archive.symlink(name, b"x"))
            })
        };
        assert_eq!(children([b"b", b"a"]), "`a` follows `b` in an archive");
        assert_eq!(children([b"b", b"b"]), "`b` follows `b` in an archive");
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            let message = format!("{} cannot be a name in an archive", shown(name));
            assert_eq!(children([name, b"z"]), message);
        }
    }
}
