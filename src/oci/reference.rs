//! Image names: `[registry/]repository[:tag][@digest]`, normalised as Docker does it.
//!
//! A [`Reference`] is always complete: `busybox` is `docker.io/library/busybox:latest` (design §10.1). `Display`
//! gives the full canonical name, which is what the store keeps; [`Reference::familiar`] gives what people type.

use super::digest::Digest;
use crate::error::{Error, Result};
use std::{fmt, str::FromStr};

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL: &str = "library/";
/// distribution-spec: registry and repository together.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete image name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host with optional port, `docker.io` for Docker Hub.
    pub registry: String,
    /// Path in the registry, `library/busybox`.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was written.
    pub tag: Option<String>,
    /// Digest of the manifest or index.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::image(format!("`{text}` is not a valid image name: {why}"));
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if is_hex64(text) {
            return Err(bad("it is the hex digits of a digest")
                .hint("write the name of the image in front, as in `name@sha256:…`"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|_| {
                    bad("what follows `@` must be `sha256:` and 64 lowercase hex digits")
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(|why| bad(&why))?;
        }
        let (registry, path) = split_registry(name);
        check_registry(registry).map_err(|why| bad(&why))?;
        if path.is_empty() {
            return Err(bad("there is no repository in it"));
        }
        check_repository(path).map_err(|why| {
            let error = bad(&why);
            if path.bytes().any(|b| b.is_ascii_uppercase()) {
                return error.hint(format!("write it in lowercase: `{}`", lower(text, name)));
            }
            error
        })?;
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(bad(&format!("the name must not be longer than {MAX_NAME} characters")));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// `registry/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The shortest spelling that means the same, as `docker images` shows it; the tag is always shown.
    pub fn familiar(&self) -> String {
        let mut shown = String::new();
        if self.registry == DEFAULT_REGISTRY {
            match self.repository.strip_prefix(OFFICIAL) {
                Some(official) if !official.contains('/') => shown.push_str(official),
                // A first component that looks like a host would be read as one.
                _ if split_registry(&self.repository).1 != self.repository => {
                    shown = self.name();
                }
                _ => shown.push_str(&self.repository),
            }
        } else {
            shown = self.name();
        }
        self.push_suffix(&mut shown);
        shown
    }

    /// The same image named by digest; the tag stays.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    fn push_suffix(&self, shown: &mut String) {
        if let Some(tag) = &self.tag {
            shown.push(':');
            shown.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            shown.push('@');
            shown.push_str(digest.as_str());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.name();
        self.push_suffix(&mut shown);
        f.write_str(&shown)
    }
}

impl FromStr for Reference {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// The first component is a registry when it has a dot or a port, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    }
}

/// Whole text with the name part in lowercase, for the hint.
fn lower(text: &str, name: &str) -> String {
    format!("{}{}", name.to_ascii_lowercase(), &text[name.len()..])
}

fn check_registry(registry: &str) -> Result<(), String> {
    let wrong = || format!("`{registry}` is not a host name with an optional port");
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(wrong)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
        match after {
            "" => return Ok(()),
            _ => ("x", Some(after.strip_prefix(':').ok_or_else(wrong)?)),
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let label = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err(wrong());
    }
    match port {
        Some(port) if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) => Err(wrong()),
        Some(port) if port.parse::<u16>().is_err() => Err(format!("`{port}` is not a port")),
        _ => Ok(()),
    }
}

fn check_repository(path: &str) -> Result<(), String> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("repository name `{path}` must be lowercase"));
    }
    path.split('/').try_for_each(|component| {
        if is_path_component(component) {
            return Ok(());
        }
        if component.is_empty() {
            return Err("there is an empty component between slashes".to_owned());
        }
        Err(format!(
            "`{component}` may only have lowercase letters and digits, separated by `.`, `_`, `__` or `-`"
        ))
    })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| word(*b));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    bytes.split(|b| word(*b)).filter(|separator| !separator.is_empty()).all(|separator| {
        matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let all = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && all && tag.len() <= MAX_TAG {
        return Ok(());
    }
    Err(format!(
        "tag `{tag}` may only have letters, digits, `_`, `.` and `-`, at most {MAX_TAG}, and not start with `.` or `-`"
    ))
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_shortened() {
        let digest = Digest::of(b"x");
        let table = [
            (
                "busybox".to_owned(),
                "docker.io/library/busybox:latest".to_owned(),
                "busybox:latest".to_owned(),
            ),
            ("a/b:1".into(), "docker.io/a/b:1".into(), "a/b:1".into()),
            ("docker.io/x".into(), "docker.io/library/x:latest".into(), "x:latest".into()),
            ("index.docker.io/x".into(), "docker.io/library/x:latest".into(), "x:latest".into()),
            ("localhost/x".into(), "localhost/x:latest".into(), "localhost/x:latest".into()),
            (
                "localhost:5000/x".into(),
                "localhost:5000/x:latest".into(),
                "localhost:5000/x:latest".into(),
            ),
            (
                "ghcr.io/A_b/c".replace("A_b", "a__b"),
                "ghcr.io/a__b/c:latest".into(),
                "ghcr.io/a__b/c:latest".into(),
            ),
            ("[::1]:5000/x:y".into(), "[::1]:5000/x:y".into(), "[::1]:5000/x:y".into()),
            (format!("x@{digest}"), format!("docker.io/library/x@{digest}"), format!("x@{digest}")),
            (
                format!("x:1@{digest}"),
                format!("docker.io/library/x:1@{digest}"),
                format!("x:1@{digest}"),
            ),
            (
                "docker.io/localhost/x".into(),
                "docker.io/localhost/x:latest".into(),
                "docker.io/localhost/x:latest".into(),
            ),
            (
                "docker.io/library/a/b".into(),
                "docker.io/library/a/b:latest".into(),
                "library/a/b:latest".into(),
            ),
        ];
        for (given, full, familiar) in &table {
            let reference = Reference::parse(given).unwrap();
            assert_eq!(reference.to_string(), *full, "{given}");
            assert_eq!(reference.familiar(), *familiar, "{given}");
            assert_eq!(Reference::parse(full).unwrap(), reference);
            assert_eq!(Reference::parse(familiar).unwrap(), reference);
        }
    }

    #[test]
    fn wrong_names_say_why() {
        let table = [
            ("", "it is empty"),
            ("Up", "repository name `Up` must be lowercase"),
            ("Org/app:V1", "write it in lowercase: `org/app:V1`"),
            ("a//b", "empty component"),
            ("a/", "empty component"),
            ("-a", "`-a` may only have"),
            ("a..b", "`a..b` may only have"),
            ("a___b", "`a___b` may only have"),
            ("a b", "`a b` may only have"),
            ("a:", "tag `` may only"),
            ("a:.b", "tag `.b` may only"),
            ("a@sha256:12", "what follows `@`"),
            ("http://x/y", "is not a host name"),
            ("x.y:99999/z", "`99999` is not a port"),
            ("x.y/", "no repository"),
        ];
        for (given, why) in table {
            let error = format!("{:?}", Reference::parse(given).unwrap_err());
            assert!(error.contains(why), "{given}: {error}");
        }
        assert!(Reference::parse(&"a".repeat(64)).is_err());
        assert!(Reference::parse(&"ab/".repeat(100)).is_err());
        assert!(Reference::parse(&format!("x{}", "/abc".repeat(70))).is_err());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
    }
}
