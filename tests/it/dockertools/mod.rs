//! Images of Nix store paths, made with and within Nix, and the examples of `docs/dockertools.md`.

mod closures;
mod database;
mod document;
mod layering;
mod podman;
mod sandbox;

use crate::support::nix::{NIXPKGS, Nix, Sandbox};
use serde_json::{Value, json};
use std::fs;

/// Seven paths that refer to each other: A→B,G; B→C,E; C→D,E; D→F; E→F. And what Nix tells builders about them.
const EXPRESSION: &str = r#"
let
  inherit (import <nixpkgs> { }) runCommand;
  path = name: size: references: runCommand name { } ''
    mkdir -p $out/share/${name}
    echo ${toString references} > $out/share/${name}/references
    head -c ${toString size} /dev/zero > $out/share/${name}/zeros
  '';
in rec {
  a = path "a" 10 [ b g ];
  b = path "b" 20000 [ c e ];
  c = path "c" 30 [ d e ];
  d = path "d" 40 [ f ];
  e = path "e" 50000 [ f ];
  f = path "f" 100000 [ ];
  g = path "g" 70 [ ];
  graph = runCommand "graph" { exportReferencesGraph = [ "graph" a ]; } "cp graph $out";
  attrs = runCommand "attrs" { __structuredAttrs = true; exportReferencesGraph.closure = [ a ]; } "cp .attrs.json $out";
}
"#;

/// A store with the seven paths, and files with what is known about them.
struct Seven {
    nix: Nix,
    /// By letter.
    paths: Vec<String>,
}

impl Seven {
    fn new() -> Option<Self> {
        let nix = Nix::new(Sandbox::Off)?;
        nix.file("nixpkgs/default.nix", NIXPKGS).file("default.nix", EXPRESSION);
        let build = |name: &str| {
            nix.ok(&format!(
                "nix-build -A {name} --no-out-link 2>log || {{ cat log >&2; exit 1; }}"
            ))
        };
        nix.ok(&format!("cp {} graph", build("graph")));
        nix.ok(&format!("cp {} attrs.json", build("attrs")));
        let paths: Vec<String> = ["a", "b", "c", "d", "e", "f", "g"].map(build).into();
        nix.ok(&format!("nix-store --dump-db $(nix-store -qR {}) > registration", paths[0]));
        let features = "--extra-experimental-features nix-command";
        nix.ok(&format!("nix {features} path-info --json -r {} > path-info", paths[0]));
        Some(Self { nix, paths })
    }

    fn path(&self, letter: char) -> &str {
        &self.paths[letter as usize - 'a' as usize]
    }

    /// Store paths as letters.
    fn letters(&self, text: &str) -> String {
        let named = ('a'..='g').map(|letter| (letter, self.path(letter)));
        named.fold(text.to_owned(), |text, (letter, path)| text.replace(path, &letter.to_string()))
    }

    /// A closure of some of them.
    fn closure(&self, letters: &str, more: &Value) -> Value {
        let paths: Vec<&str> = letters.chars().map(|letter| self.path(letter)).collect();
        let mut item = json!({"paths": paths});
        merge(&mut item, more);
        json!({"closure": item})
    }

    /// Writes a spec, and makes an image in the layout `NAME`, if it can be made.
    fn try_assemble(&self, name: &str, contents: Value, more: &Value) -> crate::support::Said {
        let mut spec = json!({"version": 1, "name": name, "contents": contents});
        merge(&mut spec, more);
        self.nix.file(&format!("{name}.json"), spec.to_string());
        self.nix.run(&format!("nativebuild assemble -q -f {name}.json -o oci:{name}"))
    }

    /// The same; the digest.
    #[track_caller]
    fn assemble(&self, name: &str, contents: Value, more: &Value) -> String {
        self.try_assemble(name, contents, more).ok()
    }

    /// What the comments of the history of a layout's image say.
    fn comments(&self, name: &str) -> Vec<String> {
        let config = self.config(name);
        let history = config["history"].as_array().unwrap();
        history.iter().map(|entry| self.letters(entry["comment"].as_str().unwrap_or(""))).collect()
    }

    fn config(&self, name: &str) -> Value {
        let text = self.nix.ok(&format!("nativebuild image inspect --config oci:{name}"));
        serde_json::from_str(&text).unwrap()
    }

    /// Its paths, with their type; store paths as letters.
    fn files(&self, name: &str) -> Vec<String> {
        let tar = format!("{name}.tar");
        self.nix.ok(&format!("nativebuild image export oci:{name} -o {tar}"));
        let lines = crate::support::base::list_tar(&fs::read(self.nix.path(&tar)).unwrap());
        let store = self.nix.ok("ls -d /nix/store/*-?");
        let relative = |text: &str| {
            let lines = store.lines();
            lines.fold(text.to_owned(), |text, path| {
                text.replace(&path[1..], &path[path.len() - 1..])
            })
        };
        let mut lines: Vec<String> = lines.iter().map(|line| relative(line)).collect();
        lines.sort();
        lines
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}
