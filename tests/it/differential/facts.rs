//! An image as lines of text: config, history, and what its tree has beyond the tree of its base.
//!
//! In: an OCI archive or a docker-archive. Out: one line a fact, in a fixed order, without anything that two builds of
//! one Dockerfile do not share (digests of layers, times of the build) and without anything of the base but its name.

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use tar::{Archive, EntryType};

/// Times before this are taken from a source: a build runs later, contexts and bases are older.
const LONG_AGO: u64 = 1_710_000_000;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The diff_id of a layer without entries (image-spec: an empty tar).
const NOTHING: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// An image that was read: config and uncompressed layers.
pub struct Image {
    config: Value,
    layers: Vec<Vec<u8>>,
}

/// One inode.
struct Node {
    facts: String,
    /// Short content as text, or nothing where only the digest is to be shown.
    text: Option<String>,
    content: Option<(u64, [u8; 32])>,
}

type Tree = BTreeMap<Vec<u8>, Rc<Node>>;
type Names = BTreeMap<(u64, [u8; 32]), String>;

impl Image {
    /// Reads an archive; the paths inside say of which kind it is.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut links = Vec::new();
        for entry in Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            if let Some(target) = entry.link_name().unwrap() {
                // Docker links equal layers: `../ID/layer.tar`.
                links.push((name, target.to_str().unwrap().trim_start_matches("../").to_owned()));
                continue;
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
        for (name, target) in links {
            let content = files[&target].clone();
            files.insert(name, content);
        }
        let json = |name: &str| serde_json::from_slice::<Value>(&files[name]).unwrap();
        let blob = |descriptor: &Value| {
            format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
        };
        let (config, names) = if files.contains_key("oci-layout") {
            let manifest = json(&blob(&json("index.json")["manifests"][0]));
            let layers = manifest["layers"].as_array().unwrap().iter().map(blob).collect();
            (json(&blob(&manifest["config"])), layers)
        } else {
            let manifest = &json("manifest.json")[0];
            let layers = manifest["Layers"].as_array().cloned().unwrap_or_default();
            let layers = layers.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
            (json(manifest["Config"].as_str().unwrap()), layers)
        };
        let names: Vec<String> = names;
        let layers = names.iter().map(|name| plain(&files[name])).collect();
        Self { config, layers }
    }

    /// All facts, relative to the base where this image stands on it.
    pub fn facts(&self, base: &Self) -> Vec<String> {
        let below = if self.layers.starts_with(&base.layers) { base.layers.len() } else { 0 };
        let mut lines = self.config_facts(base);
        let past = if below > 0 { base.history().len() } else { 0 };
        lines.extend(self.history_facts(past, below));
        let mut names = Names::new();
        let mut tree = Tree::new();
        for layer in &base.layers {
            apply(&mut tree, layer);
        }
        for (path, node) in &tree {
            if let Some(content) = node.content {
                names.entry(content).or_insert_with(|| show(path));
            }
        }
        let under = if below > 0 { tree.clone() } else { Tree::new() };
        let mut tree = under.clone();
        for layer in &self.layers[below..] {
            apply(&mut tree, layer);
        }
        lines.extend(tree_facts(&under, &tree, &names));
        lines
    }

    fn history(&self) -> &[Value] {
        self.config["history"].as_array().map_or(&[], Vec::as_slice)
    }

    fn config_facts(&self, base: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for key in ["architecture", "os", "variant", "author"] {
            if self.config[key] != base.config[key] {
                lines.push(format!("config {key} {}", self.config[key]));
            }
        }
        for (key, value) in self.config["config"].as_object().into_iter().flatten() {
            let is_default = match value {
                Value::Null => true,
                Value::Bool(value) => !value,
                Value::String(text) => text.is_empty(),
                Value::Array(list) => {
                    list.is_empty() || (key == "Env" && list.len() == 1 && list[0] == PATH)
                }
                Value::Object(map) => map.is_empty(),
                Value::Number(_) => false,
            };
            if !is_default {
                lines.push(format!("config {key} {value}").replace(PATH, "PATH"));
            }
        }
        lines
    }

    fn history_facts(&self, past: usize, below: usize) -> Vec<String> {
        let mut layers = self.config["rootfs"]["diff_ids"].as_array().unwrap().iter().skip(below);
        let mut lines = Vec::new();
        for entry in &self.history()[past.min(self.history().len())..] {
            let what = match (entry["empty_layer"] == true, &entry["comment"]) {
                (true, _) => "config-only",
                (false, _) => match layers.next() {
                    Some(id) if id == NOTHING => "empty",
                    Some(_) => "layer",
                    None => "no-layer-left",
                },
            };
            let text = entry["created_by"].as_str().unwrap_or("(none)");
            lines.push(format!("history {what} {}", one_line(&modern(text))));
        }
        lines.extend(layers.map(|_| "history none for a layer".to_owned()));
        lines
    }
}

/// History texts as the current BuildKit writes them: `EXPOSE [..]`, and every ARG counted once (dockerfile.md §2.1:
/// "0.8 printed `map[…]`", "0.8 listed duplicates").
fn modern(text: &str) -> String {
    if let Some(ports) = text.strip_prefix("EXPOSE map[") {
        return format!("EXPOSE [{}", ports.replace(":{}", ""));
    }
    let Some((count, rest)) = text.strip_prefix("RUN |").and_then(|rest| rest.split_once(' '))
    else {
        return text.to_owned();
    };
    let Ok(count) = count.parse::<usize>() else { return text.to_owned() };
    let words: Vec<&str> = rest.split(' ').collect();
    if words.len() < count || !words[..count].iter().all(|word| word.contains('=')) {
        return text.to_owned();
    }
    let mut args: Vec<(&str, &str)> = Vec::new();
    for word in &words[..count] {
        let (name, value) = word.split_once('=').unwrap();
        match args.iter_mut().find(|(known, _)| *known == name) {
            Some(arg) => arg.1 = value,
            None => args.push((name, value)),
        }
    }
    let shown: String = args.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    format!("RUN |{} {shown}{}", args.len(), words[count..].join(" "))
}

fn plain(blob: &[u8]) -> Vec<u8> {
    if !blob.starts_with(&[0x1f, 0x8b]) {
        return blob.to_vec();
    }
    let mut bytes = Vec::new();
    MultiGzDecoder::new(blob).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Applies one layer: whiteouts hide what older layers have, then its own entries are put.
fn apply(tree: &mut Tree, layer: &[u8]) {
    let mut added: Vec<(Vec<u8>, Result<Rc<Node>, Vec<u8>>)> = Vec::new();
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
            added.push((path, Err(clean(&entry.link_name_bytes().unwrap()))));
        } else if !path.is_empty() {
            added.push((path, Ok(Rc::new(node(&mut entry)))));
        }
    }
    for (path, node) in added {
        let node = node.unwrap_or_else(|target| Rc::clone(&tree[&target]));
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
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn show(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    text.replace("\\\"", "\"").replace("\\'", "'")
}

fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}

fn tree_facts(under: &Tree, tree: &Tree, names: &Names) -> Vec<String> {
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
