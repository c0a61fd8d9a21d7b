//! Who we are to a registry: a name and a password, or a token.
//!
//! In: `REGISTRY=USER:PASSWORD` and `REGISTRY=TOKEN` as `--registry-creds` has them (linuxkit.md §3), and the places of
//! [`super::logins`]; out: values of the Authorization header. No secret is ever in a message or in `Debug`.

use super::logins::{AuthPlaces, LoginTarget, Looked};
use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Logins by registry: those that were given, and the places where others are looked for.
#[derive(Clone, Default)]
pub struct Credentials {
    given: Vec<(String, Login)>,
    places: Arc<AuthPlaces>,
    /// What was found in the places, by registry and repository; all clones share it.
    looked: Arc<Mutex<Known>>,
}

type Known = HashMap<(String, String), Result<Looked>>;

/// One login.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Password {
        user: String,
        password: String,
    },
    /// Sent to the registry as it is.
    Token(String),
    /// Exchanged for a token where the registry says (OAuth 2 refresh token).
    Identity(String),
}

impl Credentials {
    /// Reads `REGISTRY=USER:PASSWORD` and `REGISTRY=TOKEN`; of one registry's the last counts.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut given = Vec::new();
        for word in words {
            let Some((registry, secret)) = word
                .split_once('=')
                .filter(|(registry, secret)| !registry.is_empty() && !secret.is_empty())
            else {
                return Err(Error::usage("credentials are not of the form `REGISTRY=SECRET`")
                    .hint("write `REGISTRY=USER:PASSWORD` or `REGISTRY=TOKEN`"));
            };
            let login = match secret.split_once(':') {
                Some((user, password)) => Login::new(user.to_owned(), password.to_owned()),
                None => Login::Token(secret.to_owned()),
            };
            given.push((registry_name(registry), login));
        }
        Ok(Self { given, ..Self::default() })
    }

    /// These; for registries that they do not name, the others.
    pub fn or(self, others: Self) -> Self {
        let given = others.given.into_iter().chain(self.given).collect();
        Self { given, ..self }
    }

    /// These; for registries that they do not name, what the places have.
    pub fn or_look_in(self, places: AuthPlaces) -> Self {
        Self { places: Arc::new(places), looked: Arc::default(), ..self }
    }

    /// The login for a repository of a registry, by its name in references. Files are read and programs started when it
    /// is asked for first.
    pub(super) fn of(&self, registry: &str, repository: &str) -> Result<Looked> {
        let given = self.given.iter().rev().find(|(known, _)| known == registry);
        if let Some((_, login)) = given {
            let source = "the login was given on the command line or in the environment".to_owned();
            return Ok(Looked { login: Some(login.clone()), source, remarks: Vec::new() });
        }
        let key = (registry.to_owned(), repository.to_owned());
        // Held while it is looked for: a program is not started once for each layer.
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let found = looked.entry(key).or_insert_with(|| {
            let (registry, repository) = (registry.to_owned(), repository.to_owned());
            self.places.look(&LoginTarget { registry, repository })
        });
        found.clone()
    }
}

impl Login {
    /// A name and a password; docker's `<token>` in place of a name is an identity token.
    pub(super) fn new(user: String, password: String) -> Self {
        match user.as_str() {
            "<token>" => Self::Identity(password),
            _ => Self::Password { user, password },
        }
    }

    /// Authorization for the registry itself, before it asked for any.
    pub(super) fn token(&self) -> Option<String> {
        match self {
            Self::Token(token) => Some(format!("Bearer {token}")),
            Self::Password { .. } | Self::Identity(_) => None,
        }
    }

    /// Authorization for whoever asks for name and password.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::Token(_) | Self::Identity(_) => None,
        }
    }

    /// The name in it.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } => Some(user),
            Self::Token(_) | Self::Identity(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.given.iter().map(|(registry, _)| registry)).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// A registry as references name it: docker's many names for its own are one.
pub(super) fn registry_name(text: &str) -> String {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = host.unwrap_or(text).split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
            "docker.io".to_owned()
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Credentials> {
        Credentials::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_and_tokens_are_told_apart() {
        let all = parse(&["r.example:5000=me:pa=ss:word", "https://index.docker.io/v1/=tok=="]);
        let all = all.unwrap();
        let of = |registry: &str| all.of(registry, "a").unwrap().login;
        let login = of("r.example:5000").unwrap();
        assert_eq!(login.basic().unwrap(), "Basic bWU6cGE9c3M6d29yZA==");
        assert!(login.token().is_none());
        assert_eq!(of("docker.io").unwrap().token().unwrap(), "Bearer tok==");
        assert!(of("r.example").is_none());
        assert_eq!(format!("{all:?}"), r#"["r.example:5000", "docker.io"]"#);
    }

    #[test]
    fn what_is_no_login_is_refused_without_showing_it() {
        for word in ["secret", "=secret", "r="] {
            let error = parse(&[word]).unwrap_err();
            assert!(!format!("{error:?}").contains("secret\""), "{error:?}");
            assert!(error.to_string().starts_with("credentials are not of the form"), "{error}");
        }
    }
}
