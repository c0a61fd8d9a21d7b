//! Who we are to a registry: a name and a password, or a token.
//!
//! In: `REGISTRY=USER:PASSWORD` and `REGISTRY=TOKEN` as `--registry-creds` has them (linuxkit.md §3); out: values of
//! the Authorization header. No secret is ever in a message or in `Debug`.

use crate::error::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt;

/// Logins by registry.
#[derive(Clone, Default)]
pub struct Credentials(Vec<(String, Login)>);

#[derive(Clone)]
pub(super) enum Login {
    Password { user: String, password: String },
    Token(String),
}

impl Credentials {
    /// Reads `REGISTRY=USER:PASSWORD` and `REGISTRY=TOKEN`; of one registry's the last counts.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut all = Vec::new();
        for word in words {
            let Some((registry, secret)) = word
                .split_once('=')
                .filter(|(registry, secret)| !registry.is_empty() && !secret.is_empty())
            else {
                return Err(Error::usage("credentials are not of the form `REGISTRY=SECRET`")
                    .hint("write `REGISTRY=USER:PASSWORD` or `REGISTRY=TOKEN`"));
            };
            let login = match secret.split_once(':') {
                Some((user, password)) => {
                    Login::Password { user: user.to_owned(), password: password.to_owned() }
                }
                None => Login::Token(secret.to_owned()),
            };
            all.push((registry_name(registry), login));
        }
        Ok(Self(all))
    }

    /// The login for a registry, by its name in references.
    pub(super) fn of(&self, registry: &str) -> Option<&Login> {
        self.0.iter().rev().find(|(known, _)| known == registry).map(|(_, login)| login)
    }
}

impl Login {
    /// Authorization for the registry itself, before it asked for any.
    pub(super) fn token(&self) -> Option<String> {
        match self {
            Self::Token(token) => Some(format!("Bearer {token}")),
            Self::Password { .. } => None,
        }
    }

    /// Authorization for whoever asks for name and password.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::Token(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(registry, _)| registry)).finish()
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
        let login = all.of("r.example:5000").unwrap();
        assert_eq!(login.basic().unwrap(), "Basic bWU6cGE9c3M6d29yZA==");
        assert!(login.token().is_none());
        assert_eq!(all.of("docker.io").unwrap().token().unwrap(), "Bearer tok==");
        assert!(all.of("r.example").is_none());
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
