//! Logins that other tools left behind: the files of docker and of podman, and the programs that keep secrets for them
//! (assemble-trust C4). docs/registries.md "Logins" has the order.
//!
//! In: where to look, and which repository is asked; out: a login, and where it is from. Files are read and programs are
//! started when a registry wants to know who is asking, never before. The way down: [`file`] reads one file, over
//! [`text`], which knows where things stand in it; [`helper`] speaks with a program; [`save`] writes.

mod file;
mod helper;
mod save;
#[cfg(test)]
mod tests;
mod text;

pub use save::{Forgotten, Saved};

use super::login::{Login, registry_name};
use crate::error::{Error, Result};
use file::AuthFile;
use helper::Helper;
use std::path::PathBuf;

/// What docker calls its own registry, in its files and to the programs that it asks.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";

/// How a file names things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthForm {
    /// podman's auth.json.
    Containers,
    /// docker's config.json.
    Docker,
    /// The oldest one, .dockercfg: hosts at the top.
    Legacy,
}

/// A file that may hold logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthPlace {
    /// Where it is.
    pub path: PathBuf,
    /// What it looks like.
    pub form: AuthForm,
    /// The user named it: not to be able to read it is an error. Others that cannot be read are passed over with a
    /// remark.
    pub named: bool,
    /// It must be there.
    pub required: bool,
}

/// Where logins are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthPlaces {
    /// Files, in order.
    pub files: Vec<AuthPlace>,
    /// Directories with `docker-credential-NAME` programs, in order.
    pub programs: Vec<PathBuf>,
}

/// What was found for a repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    pub(super) login: Option<Login>,
    /// For messages: where the login is from, or where none is; empty when nothing was looked through.
    pub(super) source: String,
    /// What the user should hear.
    pub(super) remarks: Vec<String>,
}

/// A registry or a part of one that a login is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginTarget {
    /// As references name it.
    pub(super) registry: String,
    /// Namespace or repository; empty for the registry as a whole.
    pub(super) repository: String,
}

impl LoginTarget {
    /// Reads `REGISTRY[/REPOSITORY]`; docker's addresses of registries are understood.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // Not shown: a password can be among the words of a bad command line.
            Error::usage("this is no name of a registry")
                .cause(why)
                .hint("write `HOST[:PORT]`, or `HOST[:PORT]/REPOSITORY` for a login that is for a part of it")
        };
        let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
        let rest = &text[scheme.map_or(0, str::len)..];
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = match path.trim_end_matches('/') {
            "v1" | "v2" => "",
            path => path,
        };
        if scheme.is_some() && !path.is_empty() {
            return Err(bad("an address has nothing behind the host"));
        }
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !host.chars().all(is_host) || host.starts_with('-') {
            return Err(bad(
                "a host has letters, digits, dots and dashes, and a port behind a colon",
            ));
        }
        let is_part = |part: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            !part.is_empty() && part.chars().all(plain)
        };
        if !path.is_empty() && !path.split('/').all(is_part) {
            return Err(bad("a repository has small letters, digits, dots, dashes and slashes"));
        }
        Ok(Self { registry: registry_name(host), repository: path.to_owned() })
    }

    /// For messages, and the key in podman's files.
    pub fn name(&self) -> String {
        match self.repository.as_str() {
            "" => self.registry.clone(),
            repository => format!("{}/{repository}", self.registry),
        }
    }

    /// Keys that fit it: `host/a/b`, `host/a`, `host`.
    fn keys(&self) -> Vec<String> {
        let name = self.name();
        let ends = name.match_indices('/').map(|(at, _)| at);
        let mut keys: Vec<String> = ends.map(|at| name[..at].to_owned()).collect();
        keys.push(name.clone());
        keys.reverse();
        keys
    }

    /// What programs are asked for when the file names no key.
    fn server(&self) -> &str {
        if self.registry == HUB { HUB_ADDRESS } else { &self.registry }
    }
}

impl AuthPlaces {
    /// The login for a repository, or that there is none.
    pub(super) fn look(&self, target: &LoginTarget) -> Result<Looked> {
        let mut remarks = Vec::new();
        for place in &self.files {
            let Some(file) = AuthFile::read(place, &mut remarks)? else { continue };
            if let Some((login, source)) = self.look_in(&file, target, &mut remarks)? {
                return Ok(Looked { login: Some(login), source, remarks });
            }
        }
        let files: Vec<String> =
            self.files.iter().map(|place| format!("`{}`", place.path.display())).collect();
        let source = (!files.is_empty()).then(|| {
            let hindered = remarks.iter().fold(String::new(), |all, remark| all + "; " + remark);
            format!("there is no login for it in {}{hindered}", files.join(", "))
        });
        Ok(Looked { login: None, source: source.unwrap_or_default(), remarks })
    }

    /// credHelpers, then credsStore, then auths; the next one where one has nothing.
    fn look_in(
        &self,
        file: &AuthFile,
        target: &LoginTarget,
        remarks: &mut Vec<String>,
    ) -> Result<Option<(Login, String)>> {
        if let Some(wanted) = file.helper(target)? {
            match Helper::find(&wanted.name, &self.programs, &wanted.place)? {
                Some(helper) => {
                    if let Some(login) = helper.get(&wanted.server)? {
                        let source = format!("the login is from {}", helper.shown());
                        return Ok(Some((login, source)));
                    }
                }
                // docker's own settings travel to machines without docker; that must not end the use of public images.
                None if wanted.for_all => remarks.push(format!(
                    "`docker-credential-{}` of {} is not in PATH: no login of it is used",
                    wanted.name, wanted.place
                )),
                None => return Err(Helper::missing(&wanted.name, &wanted.place)),
            }
        }
        let found = file.login(target)?;
        Ok(found.map(|login| (login, format!("the login is from `{}`", file.path().display()))))
    }
}
