//! `-o` of `assemble` as typed → where an image goes.

use crate::error::{Error, Result};
use crate::oci::Reference;
use crate::oci::archive::SaveFormat;
use crate::transfer::Location;
use std::path::{Path, PathBuf};

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A form in a file, or on standard output; under the image's own name or this one.
    File { format: SaveFormat, path: Option<PathBuf>, name: Option<Reference> },
    /// A registry: this name, or the image's own.
    Registry(Option<Reference>),
    /// skopeo's `dir:`, or a layout in which the image gets the name that is typed and no other.
    Copy(Location),
    /// Root file system, as a tar or as files.
    Tree { path: Option<PathBuf>, directory: bool },
}

impl Target {
    /// Parses one `-o`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.starts_with("type=") || text.contains(",type=") {
            return pairs(text);
        }
        for (transport, format) in [
            ("docker-archive:", SaveFormat::DockerArchive),
            ("oci-archive:", SaveFormat::OciArchive),
        ] {
            if text.strip_prefix(transport) == Some("-") {
                return Ok(Self::File { format, path: None, name: None });
            }
        }
        let named = |name: Option<String>| -> Result<Option<Reference>> {
            name.as_deref().map(Reference::parse).transpose()
        };
        Ok(match Location::parse(text)? {
            Location::DockerArchive(path, name) => {
                file(SaveFormat::DockerArchive, path, named(name)?)
            }
            Location::LayoutArchive(path, None) => file(SaveFormat::OciArchive, path, None),
            Location::Layout(path, None) => file(SaveFormat::OciDir, path, None),
            Location::Registry(name) => Self::Registry(Some(name)),
            to @ (Location::LayoutArchive(..) | Location::Layout(..) | Location::Dir(_)) => {
                Self::Copy(to)
            }
            Location::Store(_) => {
                return Err(Error::usage(format!("`-o {text}` says no form")).hint(format!(
                    "write `docker-archive:{text}`, `oci-archive:{text}` or `oci:{text}`"
                )));
            }
        })
    }

    /// Fails for what cannot be written whatever the image is, before anything is done for it.
    pub(super) fn check(all: &[Self], has_name: bool) -> Result<()> {
        let to_stdout = |target: &&Self| {
            matches!(target, Self::File { path: None, .. } | Self::Tree { path: None, .. })
        };
        if all.iter().filter(to_stdout).count() > 1 {
            return Err(Error::usage("only one output can be written to standard output"));
        }
        for target in all {
            let path = match target {
                Self::Registry(None) if !has_name => return Err(nameless("a registry")),
                Self::File { path: Some(path), .. }
                | Self::Tree { path: Some(path), directory: false } => path,
                _ => continue,
            };
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
                return Err(Error::usage(format!("cannot write `{}`", path.display()))
                    .cause(format!("there is no directory `{}`", parent.display())));
            }
        }
        Ok(())
    }

    /// Whether it can be written from the plans alone.
    pub(super) fn streams(&self) -> bool {
        matches!(self, Self::File { format: SaveFormat::DockerArchive, .. })
    }
}

/// For an image without a name where it needs one.
pub(super) fn nameless(whither: &str) -> Error {
    Error::usage(format!("the image has no name for {whither}"))
        .hint("`name:` in the spec gives it one, and so does `--set name=…`")
}

fn file(format: SaveFormat, path: PathBuf, name: Option<Reference>) -> Target {
    Target::File { format, path: Some(path), name }
}

fn pairs(text: &str) -> Result<Target> {
    let bad = |why: String| Error::usage(format!("bad output `{text}`: {why}"));
    let (mut kind, mut dest, mut name) = (None, None, None);
    for part in text.split(',') {
        let (key, value) =
            part.split_once('=').ok_or_else(|| bad(format!("`{part}` is no `key=value`")))?;
        match key {
            "type" => kind = Some(value),
            "dest" => dest = Some(value),
            "name" => name = Some(Reference::parse(value)?),
            _ => {
                return Err(
                    bad(format!("unknown key `{key}`")).hint("the keys are type, dest and name")
                );
            }
        }
    }
    let path = dest.filter(|dest| *dest != "-").map(PathBuf::from);
    let needed = || path.clone().ok_or_else(|| bad("a directory needs `dest`".to_owned()));
    let written = || match dest {
        Some(_) => Ok(path.clone()),
        None => Err(bad("it has no `dest`".to_owned()).hint("`dest=-` writes to standard output")),
    };
    let kind = kind.ok_or_else(|| bad("it has no `type`".to_owned()))?;
    Ok(match kind {
        "oci" => match &path {
            Some(path) if is_file(path) => file(SaveFormat::OciArchive, path.clone(), name),
            Some(path) => file(SaveFormat::OciDir, path.clone(), name),
            None => Target::File { format: SaveFormat::OciArchive, path: written()?, name },
        },
        "oci-archive" => Target::File { format: SaveFormat::OciArchive, path: written()?, name },
        "docker" | "docker-archive" => {
            Target::File { format: SaveFormat::DockerArchive, path: written()?, name }
        }
        "dir" => Target::Copy(Location::Dir(needed()?)),
        "tar" => Target::Tree { path: written()?, directory: false },
        "local" => Target::Tree { path: Some(needed()?), directory: true },
        "registry" => Target::Registry(match dest {
            Some(name) => Some(Reference::parse(name.trim_start_matches("docker://"))?),
            None => name,
        }),
        other => {
            return Err(bad(format!("unknown type `{other}`")).hint(
                "the types are oci, oci-archive, docker-archive, dir, tar, local and registry",
            ));
        }
    })
}

/// `build -o type=oci` writes an archive unless the destination is a directory; a name that ends in `.tar` is none.
fn is_file(path: &Path) -> bool {
    path.is_file() || path.extension().is_some_and(|end| end == "tar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_locations_or_pairs() {
        let docker = |path: Option<&str>| Target::File {
            format: SaveFormat::DockerArchive,
            path: path.map(PathBuf::from),
            name: None,
        };
        for (text, wanted) in [
            ("docker-archive:-", docker(None)),
            ("docker-archive:/x/a.tar", docker(Some("/x/a.tar"))),
            ("type=docker-archive,dest=-", docker(None)),
            ("type=oci,dest=/x/d", file(SaveFormat::OciDir, "/x/d".into(), None)),
            ("type=oci,dest=/x/d.tar", file(SaveFormat::OciArchive, "/x/d.tar".into(), None)),
            ("type=tar,dest=-", Target::Tree { path: None, directory: false }),
            ("dir:/x/d", Target::Copy(Location::Dir("/x/d".into()))),
            ("oci:/x/d", file(SaveFormat::OciDir, "/x/d".into(), None)),
            ("oci:/x/d:1", Target::Copy(Location::Layout("/x/d".into(), Some("1".to_owned())))),
            ("type=registry", Target::Registry(None)),
        ] {
            assert_eq!(Target::parse(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_output_is_told() {
        let said = |text: &str| Target::parse(text).unwrap_err().message().to_owned();
        assert_eq!(said("x.tar"), "`-o x.tar` says no form");
        assert_eq!(said("type=zip,dest=x"), "bad output `type=zip,dest=x`: unknown type `zip`");
        assert_eq!(said("type=oci"), "bad output `type=oci`: it has no `dest`");
        assert_eq!(said("type=dir"), "bad output `type=dir`: a directory needs `dest`");
        assert_eq!(said("type=oci,x"), "bad output `type=oci,x`: `x` is no `key=value`");
        assert_eq!(said("type=oci,a=b"), "bad output `type=oci,a=b`: unknown key `a`");
    }
}
