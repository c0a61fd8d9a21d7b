//! EXPOSE: `[ip:][hostport:]port[-port][/proto]` to the ports that the image config lists.
//!
//! In: one expanded word. Out: `port/proto` keys in order, or BuildKit's error. The address and host port are checked
//! and dropped; dockerfile.md §1.6.

use crate::error::{Error, Result};
use std::net::IpAddr;

/// Ports of one word, each as `port/proto`, ranges in order.
pub(super) fn parse(word: &str) -> Result<Vec<String>> {
    let (ip, host, container) = split_address(word);
    let (port, proto) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(Error::dockerfile(format!("no port specified: {word}<empty>")));
    }
    let proto = if proto.is_empty() { "tcp".to_owned() } else { proto.to_ascii_lowercase() };
    if !matches!(proto.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::dockerfile(format!("invalid proto: {proto}"))
            .hint("the protocols are `tcp`, `udp` and `sctp`"));
    }
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(Error::dockerfile(format!("invalid IP address: {bare}")));
    }
    let Some((first, last)) = range(port) else {
        return Err(Error::dockerfile(format!("invalid containerPort: {port}"))
            .hint("ports are numbers from 0 to 65535"));
    };
    if !host.is_empty() {
        let Some((host_first, host_last)) = range(host) else {
            return Err(Error::dockerfile(format!("invalid hostPort: {host}")));
        };
        if first != last && last - first != host_last - host_first {
            return Err(Error::dockerfile(format!(
                "invalid ranges specified for container and host Ports: {port} and {host}"
            )));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{proto}")).collect())
}

fn split_address(word: &str) -> (&str, &str, &str) {
    match word.rsplit_once(':') {
        None => ("", "", word),
        Some((before, container)) => match before.rsplit_once(':') {
            None => ("", before, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        for (word, expected) in [
            ("80", vec!["80/tcp"]),
            ("80/UDP", vec!["80/udp"]),
            ("0/sctp", vec!["0/sctp"]),
            ("80/", vec!["80/tcp"]),
            ("8000-8002", vec!["8000/tcp", "8001/tcp", "8002/tcp"]),
            ("127.0.0.1:9:80", vec!["80/tcp"]),
            ("[::1]::80", vec!["80/tcp"]),
            ("9-10:80-81", vec!["80/tcp", "81/tcp"]),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn bad_ports() {
        for (word, expected) in [
            ("70000", "invalid containerPort: 70000"),
            ("a", "invalid containerPort: a"),
            ("+1", "invalid containerPort: +1"),
            ("2-1", "invalid containerPort: 2-1"),
            ("-", "invalid containerPort: -"),
            ("80/foo", "invalid proto: foo"),
            ("/tcp", "no port specified: /tcp<empty>"),
            ("", "no port specified: <empty>"),
            ("x:1:80", "invalid IP address: x"),
            ("x:80", "invalid hostPort: x"),
            ("1-2:80-89", "invalid ranges specified for container and host Ports: 80-89 and 1-2"),
        ] {
            assert_eq!(parse(word).unwrap_err().message(), expected, "{word}");
        }
    }
}
