//! The two texts of a closure, one item a line: registrations and reference graphs.
//!
//! Per path: the path; in a registration the hash of its archive and its size; the deriver or an empty line; the number
//! of references; the references. Errors name the line. A count is never trusted for memory.

use super::PathInfo;
use crate::error::{Error, Result};
use crate::nix::{StorePath, nar_hash, shown};

/// Reads a registration (`hashes`) or a reference graph.
pub(super) fn parse(bytes: &[u8], hashes: bool) -> Result<Vec<PathInfo>> {
    let mut lines = Lines { rest: bytes.trim_ascii_end(), number: 0 };
    let mut infos = Vec::new();
    while !lines.rest.is_empty() {
        let number = lines.number + 1;
        infos.push(info(&mut lines, hashes).map_err(|error| {
            // An end in the middle has no line of its own.
            let at = lines.number.max(number);
            error.wrap(format!("line {at} of the {}", called(hashes)))
        })?);
    }
    if infos.is_empty() {
        return Err(Error::integrity(format!("the {} is empty", called(hashes))));
    }
    Ok(infos)
}

fn called(hashes: bool) -> &'static str {
    if hashes { "registration" } else { "reference graph" }
}

/// Whether a text is a registration: a hash is on its second line, where a graph has a deriver.
pub(super) fn has_hashes(bytes: &[u8]) -> bool {
    let second = bytes.trim_ascii_start().split(|b| *b == b'\n').nth(1).unwrap_or_default();
    std::str::from_utf8(second).is_ok_and(|line| nar_hash::parse(line).is_ok())
}

fn info(lines: &mut Lines<'_>, hashes: bool) -> Result<PathInfo> {
    let mut info = PathInfo::new(StorePath::parse(lines.next("a store path")?)?);
    if hashes {
        info.nar_hash = Some(nar_hash::parse(&lines.text("the hash of an archive")?)?);
        info.nar_size = Some(lines.number("the size of an archive")?);
    }
    let deriver = lines.text("a deriver")?;
    if !deriver.is_empty() {
        StorePath::parse(deriver.as_bytes())?;
        info.deriver = Some(deriver);
    }
    for _ in 0..lines.number("a number of references")? {
        info.references.push(StorePath::parse(lines.next("a reference")?)?);
    }
    Ok(info)
}

/// Lines, counted.
struct Lines<'a> {
    rest: &'a [u8],
    /// Of the line that was taken last, from 1.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self, what: &str) -> Result<&'a [u8]> {
        if self.rest.is_empty() {
            return Err(Error::integrity(format!("it ends where {what} should be")));
        }
        let end = self.rest.iter().position(|b| *b == b'\n').unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        self.number += 1;
        Ok(line)
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let line = self.next(what)?;
        String::from_utf8(line.to_vec())
            .map_err(|_| Error::integrity(format!("{} is not {what}", shown(line))))
    }

    fn number(&mut self, what: &str) -> Result<u64> {
        let line = self.next(what)?;
        let digits = std::str::from_utf8(line).ok().filter(|text| !text.starts_with('+'));
        digits
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::integrity(format!("{} is not {what}", shown(line))))
    }
}
