//! manifest-tool's YAML: the name of an index, further tags, and its images with their platforms.

use super::Location;
use super::index::{Member, Stated};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Reference;
use crate::source::SourceFile;
use crate::yaml;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Larger files are no lists of images.
const MAX_SIZE: u64 = 1 << 20;

/// What a file says. All names are those of images in registries.
#[derive(Clone, Debug)]
pub struct SpecFile {
    /// Name of the index.
    pub target: Location,
    /// Further tags.
    pub tags: Vec<String>,
    /// Images.
    pub members: Vec<Member>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    image: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    manifests: Vec<Entry>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    image: String,
    #[serde(default)]
    platform: Option<PlatformEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PlatformEntry {
    architecture: String,
    os: String,
    variant: Option<String>,
    // manifest-tool 1 writes the second spelling, 2 the first.
    #[serde(rename = "os.version", alias = "osversion")]
    os_version: Option<String>,
    #[serde(rename = "os.features", alias = "osfeatures")]
    os_features: Option<Vec<String>>,
    /// Of processors; no index has them any more.
    features: Option<Vec<String>>,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<SpecFile> {
    let fail = || format!("cannot read `{}`", path.display());
    let size = std::fs::metadata(path).or_error(ErrorKind::Usage, fail)?.len();
    if size > MAX_SIZE {
        return Err(Error::usage(fail()).cause(format!("it is larger than {MAX_SIZE} bytes")));
    }
    let text = std::fs::read(path).or_error(ErrorKind::Usage, fail)?;
    parse(&path.display().to_string(), text).map_err(|error| error.with_kind(ErrorKind::Usage))
}

fn parse(name: &str, text: Vec<u8>) -> Result<SpecFile> {
    let source = Arc::new(SourceFile::new(name, text));
    let value = yaml::to_json(&source)?;
    let file: File = serde_json::from_value(value).map_err(|error| {
        Error::usage(format!("`{name}` does not describe an index"))
            .cause(error)
            .hint("it has `image`, `tags`, and `manifests` with `image` and `platform`")
    })?;
    let name_of = |text: &str| -> Result<Location> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        Reference::parse(text)
            .map(Location::Registry)
            .map_err(|error| error.wrap(format!("bad name in `{name}`")))
    };
    let mut members = Vec::new();
    for entry in file.manifests {
        let platform = entry.platform.unwrap_or_default();
        if platform.features.is_some_and(|features| !features.is_empty()) {
            return Err(Error::usage(format!(
                "`features` of `{}` has no place in an index",
                entry.image
            ))
            .hint("leave it out; `os.features` is for Windows"));
        }
        members.push(Member {
            location: name_of(&entry.image)?,
            platform: Some(Stated {
                os: platform.os,
                architecture: platform.architecture,
                variant: platform.variant,
                os_version: platform.os_version,
                os_features: platform.os_features.unwrap_or_default(),
            }),
        });
    }
    Ok(SpecFile {
        target: name_of(&file.image)?,
        tags: file.tags.unwrap_or_default(),
        members,
        annotations: file.annotations.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_manifest_tool_is_understood() {
        let text = "image: myprivreg:5000/someimage:latest\ntags: ['1.0', '2']\nmanifests:\n\
                    \x20 - image: myprivreg:5000/someimage:ppc64le\n    platform: {architecture: ppc64le, os: linux}\n\
                    \x20 - image: myprivreg:5000/someimage:armv7\n    platform:\n      architecture: arm\n      os: linux\n      variant: v7\n";
        let spec = parse("spec.yml", text.into()).unwrap();
        assert_eq!(spec.target.to_string(), "docker://myprivreg:5000/someimage:latest");
        assert_eq!(spec.tags, ["1.0", "2"]);
        let names: Vec<String> = spec.members.iter().map(|m| m.location.to_string()).collect();
        assert_eq!(
            names,
            [
                "docker://myprivreg:5000/someimage:ppc64le",
                "docker://myprivreg:5000/someimage:armv7"
            ]
        );
        let arm = spec.members[1].platform.clone().unwrap();
        assert_eq!(
            (&*arm.os, &*arm.architecture, arm.variant.as_deref()),
            ("linux", "arm", Some("v7"))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("image: x\n", "missing field `manifests`"),
            ("image: x\nmanifests: []\nimages: []\n", "unknown field `images`"),
            ("image: Up\nmanifests: []\n", "must be lowercase"),
            ("image: x\nmanifests: [{image: x, platform: {features: [sse4]}}]\n", "`features`"),
            ("a: [", "not valid YAML"),
        ] {
            let error = parse("spec.yml", text.into()).unwrap_err();
            let all = format!("{error} {:?}", error.causes());
            assert!(all.contains(why), "{text}: {all}");
        }
    }
}
