//! The keys and words of a spec: what is not here is a mistake. The published schema has the same ones.

use super::{ClosureLink, DirSymlinks, HistoryWish, Strategy};
use crate::layers::compress::{GZIP_LEVEL, ZSTD_LEVEL};

pub(super) const TOP: &[&str] = &[
    "version",
    "name",
    "tag",
    "tagFrom",
    "from",
    "inherit",
    "architecture",
    "os",
    "variant",
    "config",
    "author",
    "contents",
    "perms",
    "runAsRoot",
    "extraCommands",
    "fakeRootCommands",
    "run",
    "owner",
    "created",
    "mtime",
    "layers",
    "compression",
    "nixDatabase",
    "annotations",
    "history",
    "checksum",
];

pub(super) const FROM: &[&str] = &["image", "platform", "digest"];

/// What an item of `contents` can be.
pub(super) const KINDS: &[&str] =
    &["dir", "tar", "closure", "file", "symlink", "directory", "preset"];

/// Every key that an item of `contents` can have.
pub(super) const ITEM: &[&str] = &[
    "dir",
    "tar",
    "closure",
    "file",
    "symlink",
    "directory",
    "preset",
    "to",
    "dirSymlinks",
    "sourceSymlinks",
    "xattrs",
    "hardlinks",
    "owners",
];
pub(super) const DIR: &[&str] =
    &["dir", "to", "dirSymlinks", "sourceSymlinks", "xattrs", "hardlinks", "owners"];
pub(super) const TAR: &[&str] = &["tar", "to", "dirSymlinks"];
pub(super) const CLOSURE_ITEM: &[&str] = &["closure"];
pub(super) const FILE_ITEM: &[&str] = &["file"];
pub(super) const SYMLINK_ITEM: &[&str] = &["symlink"];
pub(super) const DIRECTORY_ITEM: &[&str] = &["directory"];
pub(super) const PRESET_ITEM: &[&str] = &["preset"];

pub(super) const CLOSURE: &[&str] =
    &["paths", "graph", "graphKey", "registration", "scan", "link", "store", "root"];
pub(super) const FILE: &[&str] = &["path", "mode", "uid", "gid", "text", "base64", "source"];
pub(super) const SYMLINK: &[&str] = &["path", "target", "uid", "gid"];
pub(super) const DIRECTORY: &[&str] = &["path", "mode", "uid", "gid"];

pub(super) const PRESETS: &[&str] =
    &["fake-nss", "shadow", "ca-certificates", "usr-bin-env", "bin-sh", "tmp", "nix-shell"];
pub(super) const SHADOW: &[&str] = &["shell"];
pub(super) const CA_CERTIFICATES: &[&str] = &["source"];
pub(super) const LINK: &[&str] = &["target"];
pub(super) const NIX_SHELL: &[&str] = &["env", "command"];

pub(super) const PERM: &[&str] =
    &["path", "regex", "mode", "uid", "gid", "uname", "gname", "setuid", "xattrs"];
pub(super) const RUN: &[&str] = &["network", "mounts", "shell", "timeout", "tmpfs", "env"];
pub(super) const STORE_MOUNT: &[&str] = &["type"];
pub(super) const BIND_MOUNT: &[&str] = &["type", "source", "target"];
pub(super) const OWNER: &[&str] = &["uid", "gid", "uname", "gname"];
pub(super) const LAYERS: &[&str] = &["strategy", "max", "groups", "prebuilt", "dedup"];
pub(super) const COMPRESSION: &[&str] = &["kind", "level"];
pub(super) const NIX_DATABASE: &[&str] = &["include", "gcroots", "mergeBase"];
pub(super) const HEALTHCHECK: &[&str] =
    &["Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"];

/// Members of an image's config, by the names of the image specification and of Docker.
pub(super) const CONFIG: &[&str] = &[
    "ArgsEscaped",
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "CpuShares",
    "Domainname",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Hostname",
    "Image",
    "Labels",
    "MacAddress",
    "Memory",
    "MemorySwap",
    "NetworkDisabled",
    "OnBuild",
    "OpenStdin",
    "Shell",
    "StdinOnce",
    "StopSignal",
    "StopTimeout",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
];

pub(super) const TAG_FROM: &[(&str, bool)] = &[("digest", false), ("nix", true)];
pub(super) const INHERIT: &[&str] = &["docker", "env", "none"];
pub(super) const DIR_SYMLINKS: &[(&str, DirSymlinks)] = &[
    ("follow-base", DirSymlinks::FollowBase),
    ("replace", DirSymlinks::Replace),
    ("error", DirSymlinks::Error),
];
/// Whether links become directories.
pub(super) const SOURCE_SYMLINKS: &[(&str, bool)] = &[("keep", false), ("expand", true)];
pub(super) const CLOSURE_LINK: &[(&str, ClosureLink)] =
    &[("symlink", ClosureLink::Symlink), ("copy", ClosureLink::Copy), ("none", ClosureLink::None)];
/// Whether the store paths are put into the image.
pub(super) const STORE: &[(&str, bool)] = &[("include", true), ("omit", false)];
/// Whether set-id bits stay.
pub(super) const SETUID: &[(&str, bool)] = &[("drop", false), ("keep", true)];
pub(super) const NETWORK: &[(&str, &str)] = &[("none", "none"), ("host", "host")];
pub(super) const MOUNT_TYPES: &[&str] = &["store", "bind"];
pub(super) const STRATEGIES: &[(&str, Strategy)] = &[
    ("one", Strategy::One),
    ("per-content", Strategy::PerContent),
    ("explicit", Strategy::Explicit),
    ("popularity", Strategy::Popularity),
    ("balanced", Strategy::Balanced),
];
/// Whether what the base has is left out.
pub(super) const DEDUP: &[(&str, bool)] = &[("base", true), ("none", false)];
/// Kind of packing with its usual level, and the levels that it has.
pub(super) const COMPRESSIONS: &[(&str, Levels)] =
    &[("none", None), ("gzip", GZIP_LEVELS), ("zstd", Some((ZSTD_LEVEL, 1, 22)))];
pub(super) const GZIP_LEVELS: Levels = Some((GZIP_LEVEL as i32, 0, 9));
/// Usual, least and greatest.
pub(super) type Levels = Option<(i32, i32, i32)>;
pub(super) const HISTORY: &[(&str, HistoryWish)] =
    &[("per-layer", HistoryWish::PerLayer), ("plain", HistoryWish::Plain)];
pub(super) const MOMENTS: &[&str] = &["now", "source-date-epoch", "from-git"];
