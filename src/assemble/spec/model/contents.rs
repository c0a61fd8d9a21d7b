//! What `contents` says: the items that become files of the image.

use super::Placed;
use crate::source::Span;
use std::path::PathBuf;

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
