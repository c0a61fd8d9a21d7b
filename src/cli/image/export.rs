//! `export` and `image export`: the root file system of an image, flattened.
//!
//! A tar is written straight out of the layers. A directory is unpacked, in the isolation in which files can have owners.

use super::args::{ImageCommand, LOCATIONS, PlaceArgs};
use super::need::{self, Need};
use super::{access, location, platform};
use crate::build::images::{self, BaseImage};
use crate::build::output;
use crate::build::store::Store;
use crate::build::tree;
use crate::build::worker::Worker;
use crate::cli::environment::Environment;
use crate::cli::report::Style;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::oci::{Platform, resolve};
use crate::transfer::rootfs::{self, Rewrite};
use crate::transfer::{Access, Choice, Location, read};
use clap::Args;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

impl ExportArgs {
    /// Whether files are written, and not a tar.
    pub(super) fn is_directory(&self) -> bool {
        let path = &self.output;
        self.directory || path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir()
    }
}

/// `nativebuild export`.
pub(in crate::cli) fn run(args: ExportVerb, environment: &Environment, style: Style) -> Result<()> {
    let command = ImageCommand::Export(args.export);
    let opened = need::open(Need::of(&command), &args.place, environment)?;
    let access = access(&opened.store, &args.place, environment, style)?;
    let ImageCommand::Export(export) = &command else { return Ok(()) };
    self::export(&opened.store, &access, export, environment)
}

pub(super) fn export(
    store: &Arc<Store>,
    access: &Access<'_>,
    args: &ExportArgs,
    environment: &Environment,
) -> Result<()> {
    let rewrite =
        Rewrite { mtime: args.mtime, owner: args.owner.as_deref().map(owner).transpose()? };
    let wanted = platform(args.platform.as_deref())?;
    let location = location(&args.name)?;
    if args.is_directory() {
        if rewrite.mtime.is_some() || rewrite.owner.is_some() {
            let what = if rewrite.mtime.is_some() { "--mtime" } else { "--owner" };
            return Err(Error::usage(format!("`{what}` is for a tar"))
                .cause(format!("`{}` is a directory", args.output.display())));
        }
        return directory(store, access, &location, wanted.as_ref(), (&args.output, environment));
    }
    // What comes over a network is kept for the next time.
    let into = matches!(location, Location::Registry(_)).then(|| access.store());
    let fetched = access.fetch(&location, &choice(wanted.as_ref()), into)?;
    let inner = || {
        let image = read::image(&fetched.layout, &fetched.root)?;
        rootfs::read(&fetched.layout, &image, Some(rootfs::spool(access)?))
    };
    let tree = inner().map_err(|error: Error| error.wrap(format!("cannot export `{location}`")))?;
    rootfs::write(access, &tree, rewrite, &args.output).map(drop)
}

fn choice(wanted: Option<&Platform>) -> Choice {
    wanted.map_or(Choice::Here, |wanted| Choice::One(wanted.clone()))
}

fn directory(
    store: &Arc<Store>,
    access: &Access<'_>,
    location: &Location,
    wanted: Option<&Platform>,
    (path, environment): (&Path, &Environment),
) -> Result<()> {
    let base = base(store, access, location, wanted)?;
    let worker = Worker::enter(store, &environment.account(), &Places::default())?;
    let tree = tree::of_image(store, &base, &worker)?;
    output::write_tree(&worker, tree.as_ref(), Some(path), true, None)
}

/// An image whose layers are in the store.
pub(super) fn base(
    store: &Store,
    access: &Access<'_>,
    location: &Location,
    wanted: Option<&Platform>,
) -> Result<BaseImage> {
    let root = match location {
        Location::Store(name) => access.stored(name)?.descriptor,
        other => access.fetch(other, &choice(wanted), Some(store.images()))?.root,
    };
    let chosen = match wanted {
        Some(wanted) => resolve::resolve_exactly(store.images(), &root, wanted)?,
        None => resolve::resolve(store.images(), &root, &Platform::host())?,
    };
    images::open(store, &root, &chosen.platform)
}

/// `UID[:GID]`; without a group it is the same number.
fn owner(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) if uid != u32::MAX && gid != u32::MAX => Ok((uid, gid)),
        _ => Err(Error::usage(format!("bad owner `{text}`: expected UID[:GID] as numbers"))),
    }
}
