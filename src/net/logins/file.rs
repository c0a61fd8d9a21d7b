//! One file with logins: what it says about a repository.
//!
//! In: a place and what is asked; out: a login, or the program that has it. A file that is no JSON, or whose parts that
//! matter here have another shape than docker and podman give them, is an error that names file and line and shows nothing
//! of its content.

use super::text::{Flaw, Member, Text};
use super::{AuthForm, AuthPlace, HUB, LoginTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::net::login::{Login, registry_name};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fs::File;
use std::io::{ErrorKind as IoKind, Read};
use std::ops::Range;
use std::path::Path;

/// Bytes of a file.
const LARGEST: u64 = 4 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What to do about a file that cannot be read and that somebody named.
pub(super) const NAMED: &str = "make it readable, or change what names it: `--authfile`, REGISTRY_AUTH_FILE (a file) or DOCKER_CONFIG (a directory)";

/// A file that was read.
#[derive(Debug)]
pub(super) struct AuthFile<'a> {
    place: &'a AuthPlace,
    pub(super) text: Text,
}

/// The program that a file names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Behind `docker-credential-`.
    pub(super) name: String,
    /// What it is asked for.
    pub(super) server: String,
    /// It is credsStore, which stands for all registries.
    pub(super) for_all: bool,
    /// Where it is named, for messages.
    pub(super) place: String,
}

impl<'a> AuthFile<'a> {
    /// `None` when it is not there.
    pub(super) fn read(place: &'a AuthPlace, remarks: &mut Vec<String>) -> Result<Option<Self>> {
        let shown = place.path.display();
        let failed = |error: &std::io::Error| {
            let error = error.to_string();
            let why = error.split(" (os error").next().unwrap_or_default().to_lowercase();
            (format!("cannot read the logins in `{shown}`"), why)
        };
        match read(&place.path) {
            Ok(Some(bytes)) => {
                let text = String::from_utf8(bytes).map_err(|error| {
                    let start = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                    let line = start.split(|byte| *byte == b'\n').count();
                    corrupt(&place.path, &Flaw { line, why: "it is no UTF-8 text".to_owned() })
                })?;
                let text = Text::parse(text).map_err(|flaw| corrupt(&place.path, &flaw))?;
                let file = Self { place, text };
                if file.text.members(&file.text.root()).is_none() {
                    return Err(file.flaw(&file.text.root(), "it is no JSON object"));
                }
                Ok(Some(file))
            }
            Ok(None) => Err(Error::environment(format!("the logins in `{shown}` cannot be read"))
                .cause(format!("it is larger than {} MiB", LARGEST >> 20))),
            Err(error) if !place.required && error.kind() == IoKind::NotFound => Ok(None),
            // A variable that names a file where it means a directory is a mistake.
            Err(error) if !place.named && error.kind() == IoKind::NotADirectory => Ok(None),
            // A directory that is closed to us is nobody's place for our logins, as podman's when it was made for root.
            Err(_) if !place.named && is_out_of_sight(&place.path) => Ok(None),
            Err(error) if !place.named => {
                let (what, why) = failed(&error);
                remarks.push(format!("{what}: {why}; they are not used"));
                Ok(None)
            }
            Err(error) => {
                let (what, why) = failed(&error);
                let kind = if place.required { ErrorKind::Usage } else { ErrorKind::Environment };
                Err(Error::new(kind, what).cause(why).hint(NAMED))
            }
        }
    }

    /// A place without a file yet.
    pub(super) fn empty(place: &'a AuthPlace) -> Result<Self> {
        let text = Text::parse(String::new()).map_err(|flaw| corrupt(&place.path, &flaw))?;
        Ok(Self { place, text })
    }

    pub(super) fn path(&self) -> &Path {
        &self.place.path
    }

    pub(super) fn place(&self) -> &AuthPlace {
        self.place
    }

    /// The program that keeps the logins for a repository.
    pub(super) fn helper(&self, target: &LoginTarget) -> Result<Option<Wanted>> {
        if self.place.form == AuthForm::Legacy {
            return Ok(None);
        }
        let path = self.place.path.display();
        let members = self.section("credHelpers")?;
        if let Some(found) = best(&members, target, |key| self.host_of(key)) {
            let name = self.text.string(&found.value);
            let name =
                name.ok_or_else(|| self.flaw(&found.value, "`credHelpers` has no name here"))?;
            let place = format!("`credHelpers` in `{path}`");
            // A program knows hosts and docker's address, not repositories.
            let whole = self.host_of(&found.key).is_some();
            let server = if whole { &found.key } else { target.server() }.to_owned();
            if !name.is_empty() {
                return Ok(Some(Wanted { name, server, for_all: false, place }));
            }
        }
        let Some(found) = self.text.member(&self.text.root(), "credsStore") else {
            return Ok(None);
        };
        let name = self.text.string(&found.value);
        let name = name.ok_or_else(|| self.flaw(&found.value, "`credsStore` is no text"))?;
        let place = format!("`credsStore` in `{path}`");
        let server = target.server().to_owned();
        Ok((!name.is_empty()).then_some(Wanted { name, server, for_all: true, place }))
    }

    /// The login of `auths` for a repository. An entry without content is docker's mark that a program has it.
    pub(super) fn login(&self, target: &LoginTarget) -> Result<Option<Login>> {
        let mut members = self.auths()?;
        members.retain(|member| {
            self.text.members(&member.value).is_none_or(|fields| !fields.is_empty())
        });
        let Some(found) = best(&members, target, |key| self.host_of(key)) else { return Ok(None) };
        if self.text.members(&found.value).is_none() {
            return Err(self.flaw(&found.value, &format!("`{}` is no object", found.key)));
        }
        self.entry(found)
    }

    fn entry(&self, entry: &Member) -> Result<Option<Login>> {
        let field = |name: &str| -> Result<Option<String>> {
            let Some(found) = self.text.member(&entry.value, name) else { return Ok(None) };
            let text = self.text.string(&found.value).ok_or_else(|| {
                self.flaw(&found.value, &format!("`{name}` of `{}` is no text", entry.key))
            })?;
            Ok(Some(text).filter(|text| !text.is_empty()))
        };
        if let Some(token) = field("identitytoken")? {
            return Ok(Some(Login::Identity(token)));
        }
        if let Some(token) = field("registrytoken")? {
            return Ok(Some(Login::Token(token)));
        }
        if let Some(auth) = field("auth")? {
            return self.decoded(entry, &auth);
        }
        Ok(match (field("username")?, field("password")?) {
            (Some(user), password) => Some(Login::new(user, password.unwrap_or_default())),
            (None, _) => None,
        })
    }

    /// `auth`: base64 of `USER:PASSWORD`.
    fn decoded(&self, entry: &Member, auth: &str) -> Result<Option<Login>> {
        let plain: String = auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let decoded = BASE64.decode(plain).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let Some((user, password)) = pair else {
            let place = self.text.member(&entry.value, "auth").map(|found| found.value);
            let why = format!("`auth` of `{}` is not USER:PASSWORD in base64", entry.key);
            return Err(self.flaw(&place.unwrap_or_else(|| entry.value.clone()), &why));
        };
        if user.is_empty() && password.is_empty() {
            return Ok(None);
        }
        // Some writers filled it up.
        let password = password.trim_end_matches('\0');
        Ok(Some(Login::new(user.to_owned(), password.to_owned())))
    }

    /// The entries of `auths`.
    pub(super) fn auths(&self) -> Result<Vec<Member>> {
        match self.place.form {
            AuthForm::Legacy => Ok(self.text.members(&self.text.root()).unwrap_or_default()),
            _ => self.section("auths"),
        }
    }

    /// The members of an object at the top; none when it is missing.
    pub(super) fn section(&self, name: &str) -> Result<Vec<Member>> {
        let Some(found) = self.text.member(&self.text.root(), name) else { return Ok(Vec::new()) };
        if &self.text.as_str()[found.value.clone()] == "null" {
            return Ok(Vec::new());
        }
        let members = self.text.members(&found.value);
        members.ok_or_else(|| self.flaw(&found.value, &format!("`{name}` is no object")))
    }

    /// The registry that a key stands for as a whole: addresses and bare hosts do.
    pub(super) fn host_of(&self, key: &str) -> Option<String> {
        let whole = self.place.form == AuthForm::Legacy
            || key.contains("://")
            || !key.trim_end_matches('/').contains('/');
        whole.then(|| registry_name(key))
    }

    fn flaw(&self, place: &Range<usize>, why: &str) -> Error {
        corrupt(&self.place.path, &Flaw { line: self.text.line(place), why: why.to_owned() })
    }
}

/// The member that fits best: the longest key that is the beginning of the name as it is written, else an address that
/// means the registry.
fn best<'m>(
    members: &'m [Member],
    target: &LoginTarget,
    host_of: impl Fn(&str) -> Option<String>,
) -> Option<&'m Member> {
    let exact = |key: &String| members.iter().rev().find(|m| m.key.eq_ignore_ascii_case(key));
    let registry = |m: &&Member| host_of(&m.key).as_deref() == Some(&target.registry);
    target.keys().iter().find_map(exact).or_else(|| members.iter().rev().find(registry))
}

/// The file's bytes; `None` when there are too many.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= LARGEST).then_some(bytes))
}

/// Whether it cannot even be seen if the file is there.
fn is_out_of_sight(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == IoKind::PermissionDenied)
}

/// The line is named and not shown: a secret may stand in it.
fn corrupt(path: &Path, flaw: &Flaw) -> Error {
    Error::environment(format!("the file with logins `{}` is damaged", path.display()))
        .cause(format!("line {}: {}", flaw.line, flaw.why))
        .hint("mend it, or name another file with `--authfile` or REGISTRY_AUTH_FILE")
}

/// How a login for a target is called in a file.
pub(super) fn key_for(form: AuthForm, target: &LoginTarget) -> String {
    match form {
        // The only name under which docker looks for its own registry.
        AuthForm::Docker | AuthForm::Legacy if target.name() == HUB => {
            super::HUB_ADDRESS.to_owned()
        }
        _ => target.name(),
    }
}
