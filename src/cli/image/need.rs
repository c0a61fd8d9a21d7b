//! What a verb needs of the store: who only looks makes none, and who looks elsewhere needs none.
//!
//! In: a verb as typed. Out: the store, or an empty one in a temporary directory that stands for one that is not there.

use super::args::{ImageCommand, ManifestCommand, PlaceArgs};
use super::index::IndexCommand;
use crate::build::store::Store;
use crate::cli::environment::Environment;
use crate::cli::prune::no_store;
use crate::error::{ErrorKind, Result, ResultExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// How much of a store a verb needs, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// None: what it looks at is elsewhere.
    Nothing,
    /// Room for what is unpacked, and a name that may be there.
    Room,
    /// What is in it.
    Content,
    /// It is written, and made when it is not there.
    All,
}

impl Need {
    /// Of a verb.
    pub(super) fn of(command: &ImageCommand) -> Self {
        use ImageCommand::{
            Diff, Digest, Du, Export, Index, Inspect, Ls, LsTags, Manifest, Referrers, Rm, Save,
            Validate,
        };
        match command {
            Du(_) | Ls { .. } | Save { .. } => Self::Content,
            Inspect(args) => Self::of_image(&args.image),
            Digest { image, .. } | Referrers { image, .. } => Self::of_image(image),
            LsTags { repository } => Self::of_image(repository),
            Export(args) if args.is_directory() => Self::All,
            Export(args) => Self::of_image(&args.name).max(Self::Room),
            Diff(args) => Self::of_image(&args.a).max(Self::of_image(&args.b)),
            Validate { source } if Path::new(source).exists() => Self::Room,
            Validate { source } => Self::of_image(source),
            Rm { names, .. } => {
                names.iter().map(|name| Self::of_image(name)).max().unwrap_or(Self::Nothing)
            }
            Manifest(ManifestCommand::Inspect(args)) | Index(IndexCommand::Inspect(args)) => {
                Self::of_image(&args.image)
            }
            _ => Self::All,
        }
    }

    /// Of looking at an image.
    pub(super) fn of_image(image: &str) -> Self {
        let is = |transports: &[&str]| transports.iter().any(|one| image.starts_with(one));
        match () {
            () if is(&["docker://", "oci:", "dir:"]) => Self::Nothing,
            () if is(&["oci-archive:", "docker-archive:"]) => Self::Room,
            () => Self::Content,
        }
    }
}

/// A store, and the directory that goes away with it when it only stands for one.
pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    _scratch: Option<TempDir>,
}

/// Opens the store as far as it is needed.
pub(super) fn open(need: Need, place: &PlaceArgs, environment: &Environment) -> Result<Opened> {
    open_at(need, place.root.as_ref(), environment)
}

/// The same without a way to registries.
pub(super) fn open_at(
    need: Need,
    root: Option<&PathBuf>,
    environment: &Environment,
) -> Result<Opened> {
    let path = match need {
        Need::Nothing => None,
        _ => Some(environment.store(root)?),
    };
    match path {
        Some(path) if need == Need::All || Store::exists(&path) => {
            Ok(Opened { store: Arc::new(Store::open(&path)?), _scratch: None })
        }
        Some(path) if need == Need::Content && root.is_some() => Err(no_store(&path)),
        _ => {
            let scratch = tempfile::Builder::new().prefix("nativebuild-").tempdir();
            let scratch = scratch.or_error(ErrorKind::Environment, || {
                "cannot make a temporary directory".to_owned()
            })?;
            let store = Arc::new(Store::open(scratch.path())?);
            Ok(Opened { store, _scratch: Some(scratch) })
        }
    }
}
