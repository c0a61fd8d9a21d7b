//! Places that are asked before a registry itself: LinuxKit's `--mirror [REGISTRY=]URL` (linuxkit.md §3).
//!
//! Mirrors serve reads only. What they say is checked like everything else, and what they do not have is asked of the
//! registry.

use super::login::registry_name;
use super::url::Url;
use crate::error::{Error, Result};

/// A mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry that it stands in for; `None` for all that have none of their own.
    registry: Option<String>,
    /// `http://host[:port]` or `https://host[:port]`.
    pub(super) base: String,
}

impl Mirror {
    /// Reads `[REGISTRY=]URL`.
    pub fn parse(text: &str) -> Result<Self> {
        let (registry, url) = match text.split_once('=') {
            Some((registry, url)) if !registry.contains('/') => (Some(registry), url),
            _ => (None, text),
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let message = format!("mirror `{text}` must start with http:// or https://");
            return Err(Error::usage(message)
                .hint("write `--mirror REGISTRY=https://HOST` or `--mirror https://HOST`"));
        }
        let base = url.trim_end_matches('/');
        let plain = Url::parse(base).filter(|parsed| matches!(parsed.uri().path(), "" | "/"));
        if plain.is_none() || base.contains(['?', '#']) {
            let error = Error::usage(format!("mirror `{text}` is not the address of a host"));
            return Err(error.hint("a mirror has a host and a port, and nothing behind them"));
        }
        let registry = registry.filter(|name| !matches!(*name, "" | "*")).map(registry_name);
        Ok(Self { registry, base: base.to_owned() })
    }
}

/// The mirrors of a registry: its own or, where it has none, those of all.
pub(super) fn of<'a>(mirrors: &'a [Mirror], registry: &str) -> Vec<&'a Mirror> {
    let for_name = |name: Option<&str>| {
        let fits = |mirror: &&Mirror| mirror.registry.as_deref() == name;
        mirrors.iter().filter(fits).collect::<Vec<_>>()
    };
    let own = for_name(Some(registry));
    if own.is_empty() { for_name(None) } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_belong_to_a_registry_or_to_all() {
        let all: Vec<Mirror> =
            ["http://any:5000/", "index.docker.io=https://hub.example", "*=https://b"]
                .iter()
                .map(|text| Mirror::parse(text).unwrap())
                .collect();
        let bases = |registry: &str| -> Vec<&str> {
            of(&all, registry).iter().map(|mirror| mirror.base.as_str()).collect()
        };
        assert_eq!(bases("docker.io"), ["https://hub.example"]);
        assert_eq!(bases("quay.io"), ["http://any:5000", "https://b"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "mirror",
            "docker.io=mirror",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x/y",
            "https://x?y",
        ] {
            assert!(Mirror::parse(text).is_err(), "{text}");
        }
    }
}
