//! Absolute http addresses: parsing, where a redirect leads, same origin, and how they are shown.

use super::http::Plain;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use ureq::http::Uri;

/// An `http` or `https` address with a host, without user information and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url(Uri);

impl Url {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority()?;
        let named = !authority.host().is_empty() && !authority.as_str().contains('@');
        (known && named).then_some(Self(uri))
    }

    /// Where `location`, from an answer of this address, leads.
    pub(super) fn resolve(&self, location: &str) -> Option<Self> {
        let (scheme, authority) = (self.scheme(), self.0.authority()?.as_str());
        if Self::has_scheme(location) {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = self.0.path();
        let target = match location.bytes().next() {
            None => return None,
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{path}{location}"),
            Some(_) => {
                let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
                format!("{folder}{location}")
            }
        };
        Self::parse(&format!("{scheme}://{authority}{target}"))
    }

    /// With a further part of the query.
    pub(super) fn with_query(&self, more: &str) -> Self {
        let text = self.0.to_string();
        let joint = if text.contains('?') { '&' } else { '?' };
        // Only `more` is new, and callers encode it.
        Self::parse(&format!("{text}{joint}{more}")).unwrap_or_else(|| self.clone())
    }

    fn has_scheme(location: &str) -> bool {
        location.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
        })
    }

    pub(super) fn uri(&self) -> Uri {
        self.0.clone()
    }

    pub(super) fn is_https(&self) -> bool {
        self.scheme() == "https"
    }

    fn scheme(&self) -> &str {
        self.0.scheme_str().unwrap_or_default()
    }

    /// Host without brackets and port.
    pub(super) fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 })
    }

    /// The same scheme, host and port: what a token is good for.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.scheme() == other.scheme()
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }

    /// Whether a first request to it may go by plain http.
    pub(super) fn may_be_plain(&self, plain: Plain) -> bool {
        match plain {
            Plain::Never => false,
            Plain::Loopback => self.is_loopback(),
            Plain::Origin | Plain::Unverified | Plain::Anywhere => true,
        }
    }

    /// This machine, by the name or the address that says so.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }
}

/// `localhost`, 127.0.0.0/8 and ::1; without brackets. Other names are not looked up: an answer could change.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

/// Without the query, which may hold a signature that gives access.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.scheme(), self.0.path())?;
        if self.0.query().is_some() {
            f.write_str("?…")?;
        }
        Ok(())
    }
}

/// `text` as part of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve() {
        let from = Url::parse("https://r.example:5000/v2/a/blobs/x?y=1").unwrap();
        let to = |location: &str| {
            from.resolve(location).map(|url| format!("{}?{}", url, url.0.query().unwrap_or("")))
        };
        for (location, wanted) in [
            ("https://cdn.example/b?s=1", Some("https://cdn.example/b?…?s=1")),
            ("//cdn.example/b", Some("https://cdn.example/b?")),
            ("/b", Some("https://r.example:5000/b?")),
            ("?z", Some("https://r.example:5000/v2/a/blobs/x?…?z")),
            ("b", Some("https://r.example:5000/v2/a/blobs/b?")),
            ("ftp://x/b", None),
            ("file:///etc/passwd", None),
            ("https://u:p@x/b", None),
            ("https://", None),
            ("", None),
            ("/a b", None),
        ] {
            assert_eq!(to(location).as_deref(), wanted, "{location}");
        }
    }

    #[test]
    fn loopback_is_by_name_or_address() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "127.0.0.1.example", "0.0.0.0", "::2"] {
            assert!(!is_loopback(host), "{host}");
        }
        assert!(Url::parse("http://[::1]:5000/").unwrap().is_loopback());
    }

    #[test]
    fn query_parts_are_encoded() {
        assert_eq!(encoded("repository:a/b:pull&x=ü"), "repository%3Aa%2Fb%3Apull%26x%3D%C3%BC");
    }
}
