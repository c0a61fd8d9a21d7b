//! The tree of an image, layer by layer, and its lines in a record.
//!
//! In: uncompressed layers. Out: one line for each path that is not as it is in the base.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::rc::Rc;
use tar::{Archive, EntryType};

/// Times before this are taken from a source: a build runs later, contexts and bases are older.
const LONG_AGO: u64 = 1_710_000_000;

/// One inode.
pub struct Node {
    facts: String,
    /// Short content as text, or nothing where only the digest is to be shown.
    text: Option<String>,
    pub content: Option<(u64, [u8; 32])>,
}

/// Paths without a leading slash; names of one inode share it.
pub type Tree = BTreeMap<Vec<u8>, Rc<Node>>;
/// Files of the base by size and digest.
pub type Names = BTreeMap<(u64, [u8; 32]), String>;

/// An entry of a layer.
enum Entry {
    Node(Rc<Node>),
    Link(Vec<u8>),
}

/// Applies one layer: whiteouts hide what older layers have, then its own entries are put.
pub fn apply(tree: &mut Tree, layer: &[u8]) {
    // Whiteouts hide only what older layers have, wherever they stand in the tar.
    let mut added: Vec<(Vec<u8>, Entry)> = Vec::new();
    for entry in Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = clean(&entry.path_bytes());
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        if path[at..] == *b".wh..wh..opq" {
            let below = path[..at].to_vec();
            tree.retain(|known, _| !known.starts_with(&below));
        } else if path[at..].starts_with(b".wh.") {
            let gone = [&path[..at], &path[at + 4..]].concat();
            remove(tree, &gone);
        } else if entry.header().entry_type() == EntryType::Link {
            added.push((path, Entry::Link(clean(&entry.link_name_bytes().unwrap()))));
        } else if !path.is_empty() {
            added.push((path, Entry::Node(Rc::new(node(&mut entry)))));
        }
    }
    for (path, node) in added {
        let node = match node {
            Entry::Node(node) => node,
            Entry::Link(target) => Rc::clone(&tree[&target]),
        };
        let is_dir = |node: &Rc<Node>| node.facts.starts_with("dir");
        if tree.get(&path).is_some_and(|old| !is_dir(old) || !is_dir(&node)) {
            remove(tree, &path);
        }
        tree.insert(path, node);
    }
}

fn clean(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(if path == b"." { b"" } else { path }).to_vec()
}

fn remove(tree: &mut Tree, path: &[u8]) {
    tree.remove(path);
    let below = [path, b"/"].concat();
    tree.retain(|known, _| !known.starts_with(&below));
}

fn node(entry: &mut tar::Entry<'_, &[u8]>) -> Node {
    let mut xattrs = String::new();
    for record in entry.pax_extensions().unwrap().into_iter().flatten() {
        let record = record.unwrap();
        if let Some(name) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") {
            write!(xattrs, " {}={:?}", show(name), record.value_bytes().escape_ascii().to_string())
                .unwrap();
        }
    }
    let mut body = Vec::new();
    entry.read_to_end(&mut body).unwrap();
    let header = entry.header();
    let (mode, mtime) = (header.mode().unwrap() & 0o7777, header.mtime().unwrap());
    let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
    let time = match mtime {
        1_650_000_000 => " @context".to_owned(),
        1_700_000_000 => " @base".to_owned(),
        0..LONG_AGO => format!(" @{mtime}"),
        _ => String::new(),
    };
    let (mut text, mut content) = (None, None);
    let facts = match header.entry_type() {
        // The top of a tree that is copied is given the source's time by the current BuildKit, not by 0.8.
        EntryType::Directory => format!("dir {mode:04o} {owner}"),
        EntryType::Symlink => {
            format!("link {owner} -> {}{time}", show(&entry.link_name_bytes().unwrap()))
        }
        EntryType::Char | EntryType::Block => {
            let (major, minor) = (header.device_major().unwrap(), header.device_minor().unwrap());
            format!("device {mode:04o} {owner} {major:?}:{minor:?}{time}")
        }
        EntryType::Fifo => format!("fifo {mode:04o} {owner}{time}"),
        _ => {
            content = Some((body.len() as u64, Sha256::digest(&body).into()));
            text = std::str::from_utf8(&body).ok().filter(|text| text.len() <= 300);
            format!("file {mode:04o} {owner}{time}")
        }
    };
    Node { facts: facts + &xattrs, text: text.map(|text| format!("{text:?}")), content }
}

impl Node {
    /// Programs of the base have a name instead of a digest: they differ between machines.
    fn show_content(&self, names: &Names) -> String {
        match (&self.text, &self.content) {
            (Some(text), _) => format!(" {text}"),
            (None, Some(content)) => match names.get(content) {
                Some(name) => format!(" content of /{name}"),
                None => format!(" {} bytes {}", content.0, hex(&content.1[..8])),
            },
            (None, None) => String::new(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

pub fn show(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    text.replace("\\\"", "\"").replace("\\'", "'")
}

/// `tree` and `gone` lines: how a tree differs from the one that it stands on.
pub fn tree_facts(under: &Tree, tree: &Tree, names: &Names) -> Vec<String> {
    let (old_groups, groups) = (groups(under), groups(tree));
    let mut lines = Vec::new();
    for path in under.keys().filter(|path| !tree.contains_key(*path)) {
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash);
        // What goes with its directory is not worth a line.
        if parent == 0 || tree.contains_key(&path[..parent]) {
            lines.push(format!("gone /{}", show(path)));
        }
    }
    for (path, node) in tree {
        let old = under.get(path);
        if old.is_some_and(|old| Rc::ptr_eq(old, node)) {
            continue;
        }
        let (group, old_group) =
            (link(&groups, node, path), old.map(|old| link(&old_groups, old, path)));
        let same = old.is_some_and(|old| old.facts == node.facts && old.content == node.content);
        if same && old_group.as_ref() == Some(&group) {
            continue;
        }
        let content = node.show_content(names);
        lines.push(format!("tree /{} {}{content}{group}", show(path), node.facts));
    }
    lines
}

/// Names of each inode that has several.
fn groups(tree: &Tree) -> BTreeMap<usize, Vec<&[u8]>> {
    let mut groups: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    for (path, node) in tree {
        groups.entry(Rc::as_ptr(node) as usize).or_default().push(path);
    }
    groups
}

/// ` = /OTHER` for a hard link: the first other name.
fn link(groups: &BTreeMap<usize, Vec<&[u8]>>, node: &Rc<Node>, path: &[u8]) -> String {
    let names = &groups[&(Rc::as_ptr(node) as usize)];
    let other = names.iter().find(|name| **name != path);
    other.map(|name| format!(" = /{}", show(name))).unwrap_or_default()
}
