//! What a spec says, checked: plain data with places for the messages that come later.

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

/// One item of `contents`.
#[derive(Clone, Debug)]
pub struct Content {
    /// Where the item stands.
    pub span: Span,
    /// What it is.
    pub kind: ContentKind,
}

/// What an item of `contents` is.
#[derive(Clone, Debug)]
pub enum ContentKind {
    /// `dir`: the files of a directory.
    Dir(DirContent),
    /// `tar`: the members of a tar, packed or not; owners, times, links and attributes are the tar's, whiteouts remove.
    Tar(TarContent),
    /// `closure`: Nix store paths with everything that they refer to.
    Closure(ClosureContent),
    /// `file`: one file with its text.
    File(FileContent),
    /// `symlink`: one symbolic link.
    Symlink(SymlinkContent),
    /// `directory`: one empty directory.
    Directory(DirectoryContent),
    /// `preset`: things that most images need.
    Preset(Vec<Placed<Preset>>),
}

/// How links to directories in the way of a directory are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirSymlinks {
    /// What goes to `/bin` goes to where the tree's `/bin` leads (without the key).
    FollowBase,
    /// The link is replaced by the directory.
    Replace,
    /// It is an error.
    Error,
}

/// `dir`.
#[derive(Clone, Debug)]
pub struct DirContent {
    /// The directory, relative to the spec's own.
    pub path: Placed<PathBuf>,
    /// Where in the image, absolute; `/` without the key.
    pub to: String,
    /// Links in the image.
    pub dir_symlinks: DirSymlinks,
    /// Links to directories in the source become directories (`sourceSymlinks: expand`; rsync's `-k`) or stay (`keep`).
    pub expand: bool,
    /// Extended attributes are kept (`xattrs: true`).
    pub xattrs: bool,
    /// Hard links are kept (`hardlinks: true`); otherwise each name is a file.
    pub hardlinks: bool,
    /// Owners are kept (`owners: true`); otherwise the spec's `owner`.
    pub owners: bool,
}

/// `tar`.
#[derive(Clone, Debug)]
pub struct TarContent {
    /// The file, relative to the spec's directory.
    pub path: Placed<PathBuf>,
    /// Where in the image.
    pub to: String,
    /// Links in the image.
    pub dir_symlinks: DirSymlinks,
}

/// `closure`.
#[derive(Clone, Debug)]
pub struct ClosureContent {
    /// Store paths.
    pub paths: Vec<Placed<String>>,
    /// Where references are known from.
    pub references: References,
    /// How the paths themselves get into `/`.
    pub link: ClosureLink,
    /// Whether the store paths are put into the image (`store: include`) or not (`omit`).
    pub include: bool,
    /// Directory below which `/nix/store` lies on this machine (`root`); `/` without the key.
    pub root: Option<Placed<PathBuf>>,
}

/// Where the references of store paths are known from.
#[derive(Clone, Debug)]
pub enum References {
    /// `graph: FILE`: `.attrs.json`, `nix path-info --json`, or what `exportReferencesGraph` writes; `graphKey` names the
    /// member of `.attrs.json`.
    Graph(Placed<PathBuf>, Option<String>),
    /// `registration: FILE`: what `nix-store --dump-db` writes.
    Registration(Placed<PathBuf>),
    /// `scan: true`, and without any key: the files are searched.
    Scan,
}

/// `link`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosureLink {
    /// Links to the files of each path (without the key).
    Symlink,
    /// Copies of them.
    Copy,
    /// Nothing.
    None,
}

/// What single files, links and directories have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// Where, absolute.
    pub path: Placed<String>,
    /// Permission bits; 0644 for files and 0755 for directories without the key.
    pub mode: Option<u32>,
    /// Owner; the spec's without the key.
    pub uid: Option<u32>,
    /// Group; the spec's without the key.
    pub gid: Option<u32>,
}

/// `file`.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// Where and whose.
    pub single: Single,
    /// Its bytes.
    pub text: FileText,
}

/// The bytes of a `file`.
#[derive(Clone, Debug)]
pub enum FileText {
    /// `text`.
    Text(String),
    /// `base64`, decoded.
    Bytes(Vec<u8>),
    /// `source`: a file relative to the spec's directory.
    Source(Placed<PathBuf>),
}

/// `symlink`.
#[derive(Clone, Debug)]
pub struct SymlinkContent {
    /// Where and whose.
    pub single: Single,
    /// Where it leads.
    pub target: String,
}

/// `directory`.
#[derive(Clone, Debug)]
pub struct DirectoryContent {
    /// Where and whose.
    pub single: Single,
}

/// A preset by name, with what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `fake-nss`: passwd, group and nsswitch.conf for root and nobody.
    FakeNss,
    /// `shadow`: the files that user management needs; `shell` is root's.
    Shadow {
        /// Login shell.
        shell: Option<String>,
    },
    /// `ca-certificates`: this machine's bundle, or `source`, in the usual places.
    CaCertificates {
        /// A bundle.
        source: Option<Placed<PathBuf>>,
    },
    /// `usr-bin-env`: `/usr/bin/env`, a link to `target`.
    UsrBinEnv {
        /// Where it leads.
        target: Option<String>,
    },
    /// `bin-sh`: `/bin/sh`, a link to `target`.
    BinSh {
        /// Where it leads.
        target: Option<String>,
    },
    /// `tmp`: `/tmp` and `/var/tmp`, for everybody.
    Tmp,
    /// `nix-shell`: the environment of a derivation.
    NixShell {
        /// `nix derivation show`, or `.attrs.json`.
        env: Placed<PathBuf>,
        /// A command instead of a shell.
        command: Option<String>,
    },
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

/// Commands of a spec, in the order in which they run.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    /// `runAsRoot`.
    pub run_as_root: Option<Placed<String>>,
    /// `extraCommands`.
    pub extra: Option<Placed<String>>,
    /// `fakeRootCommands`.
    pub fake_root: Option<Placed<String>>,
}

impl Spec {
    /// Whether a time comes from the last commit.
    pub fn asks_for_git(&self) -> bool {
        self.created == Moment::Git || self.mtime == FileTime::Same(Moment::Git)
    }
}

impl Scripts {
    /// Whether there is anything to run.
    pub fn is_some(&self) -> bool {
        self.run_as_root.is_some() || self.extra.is_some() || self.fake_root.is_some()
    }
}

/// `run`.
#[derive(Clone, Debug)]
pub struct Run {
    /// `none` (without the key) or `host`.
    pub network: String,
    /// Further mounts of `runAsRoot`.
    pub mounts: Vec<RunMount>,
    /// What runs the scripts; `/bin/sh -e` without the key.
    pub shell: Vec<String>,
    /// Seconds until they are ended; none: never.
    pub timeout: Option<u64>,
    /// File systems in memory, absolute paths.
    pub tmpfs: Vec<String>,
    /// Further variables.
    pub env: BTreeMap<String, String>,
}

/// A mount of `runAsRoot`.
#[derive(Clone, Debug)]
pub enum RunMount {
    /// `type: store`: this machine's `/nix/store`, read-only.
    Store(Span),
    /// `type: bind`: a directory of this machine, read-only.
    Bind {
        /// On this machine, relative to the spec's directory.
        source: Placed<PathBuf>,
        /// In the image.
        target: String,
    },
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
