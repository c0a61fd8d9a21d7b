//! `nativebuild doctor`: what this machine allows, what was tried, what would give more.

use super::environment::Environment;
use super::print_data;
use crate::error::{Error, Result};
use crate::executor::isolation::advice::{Advice, advice};
use crate::executor::isolation::facts::{self, ProcessFacts, StoreFacts};
use crate::executor::isolation::trial::{Approach, Trial, USER_NAMESPACE};
use crate::executor::isolation::{self, Account, IdMode, Kind};
use crate::executor::refusal::Refusal;
use crate::sys::probe;
use serde::Serialize;
use std::path::Path;

/// The report, and its JSON.
#[derive(Debug, Serialize)]
struct Report {
    /// What a build here uses; nothing when no command can run.
    isolation: Option<&'static str>,
    ids: Option<&'static str>,
    snapshots: Option<&'static str>,
    tried: Vec<Tried>,
    store: String,
    store_file_system: Option<StoreFacts>,
    process: ProcessFacts,
    better: Vec<Advice>,
}

/// One approach; for each part what stands in its way, nothing where it works.
#[derive(Debug, Serialize)]
struct Tried {
    name: &'static str,
    works: bool,
    refused: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<(&'static str, Option<String>)>,
}

pub(super) fn run(json: bool, store: &Path, environment: &Environment) -> Result<()> {
    let account = environment.account();
    let scratch = scratch(store)?;
    let report = report(&account, store, scratch.path());
    let text = if json {
        let text = serde_json::to_string_pretty(&report);
        text.map_err(|error| Error::internal("JSON of the report").cause(error))? + "\n"
    } else {
        shown(&report)
    };
    print_data(text.as_bytes())
}

/// A directory where the store is or would be; nothing of it stays.
fn scratch(store: &Path) -> Result<tempfile::TempDir> {
    let mut place = store;
    loop {
        match tempfile::Builder::new().prefix(".nativebuild-doctor-").tempdir_in(place) {
            Ok(dir) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::environment(format!("cannot write below {}", place.display()))
                    .cause(error)
                    .hint("choose another place for the store with `--root`"));
            }
        }
        let Some(parent) = place.parent() else {
            return Err(Error::environment(format!("cannot write below {}", store.display())));
        };
        place = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    }
}

fn report(account: &Account, store: &Path, scratch: &Path) -> Report {
    let examined = isolation::examine(account, scratch);
    let chosen = isolation::choose(account, scratch).ok().map(|(_, isolation)| isolation);
    let mut tried: Vec<Tried> =
        examined.trials.iter().map(|(way, trial)| told(way, trial)).collect();
    tried.extend(examined.left_out.iter().map(|(name, refusal)| Tried {
        name,
        works: false,
        refused: Some(refusal.to_string()),
        parts: Vec::new(),
    }));
    let user = account.name.clone().unwrap_or_else(|| "USER".to_owned());
    let place = store.display().to_string();
    Report {
        isolation: chosen.as_ref().map(|isolation| isolation.kind.as_str()),
        ids: chosen.as_ref().map(|isolation| isolation.ids.as_str()),
        snapshots: chosen.as_ref().map(|isolation| isolation.trees.as_str()),
        tried,
        store_file_system: facts::of_store(scratch).ok(),
        process: facts::of_process(),
        better: advice(chosen.as_ref(), &place, &user),
        store: place,
    }
}

fn told(approach: &Approach, trial: &Trial) -> Tried {
    let part = |result: &std::result::Result<(), Refusal>| result.as_ref().err().map(why);
    let works = trial.kind(approach, None).is_some();
    let mut parts = Vec::new();
    if trial.refused.is_none() && *approach != Approach::Chroot {
        parts.push(("mounts", part(&trial.mounts)));
        parts.push(("processes", part(&trial.processes)));
        parts.push(("overlay", part(&trial.overlay)));
    }
    if trial.refused.is_none() && approach.ids() == IdMode::Real {
        let none = (!trial.devices).then(|| "device nodes cannot be made or opened".to_owned());
        parts.push(("devices", none));
    }
    Tried { name: approach.name(), works, refused: trial.refused.as_ref().map(why), parts }
}

/// What the kernel said, and what most likely made it say so.
fn why(refusal: &Refusal) -> String {
    if refusal.doing == USER_NAMESPACE {
        return format!("{refusal}; {}", probe::why_no_user_namespace(refusal.errno()));
    }
    refusal.to_string()
}

fn shown(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: &str| out.push_str(&format!("{label:<10} {text}\n"));
    match (report.isolation, report.ids, report.snapshots) {
        (Some(kind), Some(ids), Some(snapshots)) if kind != Kind::Files.as_str() => {
            line("isolation", kind);
            line("ids", ids);
            line("snapshots", snapshots);
        }
        _ => line("isolation", "none: a Dockerfile with RUN cannot be built here"),
    }
    for tried in &report.tried {
        let how = tried.refused.clone().unwrap_or_else(|| "works".to_owned());
        line("tried", &format!("{}: {how}", tried.name));
        for (part, refused) in &tried.parts {
            line("", &format!("{part}: {}", refused.as_deref().unwrap_or("works")));
        }
    }
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    line("store", &report.store);
    if let Some(facts) = &report.store_file_system {
        let flags = facts.flags.join(",");
        let flags = if flags.is_empty() { "none".to_owned() } else { flags };
        line("", &format!("file system: {}, mount flags: {flags}", facts.kind));
        line("", &format!("user attributes: {}", yes(facts.xattrs)));
        line("", &format!("shared file data: {}", yes(facts.reflinks)));
        line("", &format!("types in directories: {}", yes(facts.types)));
    }
    let process = &report.process;
    line("kernel", &process.kernel);
    line("process", &format!("user {}, capabilities {}", process.uid, process.capabilities));
    line("", &format!("no new privileges: {}", yes(process.no_new_privileges)));
    line("", &format!("seccomp filter: {}", yes(process.seccomp)));
    line("", &format!("confined by: {}", process.confined_by.as_deref().unwrap_or("nothing")));
    line("", &format!("Landlock: version {}", process.landlock));
    line("", &format!("masks of /proc: {}", process.masks_of_proc));
    line("", &format!("cgroup: {}", process.cgroup));
    line(
        "network",
        &match &process.no_tun {
            None => "/dev/net/tun can be opened".to_owned(),
            Some(error) => format!("/dev/net/tun cannot be opened: {error}"),
        },
    );
    for advice in &report.better {
        line("better", &advice.goal);
        for (place, setting) in &advice.settings {
            line("", &format!("{place}: {setting}"));
        }
    }
    out
}
