//! What a spec says, checked: plain data with places for the messages that come later.

mod contents;
mod run;

pub use contents::*;
pub use run::*;

use crate::oci::{Digest, Platform};
use crate::source::{SourceFile, Span};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its place in the spec.
    pub span: Span,
}

/// An image to assemble.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The text.
    pub source: Arc<SourceFile>,
    /// Registry and repository, in lower case; none for an image without a name.
    pub name: Option<Placed<String>>,
    /// The tag.
    pub tag: Tag,
    /// What it stands on.
    pub from: Option<From>,
    /// What of the base's config it keeps.
    pub inherit: Inherit,
    /// What it is for, as far as the spec says.
    pub platform: PlatformWish,
    /// Its config, by the names of the image specification (`Cmd`, `Env`, …); `Env` is a list of `NAME=value`.
    pub config: BTreeMap<String, Value>,
    /// Who made it.
    pub author: Option<String>,
    /// Files, in order; later ones win.
    pub contents: Vec<Content>,
    /// What certain paths are made to look like, in order; later ones win.
    pub perms: Vec<Perm>,
    /// Commands.
    pub scripts: Scripts,
    /// How commands run.
    pub run: Run,
    /// Whose the files are that come without an owner.
    pub owner: Owner,
    /// When the image was made.
    pub created: Moment,
    /// Time of all files.
    pub mtime: FileTime,
    /// How files are put into layers.
    pub layers: Layers,
    /// How layers are packed: `gzip` and so on, and the level.
    pub compression: (String, Option<i32>),
    /// Nix's database in the image.
    pub nix_database: Option<NixDatabase>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// What the image's history says.
    pub history: HistoryWish,
}

impl Spec {
    /// Whether a time comes from the last commit.
    pub fn asks_for_git(&self) -> bool {
        self.created == Moment::Git || self.mtime == FileTime::Same(Moment::Git)
    }
}

/// The tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// As given; `latest` when the key is absent.
    Given(String),
    /// The first 32 hexadecimal digits of the config's digest (`tag: null`).
    Digest,
    /// The first 32 characters of the same in Nix's base 32 (`tag: null`, `tagFrom: nix`).
    Nix,
}

/// `from`.
#[derive(Clone, Debug)]
pub struct From {
    /// A location as the command line takes it; `#NAME:TAG` and `#@N` choose one of several images of an archive.
    pub image: Placed<String>,
    /// Which of its platforms.
    pub platform: Option<Placed<Platform>>,
    /// Digest of the manifest (or index) that it must have.
    pub digest: Option<Placed<Digest>>,
}

/// `inherit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherit {
    /// Everything (`docker`, and without the key).
    All,
    /// Nothing (`none`).
    None,
    /// These members of the config, by their names in the image specification; `env` is `[Env]`.
    Some(Vec<String>),
}

/// `architecture`, `os`, `variant`; each overrides the base's, then this machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformWish {
    /// GOARCH name.
    pub architecture: Option<String>,
    /// For example `linux`.
    pub os: Option<String>,
    /// For example `v7`.
    pub variant: Option<String>,
}

/// One item of `perms`, for a file or directory and all below it; `regex` is matched against whole paths in the image.
#[derive(Clone, Debug)]
pub struct Perm {
    /// Where it stands.
    pub span: Span,
    /// Where, absolute.
    pub path: String,
    /// Which paths, by their full path in the image; `.*` without the key.
    pub regex: Option<Placed<String>>,
    /// Permission bits for files and directories.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Owner's name in the tar.
    pub uname: Option<String>,
    /// Group's name in the tar.
    pub gname: Option<String>,
    /// Whether set-id bits of the files stay when `mode` has none (`setuid: keep`).
    pub keep_setuid: bool,
    /// Extended attributes, base64 after `0s`, hexadecimal after `0x`, else text.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// `owner`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the user in the tar; none is written without the key.
    pub uname: Option<String>,
    /// Name of the group in the tar.
    pub gname: Option<String>,
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Seconds since 1970.
    At(i64),
    /// `now`.
    Now,
    /// `source-date-epoch`: SOURCE_DATE_EPOCH, or `--source-date-epoch`.
    Epoch,
    /// `from-git`: the last commit of the spec's directory.
    Git,
}

/// `mtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileTime {
    /// The same for all.
    Same(Moment),
    /// `keep`: the files' own, but none later than `created`.
    Keep,
}

/// `layers`.
#[derive(Clone, Debug)]
pub struct Layers {
    /// How.
    pub strategy: Placed<Strategy>,
    /// Most layers of the image, the base's included.
    pub max: Option<Placed<usize>>,
    /// With `explicit`: for each layer its paths (absolute paths of the image with all below them, or store paths).
    pub groups: Vec<Vec<Placed<String>>>,
    /// Layers made with `--layer-only`, put on the base as they are, in order (`prebuilt`).
    pub prebuilt: Vec<Placed<PathBuf>>,
    /// What the base has already is left out (`dedup: base`), or not (`none`).
    pub dedup: bool,
}

/// How files are put into layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// One layer.
    One,
    /// One for each item of `contents`.
    PerContent,
    /// As `groups` says.
    Explicit,
    /// Store paths by how many others need them.
    Popularity,
    /// Store paths by size.
    Balanced,
}

/// `nixDatabase`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NixDatabase {
    /// Where.
    pub span: Span,
    /// Links under `/nix/var/nix/gcroots/NAME`; none: no links.
    pub gcroots: Option<String>,
    /// The base's rows are kept.
    pub merge_base: bool,
}

/// `history`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryWish {
    /// Each layer's comment lists what is in it (`per-layer`).
    PerLayer,
    /// Entries without comments (`plain`).
    Plain,
}
