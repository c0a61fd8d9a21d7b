//! Verbs of `nativebuild image` and `nativebuild manifest`, and what all of them take.
//!
//! What a verb has of its own and stands alone too (`pull`, `diff`, …) is with what it does.

use super::change::{ConvertArgs, CopyArgs};
use super::diff::DiffArgs;
use super::export::ExportArgs;
use super::index::IndexCommand;
use super::show::{InspectArgs, ListArgs};
use super::store::Format;
use crate::cli::du::DuArgs;
use crate::cli::pkg::args::NetArgs;
use crate::cli::prefetch::PrefetchArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What a positional IMAGE can be.
pub const LOCATIONS: &str = "An IMAGE is a name in the store, or `docker://NAME`, `oci:PATH[:NAME]`, `oci-archive:PATH[:NAME]`, `docker-archive:PATH[:NAME]` or `dir:PATH`.";

/// `nativebuild image`.
#[derive(Debug, Args)]
#[command(after_help = LOCATIONS)]
pub struct ImageArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `nativebuild manifest`.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ManifestCommand,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// The store and the way to registries.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Where images and the cache are kept
    #[arg(long, value_name = "DIR", global = true)]
    pub root: Option<PathBuf>,
    /// Go on without signatures where the environment asks for them
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub disable_content_trust: Option<bool>,
    /// The way to registries.
    #[command(flatten)]
    pub net: NetArgs,
}

/// The verbs of `nativebuild image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Bring in an image: OCI layout, OCI archive, docker archive, or a root file system tar
    Import {
        /// Name in the store
        name: String,
        /// Directory or file, `:TAG` behind it when it holds several names; `-` reads standard input
        source: String,
        /// Platform of a root file system tar [default: this machine's]
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<String>,
        /// Merge the platforms into an image of that name instead of replacing it
        #[arg(long)]
        add: bool,
    },
    /// Bring in the images of an archive or layout under the names they have there
    Load {
        /// Directory or file; `-` reads standard input
        source: String,
        /// All names, when there are several
        #[arg(long)]
        all: bool,
    },
    /// Show what takes how much space
    Du(DuArgs),
    /// Collect everything that builds need, to carry it to a machine without a network
    Prefetch(Box<PrefetchArgs>),
    /// List the images of the store
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an image of the store as an archive or a layout
    Save {
        /// Name
        name: String,
        /// File or directory; `-` writes to standard output
        #[arg(short, long, value_name = "PATH")]
        output: PathBuf,
        /// Form
        #[arg(long, value_enum, default_value = "oci-archive")]
        format: Format,
        /// Which platform of an image for several
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<String>,
    },
    /// Show an image: what it is for, its size, its config and its layers
    Inspect(InspectArgs),
    /// Print the digest of an image
    Digest {
        /// Image
        image: String,
        /// Print the size of the manifest or index behind it
        #[arg(long)]
        size: bool,
    },
    /// List the tags of a repository
    LsTags {
        /// `docker://REPOSITORY`, or a name in the store
        repository: String,
    },
    /// Copy an image from one place to another, byte for byte
    Copy(CopyArgs),
    /// Copy an image with other compression or other media types
    Convert(ConvertArgs),
    /// Give an image a further name, in the store or in its repository of a registry
    Tag {
        /// Image
        source: String,
        /// Further name, of the same transport
        target: String,
    },
    /// Remove names
    Rm {
        /// Names in the store, or `docker://NAME`
        #[arg(required = true)]
        names: Vec<String>,
        /// Yes, remove from a registry
        #[arg(long)]
        yes: bool,
    },
    /// Make and change indexes: images for several platforms under one name
    #[command(subcommand)]
    Index(IndexCommand),
    /// List what refers to an image: signatures, SBOMs, other artifacts
    Referrers {
        /// Image
        image: String,
        /// Only of this type
        #[arg(long, value_name = "TYPE")]
        artifact_type: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the root file system of an image
    Export(ExportArgs),
    /// Compare files, config and history of two images; exit code 1 when they differ
    Diff(DiffArgs),
    /// Check every promise of an image: digests, sizes, layers, config
    Validate {
        /// Image, or a path of a layout or archive
        source: String,
    },
    /// Show what a name leads to, entry by entry
    #[command(subcommand)]
    Manifest(ManifestCommand),
}

/// The verbs of `nativebuild manifest`.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Show what a name leads to, entry by entry, as manifest-tool does
    Inspect(ListArgs),
}
