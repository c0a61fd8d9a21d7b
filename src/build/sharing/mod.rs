//! The step cache across machines: `--cache-to` and `--cache-from` (docs/cache.md).
//!
//! In: what a request asks for as [`SharedCaches`]; out: an ordinary OCI artifact in a registry or a layout, whose
//! `layers` are the blobs of the steps and whose config is a [`record::Document`]. [`import`] answers for steps that
//! the store does not know, [`export`] writes what a build knows. Whatever a cache holds, a build ends as without it:
//! everything that is taken is verified, and what cannot be taken is a warning and a miss.

mod artifact;
mod bring;
mod chunker;
pub(super) mod export;
pub(super) mod held;
pub(super) mod import;
pub(super) mod inline;
mod key;
mod local;
mod need;
mod pack;
mod record;
mod source;
mod stream;
mod taken;
mod unpack;
mod write;

pub use inline::Inline;
pub use key::CacheKey;

use crate::oci::{Digest, Reference};
use std::fmt;
use std::path::PathBuf;

/// The caches of a build besides that of its store.
#[derive(Clone, Debug, Default)]
pub struct SharedCaches {
    /// `--cache-to`.
    pub to: Vec<CacheTo>,
    /// `--cache-from`, the first one that has a step counts.
    pub from: Vec<CacheFrom>,
    /// `--cache-to type=inline`: the image has the records of its own layers.
    pub inline: Option<Inline>,
}

/// One `--cache-to`.
#[derive(Clone, Debug)]
pub struct CacheTo {
    /// Where the cache goes.
    pub place: ToPlace,
    /// Of which steps the layers go there.
    pub mode: Mode,
    /// What cannot be written is a warning.
    pub ignore_error: bool,
    /// Which directories of cache mounts go there too.
    pub mounts: Mounts,
    /// What the records are signed with.
    pub key: Option<CacheKey>,
}

/// Where a cache goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToPlace {
    /// A tag of a registry.
    Registry(Reference),
    /// An OCI image layout, and the name in it.
    Local {
        /// The directory.
        dir: PathBuf,
        /// `org.opencontainers.image.ref.name`.
        tag: String,
    },
}

/// Of which steps the layers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those whose layers are in the image.
    #[default]
    Min,
    /// All.
    Max,
}

/// Which directories of `RUN --mount=type=cache` are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    /// None.
    #[default]
    None,
    /// Those that the build used.
    Used,
    /// Of these the ones that the build used, by their ids.
    These(Vec<String>),
}

impl Mounts {
    /// With a further value of `mounts`: true, false, or an id.
    pub fn and(&self, value: &str) -> Self {
        match (crate::boolean::parse(value), self) {
            (Some(false), _) => Self::None,
            (Some(true), _) | (None, Self::Used) => Self::Used,
            (None, Self::None) => Self::These(vec![value.to_owned()]),
            (None, Self::These(ids)) => {
                Self::These(ids.iter().cloned().chain([value.to_owned()]).collect())
            }
        }
    }

    /// Whether a mount of this id is kept.
    pub(super) fn has(&self, id: &str) -> bool {
        match self {
            Self::None => false,
            Self::Used => true,
            Self::These(ids) => ids.iter().any(|known| known == id),
        }
    }
}

/// One `--cache-from`.
#[derive(Clone, Debug)]
pub struct CacheFrom {
    /// Where it is.
    pub place: FromPlace,
    /// What its records must be signed with.
    pub key: Option<CacheKey>,
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPlace {
    /// A name in a registry.
    Registry(Reference),
    /// An OCI image layout.
    Local {
        /// The directory.
        dir: PathBuf,
        /// Which of its entries.
        pick: Pick,
    },
}

/// Which entry of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// By its name.
    Tag(String),
    /// By its digest.
    Digest(Digest),
}

impl fmt::Display for ToPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Local { dir, tag } => write!(f, "{}:{tag}", dir.display()),
        }
    }
}

impl fmt::Display for FromPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Local { dir, pick: Pick::Tag(tag) } => write!(f, "{}:{tag}", dir.display()),
            Self::Local { dir, pick: Pick::Digest(digest) } => {
                write!(f, "{}@{digest}", dir.display())
            }
        }
    }
}
