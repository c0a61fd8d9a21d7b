//! Arguments of `nativebuild image` and `nativebuild manifest`.

use crate::cli::args::CompressionName;
use crate::cli::du::DuArgs;
use crate::cli::isolation::IsolationArgs;
use crate::cli::pkg::args::NetArgs;
use crate::cli::prefetch::PrefetchArgs;
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
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

/// `image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Image
    pub image: String,
    /// Which platform of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print the manifest or index as it is
    #[arg(long, conflicts_with_all = ["json", "format"])]
    pub raw: bool,
    /// Print the config as it is; `--raw` may stand beside it
    #[arg(long, conflicts_with_all = ["json", "format"])]
    pub config: bool,
    /// Print JSON with manifest and config
    #[arg(long)]
    pub json: bool,
    /// Print what a template says, for example `{{.digest}}` or `{{json .config.config.Env}}`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub format: Option<String>,
}

/// `image copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Image
    pub source: String,
    /// Where to; for `docker-archive:` and `oci-archive:` the path `-` is standard output
    pub target: String,
    /// Copy only the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all")]
    pub platform: Option<String>,
    /// Copy an index whole, also from a registry
    #[arg(long)]
    pub all: bool,
    /// Fail where a digest could not stay
    #[arg(long)]
    pub preserve_digests: bool,
    /// Copy what refers to the image, too
    #[arg(long)]
    pub referrers: bool,
    /// Fail and write nothing unless the result has this digest: of an archive's bytes, else of the manifest or index
    #[arg(long, value_name = "sha256:HEX")]
    pub expect: Option<String>,
}

/// `image convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Image
    pub source: String,
    /// Where to
    pub target: String,
    /// Compression of all layers
    #[arg(long, value_enum)]
    pub compression: Option<CompressionName>,
    /// Level; packs again what has this compression already
    #[arg(long, value_name = "N", requires = "compression")]
    pub compression_level: Option<i32>,
    /// Media types
    #[arg(long = "type", value_enum)]
    pub types: Option<TypeName>,
    /// Only the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all")]
    pub platform: Option<String>,
    /// An index whole, also from a registry
    #[arg(long)]
    pub all: bool,
}

/// `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TypeName {
    /// Of the OCI image specification
    Oci,
    /// Docker's, schema 2
    Docker,
}

/// `nativebuild diff`.
#[derive(Debug, Args)]
#[command(after_help = LOCATIONS)]
pub struct DiffVerb {
    /// What is compared.
    #[command(flatten)]
    pub diff: DiffArgs,
    /// Write the layer that makes the second image's files of the first one's; `-` writes it to standard output, alone
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `image diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Image
    pub a: String,
    /// Image
    pub b: String,
    /// Which platform of images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `nativebuild with-rootfs`.
#[derive(Debug, Args)]
#[command(after_help = LOCATIONS)]
pub struct WithRootfsArgs {
    /// Image
    pub image: String,
    /// Let the program write to the tree; the image stays as it is
    #[arg(long)]
    pub rw: bool,
    /// Write what the program changed as a layer; `-` writes it to standard output
    #[arg(long, value_name = "PATH", requires = "rw")]
    pub layer: Option<PathBuf>,
    /// Text for the shell of this machine, run before the tree is mounted
    #[arg(long, value_name = "CMD")]
    pub pre: Option<OsString>,
    /// Text for the shell of this machine, run after the tree is unmounted
    #[arg(long, value_name = "CMD")]
    pub post: Option<OsString>,
    /// Which platform of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// How the tree is kept, and who its users are here.
    #[command(flatten)]
    pub isolation: IsolationArgs,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Program of this machine and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// `nativebuild archive`.
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ArchiveCommand,
}

/// The verbs of `nativebuild archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Write the images of several archives into one docker-archive
    Merge {
        /// Docker-archives of any age, OCI archives, layouts; with `:NAME` behind it one image of several; `-` reads
        /// standard input
        #[arg(required = true, value_name = "ARCHIVE")]
        sources: Vec<String>,
        /// File; `-` writes to standard output
        #[arg(short, long, value_name = "PATH")]
        output: String,
        /// Which platform of an image for several [default: this machine's]
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<String>,
        /// Where images and the cache are kept
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
}

/// `nativebuild pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "A docker-archive has the same bytes for the same digest, platform and name, on every machine: its hash can be pinned."
)]
pub struct PullArgs {
    /// Image in a registry, best with its digest: `NAME[:TAG]@sha256:HEX`
    #[arg(value_name = "NAME")]
    pub image: String,
    /// Which platform of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// `docker-archive:PATH`, `oci-archive:PATH` or `oci:PATH`; PATH `-` is standard output [default: the store]
    #[arg(short, long, value_name = "WHERE")]
    pub output: Option<String>,
    /// Name in the archive or in the store [default: the image's own]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// Fail and write nothing unless the archive has this SHA-256: `sha256:HEX`, `sha256-BASE64` or Nix's 52 digits
    #[arg(long, value_name = "HASH")]
    pub expect: Option<String>,
    /// Print what nix-prefetch-docker prints, with the hash of the docker-archive; none needs to be written
    #[arg(long)]
    pub print_hash: bool,
    /// Write what the image is made of as JSON, or compare with what the file has
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Form of the docker-archive
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub archive_format: u32,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `nativebuild export`.
#[derive(Debug, Args)]
#[command(after_help = LOCATIONS)]
pub struct ExportVerb {
    /// What and how.
    #[command(flatten)]
    pub export: ExportArgs,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `image export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Image
    #[arg(value_name = "IMAGE")]
    pub name: String,
    /// Tar file; a directory when there is one or PATH ends in a slash; `-` writes a tar to standard output
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// Write a directory instead of a tar, whatever PATH looks like
    #[arg(long, conflicts_with_all = ["mtime", "owner"])]
    pub directory: bool,
    /// Which platform of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Sort members by name; they always are
    #[arg(long)]
    pub sort: bool,
    /// Time of all members, in seconds since 1970
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub mtime: Option<i64>,
    /// Owner and group of all members, as numbers
    #[arg(long, value_name = "UID[:GID]")]
    pub owner: Option<String>,
}

/// The verbs of `image index`.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Make an index of images
    Create(CreateArgs),
    /// Add images to an index; one for a platform that is there already takes its place
    Add {
        /// Index
        index: String,
        /// Images
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove entries from an index
    Rm {
        /// Index
        index: String,
        /// Digests or platforms
        #[arg(required = true)]
        entries: Vec<String>,
    },
    /// Change annotations of an index or of an entry, and what an entry says it is made for
    Annotate(AnnotateArgs),
    /// Show the entries of an index
    Inspect(ListArgs),
}

/// `image index create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the index; not with `--spec`
    #[arg(required_unless_present = "spec", conflicts_with = "spec")]
    pub index: Option<String>,
    /// Images
    #[arg(conflicts_with_all = ["spec", "template"])]
    pub images: Vec<String>,
    /// Name of each platform's image, with OS, ARCH and VARIANT in it: `docker://repo:tag-ARCH`
    #[arg(long, value_name = "TEMPLATE", requires = "platforms")]
    pub template: Option<String>,
    /// Platforms for the template
    #[arg(long, value_name = "OS/ARCH[/VARIANT],…", requires = "template")]
    pub platforms: Vec<String>,
    /// manifest-tool's YAML with the name, tags and images
    #[arg(long, value_name = "FILE", conflicts_with = "template")]
    pub spec: Option<PathBuf>,
    /// Leave out images that are not there
    #[arg(long)]
    pub ignore_missing: bool,
    /// Further tags for the index
    #[arg(long, value_name = "TAG,…")]
    pub tags: Vec<String>,
    /// Media type
    #[arg(long = "type", value_enum, default_value = "oci")]
    pub types: TypeName,
    /// Annotation of the index; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
}

/// `image index annotate`.
#[derive(Debug, Args)]
pub struct AnnotateArgs {
    /// Index
    pub index: String,
    /// Digest or platform of an entry [default: the index itself]
    pub entry: Option<String>,
    /// Annotation, without a value to remove it; may be repeated
    #[arg(long = "annotation", value_name = "KEY=[VALUE]")]
    pub annotations: Vec<String>,
    /// Operating system
    #[arg(long)]
    pub os: Option<String>,
    /// Architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// Variant
    #[arg(long)]
    pub variant: Option<String>,
    /// Version of the operating system
    #[arg(long)]
    pub os_version: Option<String>,
    /// Features of the operating system
    #[arg(long, value_name = "FEATURE,…", value_delimiter = ',')]
    pub os_features: Vec<String>,
}

/// The verbs of `nativebuild manifest`.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Show what a name leads to, entry by entry, as manifest-tool does
    Inspect(ListArgs),
}

/// `manifest inspect`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Image
    pub image: String,
    /// Only the image for this platform
    #[arg(short, long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print the manifest or index as it is
    #[arg(long, conflicts_with_all = ["detail", "json", "layout"])]
    pub raw: bool,
    /// Print digest and size of what the name leads to, then the manifest or index as it is
    #[arg(long, conflicts_with_all = ["json", "layout"])]
    pub detail: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "layout")]
    pub json: bool,
    /// Whose layout: manifest-tool 1's or 2's
    #[arg(long, value_enum, default_value = "v1")]
    pub layout: LayoutName,
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are the values")]
pub enum LayoutName {
    V1,
    V2,
}

/// `--format` of `image save`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// OCI layout as a directory
    Oci,
    /// OCI layout as a tar
    OciArchive,
    /// What `docker save` writes today
    DockerArchive,
    /// The older form with a directory for each layer
    DockerArchiveV1,
    /// Flat blobs, as dockerTools once wrote them
    DockerArchiveFlat,
}
