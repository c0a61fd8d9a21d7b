//! The inputs of a step in parts with names, and what is different between two of them in words.
//!
//! The parts are those of the key (`build::keys`); what is in no key is no part. Values of variables whose names say that
//! they are secret are kept as digests and never told; contents of secrets are in no plan and so in no part.

use super::memory::{Parts, value};
use crate::executor::settings::RunSettings;
use crate::oci::Digest;
use crate::plan::lint::is_secret;
use crate::plan::step::{
    Chmod, CopyFrom, CopyStep, NetworkMode, RunMountKind, RunStep, StagePlan, Step, StepKind,
};

/// Part of the files that a COPY takes.
pub(in crate::build) const FILES: &str = "files";
/// Beginning of the part of the files behind a mount.
pub(in crate::build) const MOUNTED: &str = "files mounted at ";
/// Part that is in no key: the files count, and this says it shorter.
const SOURCES: &str = "sources";
/// Part of what is carried out.
const COMMAND: &str = "command";
/// Ends of the names of parts with values that are not told.
const SECRET: &str = " (its value is not shown)";

/// What belongs to no step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) stage: &'a StagePlan,
    pub(super) settings: &'a RunSettings,
    pub(super) network: NetworkMode,
    /// Content digests by the parts that they are.
    pub(super) inputs: &'a [(String, Digest)],
}

/// The parts of a step.
pub(super) fn of(step: &Step, around: Around<'_>) -> Parts {
    let mut parts = Parts::new();
    for (name, digest) in around.inputs {
        parts.insert(name.clone(), digest.to_string());
    }
    match &step.kind {
        StepKind::Config => {}
        StepKind::Workdir(workdir) => {
            put(&mut parts, "path", &workdir.path);
            put(&mut parts, "user", &workdir.user);
        }
        StepKind::Run(run) => of_run(run, around, &mut parts),
        StepKind::Copy(copy) => of_copy(copy, &mut parts),
    }
    parts
}

fn put(parts: &mut Parts, name: impl Into<String>, text: &str) {
    parts.insert(name.into(), value(text));
}

fn of_run(run: &RunStep, around: Around<'_>, parts: &mut Parts) {
    put(parts, COMMAND, &run.argv.join(" "));
    put(parts, "working directory", &run.cwd);
    put(parts, "user", &run.user);
    // Both can reach everything, and are one to the key.
    let network = match around.network {
        NetworkMode::None => "none",
        NetworkMode::Default | NetworkMode::Host => "default or host",
    };
    put(parts, "network", network);
    put(parts, "platform", &around.stage.platform.to_string());
    let security = if run.insecure { "insecure" } else { "sandbox" };
    put(parts, "security mode", security);
    for (name, text) in &run.env {
        variable(name, text, around.stage, parts);
    }
    for (name, body) in &run.scripts {
        put(parts, format!("here-document {name}"), body);
    }
    for mount in &run.mounts {
        let kind = match &mount.kind {
            RunMountKind::Bind { .. } => "bind".to_owned(),
            RunMountKind::Cache { id, inside, .. } => format!("cache {id} {inside}"),
            RunMountKind::Tmpfs { size } => format!("tmpfs {}", size.unwrap_or_default()),
        };
        let access = if mount.read_only { "ro" } else { "rw" };
        put(parts, format!("mount at {}", mount.target), &format!("{} {access}", kind.trim_end()));
    }
    let owned = |(uid, gid, mode): (u32, u32, u32)| format!("{uid}:{gid} {mode:o}");
    for secret in &run.secrets {
        let places =
            [secret.target.as_deref(), secret.env.as_deref()].map(Option::unwrap_or_default);
        let text = format!("{} {}", places.join(" "), owned(secret.owner));
        put(parts, format!("mount of the secret {}", secret.id), text.trim_start());
    }
    for agent in &run.agents {
        let text = format!("{} {}", agent.target, owned(agent.owner));
        put(parts, format!("mount of the agent {}", agent.id), &text);
    }
    for device in &run.devices {
        put(parts, format!("device {}", device.name), "");
    }
    put(parts, "host name", run.hostname.as_deref().unwrap_or_default());
    let settings = around.settings;
    let hosts: Vec<&str> = settings.hosts.iter().map(|(name, _)| name.as_str()).collect();
    put(parts, "names of `--add-host`", &hosts.join(" "));
    put(
        parts,
        "`--shm-size`",
        &settings.shm_size.map_or_else(String::new, |size| size.to_string()),
    );
    for limit in &settings.limits {
        put(parts, format!("limit {}", limit.name), &format!("{}:{}", limit.soft, limit.hard));
    }
}

/// What is in the config in the end came from ENV, everything else from ARG.
fn variable(name: &str, text: &str, stage: &StagePlan, parts: &mut Parts) {
    let of_config = |entry: &String| entry.split_once('=').is_some_and(|(known, _)| known == name);
    let is_env = name == "PATH" || stage.config.config.env.iter().any(of_config);
    let kind = if is_env { "environment variable" } else { "build argument" };
    if is_secret(name) {
        let digest = Digest::of(text.as_bytes()).to_string();
        parts.insert(format!("{kind} {name}{SECRET}"), digest);
    } else {
        put(parts, format!("{kind} {name}"), text);
    }
}

fn of_copy(copy: &CopyStep, parts: &mut Parts) {
    let sources: Vec<&str> = copy.sources.iter().map(|(source, _)| source.as_str()).collect();
    put(parts, SOURCES, &sources.join(" "));
    put(parts, "destination", &copy.destination);
    put(parts, "working directory", &copy.cwd);
    put(parts, "owner", copy.chown.as_deref().unwrap_or_default());
    let chmod = match &copy.chmod {
        None => String::new(),
        Some(Chmod::Octal(mode)) => format!("{mode:o}"),
        Some(Chmod::Symbolic(clauses)) => clauses.clone(),
    };
    put(parts, "mode", &chmod);
    put(parts, "patterns of `--exclude`", &copy.exclude.join(" "));
    let flags = [
        (copy.parents, "--parents"),
        (copy.link, "--link"),
        (copy.unpack, "unpacks"),
        (copy.unpack_remote && !copy.remotes.is_empty(), "unpacks what it fetches"),
    ];
    let given: Vec<&str> =
        flags.iter().filter(|(given, _)| *given).map(|(_, name)| *name).collect();
    put(parts, "flags", &given.join(" "));
    for doc in &copy.heredocs {
        put(parts, format!("here-document {}", doc.name), &doc.body);
    }
}

/// What a source is called.
pub(super) fn place_of(from: &CopyFrom, stages: &[StagePlan]) -> String {
    match from {
        CopyFrom::Context => "the context".to_owned(),
        CopyFrom::Named(name) => format!("the context `{name}`"),
        CopyFrom::Image(base) => format!("the image `{}`", base.reference),
        CopyFrom::Stage(stage) => {
            format!("the stage `{}`", stages.get(*stage).map_or_else(String::new, named))
        }
    }
}

/// Name of a stage, or its number.
pub(super) fn named(stage: &StagePlan) -> String {
    stage.name.clone().unwrap_or_else(|| format!("stage-{}", stage.number))
}

/// What is different, a fragment for each part. `files` says more about content digests.
pub(super) fn differences(
    (old_text, old): (&str, &Parts),
    (new_text, new): (&str, &Parts),
    files: &dyn Fn(&str, &str, &str) -> String,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, now) in new {
        match old.get(name) {
            Some(before) if before == now || name == SOURCES => {}
            Some(_) if name == FILES && old.get(SOURCES) != new.get(SOURCES) => {
                let sources = [old, new].map(|parts| parts.get(SOURCES).map_or("", String::as_str));
                let [before, now] = sources.map(quoted);
                found.push(format!("{SOURCES} changed: {before} → {now}"));
            }
            Some(before) if name == FILES || name.starts_with(MOUNTED) => {
                found.push(files(name, before, now));
            }
            // As written where that tells them apart: a shell in front of both is no news.
            Some(_) if name == COMMAND && old_text != new_text => {
                found.push(format!(
                    "{name} changed: `{}` → `{}`",
                    value(old_text),
                    value(new_text)
                ));
            }
            Some(_) if name.ends_with(SECRET) => found.push(changed(name)),
            Some(before) => {
                found.push(format!("{name} changed: {} → {}", quoted(before), quoted(now)));
            }
            None if name.ends_with(SECRET) => found.push(format!("{name} is new")),
            None => found.push(format!("{name} is new: {}", quoted(now))),
        }
    }
    for (name, before) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        found.push(if name.ends_with(SECRET) {
            format!("{name} is gone")
        } else {
            format!("{name} is gone: it was {}", quoted(before))
        });
    }
    found
}

fn changed(name: &str) -> String {
    let name = name.trim_end_matches(SECRET);
    format!("{name} changed{SECRET}")
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") }
}
