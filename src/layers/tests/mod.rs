//! Tests of the room that need a file system, several files of it, or much text.

mod apart;
mod apply;
mod cage;
mod compress;
mod crew;
mod damaged;
mod described;
mod diff;
mod districts;
mod flat;
mod hostile;
mod tar;
mod unions;

use super::blocks::Journal;
use super::compress::{Compression, Workers, compress_layer_noting};
use super::diff::{DiffOptions, XattrFlavour, read_tree};
use super::tar_write::{TimePolicy, write_layer};
use super::{Change, ChangeKind, Entry, EntryKind, Layer};
use crate::sys::fs::open_dir_path;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// False, and a loud line, when this test process is not real root; a panic where that was promised.
fn have_root(test: &str) -> bool {
    let every_id = std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
    if rustix::process::geteuid().is_root() && every_id {
        return true;
    }
    #[allow(clippy::disallowed_methods, reason = "tests have no cli that reads it for them")]
    let required = std::env::var("NATIVEBUILD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|need| need == "root"), "{test} needs root");
    eprintln!("SKIPPED: {test}: needs root");
    false
}

/// True when a program can be started; a loud line when not.
fn have_program(test: &str, program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {test}: needs {program}");
    }
    found
}

fn open(path: &Path) -> OwnedFd {
    open_dir_path(path).unwrap()
}

pub(super) const TIMES: TimePolicy = TimePolicy { epoch: None, started: (0, 0) };

fn layer_of(changes: &[Change], root: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    write_layer(changes, open(root).as_fd(), &TIMES, &mut out).unwrap();
    out
}

/// The gzip blob of a tree.
pub(super) fn blob_of(tree: &Path, journal: Option<&mut Journal>) -> (Vec<u8>, Layer) {
    let options = DiffOptions { flavour: XattrFlavour::User, placeholders: false };
    let root = open(tree);
    let changes = read_tree(root.as_fd(), &options).unwrap();
    let (workers, compression) = (Workers::new(2), Compression::Gzip { level: 4 });
    compress_layer_noting(compression, &workers, (Vec::new(), journal), |out| {
        write_layer(&changes, root.as_fd(), &TIMES, out)
    })
    .unwrap()
}

fn entry(kind: EntryKind, mode: u32) -> Entry {
    Entry { kind, mode, uid: 0, gid: 0, mtime: (1000, 0), xattrs: Vec::new() }
}

fn present(path: &[u8], entry: Entry) -> Change {
    Change { path: path.to_vec(), kind: ChangeKind::Present(entry) }
}

/// One line for a change: type, mode, owner when it is not root, path, and what belongs to it.
fn line(change: &Change) -> String {
    let path = change.path.escape_ascii();
    let ChangeKind::Present(entry) = &change.kind else { return format!("D {path}") };
    let (letter, rest) = match &entry.kind {
        EntryKind::File { size } => ('f', format!(" {size}")),
        EntryKind::Directory => ('d', String::new()),
        EntryKind::Symlink { target } => ('l', format!(" -> {}", target.escape_ascii())),
        EntryKind::Hardlink { target } => ('h', format!(" => {}", target.escape_ascii())),
        EntryKind::CharDevice { major, minor } => ('c', format!(" {major}:{minor}")),
        EntryKind::BlockDevice { major, minor } => ('b', format!(" {major}:{minor}")),
        EntryKind::Fifo => ('p', String::new()),
    };
    let owner = match (entry.uid, entry.gid) {
        (0, 0) => String::new(),
        (uid, gid) => format!(" {uid}:{gid}"),
    };
    let mut text = format!("{letter} {:o}{owner} {path}{rest}", entry.mode);
    for (name, value) in &entry.xattrs {
        text += &format!(" [{}={}]", name.escape_ascii(), value.escape_ascii());
    }
    text
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(line).collect()
}
