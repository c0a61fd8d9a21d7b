//! The form of `nativebuild.lock` (docs/offline.md): sorted JSON with a version.
//!
//! In: the text of the file; out: pins by what a Dockerfile says. What is wrong with a file is an error that names its
//! line. Text that is read and written again is the same byte for byte.

use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::source::SourceFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the form.
const VERSION: u32 = 1;

/// What a text in a Dockerfile is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file behind a URL.
    File,
    /// A Git repository and one of its references.
    Git,
    /// An image.
    Image,
}

/// What one pin is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What kind of thing is named.
    pub kind: Kind,
    /// Its name: a full reference, an address, or an address with `#` and a reference.
    pub text: String,
    /// `OS/ARCH[/VARIANT]` of an image; empty for everything else.
    pub platform: String,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Digest of a file and its time, seconds since 1970, when its server says one.
    File(Digest, Option<i64>),
    /// Full name of a commit.
    Git(String),
    /// Digest of what the name leads to: an index, or a manifest.
    Image(Digest),
}

/// All pins of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    /// By what they are for.
    pub pins: BTreeMap<Key, Pin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: Kind,
    text: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    platform: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<i64>,
}

/// Checked while it is parsed, so that an error has its line.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Sha256(Digest);

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Digest::parse(&text).map(Self).map_err(|error| error.message().to_owned())
    }
}

impl From<Sha256> for String {
    fn from(Sha256(digest): Sha256) -> Self {
        digest.to_string()
    }
}

impl Entry {
    /// What it says, or what is wrong with it.
    fn read(self) -> Result<(Key, Pin), &'static str> {
        let Self { kind, text, platform, digest, commit, modified } = self;
        if (kind == Kind::Image) == platform.is_empty() {
            return Err("entries of images, and no others, have a `platform`");
        }
        let pin = match (kind, digest, commit, modified) {
            (Kind::File, Some(Sha256(digest)), None, modified) => Pin::File(digest, modified),
            (Kind::Image, Some(Sha256(digest)), None, None) => Pin::Image(digest),
            (Kind::Git, None, Some(commit), None) if crate::net::git::is_commit(&commit) => {
                Pin::Git(commit)
            }
            (Kind::Git, ..) => {
                return Err("an entry of kind `git` has the full name of a `commit`");
            }
            (Kind::File | Kind::Image, ..) => {
                return Err("an entry of kind `file` or `image` has a `digest`");
            }
        };
        Ok((Key { kind, text, platform }, pin))
    }

    fn of(key: &Key, pin: &Pin) -> Self {
        let Key { kind, text, platform } = key.clone();
        let (digest, commit, modified) = match pin.clone() {
            Pin::File(digest, modified) => (Some(digest), None, modified),
            Pin::Git(commit) => (None, Some(commit), None),
            Pin::Image(digest) => (Some(digest), None, None),
        };
        Self { kind, text, platform, digest: digest.map(Sha256), commit, modified }
    }
}

impl LockFile {
    /// Reads the text of a file.
    pub fn parse(source: &Arc<SourceFile>) -> Result<Self> {
        let bad = |why: &str, line: usize| {
            Error::dockerfile(format!("`{}` is no lock file that can be used", source.name()))
                .cause(why)
                .at(source, source.line_span(line.max(1)))
                .hint("put it right, or remove it and let `--lock` write it anew")
        };
        let document: Document = serde_json::from_slice(source.text()).map_err(|error| {
            let text = error.to_string();
            bad(text.split(" at line ").next().unwrap_or_default(), error.line())
        })?;
        if document.version != VERSION {
            let why = format!(
                "it has version {}, and this program knows version {VERSION}",
                document.version
            );
            return Err(bad(&why, line_of(source, "\"version\"", 1)));
        }
        let mut pins = BTreeMap::new();
        for entry in document.entries {
            let text = serde_json::to_string(&entry.text).unwrap_or_default();
            let (key, pin) = entry.read().map_err(|why| bad(why, line_of(source, &text, 1)))?;
            let why = format!("there are two entries for the {} {text}", name_of(key.kind));
            if pins.insert(key, pin).is_some() {
                return Err(bad(&why, line_of(source, &text, 2)));
            }
        }
        Ok(Self { pins })
    }

    /// The text of the file.
    pub fn to_text(&self) -> Result<String> {
        let entries = self.pins.iter().map(|(key, pin)| Entry::of(key, pin)).collect();
        let text = serde_json::to_string_pretty(&Document { version: VERSION, entries })
            .map_err(|error| Error::internal("JSON of a lock file").cause(error))?;
        Ok(text + "\n")
    }
}

/// How messages call a kind.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Git => "repository",
        Kind::Image => "image",
    }
}

/// Line of the `nth` place (from 1) of a text.
fn line_of(source: &SourceFile, text: &str, nth: usize) -> usize {
    let whole = String::from_utf8_lossy(source.text());
    let places: Vec<usize> = whole.match_indices(text).map(|(at, _)| at).collect();
    let place = places.get(nth - 1).or(places.last()).copied();
    source.line(place.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
  "version": 1,
  "entries": [
    {
      "kind": "file",
      "text": "https://h/x",
      "digest": "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
      "modified": 1
    },
    {
      "kind": "git",
      "text": "https://h/r.git#main",
      "commit": "0123456789012345678901234567890123456789"
    },
    {
      "kind": "image",
      "text": "docker.io/library/alpine:3",
      "platform": "linux/amd64",
      "digest": "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    }
  ]
}
"#;

    fn parse(text: &str) -> Result<LockFile, String> {
        let source = Arc::new(SourceFile::new("nativebuild.lock", text));
        LockFile::parse(&source).map_err(|error| {
            let place = error.place().map(|place| place.source.line(place.span.start));
            format!("{}: {}", place.unwrap_or_default(), error.causes().join("; "))
        })
    }

    #[test]
    fn what_was_read_is_written_the_same() {
        let read = parse(TEXT).unwrap();
        assert_eq!(read.pins.len(), 3);
        assert_eq!(read.to_text().unwrap(), TEXT);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let changed = |from: &str, to: &str| parse(&TEXT.replacen(from, to, 1)).unwrap_err();
        assert_eq!(parse("").unwrap_err(), "1: EOF while parsing a value");
        assert_eq!(parse("{\"version\": 1,\n").unwrap_err(), "2: EOF while parsing a value");
        assert_eq!(
            changed("\"version\": 1", "\"version\": 2"),
            "2: it has version 2, and this program knows version 1"
        );
        assert!(changed("sha256:2", "sha256:x").starts_with("7: `sha256:xd71"));
        assert_eq!(
            changed("0123456789012345678901234567890123456789", "main"),
            "12: an entry of kind `git` has the full name of a `commit`"
        );
        assert!(changed("\"git\"", "\"svn\"").starts_with("11: unknown variant `svn`"));
        assert!(changed("\"commit\"", "\"comit\"").starts_with("13: unknown field `comit`"));
        assert_eq!(
            changed("      \"platform\": \"linux/amd64\",\n", ""),
            "17: entries of images, and no others, have a `platform`"
        );
        let twice = TEXT.replace("https://h/r.git#main", "https://h/x").replace(
            "\"git\",\n      \"text\": \"https://h/x\",\n      \"commit\": \"0123456789012345678901234567890123456789\"",
            "\"file\",\n      \"text\": \"https://h/x\",\n      \"digest\": \"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"",
        );
        assert_eq!(
            parse(&twice).unwrap_err(),
            "12: there are two entries for the file \"https://h/x\""
        );
    }
}
