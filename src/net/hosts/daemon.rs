//! `daemon.json` of docker: its mirrors of Docker Hub and its insecure registries.

use super::super::config::in_network;
use super::toml::{Origin, load};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::Path;

/// What is of use in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// `http://host[:port]` or `https://host[:port]`.
    pub(crate) mirrors: Vec<String>,
    /// `host[:port]` and `network/bits`.
    pub(crate) insecure: Vec<String>,
    pub(crate) origin: Option<Origin>,
}

#[derive(Deserialize)]
struct Json {
    #[serde(default, rename = "registry-mirrors")]
    mirrors: Vec<String>,
    #[serde(default, rename = "insecure-registries")]
    insecure: Vec<String>,
}

impl Daemon {
    /// Reads a file; `None` when it is not there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(source) = load(path)? else { return Ok(None) };
        let bad = |why: String| {
            Error::environment(format!("{} cannot be used", source.name())).cause(why)
        };
        let json: Json = serde_json::from_slice(source.text()).map_err(|error| {
            let line = source.line_span(error.line());
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            bad(why).at(&source, line)
        })?;
        for mirror in &json.mirrors {
            let parsed = super::super::mirror::Mirror::parse(mirror);
            parsed.map_err(|error| bad(format!("`registry-mirrors`: {}", error.message())))?;
        }
        let origin = Some(Origin { file: source.name().into(), line: 0 });
        let mirrors = json.mirrors.iter().map(|base| base.trim_end_matches('/').to_owned());
        Ok(Some(Self { mirrors: mirrors.collect(), insecure: json.insecure, origin }))
    }

    /// Whether `host[:port]` is among the insecure ones, by name or as an address of a network.
    pub(super) fn is_insecure(&self, host: &str) -> bool {
        let address = super::bare(host).parse::<IpAddr>().ok();
        self.insecure.iter().any(|entry| match (entry.split_once('/'), address) {
            (Some((network, bits)), Some(address)) => in_network(address, network, bits),
            _ => entry.eq_ignore_ascii_case(host),
        })
    }
}
