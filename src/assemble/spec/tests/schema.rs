//! The published schema says what the parser says: the same keys and words, and the same answer to every golden spec.

use super::{golden, validator::validate, *};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Mappings of the schema by the name of their definition, and the keys that the parser knows there.
pub(super) const MAPPINGS: &[(&str, &[&str])] = &[
    ("", keys::TOP),
    ("from", keys::FROM),
    ("config", keys::CONFIG),
    ("healthcheck", keys::HEALTHCHECK),
    ("dir", keys::DIR),
    ("tar", keys::TAR),
    ("closureItem", keys::CLOSURE_ITEM),
    ("closure", keys::CLOSURE),
    ("fileItem", keys::FILE_ITEM),
    ("file", keys::FILE),
    ("symlinkItem", keys::SYMLINK_ITEM),
    ("symlink", keys::SYMLINK),
    ("directoryItem", keys::DIRECTORY_ITEM),
    ("directory", keys::DIRECTORY),
    ("presetItem", keys::PRESET_ITEM),
    ("preset/anyOf/1", keys::PRESETS),
    ("shadow", keys::SHADOW),
    ("caCertificates", keys::CA_CERTIFICATES),
    ("link", keys::LINK),
    ("nixShell", keys::NIX_SHELL),
    ("perm", keys::PERM),
    ("run", keys::RUN),
    ("storeMount", keys::STORE_MOUNT),
    ("bindMount", keys::BIND_MOUNT),
    ("owner", keys::OWNER),
    ("layers", keys::LAYERS),
    ("compression", keys::COMPRESSION),
    ("nixDatabase", keys::NIX_DATABASE),
];

/// Wrong specs that the schema lets pass, and why; every other one it must refuse.
const BEYOND_THE_SCHEMA: &[(&str, &str)] = &[
    ("tag-twice", "it does not look for a tag in the name"),
    ("single-twice", "it does not compare items"),
];

/// Wrong specs that are no tree, or only wrong with their `--set`.
const NO_TREE: &[&str] = &["given-twice", "not-json", "not-yaml", "set"];

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn place(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("/$defs/{name}") }
}

/// Places of all mappings whose keys are fixed, with these keys.
fn mappings(schema: &Value, at: &str, found: &mut BTreeMap<String, BTreeSet<String>>) {
    match schema {
        Value::Object(map) => {
            if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                let keys = map["properties"].as_object().unwrap().keys().cloned().collect();
                found.insert(at.to_owned(), keys);
            }
            for (key, part) in map {
                mappings(part, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(parts) => {
            for (index, part) in parts.iter().enumerate() {
                mappings(part, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_the_keys_of_the_parser_and_no_others() {
    let mut found = BTreeMap::new();
    mappings(&schema(), "", &mut found);
    let known: BTreeMap<String, BTreeSet<String>> = MAPPINGS
        .iter()
        .map(|(name, keys)| (place(name), keys.iter().map(|&key| key.to_owned()).collect()))
        .collect();
    assert_eq!(found, known);
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    let schema = schema();
    for (name, keys) in MAPPINGS {
        for key in *keys {
            let pointer = format!("{}/properties/{key}/description", place(name));
            let text = schema.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
            assert!(text.len() > 5 && text.ends_with('.'), "{pointer}: {text:?}");
        }
    }
}

#[test]
fn every_definition_of_the_schema_is_used() {
    for name in schema()["$defs"].as_object().unwrap().keys() {
        assert!(SCHEMA.contains(&format!("\"#/$defs/{name}\"")), "{name}");
    }
}

fn words<T>(table: &'static [(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(word, _)| *word).collect()
}

#[test]
fn the_schema_has_the_words_of_the_parser() {
    let schema = schema();
    let mut presets: Vec<&str> = keys::PRESETS.to_vec();
    presets.retain(|preset| *preset != "nix-shell");
    for (place, expect) in [
        ("/properties/tagFrom", words(keys::TAG_FROM)),
        ("/properties/history", words(keys::HISTORY)),
        ("/properties/inherit/anyOf/0/anyOf/0", keys::INHERIT.to_vec()),
        ("/properties/inherit/anyOf/0/anyOf/1/items", keys::CONFIG.to_vec()),
        ("/$defs/architecture", crate::oci::platform::KNOWN_ARCH.to_vec()),
        ("/$defs/os", crate::oci::platform::KNOWN_OS.to_vec()),
        ("/$defs/dir/properties/dirSymlinks", words(keys::DIR_SYMLINKS)),
        ("/$defs/tar/properties/dirSymlinks", words(keys::DIR_SYMLINKS)),
        ("/$defs/dir/properties/sourceSymlinks", words(keys::SOURCE_SYMLINKS)),
        ("/$defs/closure/properties/link", words(keys::CLOSURE_LINK)),
        ("/$defs/closure/properties/store", words(keys::STORE)),
        ("/$defs/preset/anyOf/0", presets),
        ("/$defs/perm/properties/setuid", words(keys::SETUID)),
        ("/$defs/run/properties/network", words(keys::NETWORK)),
        ("/$defs/layers/properties/strategy", words(keys::STRATEGIES)),
        ("/$defs/layers/properties/dedup", words(keys::DEDUP)),
        ("/$defs/compression/properties/kind", words(keys::COMPRESSIONS)),
    ] {
        let found = schema.pointer(&format!("{place}/enum")).unwrap_or_else(|| panic!("{place}"));
        // Null stands at the end where the key may be absent.
        let found: Vec<&str> = found.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(found, expect, "{place}");
    }
}

#[test]
fn the_schema_agrees_with_the_parser_about_golden_specs() {
    let schema = schema();
    let json = |case: &std::path::Path| yaml::to_json(&golden::input(case).0).unwrap();
    for case in golden::cases("specs") {
        assert_eq!(validate(&schema, &json(&case)), Ok(()), "{}", case.display());
    }
    for case in golden::cases("errors") {
        let name = case.file_name().unwrap().to_str().unwrap();
        if NO_TREE.contains(&name) {
            continue;
        }
        let passes = BEYOND_THE_SCHEMA.iter().any(|(beyond, _)| *beyond == name);
        let answer = validate(&schema, &json(&case));
        assert_eq!(answer.is_ok(), passes, "{name}: {answer:?}");
    }
}

/// One mistake each, where the golden files have several.
#[test]
fn the_schema_refuses_single_mistakes_as_the_parser_does() {
    let schema = schema();
    for text in [
        "nmae: a",
        "name: [a]",
        "name: a@b",
        "tag: .a",
        "tagFrom: nix",
        "tag: a\ntagFrom: nix",
        "from: {}",
        "from: {image: a, digest: sha256:0}",
        "inherit: all",
        "inherit: [env]",
        "architecture: x86_64",
        "config: {cmd: [a]}",
        "config: {Cmd: a}",
        "config: {Env: [A]}",
        "config: {Env: {'': a}}",
        "config: {ExposedPorts: [0]}",
        "config: {ExposedPorts: {80/tpc: {}}}",
        "config: {Volumes: [a]}",
        "config: {Volumes: {/a: {b: c}}}",
        "config: {WorkingDir: a}",
        "config: {Labels: {a: []}}",
        "config: {Healthcheck: {Test: [a]}}",
        "config: {Healthcheck: {Test: [CMD-SHELL, a, b]}}",
        "config: {Healthcheck: {Interval: 30s}}",
        "contents: [{}]",
        "contents: [{dir: a, tar: b}]",
        "contents: [{dir: a, to: b}]",
        "contents: [{dir: a, to: /a/../b}]",
        "contents: [{tar: a, xattrs: true}]",
        "contents: [{closure: {paths: []}}]",
        "contents: [{closure: {paths: [/bin/sh]}}]",
        "contents: [{closure: {paths: [/nix/store/00000000000000000000000000000000-a], graph: a, registration: b}}]",
        "contents: [{closure: {paths: [/nix/store/00000000000000000000000000000000-a], graph: a, scan: true}}]",
        "contents: [{closure: {paths: [/nix/store/00000000000000000000000000000000-a], graphKey: a}}]",
        "contents: [{file: {path: /a}}]",
        "contents: [{file: {path: /a, text: a, source: b}}]",
        "contents: [{file: {path: /, text: a}}]",
        "contents: [{file: {path: /a, text: a, mode: '0888'}}]",
        "contents: [{file: {path: /a, text: a, uid: 4294967295}}]",
        "contents: [{symlink: {path: /a}}]",
        "contents: [{directory: {}}]",
        "contents: [{preset: [a]}]",
        "contents: [{preset: nix-shell}]",
        "contents: [{preset: {nix-shell: }}]",
        "contents: [{preset: {tmp: {}}}]",
        "contents: [{preset: {tmp: , shadow: }}]",
        "perms: [{path: /a}]",
        "perms: [{path: /a, xattrs: {a: b}}]",
        "perms: [{uid: 1}]",
        "run: {mounts: [{type: store, source: a}]}",
        "run: {mounts: [{type: bind, source: a}]}",
        "run: {shell: []}",
        "run: {shell: [sh]}",
        "run: {timeout: 0}",
        "run: {tmpfs: [/]}",
        "owner: {uname: 'a:b'}",
        "created: yesterday",
        "created: -1",
        "created: keep",
        "layers: {strategy: explicit}",
        "layers: {groups: [[/a]]}",
        "layers: {max: 0}",
        "compression: {kind: none, level: 1}",
        "compression: {kind: gzip, level: 10}",
        "compression: {level: 10}",
        "compression: {kind: zstd, level: 0}",
        "nixDatabase: {gcroots: a/b}",
        "nixDatabase: {gcroots: ..}",
        "annotations: {'': a}",
        "history: all",
    ] {
        let text = format!("version: 1\n{text}\n");
        let json = yaml::to_json(&Arc::new(SourceFile::new("f", text.as_str()))).unwrap();
        assert!(read(&text, &[]).is_err(), "the parser takes {text}");
        assert!(validate(&schema, &json).is_err(), "the schema takes {text}");
    }
}
