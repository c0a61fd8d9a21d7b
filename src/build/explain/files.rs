//! Which files a step took, remembered beside the cache, so that a later build can say which of them changed.
//!
//! `cache/explain/files-<hex of their content digest>` is a text with a line a file: kind, mode, owner, the beginning of
//! the content's digest, path. It is written once and is never needed: what is missing, damaged or too large is unknown.
//! Of more than [`MOST`] files only what is at the top is kept, each directory with one digest over all below it.

use crate::build::cache::write_atomic;
use crate::build::care;
use crate::context::{Listed, Listing};
use crate::oci::Digest;
use crate::oci::digest::{FieldHasher, hex};
use crate::sys::fs::Kind;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Files that are listed one by one.
const MOST: usize = 100_000;
/// Bytes of a list that are read.
const LARGEST: u64 = 64 << 20;
/// Names in one part of an explanation.
const NAMES: usize = 10;
const HEADER: &str = "nb-list-1";
/// Stands for a directory with everything below it.
const FOLDED: u8 = b'*';
/// Hexadecimal digits of a content's digest that are kept.
const DIGITS: usize = 16;
const NOTHING: Content = [b'0'; DIGITS];

/// What is remembered of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    content: Content,
}

/// The first digits of a content's digest, the numbers of a device, or zeros: 16 letters.
type Content = [u8; DIGITS];

/// A list while it is made.
#[derive(Debug, Default)]
pub(in crate::build) struct FileList {
    entries: Vec<(Vec<u8>, Entry)>,
    /// When there are too many.
    folded: Option<BTreeMap<Vec<u8>, FieldHasher>>,
}

impl Listing for FileList {
    fn add(&mut self, one: Listed<'_>) {
        let (at, path) = one.path;
        let separator: &[u8] = if at.is_empty() || path.is_empty() { b"" } else { b"/" };
        let path = [at, separator, path].concat();
        let kind = match one.stat.kind {
            Kind::File | Kind::Socket => b'f',
            Kind::Directory => b'd',
            Kind::Symlink => b'l',
            Kind::CharDevice | Kind::BlockDevice => b'b',
            Kind::Fifo => b'p',
        };
        // A link has no mode of its own.
        let mode = if kind == b'l' { 0 } else { one.stat.mode };
        let content = match one.stat.kind {
            Kind::File => short(one.content),
            Kind::Symlink => short(Digest::of(one.content).as_str().as_bytes()),
            Kind::CharDevice | Kind::BlockDevice => {
                let numbers = format!("{:08x}{:08x}", one.stat.rdev.0, one.stat.rdev.1);
                numbers.as_bytes().first_chunk().copied().unwrap_or(NOTHING)
            }
            _ => NOTHING,
        };
        self.push(path, Entry { kind, mode, owner: one.owner, content });
    }
}

/// The first digits of `sha256:…`.
fn short(digest: &[u8]) -> Content {
    digest.get("sha256:".len()..).and_then(<[u8]>::first_chunk).copied().unwrap_or(NOTHING)
}

impl FileList {
    fn push(&mut self, path: Vec<u8>, entry: Entry) {
        if let Some(folded) = &mut self.folded {
            return fold(folded, &path, &entry);
        }
        self.entries.push((path, entry));
        if self.entries.len() > MOST {
            let mut folded = BTreeMap::new();
            for (path, entry) in std::mem::take(&mut self.entries) {
                fold(&mut folded, &path, &entry);
            }
            self.folded = Some(folded);
        }
    }

    /// Writes the list unless it is there.
    pub(in crate::build) fn keep(self, dir: &Path, digest: &Digest) {
        let name = name(digest);
        let path = dir.join(&name);
        if path.exists() {
            care::touch(&path);
            return;
        }
        let mut text = format!("{HEADER}\n");
        for (path, entry) in self.finish() {
            let Entry { kind, mode, owner, content } = entry;
            let (kind, content) = (char::from(kind), String::from_utf8_lossy(&content));
            let _infallible = write!(text, "{kind} {mode:o} {} {} {content} ", owner.0, owner.1);
            escape(&path, &mut text);
            text.push('\n');
        }
        write_atomic(dir, &name, text.as_bytes());
    }

    fn finish(self) -> Vec<(Vec<u8>, Entry)> {
        let Some(folded) = self.folded else { return self.entries };
        let entry = |hasher: FieldHasher| {
            let content = short(hasher.finish().as_str().as_bytes());
            Entry { kind: FOLDED, mode: 0, owner: (0, 0), content }
        };
        folded.into_iter().map(|(path, hasher)| (path, entry(hasher))).collect()
    }
}

fn fold(folded: &mut BTreeMap<Vec<u8>, FieldHasher>, path: &[u8], entry: &Entry) {
    let top = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    // What is one too many at the top as well is in the entry without a name.
    let top = if folded.len() < MOST || folded.contains_key(top) { top } else { b"" };
    let hasher = folded.entry(top.to_vec()).or_insert_with(|| FieldHasher::new(HEADER));
    hasher.field(path).field(&[entry.kind]).number(entry.mode.into());
    hasher.number(entry.owner.0.into()).number(entry.owner.1.into());
    hasher.field(&entry.content);
}

fn name(digest: &Digest) -> String {
    format!("files-{}", digest.hex())
}

/// Printable ASCII without spaces and without `%` stays.
fn escape(path: &[u8], out: &mut String) {
    for byte in path {
        if byte.is_ascii_graphic() && *byte != b'%' {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            out.push_str(&hex(&[*byte]));
        }
    }
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

/// A list that was written; none when it is not there, or is no list.
fn read(dir: &Path, digest: &Digest) -> Option<BTreeMap<Vec<u8>, Entry>> {
    let path = dir.join(name(digest));
    let mut text = String::new();
    File::open(&path).ok()?.take(LARGEST + 1).read_to_string(&mut text).ok()?;
    if text.len() as u64 > LARGEST {
        return None;
    }
    care::touch(&path);
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    lines.map(line).collect()
}

fn line(line: &str) -> Option<(Vec<u8>, Entry)> {
    let mut words = line.splitn(6, ' ');
    let mut next = || words.next();
    let [kind] = next()?.as_bytes() else { return None };
    let (kind, mode) = (*kind, u32::from_str_radix(next()?, 8).ok()?);
    let owner = (next()?.parse().ok()?, next()?.parse().ok()?);
    let content = Content::try_from(next()?.as_bytes()).ok()?;
    Some((unescaped(next()?)?, Entry { kind, mode, owner, content }))
}

/// Removes a list that no stage names any more.
pub(super) fn forget(dir: &Path, digest: &str) {
    if let Ok(digest) = Digest::parse(digest) {
        let _gone_already = std::fs::remove_file(dir.join(name(&digest)));
    }
}

/// What is different between two sets of files, as a fragment; none when that is not known.
pub(in crate::build) fn difference(dir: &Path, old: &Digest, new: &Digest) -> Option<String> {
    let (old, new) = (read(dir, old)?, read(dir, new)?);
    let is_folded = |list: &BTreeMap<Vec<u8>, Entry>| list.values().any(|e| e.kind == FOLDED);
    if is_folded(&old) != is_folded(&new) {
        return Some("there are many more or fewer of them".to_owned());
    }
    let (mut changed, mut modes) = (Vec::new(), Vec::new());
    for (path, before) in &old {
        let Some(after) = new.get(path).filter(|after| *after != before) else { continue };
        if (before.kind, &before.content) == (after.kind, &after.content) {
            modes.push(format!("{} {}", shown(path, after), metadata(before, after)));
        } else {
            changed.push(shown(path, after));
        }
    }
    let parts = [
        ("changed", changed),
        ("added", missing_in(&old, &new)),
        ("removed", missing_in(&new, &old)),
        ("mode or owner changed", modes),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", few(names)))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// What is in `new` only; a directory that is not empty is told by what is in it.
fn missing_in(old: &BTreeMap<Vec<u8>, Entry>, new: &BTreeMap<Vec<u8>, Entry>) -> Vec<String> {
    let is_told = |path: &[u8]| {
        let inside = [path, b"/"].concat();
        let next = new.range(inside.clone()..).next();
        next.is_some_and(|(below, _)| below.starts_with(&inside) && !old.contains_key(below))
    };
    let missing = new.iter().filter(|(path, _)| !old.contains_key(*path));
    let missing = missing.filter(|(path, entry)| entry.kind != b'd' || !is_told(path));
    missing.map(|(path, entry)| shown(path, entry)).collect()
}

fn metadata(before: &Entry, after: &Entry) -> String {
    let mut told = Vec::new();
    if before.mode != after.mode {
        told.push(format!("{:o} → {:o}", before.mode, after.mode));
    }
    if before.owner != after.owner {
        let owner = |entry: &Entry| format!("{}:{}", entry.owner.0, entry.owner.1);
        told.push(format!("{} → {}", owner(before), owner(after)));
    }
    format!("({})", told.join(", "))
}

fn shown(path: &[u8], entry: &Entry) -> String {
    let end = if matches!(entry.kind, b'd' | FOLDED) { "/" } else { "" };
    match path {
        b"" => "the directory itself".to_owned(),
        path => format!("`{}{end}`", String::from_utf8_lossy(path)),
    }
}

fn few(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES {
        let _infallible = write!(text, " and {} more", names.len() - NAMES);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(mode: u32, content: &str) -> Entry {
        let mut digits = NOTHING;
        digits[0] = content.as_bytes()[0];
        Entry { kind: b'f', mode, owner: (0, 0), content: digits }
    }

    fn directory() -> Entry {
        Entry { kind: b'd', mode: 0o755, owner: (0, 0), content: NOTHING }
    }

    /// Keeps both lists and compares them.
    fn compared(old: &[(&str, Entry)], new: &[(&str, Entry)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Digest::of(b"old"), Digest::of(b"new"));
        for (digest, entries) in [(&one, old), (&two, new)] {
            let mut list = FileList::default();
            for (path, entry) in entries {
                list.push(path.as_bytes().to_vec(), entry.clone());
            }
            list.keep(dir.path(), digest);
        }
        difference(dir.path(), &one, &two)
    }

    #[test]
    fn a_difference_names_what_changed_came_and_went() {
        let old = [
            ("", directory()),
            ("a b%\n", file(0o644, "1")),
            ("gone", file(0o644, "2")),
            ("run.sh", file(0o644, "3")),
            ("same", file(0o644, "4")),
        ];
        let mut owned = file(0o755, "3");
        owned.owner = (1, 2);
        let new = [
            ("", directory()),
            ("a b%\n", file(0o755, "5")),
            ("new", directory()),
            ("new/empty", directory()),
            ("new/x", file(0o644, "6")),
            ("run.sh", owned),
            ("same", file(0o644, "4")),
        ];
        assert_eq!(
            compared(&old, &new).unwrap(),
            "changed `a b%\n`, added `new/empty/`, `new/x`, removed `gone`, mode or owner changed `run.sh` (644 → \
             755, 0:0 → 1:2)"
        );
        assert_eq!(compared(&old, &old), None);
    }

    proptest! {
        #[test]
        fn any_path_comes_back_as_it_was(path in proptest::collection::vec(any::<u8>(), 0..40), mode in any::<u32>()) {
            let dir = tempfile::tempdir().unwrap();
            let mut list = FileList::default();
            list.push(path.clone(), file(mode, "1"));
            list.keep(dir.path(), &Digest::of(b"list"));
            let found = read(dir.path(), &Digest::of(b"list")).unwrap();
            prop_assert_eq!(found, BTreeMap::from([(path, file(mode, "1"))]));
        }

        #[test]
        fn any_line_is_read_or_refused(text in ".{0,60}") {
            let _read_or_not = line(&text);
        }
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..25).map(|number| format!("f{number:02}")).collect();
        let new: Vec<_> = names.iter().map(|name| (name.as_str(), file(0o644, "1"))).collect();
        assert_eq!(
            compared(&[], &new).unwrap(),
            "added `f00`, `f01`, `f02`, `f03`, `f04`, `f05`, `f06`, `f07`, `f08`, `f09` and 15 more"
        );
    }

    #[test]
    fn of_very_many_files_only_the_top_is_kept() {
        let names: Vec<String> =
            (0..=MOST).map(|number| format!("{}/{number}", number % 3)).collect();
        let old: Vec<_> = names.iter().map(|name| (name.as_str(), file(0o644, "1"))).collect();
        let mut new = old.clone();
        new[1].1.content[0] = b'2';
        assert_eq!(compared(&old, &new).unwrap(), "changed `1/`");
        assert_eq!(compared(&old[..9], &new).unwrap(), "there are many more or fewer of them");
    }

    #[test]
    fn what_is_no_list_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Digest::of(b"old"), Digest::of(b"new"));
        FileList::default().keep(dir.path(), &one);
        assert_eq!(difference(dir.path(), &one, &two), None);
        let bad =
            ["f", "f 9 0 0 D a", "f 1 0 0 D %g0", "ff 1 0 0 D a", "f 1 0 0 short a", "f 1 0 0 D"];
        let bad = bad.map(|line| format!("{HEADER}\n{}", line.replace('D', "0000000000000000")));
        for text in bad.iter().map(String::as_str).chain(["", "x"]) {
            std::fs::write(dir.path().join(name(&two)), text).unwrap();
            assert_eq!(difference(dir.path(), &one, &two), None, "{text}");
        }
    }
}
