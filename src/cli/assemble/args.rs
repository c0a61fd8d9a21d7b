//! Arguments of `nativebuild assemble`.

use crate::cli::image::args::PlaceArgs;
use crate::cli::isolation::IsolationArgs;
use clap::Args;
use std::path::PathBuf;

/// `nativebuild assemble`.
#[derive(Debug, Args)]
#[command(
    after_help = "An OUTPUT is `docker://NAME`, `oci:PATH`, `oci-archive:PATH`, `docker-archive:PATH` or `dir:PATH`, with `-` for standard output; or `type=oci|oci-archive|docker-archive|dir|tar|local|registry,dest=…`."
)]
pub struct AssembleArgs {
    /// The spec, YAML or JSON; `-` reads standard input [default: image.yaml, image.yml or image.json]
    #[arg(short, long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Where the image goes; may be repeated [default: the store, under its name]
    #[arg(short, long = "output", value_name = "OUTPUT")]
    pub outputs: Vec<String>,
    /// Push the image to the registry of its name
    #[arg(long)]
    pub push: bool,
    /// Change the spec: `tag=v2`, `config.Labels.version=3`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Write the layer and its description into the directory `-o DIR`, and no image
    #[arg(long)]
    pub layer_only: bool,
    /// Only print the digest of the image; it gets no name
    #[arg(long, conflicts_with_all = ["outputs", "push"])]
    pub print_digest: bool,
    /// Read the spec and all that it names, run nothing and write no image
    #[arg(long, conflicts_with_all = ["outputs", "push", "print_digest"])]
    pub check: bool,
    /// Print the JSON Schema of the spec
    #[arg(long)]
    pub schema: bool,
    /// A base image in a registry may be named by a tag
    #[arg(long)]
    pub allow_tag: bool,
    /// Time for `source-date-epoch` in the spec, in seconds since 1970 [default: SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "N")]
    pub source_date_epoch: Option<i64>,
    /// Write where the time went to a file: a page when it ends in `.html`, data when it ends in `.json`
    #[arg(long, value_name = "FILE")]
    pub timings: Option<PathBuf>,
    /// Tell nothing on the way
    #[arg(short, long)]
    pub quiet: bool,
    /// How commands are kept apart.
    #[command(flatten)]
    pub isolation: IsolationArgs,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
}
