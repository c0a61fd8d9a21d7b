//! Where an image is, as the user writes it.

use crate::error::{Error, ErrorKind, Result};
use crate::oci::Reference;
use crate::oci::archive;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place for one image. A bare name is the store (design §10.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A name in the store.
    Store(Reference),
    /// `docker://NAME`: a registry.
    Registry(Reference),
    /// `oci:PATH[:NAME]`: an OCI image layout.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:PATH[:NAME]`: the same in a tar.
    LayoutArchive(PathBuf, Option<String>),
    /// `docker-archive:PATH[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
    /// `dir:PATH`: one image as plain files.
    Dir(PathBuf),
}

/// Transports of other tools that there are not, and what to do instead.
const FOREIGN: &[(&str, &str)] = &[
    ("docker-daemon:", "`docker save` writes a docker-archive, and `build --load` loads an image"),
    ("containers-storage:", "`podman save --format oci-archive` writes an archive"),
    ("oci-layout:", "the transport for a layout is `oci:`"),
    ("tarball:", "`image import` makes an image of the tar of a root file system"),
    ("http:", "write `docker://` before the name of an image in a registry"),
    ("https:", "write `docker://` before the name of an image in a registry"),
];

impl Location {
    /// Parses; what a path means may depend on what is on disk, since paths may hold colons.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix("docker://") {
            return reference(name).map(Self::Registry);
        }
        if text.starts_with("docker:") {
            return Err(Error::usage(format!("`{text}` lacks its slashes"))
                .hint("an image in a registry is written `docker://NAME`"));
        }
        for (transport, hint) in FOREIGN {
            if text.starts_with(transport) {
                return Err(
                    Error::usage(format!("there is no transport `{transport}`")).hint(*hint)
                );
            }
        }
        let split = |rest: &str| split(text, rest);
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return split(rest).map(|(path, name)| Self::LayoutArchive(path, name));
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return split(rest).map(|(path, name)| Self::DockerArchive(path, name));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return split(rest).map(|(path, name)| Self::Layout(path, name));
        }
        match text.strip_prefix("dir:") {
            Some("") => Err(no_path(text)),
            Some(path) => Ok(Self::Dir(path.into())),
            None => reference(text).map(Self::Store),
        }
    }

    /// The name of an image in the store or a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Store(name) | Self::Registry(name) => Some(name),
            _ => None,
        }
    }

    /// Whether an index has room there.
    pub fn holds_indexes(&self) -> bool {
        !matches!(self, Self::DockerArchive(..))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = |transport: &str, path: &Path, name: &Option<String>| {
            write!(f, "{transport}:{}", path.display())?;
            name.iter().try_for_each(|name| write!(f, ":{name}"))
        };
        match self {
            Self::Store(name) => f.write_str(&name.familiar()),
            Self::Registry(name) => write!(f, "docker://{}", name.familiar()),
            Self::Layout(at, name) => path("oci", at, name),
            Self::LayoutArchive(at, name) => path("oci-archive", at, name),
            Self::DockerArchive(at, name) => path("docker-archive", at, name),
            Self::Dir(at) => path("dir", at, &None),
        }
    }
}

/// A name, with the rule that it breaks in the error.
fn reference(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|error| error.with_kind(ErrorKind::Usage))
}

/// `PATH[:NAME]`: at the first colon before which there is something on disk, else at the first one.
fn split(text: &str, rest: &str) -> Result<(PathBuf, Option<String>)> {
    let (path, name) = match archive::split_source(rest) {
        (path, None) if !path.exists() => match rest.split_once(':') {
            Some((path, name)) => (path.into(), Some(name.to_owned())),
            None => (path, None),
        },
        found => found,
    };
    if path.as_os_str().is_empty() {
        return Err(no_path(text));
    }
    if name.as_deref() == Some("") {
        return Err(Error::usage(format!("`{text}` has an empty name behind its last colon")));
    }
    Ok((path, name))
}

fn no_path(text: &str) -> Error {
    Error::usage(format!("`{text}` has no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_apart_and_shown_as_written() {
        for text in [
            "a:1",
            "host.example:5000/x/y:latest",
            "docker://a:1",
            "docker://localhost:5000/x:1",
            "oci:some/where",
            "oci:some/where:tag",
            "oci-archive:x.tar:a.example/b:c",
            "docker-archive:x.tar:a:1",
            "dir:a:b",
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), text);
        }
        assert!(
            matches!(Location::parse("dir:a:b").unwrap(), Location::Dir(path) if path == Path::new("a:b"))
        );
    }

    #[test]
    fn a_path_with_a_colon_is_found_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a:b");
        std::fs::create_dir(&path).unwrap();
        let text = format!("oci:{}:c", path.display());
        assert_eq!(Location::parse(&text).unwrap(), Location::Layout(path, Some("c".to_owned())));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_rule() {
        let table = [
            ("docker:x", "`docker:x` lacks its slashes"),
            ("docker-daemon:x", "there is no transport `docker-daemon:`"),
            ("https://x/y", "there is no transport `https:`"),
            ("oci:", "`oci:` has no path"),
            ("dir:", "`dir:` has no path"),
            ("oci:x:", "empty name"),
            ("docker://", "it is empty"),
            ("docker://Up", "must be lowercase"),
            ("docker://x.y:99999/z", "`99999` is not a port"),
            ("x@sha256:12", "what follows `@`"),
            ("a//b", "empty component"),
        ];
        for (text, why) in table {
            let error = Location::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
