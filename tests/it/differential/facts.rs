//! An image as lines of text: config, history, and what its tree has beyond the tree of its base.
//!
//! In: an OCI archive or a docker-archive. Out: one line a fact, in a fixed order, without anything that two builds of
//! one Dockerfile do not share (digests of layers, times of the build) and without anything of the base but its name.

use super::tree::{Names, Tree, apply, show, tree_facts};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use tar::Archive;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The diff_id of a layer without entries (image-spec: an empty tar).
const NOTHING: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// An image that was read: config and uncompressed layers.
pub struct Image {
    config: Value,
    layers: Vec<Vec<u8>>,
}

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
        let ids = self.config["rootfs"]["diff_ids"].as_array();
        let mut layers = ids.into_iter().flatten().skip(below);
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
    let args: Vec<String> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("RUN |{} {} {}", args.len(), args.join(" "), words[count..].join(" "))
}

fn plain(blob: &[u8]) -> Vec<u8> {
    if !blob.starts_with(&[0x1f, 0x8b]) {
        return blob.to_vec();
    }
    let mut bytes = Vec::new();
    MultiGzDecoder::new(blob).read_to_end(&mut bytes).unwrap();
    bytes
}

fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}
