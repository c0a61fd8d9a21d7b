//! What the caller decides about connections: proxies, and how to wait between attempts.

use super::halt::Halt;
use super::hosts::HostFiles;
use super::login::Credentials;
use super::mirror::Mirror;
use super::patience::{GivenUp, Patience};
use super::tls::CertificatePlaces;
use super::url::Url;
use super::warnings::Warnings;
use std::net::IpAddr;
use std::path::PathBuf;
use std::{fmt, sync::Arc, time::Duration};

/// Settings of a [`super::Registry`]; `cli` takes them from flags and the environment.
#[derive(Clone, Debug, Default)]
pub struct NetConfig {
    /// Proxy for https (`HTTPS_PROXY`, else `ALL_PROXY`): `http://[user:password@]host:port`.
    pub https_proxy: Option<String>,
    /// Proxy for plain http (`HTTP_PROXY`, else `ALL_PROXY`). This machine is always reached directly.
    pub http_proxy: Option<String>,
    /// Hosts that are reached directly (`NO_PROXY`): names with all below them, `.suffix`, addresses, `network/bits`,
    /// each with an optional port, and `*`; separated by commas.
    pub no_proxy: String,
    /// Asked before the registries themselves.
    pub mirrors: Vec<Mirror>,
    /// Files with settings of registries.
    pub hosts: HostFiles,
    /// Registries, `host[:port]`, that may speak plain http or show any certificate.
    pub insecure: Vec<String>,
    /// Any registry may.
    pub unverified: bool,
    /// Logins.
    pub credentials: Credentials,
    /// PEM files with authorities to trust besides those of the system.
    pub authorities: Vec<PathBuf>,
    /// What asks for signatures of what is pulled: as these are not checked, nothing is.
    pub signed_pulls: Option<String>,
    /// What asks for signatures of what is pushed: as these are not made, nothing is.
    pub signed_pushes: Option<String>,
    /// Where other certificates are.
    pub certificates: CertificatePlaces,
    /// How to wait before another attempt.
    pub pause: Pause,
    /// How long to wait for those who do not answer.
    pub patience: Patience,
    /// Who did not answer clients that ask nobody twice; those with the same one tell each other.
    pub given_up: GivenUp,
    /// What users should hear; clients with the same ones say nothing twice.
    pub warnings: Warnings,
    /// Nothing is connected to and no name is looked up: every request fails at once.
    pub offline: bool,
    /// Directory in which uploads of large blobs are remembered, so that the next process goes on with them; without one
    /// they are not.
    pub uploads: Option<PathBuf>,
}

/// Waits between attempts. Tests take [`Pause::with`] to see the waiting instead of doing it.
#[derive(Clone, Default)]
pub struct Pause(Option<Arc<dyn Fn(Duration) + Send + Sync>>);

impl Pause {
    /// Calls `wait` instead of sleeping.
    pub fn with(wait: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wait)))
    }

    /// Waits, not longer than until `halt`.
    pub(super) fn wait(&self, time: Duration, halt: &Halt) {
        match &self.0 {
            Some(wait) => wait(time),
            None => halt.sleep(time),
        }
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}

/// Whether `no_proxy` names the host of `url`.
pub(super) fn is_direct(no_proxy: &str, url: &Url) -> bool {
    let host = url.host().to_ascii_lowercase();
    no_proxy.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let (pattern, port) = split_port(&entry);
        port.is_none_or(|port| port == url.port()) && names_host(pattern, &host)
    })
}

fn names_host(pattern: &str, host: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return match pattern.split_once('/') {
            Some((network, bits)) => in_network(address, network, bits),
            None => pattern.parse() == Ok(address),
        };
    }
    let suffix = pattern.trim_start_matches('*').trim_start_matches('.');
    !suffix.is_empty()
        && host.strip_suffix(suffix).is_some_and(|rest| {
            // `.example.com` means what is below it, `example.com` itself as well.
            (rest.is_empty() && suffix.len() == pattern.len()) || rest.ends_with('.')
        })
}

/// `host:port`; an IPv6 address has a port only after brackets.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let (address, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

pub(super) fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (address, network.parse::<IpAddr>()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_rules() {
        let direct = |rules: &str, url: &str| is_direct(rules, &Url::parse(url).unwrap());
        for (rules, url) in [
            ("*", "https://a.b"),
            ("example.com", "https://example.com/x"),
            ("example.com", "https://r.Example.com/x"),
            (" x, .example.com ", "https://r.example.com/x"),
            ("*.example.com", "https://r.example.com/x"),
            ("example.com:443", "https://example.com/x"),
            ("10.0.0.0/8", "https://10.2.3.4:5000/"),
            ("10.2.3.4", "https://10.2.3.4:5000/"),
            ("fd00::/8", "https://[fd12::1]/"),
            ("[fd12::1]:443", "https://[fd12::1]/"),
            ("0.0.0.0/0", "https://1.2.3.4/"),
        ] {
            assert!(direct(rules, url), "{rules} {url}");
        }
        for (rules, url) in [
            ("", "https://a.b"),
            ("example.com", "https://badexample.com/x"),
            (".example.com", "https://example.com/x"),
            ("example.com:5000", "https://example.com/x"),
            ("10.0.0.0/8", "https://11.2.3.4/"),
            ("10.0.0.0/99", "https://10.2.3.4/"),
            ("10.0.0.0/8", "https://ten.example/"),
            (".", "https://a.b"),
        ] {
            assert!(!direct(rules, url), "{rules} {url}");
        }
    }
}
