//! Where a name leads: what settings files say of registries, their mirrors and how far they are checked.
//!
//! In: paths of files and a name; out: [`Way`]s, mirrors first. Files: `registries.conf` with its drop-ins
//! (containers-registries.conf(5)) and docker's `daemon.json`. They are read when a registry is first asked. A way is
//! only an address: what comes from it is checked as ever, and the image keeps the name that it was asked for by.

mod conf;
mod daemon;
#[cfg(test)]
mod tests;
mod toml;

pub(super) use conf::{Conf, PullFrom, Rule};
pub(super) use daemon::Daemon;

use super::mirror::{self, Mirror};
use crate::error::{Error, Result};
use crate::oci::Reference;
use std::path::{Path, PathBuf};

/// Docker Hub's name and where it is.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Files of a drop-in directory that are read.
const MOST_FILES: usize = 1000;

/// Files with settings of registries; `cli` takes the paths from the environment.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// The only `registries.conf`, which must be there then.
    pub named: Option<PathBuf>,
    /// Else the first of these that is there.
    pub registries: Vec<PathBuf>,
    /// Directories of `*.conf` files that add to it; later ones count more.
    pub drop_ins: Vec<PathBuf>,
    /// Docker's `daemon.json`: the first that is there.
    pub daemon: Vec<PathBuf>,
}

/// What the files say together.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) conf: Conf,
    pub(super) daemon: Daemon,
    /// The files that were read.
    pub(super) files: Vec<String>,
}

/// A place to ask, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// `http://` or `https://` and the host, when that is known; else `host[:port]` is to be tried.
    pub(super) base: Option<String>,
    /// `host[:port]`.
    pub(super) host: String,
    /// Name of the repository there.
    pub(super) repository: String,
    pub(super) is_mirror: bool,
    pub(super) insecure: bool,
    /// File and line, or the flag; `None` for a name as it is.
    pub(super) origin: Option<String>,
}

impl Settings {
    /// Reads the files that are there.
    pub(super) fn read(files: &HostFiles) -> Result<Self> {
        let mut all = Self::default();
        match &files.named {
            Some(named) => {
                if !all.add(named)? {
                    return Err(Error::environment(format!(
                        "there is no file {}",
                        named.display()
                    ))
                    .cause("CONTAINERS_REGISTRIES_CONF names it"));
                }
            }
            None => {
                for path in &files.registries {
                    if all.add(path)? {
                        break;
                    }
                }
            }
        }
        for dir in &files.drop_ins {
            for path in drop_ins(dir) {
                all.add(&path)?;
            }
        }
        for path in &files.daemon {
            if let Some(daemon) = Daemon::read(path)? {
                all.files.push(path.display().to_string());
                all.daemon = daemon;
                break;
            }
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path) -> Result<bool> {
        let Some(source) = toml::load(path)? else { return Ok(false) };
        self.conf.overlay(Conf::parse(&source)?);
        self.files.push(source.name().to_owned());
        Ok(true)
    }

    /// What keeps a name from being asked for.
    pub(super) fn block(&self, reference: &Reference) -> Option<&Rule> {
        self.conf.rule(&name(reference)).filter(|rule| rule.blocked)
    }

    /// The registry itself for a name.
    pub(super) fn origin(&self, reference: &Reference) -> Result<Way> {
        let name = name(reference);
        let rule = self.conf.rule(&name);
        if let Some(rule) = rule.filter(|rule| rule.blocked) {
            return Err(blocked(&name, rule));
        }
        let target = rule.and_then(|rule| rule.rewritten(&name)).unwrap_or_else(|| name.clone());
        let (host, repository) = split(&target).ok_or_else(|| nowhere(reference, rule))?;
        let moved = rule.filter(|rule| target != name || rule.insecure);
        Ok(Way {
            base: None,
            insecure: rule.is_some_and(|rule| rule.insecure) || self.daemon.is_insecure(&host),
            host,
            repository,
            is_mirror: false,
            origin: moved.map(|rule| rule.origin.to_string()),
        })
    }

    /// A registry by its own name.
    pub(super) fn host(&self, registry: &str) -> Way {
        let rule = self.conf.rule(registry).filter(|rule| rule.insecure);
        Way {
            base: None,
            host: registry.to_owned(),
            repository: String::new(),
            is_mirror: false,
            insecure: rule.is_some() || self.daemon.is_insecure(registry),
            origin: rule.map(|rule| rule.origin.to_string()),
        }
    }

    /// Its mirrors, those of flags first.
    pub(super) fn mirrors(&self, flags: &[Mirror], reference: &Reference) -> Result<Vec<Way>> {
        let name = name(reference);
        let rule = self.conf.rule(&name);
        if let Some(rule) = rule.filter(|rule| rule.blocked) {
            return Err(blocked(&name, rule));
        }
        let whole = |base: &str, origin: String| Way {
            base: Some(base.to_owned()),
            host: base.split_once("://").map_or(base, |(_, host)| host).to_owned(),
            repository: reference.repository.clone(),
            is_mirror: true,
            insecure: false,
            origin: Some(origin),
        };
        let given = mirror::of(flags, &reference.registry).into_iter();
        let mut all: Vec<Way> =
            given.map(|mirror| whole(&mirror.base, "`--mirror`".to_owned())).collect();
        for mirror in rule.map_or(&[][..], |rule| &rule.mirrors) {
            let wanted = match mirror.pull {
                PullFrom::All => true,
                PullFrom::DigestOnly => reference.digest.is_some(),
                // A manifest below an index of a tag is asked by tag and digest.
                PullFrom::TagOnly => reference.tag.is_some(),
            };
            let rest = rule.and_then(|rule| rule.covers(&name)).unwrap_or_default();
            let target = split(&format!("{}{rest}", mirror.location));
            if let Some((host, repository)) = target.filter(|_| wanted) {
                let insecure = mirror.insecure || self.daemon.is_insecure(&host);
                let origin = Some(mirror.origin.to_string());
                all.push(Way { base: None, host, repository, is_mirror: true, insecure, origin });
            }
        }
        if reference.registry == HUB.0 {
            let origin = self.daemon.origin.as_ref().map_or_else(String::new, ToString::to_string);
            for base in &self.daemon.mirrors {
                let way = whole(base, origin.clone());
                let insecure = self.daemon.is_insecure(&way.host);
                all.push(Way { insecure, ..way });
            }
        }
        Ok(all)
    }
}

/// `host/repository`.
pub(super) fn name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry, reference.repository)
}

/// Host and repository of a place; Docker Hub's names are complete.
fn split(target: &str) -> Option<(String, String)> {
    let (host, repository) = target.split_once('/').filter(|(_, rest)| !rest.is_empty())?;
    let short = host == HUB.0 && !repository.contains('/');
    let repository = if short { format!("library/{repository}") } else { repository.to_owned() };
    Some((host.to_owned(), repository))
}

/// Where the host of a name is: Docker Hub is elsewhere.
pub(super) fn address(host: &str) -> &str {
    if host == HUB.0 { HUB.1 } else { host }
}

/// A host without its port and brackets.
pub(super) fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

/// The error for a name that a rule blocks.
pub(super) fn blocked(name: &str, rule: &Rule) -> Error {
    Error::registry(format!("`{name}` is blocked"))
        .cause(format!("{}: `blocked = true` for `{}`", rule.origin, rule.prefix))
        .hint("take the image from elsewhere, or change that file")
}

fn nowhere(reference: &Reference, rule: Option<&Rule>) -> Error {
    let error = Error::registry(format!("`{}` leads nowhere", name(reference)));
    match rule {
        Some(rule) => error.cause(format!("{}: `location` leaves no repository", rule.origin)),
        None => error,
    }
}

/// The `*.conf` files of a directory, by name.
fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .take(MOST_FILES)
        .collect();
    files.sort();
    files
}
