//! Paths in what travels to other processes as JSON: as bytes, since not every path is text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    path.as_os_str().as_bytes().serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    Vec::<u8>::deserialize(from).map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

/// The same for one that may be missing.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct One(#[serde(with = "super")] PathBuf);

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::executor) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.clone().map(One).serialize(to)
    }

    pub(in crate::executor) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Option::<One>::deserialize(from).map(|path| path.map(|One(path)| path))
    }
}
