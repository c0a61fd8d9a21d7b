//! Manifest, index, descriptor and image config as JSON.
//!
//! Descriptor, manifest and index are `oci-spec`'s types; they are written by [`to_json`], which sorts map keys so
//! that the same value always gives the same bytes. The image config is our own type: `oci-spec` drops
//! `Healthcheck`, `Shell`, `OnBuild`, `ArgsEscaped` and every unknown field (docs/adr/0001). Unknown fields of a
//! base image's config are kept in `other`.

use super::digest::{DiffId, Digest};
use crate::error::{Error, Result};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// JSON object members that we do not interpret.
pub type Other = BTreeMap<String, Value>;

/// PATH of an image that sets none (dockerfile.md §2.2).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's config blob (image-spec config.md, with Docker's extensions).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture in GOARCH terms.
    #[serde(default)]
    pub architecture: String,
    /// Author, set by MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What a container of this image runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// One entry an instruction.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Operating system, `linux`.
    #[serde(default)]
    pub os: String,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// CPU variant, for example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Members that we do not interpret, kept from the base image.
    #[serde(flatten)]
    pub other: Other,
}

/// The `config` member: defaults for a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// True whenever a CMD was set (dockerfile.md §2.2).
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "null_is_default")]
    pub args_escaped: Option<bool>,
    /// Default arguments.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "null_is_default")]
    pub cmd: Option<Vec<String>>,
    /// Program and first arguments.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "null_is_default")]
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Keys `port/proto`, values `{}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "null_is_default")]
    pub healthcheck: Option<Healthcheck>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Raw texts of ONBUILD triggers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// Shell of shell-form instructions.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
    /// Signal that stops a container.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "null_is_default")]
    pub stop_signal: Option<String>,
    /// User as written in USER.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// Keys are paths, values `{}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Members that we do not interpret.
    #[serde(flatten)]
    pub other: Other,
}

/// Docker's health check; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Nanoseconds between checks; 0 = the engine's default.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds for one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures before unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// One history entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339 time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Instruction text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Comment, `buildkit.dockerfile.v0` for ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True when the instruction made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Members that we do not interpret.
    #[serde(flatten)]
    pub other: Other,
}

/// The layers of an image by their uncompressed digests, bottom first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Bottom first; written as `[]` when there are none, `null` accepted.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { diff_ids: Vec::new(), kind: layers() }
    }
}

fn layers() -> String {
    "layers".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn null_is_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Compact JSON with sorted keys: the bytes that digests are made of.
pub fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    // Through `Value`, whose maps are sorted: oci-spec keeps annotations in unordered maps.
    let value = serde_json::to_value(value)
        .map_err(|error| Error::internal("JSON of an image document").cause(error))?;
    serde_json::to_vec(&value)
        .map_err(|error| Error::internal("JSON of an image document").cause(error))
}

/// Parses a document, naming `what` in the error.
pub fn from_json<'de, T: Deserialize<'de>>(what: &str, bytes: &'de [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::integrity(format!("{what} is not valid JSON of its kind")).cause(error)
    })
}

/// A descriptor of bytes at hand.
#[expect(clippy::missing_panics_doc, reason = "it never does")]
pub fn descriptor(media_type: MediaType, digest: &Digest, size: u64) -> Descriptor {
    let digest: oci_spec::image::Digest =
        digest.as_str().parse().expect("our digests are valid by construction");
    Descriptor::new(media_type, size, digest)
}

/// Our digest of a descriptor; only sha256 is supported.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest> {
    Digest::parse(descriptor.digest().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_round_trip_keeps_extensions_and_unknown_fields() {
        let text = br#"{"architecture":"amd64","config":{"ArgsEscaped":true,"Cmd":["a"],"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"],"Shell":["/bin/sh","-c"],"Weird":{"b":1,"a":2}},"history":[{"created_by":"x","empty_layer":true}],"moby.x":"y","os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}"#;
        let config: ImageConfig = from_json("config", text).unwrap();
        let again = String::from_utf8(to_json(&config).unwrap()).unwrap();
        assert_eq!(
            again,
            String::from_utf8_lossy(text).replace(r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#)
        );
    }

    #[test]
    fn null_lists_are_read_and_written_as_empty() {
        let config: ImageConfig = from_json(
            "config",
            br#"{"config":{"Env":null,"Labels":null,"Cmd":null},"history":null,"rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        let text = String::from_utf8(to_json(&config).unwrap()).unwrap();
        assert!(text.contains(r#""diff_ids":[]"#), "{text}");
        assert!(!text.contains("Cmd"), "{text}");
    }
}
