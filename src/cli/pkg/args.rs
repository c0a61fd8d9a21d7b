//! Arguments of `nativebuild pkg` and `nativebuild cache`: LinuxKit's names and defaults (linuxkit.md §3).

use crate::cli::args::Progress;
use crate::cli::logins::AuthArgs;
use crate::cli::network::TlsArgs;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `nativebuild pkg`.
#[derive(Debug, Args)]
pub struct PkgArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PkgCommand,
    /// Flags of all verbs.
    #[command(flatten)]
    pub common: PkgCommon,
}

/// A switch that may be given as `--name`, `--name=true` or `--name=false`.
macro_rules! switches {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        switches! { "false"; $(#[$meta])* $visibility struct $name { $($(#[$doc])* $field,)* } }
    };
    ($default:literal; $(#[$meta:meta])* $visibility:vis struct $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Args)]
        $visibility struct $name {
            $(
                $(#[$doc])*
                #[arg(long, global = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
                      default_value = $default, default_missing_value = "true", hide_default_value = true,
                      hide_possible_values = true, value_name = "BOOL")]
                $visibility $field: bool,
            )*
        }
    };
}

/// Flags of all `pkg` verbs.
#[derive(Debug, Args)]
pub struct PkgCommon {
    /// Name of the package file in its directory
    #[arg(long, global = true, value_name = "FILE", default_value = "build.yml")]
    pub build_yml: PathBuf,
    /// Organisation [default: LINUXKIT_PKG_ORG, else of the package]
    #[arg(long, global = true, value_name = "ORG")]
    pub org: Option<String>,
    /// Use this hash instead of git's
    #[arg(long, global = true, value_name = "HASH")]
    pub hash: Option<String>,
    /// Commit whose tree gives the hash
    #[arg(long, global = true, value_name = "COMMIT", default_value = "HEAD")]
    pub hash_commit: String,
    /// Directory whose tree gives the hash [default: the package]
    #[arg(long, global = true, value_name = "DIR")]
    pub hash_path: Option<PathBuf>,
    /// Template of the tag [default: of the package, else `{{.Hash}}`]
    #[arg(long, global = true, value_name = "TEMPLATE")]
    pub tag: Option<String>,
    /// Switches.
    #[command(flatten)]
    pub switches: CommonSwitches,
    /// Where LinuxKit keeps images [default: LINUXKIT_CACHE, else ~/.linuxkit/cache]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The way to registries.
    #[command(flatten)]
    pub net: NetArgs,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// How much is told; of no meaning here
    #[arg(short, long, global = true, value_name = "N", hide = true)]
    pub verbose: Option<i32>,
    /// Where the step cache is kept
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// How registries are reached.
#[derive(Clone, Debug, Args)]
pub struct NetArgs {
    /// Registry mirror for reading, `[REGISTRY=]URL`; may be repeated [default: LINUXKIT_MIRROR]
    #[arg(long, global = true, value_name = "[REGISTRY=]URL")]
    pub mirror: Vec<String>,
    /// How they are checked.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Logins for registries.
    #[command(flatten)]
    pub auth: AuthArgs,
}

switches! {
    /// Switches of all `pkg` verbs.
    pub struct CommonSwitches {
        /// Count the tree as not clean, whatever git says: the hash gets a dirty suffix
        force_dirty,
        /// Organisation `$USER` and hash `dev`
        dev,
        /// Carry out every step, whatever the step cache has
        disable_cache,
        /// Use the step cache, whatever the package says
        enable_cache,
        /// Give RUNs a network, whatever the package says
        network,
        /// Give RUNs no network, whatever the package says
        nonetwork,
        /// Go on without signatures where the environment asks for them
        disable_content_trust,
        /// Ask for signatures, which are not made yet
        enable_content_trust,
    }
}

/// The verbs of `nativebuild pkg`.
#[derive(Debug, Subcommand)]
pub enum PkgCommand {
    /// Build packages into LinuxKit's cache
    Build(Box<PkgBuildArgs>),
    /// Build packages and push them
    Push(Box<PkgBuildArgs>),
    /// Print the tags of packages
    ShowTag {
        /// Package directories
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        /// With the registry in front
        #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false",
              default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
        canonical: bool,
    },
    /// Make the index of a package in a registry out of the images that it has
    #[command(alias = "index")]
    Manifest {
        /// Package directory
        dir: PathBuf,
        /// Also the index of this tag, out of its `-<arch>` tags
        #[arg(long)]
        release: Option<String>,
    },
    /// Print digest and size of packages in their registry, or in the cache where that has none
    Digest {
        /// Package directories
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Give an image in a registry another tag
    RemoteTag {
        /// Name
        from: String,
        /// New name
        to: String,
    },
    /// The store that builds use
    Builder {
        /// What to do.
        #[command(subcommand)]
        command: BuilderCommand,
    },
}

/// The verbs of `nativebuild pkg builder`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum BuilderCommand {
    /// Print how much images, snapshots, step cache and cache mounts take in the store
    Du,
    /// Remove everything that no named image and no running build needs (the same as `prune --all`)
    Prune,
}

/// `nativebuild pkg build`.
#[derive(Debug, Args)]
pub struct PkgBuildArgs {
    /// Package directories; a last word `push` that is none means `--push`
    #[arg(required = true)]
    pub dirs: Vec<PathBuf>,
    /// Platforms, `linux/ARCH` with commas between them [default: the architectures of the package]
    #[arg(long, value_name = "LIST")]
    pub platforms: Vec<String>,
    /// Platforms not to build
    #[arg(long, value_name = "LIST")]
    pub skip_platforms: Vec<String>,
    /// Switches.
    #[command(flatten)]
    pub switches: BuildSwitches,
    /// Switches that are on.
    #[command(flatten)]
    pub push_switches: PushSwitches,
    /// Also push under this tag
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
    /// Builders, `PLATFORM=CONTEXT` with commas between them
    #[arg(long, value_name = "LIST")]
    pub builders: Option<String>,
    /// Name of BuildKit's container; of no meaning here
    #[arg(long, value_name = "NAME", hide = true)]
    pub builder_name: Option<String>,
    /// Image of BuildKit; of no meaning here
    #[arg(long, value_name = "NAME", hide = true)]
    pub builder_image: Option<String>,
    /// Configuration of BuildKit; of no meaning here
    #[arg(long, value_name = "FILE", hide = true)]
    pub builder_config: Option<PathBuf>,
    /// Dockerfile in the package [default: of the package, else Dockerfile]
    #[arg(long, value_name = "FILE")]
    pub dockerfile: Option<String>,
    /// File with build arguments, a `NAME=VALUE` a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub build_arg_file: Vec<PathBuf>,
    /// SBOM generator; `false` for none
    #[arg(long, value_name = "IMAGE")]
    pub sbom_scanner: Option<String>,
    /// SSH agent or keys for `RUN --mount=type=ssh`; without a path SSH_AUTH_SOCK; may be repeated
    #[arg(long, value_name = "ID[=PATH,…]")]
    pub ssh: Vec<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// Time of new files and of the image: `real`, or `commit` for that of the package's last commit
    #[arg(long, value_enum, default_value = "commit")]
    pub timestamps: Timestamps,
    /// Seconds since 1970 for the same
    #[arg(long, value_name = "N")]
    pub source_date_epoch: Option<i64>,
    /// Steps at once [default: number of processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Directory with qemu-user programs; may be repeated [default: PATH]
    #[arg(long = "qemu-dir", value_name = "DIR")]
    pub qemu_dirs: Vec<PathBuf>,
    /// Most bytes that the store may have, for example `20GB` [default: NATIVEBUILD_MAX_STORE]
    #[arg(long, value_name = "SIZE")]
    pub max_store: Option<String>,
    /// Write where the time went to a file: a page when it ends in `.html`, data when it ends in `.json`
    #[arg(long, value_name = "FILE")]
    pub timings: Option<PathBuf>,
    /// Image with qemu-user programs
    #[arg(long, value_name = "NAME")]
    pub qemu_image: Option<String>,
    /// How RUNs are kept apart.
    #[command(flatten)]
    pub isolation: crate::cli::isolation::IsolationArgs,
}

switches! {
    /// Switches of `pkg build`.
    pub struct BuildSwitches {
        /// Build even when it is there already
        force,
        /// Bring into the cache what a registry has; otherwise it is only not built
        pull,
        /// Push after the build
        push,
        /// Let commands wait for the disk when they ask to (fsync and its like do nothing in a RUN)
        keep_fsync,
        /// Say for every step that the cache does not have why
        explain_cache,
        /// Only push
        nobuild,
        /// Push the index alone, without a tag for each architecture
        no_arch_tags,
        /// Also load into a running docker or podman
        docker,
        /// Print what would be built
        dry_run,
        /// Pull the images of FROM into the cache first
        precache_images,
        /// Do not take images of FROM out of the cache
        ignore_cached,
        /// Write what FROM, --from and ADD stood for into `nativebuild.lock` at the top of the repository
        lock,
        /// Build with exactly what `nativebuild.lock` has, and fail where it has nothing
        locked,
        /// Restart BuildKit; of no meaning here
        builder_restart,
    }
}

switches! {
    "true";
    /// Switches of `pkg build` that are on.
    pub struct PushSwitches {
        /// Push the index of the package, not only a tag for each architecture
        manifest,
        /// Push images; with `false` the index alone is made, out of what the registry has
        image,
        /// Of the oldest manuals; `false` is `--disable-content-trust`
        sign,
    }
}

/// `--timestamps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    /// Those of the package's last commit
    Commit,
    /// As they are
    Real,
}

/// `nativebuild cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
    /// Where LinuxKit keeps images [default: LINUXKIT_CACHE, else ~/.linuxkit/cache]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The way to registries.
    #[command(flatten)]
    pub net: NetArgs,
    /// Go on without signatures where the environment asks for them
    #[arg(long, global = true)]
    pub disable_content_trust: bool,
    /// Print errors and data only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// How much is told; of no meaning here
    #[arg(short, long, global = true, value_name = "N", hide = true)]
    pub verbose: Option<i32>,
    /// Where the step cache is kept
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// The verbs of `nativebuild cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the images in LinuxKit's cache
    Ls,
    /// Remove everything, or only what is not used
    Clean {
        /// Only blobs that no image needs
        #[arg(long)]
        unused: bool,
        /// Only images that a registry has
        #[arg(long)]
        published_only: bool,
    },
    /// Remove images
    Rm {
        /// Full names
        #[arg(required = true)]
        names: Vec<String>,
        /// Only when a registry has them
        #[arg(long)]
        published_only: bool,
    },
    /// Write one platform of an image to a file
    Export {
        /// Name
        name: String,
        /// Platform [default: this machine's]
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<String>,
        /// File; `-` writes to standard output
        #[arg(long, value_name = "FILE")]
        outfile: PathBuf,
        /// Form
        #[arg(long, value_enum, default_value = "oci")]
        format: ExportFormat,
        /// Name in the archive
        #[arg(long = "name", value_name = "NAME")]
        rename: Option<String>,
    },
    /// Take in the images of an OCI layout or archive
    Import {
        /// File, directory, or `-` for standard input
        source: String,
    },
    /// Fetch images from a registry
    Pull {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Push images to a registry
    Push {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `--format` of `cache export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// OCI layout as a tar
    Oci,
    /// Archive for docker load
    Docker,
    /// Root file system as a tar
    Filesystem,
}
