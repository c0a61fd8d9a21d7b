//! Logins for files and repositories elsewhere: secrets with BuildKit's names.

use super::request::Secret;
use crate::net::{Git, NetConfig};
use crate::oci::git_url::GitUrl;

/// Git with what the secrets say about a repository's host.
pub fn git(secrets: &[Secret], url: &GitUrl, net: &NetConfig) -> Git {
    login(secrets, url).offline(net.offline)
}

fn login(secrets: &[Secret], url: &GitUrl) -> Git {
    let host = host_of(&url.remote);
    if let Some(token) = secret(secrets, "GIT_AUTH_TOKEN", host) {
        return Git::with_token(token.trim(), &url.remote);
    }
    match secret(secrets, "GIT_AUTH_HEADER", host) {
        Some(header) => Git::with_header(&header, &url.remote),
        None => Git::new(),
    }
}

/// BuildKit's names of secrets that hold logins: with the host behind them, or for all hosts.
fn secret(secrets: &[Secret], name: &str, host: &str) -> Option<String> {
    let exact = format!("{name}.{host}");
    let found = secrets.iter().rev().find(|secret| secret.id == exact);
    let found = found.or_else(|| secrets.iter().rev().find(|secret| secret.id == name));
    found.and_then(|secret| String::from_utf8(secret.content.to_vec()).ok())
}

/// Value of an Authorization header for a file.
pub fn authorization(secrets: &[Secret], url: &str) -> Option<String> {
    let host = host_of(url);
    let find = |name: String| {
        let found = secrets.iter().rev().find(|secret| secret.id == name)?;
        String::from_utf8(found.content.to_vec()).ok().map(|text| text.trim().to_owned())
    };
    let token = find(format!("HTTP_AUTH_TOKEN_{host}")).map(|token| format!("Bearer {token}"));
    find(format!("HTTP_AUTH_HEADER_{host}")).or(token)
}

/// Host of an address, without user and port.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_addresses_of_all_kinds() {
        for (url, host) in [
            ("https://h.example:8080/x", "h.example"),
            ("git@h:r.git", "h"),
            ("ssh://me@h:22/r", "h"),
            ("http://[::1]:80/", "::1"),
            ("http://h", "h"),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn logins_are_secrets_with_buildkits_names() {
        let secret = |id: &str, content: &str| Secret {
            id: id.to_owned(),
            content: content.as_bytes().into(),
        };
        let all = [secret("HTTP_AUTH_TOKEN_h", "t\n"), secret("HTTP_AUTH_HEADER_g", "Basic x")];
        assert_eq!(authorization(&all, "https://h/x").as_deref(), Some("Bearer t"));
        assert_eq!(authorization(&all, "https://g:1/x").as_deref(), Some("Basic x"));
        assert_eq!(authorization(&all, "https://other/x"), None);
    }
}
