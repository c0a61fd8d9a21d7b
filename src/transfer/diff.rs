//! `image diff`: what tells two images apart, in files, config and history; and the layer that leads from one to the
//! other.

use super::flatten::{self, File, Files};
use super::read::{self, Image};
use super::{Access, Choice, Fetched, Location, rootfs};
use crate::error::{Error, Result};
use crate::layers::flat::Spool;
use crate::layers::{Entry, EntryKind};
use crate::oci::Platform;
use crate::oci::spec::{self, History, ImageConfig};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Paths in order: `A`dded, `D`eleted, `C`hanged, and for the last what of them.
    pub files: Vec<(char, Vec<u8>, Vec<String>)>,
    /// Members of the config, `-` for the first image's and `+` for the second's.
    pub config: Vec<(char, String)>,
    /// Entries of the history, likewise.
    pub history: Vec<(char, String)>,
}

impl Diff {
    /// True when the images are the same in all of this.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.config.is_empty() && self.history.is_empty()
    }

    /// For people: a block for each part that differs.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut block = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                out.push_str(&format!("{title}:\n"));
                for line in lines {
                    out.push_str(&format!("  {line}\n"));
                }
            }
        };
        let files = self.files.iter().map(|(kind, path, what)| {
            let path = path.escape_ascii();
            if what.is_empty() {
                return format!("{kind} /{path}");
            }
            format!("{kind} /{path}: {}", what.join(", "))
        });
        block("files", files.collect());
        let signed = |lines: &[(char, String)]| {
            lines.iter().map(|(sign, text)| format!("{sign} {text}")).collect()
        };
        block("config", signed(&self.config));
        block("history", signed(&self.history));
        out
    }

    /// For programs; the form stays.
    pub fn json(&self) -> Value {
        let signed = |lines: &[(char, String)]| -> Vec<Value> {
            let line = |(sign, text): &(char, String)| json!({"sign": sign, "text": text});
            lines.iter().map(line).collect()
        };
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|(kind, path, what)| {
                json!({"kind": kind, "path": String::from_utf8_lossy(path), "what": what})
            })
            .collect();
        json!({"files": files, "config": signed(&self.config), "history": signed(&self.history)})
    }
}

/// Two images whose content is here.
#[derive(Debug)]
pub struct Pair<'a> {
    access: &'a Access<'a>,
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    shown: String,
    fetched: Fetched,
    image: Image,
    config: ImageConfig,
}

impl<'a> Pair<'a> {
    /// Brings two images here; of indexes those for `platform`, else for this machine.
    pub fn open(
        access: &'a Access<'a>,
        a: &Location,
        b: &Location,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let choice = platform.map_or(Choice::Here, |platform| Choice::One(platform.clone()));
        let side = |location: &Location| -> Result<Side> {
            let inner = || {
                let fetched = access.fetch(location, &choice, None)?;
                let image = read::image(&fetched.layout, &fetched.root)?;
                let config = image.config.clone();
                let config = config.ok_or_else(|| Error::image("it is no container image"))?;
                Ok(Side { shown: location.to_string(), fetched, image, config })
            };
            inner().map_err(|error: Error| error.wrap(format!("cannot compare `{location}`")))
        };
        Ok(Self { access, sides: [side(a)?, side(b)?] })
    }

    /// Compares them.
    pub fn diff(&self) -> Result<Diff> {
        let [a, b] = &self.sides;
        Ok(Diff {
            files: files(&a.files()?, &b.files()?),
            config: config(&a.config, &b.config)?,
            history: history(&a.config.history, &b.config.history),
        })
    }

    /// Writes the layer that makes the second image's files of the first one's; `-` is standard output.
    pub fn write_layer(&self, path: &Path) -> Result<()> {
        let tree = |side: &Side, spool: Option<Spool>| {
            rootfs::read(&side.fetched.layout, &side.image, spool)
                .map_err(|error| error.wrap(format!("cannot compare `{}`", side.shown)))
        };
        let [a, b] = &self.sides;
        let (a, b) = (tree(a, None)?, tree(b, Some(rootfs::spool(self.access)?))?);
        rootfs::write_changes(self.access, &b, &b.changes_from(&a), path).map(drop)
    }
}

impl Side {
    fn files(&self) -> Result<Files> {
        flatten::files(&self.fetched.layout, self.image.manifest.layers(), None)
            .map_err(|error| error.wrap(format!("cannot compare `{}`", self.shown)))
    }
}

fn files(a: &Files, b: &Files) -> Vec<(char, Vec<u8>, Vec<String>)> {
    let paths: BTreeSet<&Vec<u8>> = a.keys().chain(b.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (a.get(path), b.get(path)) {
            (Some(_), None) => found.push(('D', path.clone(), Vec::new())),
            (None, Some(_)) => found.push(('A', path.clone(), Vec::new())),
            (Some(a), Some(b)) if a != b => {
                let what = changes(a, b);
                if !what.is_empty() {
                    found.push(('C', path.clone(), what));
                }
            }
            _ => {}
        }
    }
    found.sort_by(|a, b| crate::layers::path_order(&a.1, &b.1));
    found
}

fn changes(a: &File, b: &File) -> Vec<String> {
    let (x, y) = (&a.entry, &b.entry);
    let mut what = Vec::new();
    let kinds = (kind(&x.kind), kind(&y.kind));
    if kinds.0 != kinds.1 {
        what.push(format!("{} -> {}", kinds.0, kinds.1));
    } else if let (EntryKind::Symlink { target: s }, EntryKind::Symlink { target: t }) =
        (&x.kind, &y.kind)
    {
        if s != t {
            what.push(format!("target {} -> {}", s.escape_ascii(), t.escape_ascii()));
        }
    } else if let (EntryKind::File { size: s }, EntryKind::File { size: t }) = (&x.kind, &y.kind) {
        if s != t {
            what.push(format!("size {s} -> {t}"));
        } else if a.content != b.content {
            what.push("content".to_owned());
        }
    } else if x.kind != y.kind {
        what.push("device".to_owned());
    }
    metadata(x, y, &mut what);
    what
}

fn metadata(x: &Entry, y: &Entry, what: &mut Vec<String>) {
    // A link has no permissions.
    let is_link = |entry: &Entry| matches!(entry.kind, EntryKind::Symlink { .. });
    if x.mode != y.mode && !is_link(x) && !is_link(y) {
        what.push(format!("mode {:04o} -> {:04o}", x.mode, y.mode));
    }
    if (x.uid, x.gid) != (y.uid, y.gid) {
        what.push(format!("owner {}:{} -> {}:{}", x.uid, x.gid, y.uid, y.gid));
    }
    if x.mtime.0 != y.mtime.0 {
        what.push(format!("mtime {} -> {}", x.mtime.0, y.mtime.0));
    }
    let names: BTreeSet<&Vec<u8>> =
        x.xattrs.iter().chain(&y.xattrs).map(|(name, _)| name).collect();
    for name in names {
        let get =
            |entry: &Entry| entry.xattrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        if get(x) != get(y) {
            what.push(format!("xattr {}", name.escape_ascii()));
        }
    }
}

fn kind(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symbolic link",
        EntryKind::Hardlink { .. } => "hard link",
        EntryKind::CharDevice { .. } => "character device",
        EntryKind::BlockDevice { .. } => "block device",
        EntryKind::Fifo => "pipe",
    }
}

/// Members as lines `path: value`, those of lists one each, without layers and history.
fn config(a: &ImageConfig, b: &ImageConfig) -> Result<Vec<(char, String)>> {
    let lines = |config: &ImageConfig| -> Result<Vec<String>> {
        let mut value: Value = spec::from_json("image config", &spec::to_json(config)?)?;
        if let Some(members) = value.as_object_mut() {
            members.remove("history");
            members.remove("rootfs");
        }
        let mut lines = Vec::new();
        flat("", &value, &mut lines);
        Ok(lines)
    };
    let (a, b) = (lines(a)?, lines(b)?);
    let gone = a.iter().filter(|line| !b.contains(line)).map(|line| ('-', line.clone()));
    let new = b.iter().filter(|line| !a.contains(line)).map(|line| ('+', line.clone()));
    let mut all: Vec<(char, String)> = gone.chain(new).collect();
    let path = |line: &str| line.split(": ").next().unwrap_or_default().to_owned();
    all.sort_by_key(|(sign, line)| (path(line), *sign == '+'));
    Ok(all)
}

fn flat(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flat(&path, value, lines);
            }
        }
        Value::Array(items) if path == "config.Env" => {
            lines.extend(items.iter().map(|item| format!("{path}: {item}")));
        }
        other => lines.push(format!("{path}: {other}")),
    }
}

/// What follows the common beginning.
fn history(a: &[History], b: &[History]) -> Vec<(char, String)> {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let line = |entry: &History| {
        let created = entry.created.as_deref().unwrap_or("no time");
        let by = entry.created_by.as_deref().or(entry.comment.as_deref()).unwrap_or_default();
        let empty = if entry.empty_layer { " (no layer)" } else { "" };
        format!("{created} {}{empty}", by.escape_debug())
    };
    let gone = a[common..].iter().map(|entry| ('-', line(entry)));
    gone.chain(b[common..].iter().map(|entry| ('+', line(entry)))).collect()
}
