//! Arguments as typed. One definition gives parsing, `-h` and `--help`.

use super::assemble::args::AssembleArgs;
use super::compat::real::RealArgs;
use super::compat::{BuildTable, ForeignArgs};
use super::debug::DebugArgs;
use super::doctor::DoctorArgs;
use super::image::archive::ArchiveArgs;
use super::image::args::{ImageArgs, ManifestArgs};
use super::image::diff::DiffVerb;
use super::image::export::ExportVerb;
use super::image::pull::PullArgs;
use super::image::with_rootfs::WithRootfsArgs;
use super::isolation::IsolationArgs;
use super::kaniko::KanikoArgs;
use super::login::{LoginArgs, LogoutArgs};
use super::logins::AuthArgs;
use super::manual::{CompletionArgs, ManArgs};
use super::network::TlsArgs;
use super::pkg::args::{CacheArgs, PkgArgs};
use crate::layers::compress::{GZIP_LEVEL, ZSTD_LEVEL};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Builds OCI images from Dockerfiles, without a daemon and without asking the host for anything.
#[derive(Debug, Parser)]
#[command(name = "nativebuild", version, about, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "`nativebuild DIR` is short for `nativebuild build DIR` when DIR holds a Dockerfile, and for `nativebuild pkg build DIR` when it holds a build.yml."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Connect to nothing: images, files and repositories come from the store, and RUNs have no network; also
    /// NATIVEBUILD_OFFLINE=1
    #[arg(long, global = true)]
    pub offline: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Make an image of files, archives and Nix store paths, without a Dockerfile
    Assemble(Box<AssembleArgs>),
    /// Bring images in, look at them, write them out
    Image(Box<ImageArgs>),
    /// Pull an image from a registry into the store, or into an archive whose hash is known beforehand
    Pull(Box<PullArgs>),
    /// Join archives of images
    Archive(ArchiveArgs),
    /// Compare files, config and history of two images, or write the layer between them
    Diff(Box<DiffVerb>),
    /// Write the root file system of an image as a tar or a directory
    Export(Box<ExportVerb>),
    /// Run a program of this machine on the root file system of an image
    WithRootfs(Box<WithRootfsArgs>),
    /// Look at manifests and indexes
    Manifest(Box<ManifestArgs>),
    /// LinuxKit packages
    #[command(alias = "package")]
    Pkg(Box<PkgArgs>),
    /// The images in LinuxKit's cache
    Cache(CacheArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget the login for a registry
    Logout(LogoutArgs),
    /// Remove what no image and no build needs
    Prune(PruneArgs),
    /// Show what this machine and the network are like
    Doctor(DoctorArgs),
    /// Print the version
    Version,
    /// Print a script that completes commands and options in a shell
    Completion(CompletionArgs),
    /// Print a manual page
    Man(ManArgs),
    /// Build as kaniko's executor does, with its options
    #[command(alias = "executor", hide = true)]
    KanikoExecutor(Box<KanikoArgs>),
    /// Ask one part of the program one question, for comparing it with others
    #[command(hide = true)]
    Debug(DebugArgs),
}

/// `nativebuild build`. A flag that is given twice counts as it was given last.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct BuildArgs {
    /// Directory whose files COPY and ADD may take; or a Git repository, the URL of a tar or a Dockerfile, or `-` for one
    /// of these on standard input
    pub context: PathBuf,
    /// Another context: `NAME=DIRECTORY`, `NAME=docker-image://IMAGE`, `NAME=oci-layout://PATH`, `NAME=URL`; may be repeated
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub build_contexts: Vec<String>,
    /// Dockerfile; `-` reads standard input [default: Dockerfile, dockerfile or Containerfile in CONTEXT]
    #[arg(short, long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Name for the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Value of an ARG; without `=VALUE` it comes from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Label for the image; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Platforms of the image, for example `linux/amd64,linux/arm64`: several make an index; may be repeated
    /// [default: this machine's]
    #[arg(long, alias = "platforms", value_name = "OS/ARCH[/VARIANT],…")]
    pub platform: Vec<String>,
    /// Directory with qemu-user programs, for platforms that this machine cannot run; may be repeated [default: PATH]
    #[arg(long = "qemu-dir", value_name = "DIR")]
    pub qemu_dirs: Vec<PathBuf>,
    /// Image with qemu-user programs, for the same
    #[arg(long, value_name = "NAME")]
    pub qemu_image: Option<String>,
    /// Annotation: `[manifest|index|manifest-descriptor|index-descriptor[PLATFORM]:]KEY=VALUE`; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
    /// Secret for `RUN --mount=type=secret`: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// SSH agent or keys for `RUN --mount=type=ssh`; without a path SSH_AUTH_SOCK; may be repeated
    #[arg(long, value_name = "ID[=PATH,…]")]
    pub ssh: Vec<String>,
    /// Directory with CDI specs, for `RUN --device`; may be repeated [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIR")]
    pub cdi_dirs: Vec<PathBuf>,
    /// Carry out every step, whatever the cache has
    #[arg(long)]
    pub no_cache: bool,
    /// Say for every step that the cache does not have why
    #[arg(long)]
    pub explain_cache: bool,
    /// When to ask a registry for a base image (`--pull` alone means `always`)
    #[arg(long, value_enum, default_value = "check", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub pull: Pull,
    /// Write what FROM, --from, ADD and contexts stood for into `nativebuild.lock` beside the Dockerfile
    #[arg(long)]
    pub lock: bool,
    /// Build with exactly what `nativebuild.lock` has, and fail where it has nothing
    #[arg(long, conflicts_with = "lock")]
    pub locked: bool,
    /// Most bytes that the store may have, for example `20GB`: what nothing uses is removed, then the build fails
    /// [default: NATIVEBUILD_MAX_STORE]
    #[arg(long, value_name = "SIZE")]
    pub max_store: Option<String>,
    /// Network of RUN: none, host, or default: one of its own by slirp4netns or pasta, else host
    #[arg(long, value_enum, default_value = "default")]
    pub network: Network,
    /// Where the result goes, for example `type=oci,dest=image.tar`; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<String>,
    /// Load the image into a running docker or podman (the same as `-o type=docker`)
    #[arg(long)]
    pub load: bool,
    /// Push the image to the registries of its names (the same as `-o type=registry`)
    #[arg(long)]
    pub push: bool,
    /// Go on without signatures where the environment asks for them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub disable_content_trust: Option<bool>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// Only print the image digest (the same as `--progress quiet`)
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image digest to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write digests and names as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Write where the time went to a file: a page when it ends in `.html`, data when it ends in `.json`
    #[arg(long, value_name = "FILE")]
    pub timings: Option<PathBuf>,
    /// Time for `created` and for files that steps make: seconds since 1970, or `git` for the time of the last commit
    #[arg(long, alias = "timestamp", value_name = "N|git")]
    pub source_date_epoch: Option<String>,
    /// How RUNs are kept apart.
    #[command(flatten)]
    pub isolation: IsolationArgs,
    /// Compression of new layers
    #[arg(long, value_enum, default_value = "gzip")]
    pub compression: CompressionName,
    /// Level of the compression.
    #[arg(long, value_name = "N", help = format!("Level of the compression [default: {GZIP_LEVEL} for gzip, {ZSTD_LEVEL} for zstd]"))]
    pub compression_level: Option<i32>,
    /// Let commands wait for the disk when they ask to (fsync and its like do nothing in a RUN)
    #[arg(long)]
    pub keep_fsync: bool,
    /// Steps at once [default: number of processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Check the Dockerfile and build nothing (the same as `--call check`)
    #[arg(long)]
    pub check: bool,
    /// What to do instead of building: `check`, `outline` or `targets`; `outline,format=json` for JSON
    #[arg(long, value_name = "METHOD", default_value = "build")]
    pub call: String,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub print_plan: bool,
    /// Registry mirror for reading, `[REGISTRY=]URL`; may be repeated
    #[arg(long, value_name = "[REGISTRY=]URL")]
    pub mirror: Vec<String>,
    /// How registries are checked.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Where images and the cache are kept
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Logins for registries.
    #[command(flatten)]
    pub auth: AuthArgs,
    /// Options of other builders with a meaning.
    #[command(flatten)]
    pub real: RealArgs,
    /// Options of other builders without one; last, since an option with a meaning wins.
    #[command(flatten)]
    pub foreign: ForeignArgs<BuildTable>,
}

/// `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Always ask the registry
    #[value(alias = "true")]
    Always,
    /// Ask about images that were pulled before; use the stored one when there is no answer
    #[value(aliases = ["false", "ifnewer", "newer"])]
    Check,
    /// Only when the store does not have it
    #[value(alias = "ifmissing")]
    Missing,
    /// Never
    Never,
}

/// `--network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are the values")]
pub enum Network {
    Default,
    None,
    Host,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// tty on a terminal, plain otherwise
    Auto,
    /// One line for each thing that happens
    Plain,
    /// Coloured, for a terminal
    Tty,
    /// One JSON object a line on standard error
    #[value(alias = "rawjson")]
    Json,
    /// Nothing but errors
    #[value(alias = "none")]
    Quiet,
}

/// `--compression`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are the values")]
pub enum CompressionName {
    Gzip,
    Zstd,
    None,
}

/// `nativebuild prune`.
#[derive(Debug, Default, Args)]
pub struct PruneArgs {
    /// Remove everything that no named image and no running build needs, not only what was left behind
    #[arg(short, long)]
    pub all: bool,
    /// Remove what was not used for so long, for example `24h` or `7d`
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<String>,
    /// The same as docker writes it: `until=24h`
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Remove the least recently used until the store has no more than so many bytes, for example `10GB`
    #[arg(long, value_name = "SIZE")]
    pub keep_storage: Option<String>,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Accepted: nothing is asked here
    #[arg(short, long, hide = true)]
    pub force: bool,
    /// Where images and the cache are kept
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}
