//! `nix-shell`: an image in which one stands where the builder of a derivation would stand (assemble-trust.md A3).
//!
//! In: `nix derivation show`, or `.attrs.json`. Out: the builder's user, its directory, the derivation's variables as the
//! image's own, and a start-up file that does what the standard environment does first. What the spec's `config` says
//! wins.

use super::super::Filler;
use crate::assemble::spec::DirSymlinks;
use crate::assemble::tree::{Body, Origin};
use crate::error::{Error, Result};
use crate::layers::EntryKind;
use serde_json::{Map, Value, json};
use std::path::Path;

const USER: u32 = 1000;
const TOP: &str = "/build";
const START: &str = "/etc/nix-shell.rc";
const PASSWD: &str = "root:x:0:0:root:/build:/noshell\nnixbld:x:1000:1000:builder:/build:/noshell\n\
                      nobody:x:65534:65534:nobody:/:/noshell\n";
const GROUP: &str = "root:x:0:\nnixbld:!:1000:\nnogroup:x:65534:\n";

impl Filler<'_> {
    pub(super) fn nix_shell(
        &mut self,
        origin: Origin,
        path: &Path,
        command: Option<&str>,
    ) -> Result<()> {
        let bytes = self.read_host(path)?;
        let what = || format!("cannot use `{}` as a derivation", path.display());
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| Error::context(what()).cause(error))?;
        let derivation = Derivation::of(value).map_err(|error| error.wrap(what()))?;
        self.text(origin, "/etc/passwd", PASSWD, 0o644)?;
        self.text(origin, "/etc/group", GROUP, 0o644)?;
        let mut top = self.node(origin, EntryKind::Directory, 0o755, Body::None);
        (top.entry.uid, top.entry.gid) = (USER, USER);
        self.absent(TOP, top)?;
        self.temporary(origin)?;
        let mut env = derivation.variables(TOP);
        for (name, text) in &derivation.files {
            let at = format!("{TOP}/.attr-{name}");
            self.text(origin, &at, text, 0o644)?;
            env.push((format!("{name}Path"), at));
        }
        let mut rc = String::from("unset PATH\n[ -z \"$stdenv\" ] || . \"$stdenv/setup\"\n");
        rc.push_str("[ -z \"$shellHook\" ] || eval \"$shellHook\"\nset +e\n");
        rc.push_str(command.unwrap_or("PS1='[nix-shell:\\w]$ '"));
        rc.push('\n');
        let node = self.bytes(origin, rc.into_bytes(), 0o644);
        self.place(&super::relative(START), node, DirSymlinks::FollowBase)?;
        let mut cmd = vec![derivation.builder.clone()];
        match command {
            Some(_) => cmd.push(START.to_owned()),
            None => cmd.extend(["--rcfile".to_owned(), START.to_owned()]),
        }
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.config = json!({
            "Cmd": cmd, "Env": env, "User": format!("{USER}:{USER}"), "WorkingDir": TOP,
        })
        .as_object()
        .cloned()
        .unwrap_or_default();
        Ok(())
    }
}

struct Derivation {
    builder: String,
    env: Vec<(String, String)>,
    /// `passAsFile`.
    files: Vec<(String, String)>,
}

impl Derivation {
    fn of(value: Value) -> Result<Self> {
        let Value::Object(mut members) = value else {
            return Err(Error::context("it is no JSON object"));
        };
        // `nix derivation show` has the derivation under its path, newer ones one level deeper.
        if let Some(Value::Object(inner)) = members.remove("derivations") {
            members = inner;
        }
        let shown = members.len() == 1
            && members.values().next().is_some_and(|only| only.get("env").is_some());
        let (builder, env) = if shown {
            let only = members.into_iter().next().map(|(_, only)| only).unwrap_or_default();
            let builder = only.get("builder").and_then(Value::as_str).map(str::to_owned);
            let env = only.get("env").and_then(Value::as_object).cloned().unwrap_or_default();
            (builder, env)
        } else {
            let builder = members.get("builder").and_then(Value::as_str).map(str::to_owned);
            (builder, members)
        };
        let builder = builder
            .or_else(|| env.get("builder").and_then(Value::as_str).map(str::to_owned))
            .ok_or_else(|| Error::context("it names no `builder`"))?;
        let mut env = texts(&env);
        let wanted: Vec<String> = env
            .iter()
            .find(|(name, _)| name == "passAsFile")
            .map(|(_, value)| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default();
        let (files, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut env).into_iter().partition(|(name, _)| wanted.contains(name));
        Ok(Self { builder, env: rest, files })
    }

    /// The variables of a builder, the derivation's own among them.
    fn variables(&self, top: &str) -> Vec<(String, String)> {
        let fixed = [
            ("PATH", "/path-not-set"),
            ("HOME", top),
            ("NIX_BUILD_TOP", top),
            ("NIX_STORE", "/nix/store"),
            ("NIX_BUILD_CORES", "0"),
            ("TMPDIR", top),
            ("TEMPDIR", top),
            ("TMP", top),
            ("TEMP", top),
            ("TERM", "xterm-256color"),
            ("IN_NIX_SHELL", "pure"),
        ];
        let fixed = fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut all: Vec<(String, String)> = fixed.collect();
        for (name, value) in &self.env {
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), value.clone()));
        }
        all
    }
}

/// Members that are texts, numbers, booleans or lists of these, as a builder gets them; sorted by name.
fn texts(members: &Map<String, Value>) -> Vec<(String, String)> {
    fn text(value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(true) => Some("1".to_owned()),
            Value::Bool(false) | Value::Null => Some(String::new()),
            Value::Number(number) => Some(number.to_string()),
            Value::Array(items) => {
                let items: Option<Vec<String>> = items.iter().map(text).collect();
                items.map(|items| items.join(" "))
            }
            Value::Object(_) => None,
        }
    }
    let named = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut found: Vec<(String, String)> = members
        .iter()
        .filter(|(name, _)| named(name))
        .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
        .collect();
    found.sort();
    found
}
