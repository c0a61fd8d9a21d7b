//! `nativebuild doctor`: what this machine and the network are like, as far as this program is concerned.
//!
//! In: a name; out: a report on standard output, and an error with what to do when the registry does not answer.

use super::environment::Environment;
use super::pkg::args::NetArgs;
use super::{pkg, print_data};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Registry;
use crate::net::doctor::{Report, WayReport};
use crate::oci::Reference;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `nativebuild doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// What to look at; the machine when nothing is said.
    #[command(subcommand)]
    pub command: Option<DoctorCommand>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Where images and the cache are kept
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// The verbs of `nativebuild doctor`.
#[derive(Debug, Subcommand)]
pub enum DoctorCommand {
    /// Show the way to a registry: settings, addresses, certificates, who is asked for, limits
    Registry {
        /// `HOST[:PORT]`, or the name of an image
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// How it is reached.
        #[command(flatten)]
        net: NetArgs,
    },
}

pub(super) fn run(args: DoctorArgs, environment: &Environment) -> Result<()> {
    let Some(DoctorCommand::Registry { name, json, net }) = args.command else {
        let store = environment.store(args.root.as_ref())?;
        return super::machine::run(args.json, &store, environment);
    };
    let json = json || args.json;
    let (reference, whole) = target(&name)?;
    let registry = Registry::watching(&pkg::net_config(&net, environment)?)?;
    let report = registry.examine(&reference, whole);
    let text = if json {
        let text = serde_json::to_string_pretty(&report);
        text.map_err(|error| Error::internal("JSON of the report").cause(error))? + "\n"
    } else {
        shown(&report)
    };
    print_data(text.as_bytes())?;
    report.verdict()
}

/// The name of an image, or of any one at a host; whether it is a certain one.
fn target(name: &str) -> Result<(Reference, bool)> {
    let usage = |error: Error| error.with_kind(ErrorKind::Usage);
    if name.contains('/') {
        return Ok((Reference::parse(name).map_err(usage)?, true));
    }
    let host = Reference::parse(&format!("{name}/any")).map_err(usage)?;
    if host.registry.eq_ignore_ascii_case(name) {
        return Ok((host, false));
    }
    Err(Error::usage(format!("`{name}` is not the name of a host"))
        .hint("a host has a dot or a port in it, or is `localhost`"))
}

/// The report for people.
fn shown(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: &str| out.push_str(&format!("{label:<10} {text}\n"));
    for file in &report.settings {
        line("settings", file);
    }
    if report.settings.is_empty() {
        line("settings", "no file");
    }
    for note in &report.notes {
        line("note", note);
    }
    for way in &report.ways {
        let kind = if way.mirror { "mirror" } else { "registry" };
        let repository = way.repository.iter().fold(String::new(), |out, name| out + "/" + name);
        let by = way.set_by.as_ref().map_or_else(String::new, |by| format!(" ({by})"));
        line(kind, &format!("{}{repository}{by}", way.address));
        for (label, text) in details(way) {
            line(&format!("  {label}"), &text);
        }
    }
    out
}

fn details(way: &WayReport) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if way.blocked {
        // Nobody was asked anything.
        return problem(way);
    }
    if way.insecure {
        all.push(("insecure", "certificates are not checked, plain http is allowed".to_owned()));
    }
    all.extend(way.addresses.iter().map(|address| ("address", address.clone())));
    all.push(("proxy", way.proxy.clone().unwrap_or_else(|| "none".to_owned())));
    if let Some(tls) = &way.tls {
        for one in &tls.chain {
            let text = format!("{}, issued by {}", one.subject, one.issuer);
            all.push(("tls", format!("{text}, from {} to {}", one.not_before, one.not_after)));
        }
        let root = tls.root.as_ref().zip(tls.root_file.as_ref());
        let ends = root.map(|(root, file)| format!("ends in {root} of {file}"));
        all.push(("tls", ends.unwrap_or_else(|| "ends in nothing that is trusted".to_owned())));
        all.extend(tls.client.iter().map(|file| ("client", file.clone())));
    }
    if let (Some(status), Some(version)) = (way.status, &way.version) {
        all.push(("/v2/", format!("{status}, {version}")));
    }
    if let Some(auth) = &way.auth {
        let service = auth.service.iter().map(|service| format!(", service `{service}`"));
        let realm = auth.realm.iter().map(|realm| format!(", realm `{realm}`"));
        all.push(("auth", realm.chain(service).fold(auth.scheme.clone(), |out, part| out + &part)));
    }
    let login = way.login.as_ref().map(|login| {
        let who =
            login.user.as_ref().map_or_else(|| "a token".to_owned(), |user| format!("`{user}`"));
        let verdict = match (login.accepted, way.status) {
            (Some(true), _) => "; accepted",
            (Some(false), _) => "; refused",
            (None, Some(200)) => "; not asked for",
            (None, _) => "",
        };
        format!("{who}; {}{verdict}", login.source)
    });
    all.push(("login", login.unwrap_or_else(|| "none".to_owned())));
    all.extend(way.manifest.map(|status| ("manifest", status.to_string())));
    if let Some(limit) = &way.limit {
        let left =
            way.remaining.as_ref().map_or_else(String::new, |left| format!(", left: {left}"));
        all.push(("limit", format!("{limit}{left}")));
    }
    all.extend(problem(way));
    all
}

fn problem(way: &WayReport) -> Vec<(&'static str, String)> {
    let Some(problem) = &way.problem else { return Vec::new() };
    let causes = problem.causes.iter().map(|cause| ("cause", cause.clone()));
    let hints = problem.hints.iter().map(|hint| ("help", hint.clone()));
    [("problem", problem.message.clone())].into_iter().chain(causes).chain(hints).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_or_an_image_is_named() {
        let of =
            |name: &str| target(name).map(|(at, whole)| (at.registry, at.repository, whole)).ok();
        let is = |host: &str, name: &str, whole| Some((host.to_owned(), name.to_owned(), whole));
        assert_eq!(of("r.example:5000"), is("r.example:5000", "any", false));
        assert_eq!(of("localhost"), is("localhost", "any", false));
        assert_eq!(of("docker.io"), is("docker.io", "library/any", false));
        assert_eq!(of("r.example/a/b:1"), is("r.example", "a/b", true));
        assert_eq!(of("library/busybox"), is("docker.io", "library/busybox", true));
        assert_eq!(of("busybox"), None);
        assert_eq!(of("https://r.example"), None);
    }
}
